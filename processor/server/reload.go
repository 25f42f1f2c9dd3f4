package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
	"bellhop/processor"
	"bellhop/processor/ticket"
)

// outcome says what became of one reload. Its text is stable: dashboards and alerts rely on it.
type outcome string

const (
	outcomeApplied    outcome = "applied"          // a policy, or discovery identities, that were not in force before
	outcomeUnchanged  outcome = "unchanged"        // what is in force is what the files say
	outcomeUnreadable outcome = "unreadable"       // a document; the last good policies stay
	outcomeFaults     outcome = "faults"           // of a document; the last good policies stay
	outcomeFanout     outcome = "fanout_changed"   // needs a restart; the last good policy stays
	outcomeKeys       outcome = "keys_failed"      // the key file alone; the last good policies and keys stay
	outcomeDiscovery  outcome = "discovery_failed" // a file of an identity; the last good policy and identities stay
)

// reloader keeps the rules in force equal to the files, as long as all of these are good: one document with faults keeps
// the others from being reloaded too, for they are checked together. Secrets do not wait for that: keys and discovery
// identities are rotated whatever is wrong with the documents.
//
// A discovery file that cannot be read leaves the last good identity of its backend in force. Where there is none, at the start,
// requests that need it are refused, until it can be read; all others go on.
type reloader struct {
	sources   sources
	processor *processor.Processor
	rekey     func(ticket.Keys) // of the store
	metrics   *reloadMetrics
	log       *slog.Logger

	inForce atomic.Pointer[rules] // written under mu

	mu   sync.Mutex // one reload at a time
	last attempt
}

func newReloader(sources sources, first *rules, service *processor.Processor, rekey func(ticket.Keys), registerer prometheus.Registerer, log *slog.Logger) *reloader {
	r := &reloader{sources: sources, processor: service, rekey: rekey, log: log}
	r.inForce.Store(first)
	r.metrics = newReloadMetrics(registerer, r.policies)
	if err := first.unread(); err != nil {
		r.last = r.attempt()
		r.metrics.count(r.last)
		log.Error("a discovery identity cannot be read; requests that need it are refused until it can", "error", err)
	}
	return r
}

// policies are those in force.
func (r *reloader) policies() []*policy.Policy { return r.inForce.Load().policies() }

// reload reads the files, whatever is known of them, and returns why what they say is not in force.
func (r *reloader) reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.attempt()
	r.settle(a, true)
	return a.err
}

// look reloads if the files have changed since the last time. It returns the files to watch: those of the rules in
// force, and those that a policy waits for.
func (r *reloader) look() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.attempt()
	r.settle(a, r.isNews(a))
	return slices.Concat(r.sources.watched(), r.inForce.Load().files(), a.files)
}

// attempt is what one reading of the files came to.
type attempt struct {
	outcome outcome
	err     error             // why what the files say is not to be in force; nil if it is
	keys    error             // what of it is the key file's fault
	next    *rules            // what is to be in force: what the files say, or the last good rules
	text    [sha256.Size]byte // of all documents
	files   []string          // that the documents name
}

// attempt does all that can fail, and touches nothing that is live.
func (r *reloader) attempt() attempt {
	keys, fault := r.sources.keys()
	a := r.read(keys, fault)
	if a.err != nil {
		a.next = r.rotated(keys)
	}
	if a.keys = fault; a.outcome != outcomeKeys {
		a.err = errors.Join(a.err, fault)
	}
	return a
}

func (r *reloader) read(keys ticket.Keys, keysFault error) attempt {
	read, err := r.sources.read(readRegular)
	if err != nil {
		return attempt{outcome: outcomeUnreadable, err: err}
	}
	a := attempt{text: read.digest()}
	parsed, err := read.parse()
	if err != nil {
		a.outcome, a.err = outcomeFaults, err
		return a
	}
	a.files = parsed.files()
	now := r.inForce.Load()
	for _, document := range parsed.documents {
		a.err = errors.Join(a.err, document.keepsFanout(now))
	}
	if a.err != nil {
		a.outcome = outcomeFanout
		return a
	}
	if keysFault != nil {
		a.outcome, a.err = outcomeKeys, keysFault
		return a
	}
	parsed.keys = keys
	a.next = parsed.identified()
	if a.err = a.next.unread(); a.err != nil {
		a.outcome = outcomeDiscovery
		return a
	}
	a.outcome = outcomeApplied
	if a.next.same(now) {
		a.outcome, a.next = outcomeUnchanged, now
	}
	return a
}

