package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
	"bellhop/processor"
)

// outcome is the outcome of one reload. Its text is stable: dashboards and alerts rely on it.
type outcome string

const (
	outcomeApplied    outcome = "applied"        // a policy, keys, or discovery identities that were not in force before
	outcomeUnchanged  outcome = "unchanged"      // what is in force is what the files say
	outcomeUnreadable outcome = "unreadable"     // a document; its last good version stays
	outcomeInvalid    outcome = "invalid"        // of a document; its last good version stays
	outcomeFanout     outcome = "fanout_changed" // needs a restart; the last good version stays
	outcomeCeiling    outcome = "above_ceiling"  // of a document; it is withdrawn, for its last good version is above too
	outcomeKeys       outcome = "keys_failed"    // the last good keys stay
	// A file of a discovery identity; the last good identity stays in force, and with it its policy.
	outcomeDiscovery outcome = "discovery_failed"
)

// reloader keeps the configuration in force equal to the files. Each document, the keys and each discovery identity is
// loaded by itself, whole: an invalid one keeps its last good version and does not affect others.
//
// Where a discovery file cannot be read, the last good identity of its backend stays in force. If there is none, at the
// start, requests that need it are refused until it can be read; others are served.
type reloader struct {
	sources   sources
	processor *processor.Processor
	storage   *storage
	metrics   *reloadMetrics
	log       *slog.Logger

	inForce atomic.Pointer[configuration] // written under mu

	mu   sync.Mutex // one reload at a time
	last attempt
}

func newReloader(
	sources sources,
	first reading,
	service *processor.Processor,
	storage *storage,
	registerer prometheus.Registerer,
	log *slog.Logger,
) *reloader {
	r := &reloader{sources: sources, processor: service, storage: storage, log: log}
	r.inForce.Store(first.configuration)
	r.metrics = newReloadMetrics(registerer, r.policies)
	r.metrics.record(first)
	if len(first.loadErrors) > 0 {
		r.settle(attempt{reading: first, outcome: first.loadErrors[0].outcome}, true)
	}
	return r
}

// policies are those in force.
func (r *reloader) policies() []*policy.Policy { return r.inForce.Load().policies() }

// reload reads the files, changed or not, and returns why what they say is not in force.
func (r *reloader) reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.attempt()
	r.settle(a, true)
	return a.err()
}

// look reloads if the files have changed since the last time. It returns the files to watch: those in force, and those
// that a rejected policy names.
func (r *reloader) look() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.attempt()
	r.settle(a, r.isNews(a))
	return slices.Concat(r.sources.watched(), r.inForce.Load().files(), a.names)
}

// attempt is the result of one reading of the files.
type attempt struct {
	reading
	outcome outcome
}

// attempt does all that can fail, and changes nothing that is live.
func (r *reloader) attempt() attempt {
	now := r.inForce.Load()
	a := attempt{reading: r.sources.next(now), outcome: outcomeApplied}
	if a.configuration.same(now) {
		a.configuration, a.outcome = now, outcomeUnchanged
	}
	if len(a.loadErrors) > 0 {
		a.outcome = a.loadErrors[0].outcome
	}
	return a
}

// isNews reports whether an automatic attempt has another result than the one before.
func (r *reloader) isNews(a attempt) bool {
	was, is := r.last.err(), a.err()
	switch {
	case a.outcome == outcomeApplied:
		return true
	case is == nil:
		return was != nil
	default:
		return was == nil || !bytes.Equal(a.text, r.last.text) || is.Error() != was.Error()
	}
}

// settle puts an attempt into force, and logs and counts it.
func (r *reloader) settle(a attempt, log bool) {
	r.last = a
	was := r.inForce.Load()
	if a.configuration != was {
		r.storage.rekey(a.configuration.keys)
		r.processor.Apply(a.configuration.keys, a.configuration.processed()...)
		r.storage.keep(a.configuration.fanouts())
		r.inForce.Store(a.configuration)
		r.announce(a.configuration, was)
	}
	if !log {
		return
	}
	if a.configuration != was && len(a.loadErrors) > 0 {
		r.metrics.total.WithLabelValues(string(outcomeApplied)).Inc() // some of it is
	}
	r.metrics.count(a)
	for _, one := range a.loadErrors {
		r.complain(one)
	}
	if a.outcome == outcomeUnchanged {
		r.log.Info("policy unchanged", "files", len(was.documents))
	}
}

// announce logs what is in force from the next request on.
func (r *reloader) announce(now, was *configuration) {
	if !now.keys.Equal(was.keys) {
		r.log.Info("keys reloaded", "file", r.sources.keyFile, "keys", len(now.keys))
		warnOfExposed(r.log, r.sources.keyFile)
	}
	for _, document := range now.documents {
		before, ok := was.at(document.path)
		switch {
		case !ok:
			r.log.Info(
				"fan-out added", "file", document.path, "fanout", document.policy.Fanout(),
				"digest", document.policy.Digest(), "backends", len(document.policy.Backends()),
			)
			document.warn(r.log)
		case !document.samePolicy(before):
			r.announceChange(document, before)
		case !document.sameIdentities(before):
			r.log.Info(
				"discovery identities reloaded", "file", document.path, "backends", len(document.identities),
				"digest", document.policy.Digest(),
			)
		}
	}
	for _, before := range was.documents {
		if _, ok := now.at(before.path); !ok {
			r.log.Warn(
				"fan-out removed; the streams of its filters are refused", "file", before.path,
				"fanout", before.policy.Fanout(),
			)
		}
	}
}

func (r *reloader) announceChange(now, was *document) {
	r.log.Info(
		"policy reloaded", "file", now.path, "digest", now.policy.Digest(), "previous", was.policy.Digest(),
		"backends", len(now.policy.Backends()),
	)
	now.warn(r.log)
	if names := now.beyond(was); len(names) > 0 {
		r.log.Warn(
			"Envoy shows, and lets be changed, only the headers in its own configuration; if that was made from the policy "+
				"before, regenerate it",
			"headers",
			names,
			"command",
			"bellhop envoy bootstrap --policy "+now.path,
		)
	}
}

// complain logs why something is not in force.
func (r *reloader) complain(f loadError) {
	message := "policy not reloaded; the last good one stays in force, if there is any"
	switch f.outcome {
	case outcomeCeiling:
		message = "policy withdrawn: it is above the ceiling; the requests of its fan-out are refused with 503"
	case outcomeKeys:
		message = "keys not reloaded; the last good ones stay in force"
	case outcomeDiscovery:
		message = "discovery identity not reloaded; the last good one stays in force, with its policy; without one, " +
			"requests that need it are refused"
	default:
	}
	var findings policy.Findings
	if !errors.As(f.error, &findings) {
		r.log.Error(message, "reason", string(f.outcome), "error", f.error)
		return
	}
	for _, finding := range findings {
		if finding.Severity == policy.SeverityError {
			r.log.Error(
				message, "reason", string(f.outcome),
				"at", fmt.Sprintf("%s:%d:%d", finding.File, finding.Line, finding.Column), "error", finding.Message,
				"hint", finding.Hint, "errors", findings.Count(policy.SeverityError),
			)
			break
		}
	}
}