// rotated are the rules in force with these keys, if there are any, and with the discovery identities as they are now, where
// they can be read: a fault in a policy does not keep a secret from being rotated, nor does one of these another.
func (r *reloader) rotated(keys ticket.Keys) *rules {
	now := r.inForce.Load()
	next := now.identified()
	if keys != nil {
		next.keys = keys
	}
	if next.same(now) {
		return now
	}
	return next
}

// isNews reports whether an attempt that nobody asked for tells more than the one before.
func (r *reloader) isNews(a attempt) bool {
	switch {
	case a.outcome == outcomeApplied:
		return true
	case a.err == nil:
		return r.last.err != nil
	default:
		return r.last.err == nil || a.text != r.last.text || a.err.Error() != r.last.err.Error()
	}
}

// settle makes an attempt take effect, and tells of it.
func (r *reloader) settle(a attempt, tell bool) {
	r.last = a
	was := r.inForce.Load()
	if a.next != was {
		r.rekey(a.next.keys)
		r.processor.Apply(a.next.keys, a.next.processed()...)
		r.inForce.Store(a.next)
		r.announce(a.next, was)
	}
	if !tell {
		return
	}
	r.metrics.count(a)
	switch {
	case a.err != nil:
		r.complain(a)
	case a.outcome == outcomeUnchanged:
		r.log.Info("policy unchanged", "files", len(was.documents))
	}
}

// announce tells what is in force from the next request on.
func (r *reloader) announce(now, was *rules) {
	if !now.keys.Equal(was.keys) {
		r.log.Info("keys reloaded", "file", r.sources.keyFile, "keys", len(now.keys))
	}
	for _, document := range now.documents {
		before, ok := was.at(document.path)
		switch {
		case !ok:
			r.log.Info("fan-out added", "file", document.path, "fanout", document.policy.Fanout(), "digest", document.policy.Digest(), "backends", len(document.policy.Backends()))
			document.warn(r.log)
		case !document.samePolicy(before):
			r.announceChange(document, before)
		case !document.sameIdentities(before):
			r.log.Info("discovery identities reloaded", "file", document.path, "backends", len(document.identities), "digest", document.policy.Digest())
		}
	}
	for _, before := range was.documents {
		if _, ok := now.at(before.path); !ok {
			r.log.Warn("fan-out removed; the streams of its filters are refused", "file", before.path, "fanout", before.policy.Fanout())
		}
	}
}

func (r *reloader) announceChange(now, was *document) {
	r.log.Info("policy reloaded", "file", now.path, "digest", now.policy.Digest(), "previous", was.policy.Digest(), "backends", len(now.policy.Backends()))
	now.warn(r.log)
	if names := now.beyond(was); len(names) > 0 {
		r.log.Warn("Envoy shows, and lets be changed, only the headers in its own configuration; if that was made from the policy before, make it anew",
			"headers", names, "command", "bellhop envoy bootstrap --policy "+now.path)
	}
}

// complain tells why the last good rules stay in force.
func (r *reloader) complain(a attempt) {
	const message = "policy not reloaded; the last good one stays in force"
	var findings policy.Findings
	if !errors.As(a.err, &findings) {
		r.log.Error(message, "reason", string(a.outcome), "error", a.err)
		return
	}
	for _, finding := range findings {
		if finding.Severity == policy.SeverityError {
			r.log.Error(message, "reason", string(a.outcome), "at", fmt.Sprintf("%s:%d:%d", finding.File, finding.Line, finding.Column),
				"error", finding.Message, "mend", finding.Mend, "faults", findings.Count(policy.SeverityError))
			break
		}
	}
	if a.keys != nil {
		r.log.Error("keys not reloaded; the last good ones stay in force", "error", a.keys)
	}
}

// readRegular reads a regular file: to open a pipe for a second time can wait without end.
func readRegular(path string) ([]byte, error) {
	if !regular(path) {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s is not a regular file, so it can be read at the start only: write the policy into a file", path)
	}
	return os.ReadFile(path)
}

func regular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
