package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
	"bellhop/processor"
)

// outcome says what became of one reload. Its text is stable: dashboards and alerts rely on it.
type outcome string

const (
	outcomeApplied    outcome = "applied"          // a policy, or discovery identities, that were not in force before
	outcomeUnchanged  outcome = "unchanged"        // what is in force is what the files say
	outcomeUnreadable outcome = "unreadable"       // the policy file; the last good policy stays
	outcomeFaults     outcome = "faults"           // of the policy; the last good one stays
	outcomeFanout     outcome = "fanout_changed"   // needs a restart; the last good policy stays
	outcomeDiscovery  outcome = "discovery_failed" // a file of an identity; the last good policy and identities stay
)

// reloader keeps the rules in force equal to the files, as long as these are good.
//
// A discovery file that cannot be read leaves the last good identities in force, all of them: a backend gets the
// credential that it was meant to have or the one before, and never a request without one that needs it. So a
// request never has to fail for such a file.
type reloader struct {
	path      string
	processor *processor.Processor
	metrics   *reloadMetrics
	log       *slog.Logger

	inForce atomic.Pointer[rules] // written under mu

	mu   sync.Mutex // one reload at a time
	last attempt
}

func newReloader(first *rules, service *processor.Processor, registerer prometheus.Registerer, log *slog.Logger) *reloader {
	r := &reloader{path: first.path, processor: service, log: log}
	r.inForce.Store(first)
	r.metrics = newReloadMetrics(registerer, r.policy)
	return r
}

// policy is the one in force.
func (r *reloader) policy() *policy.Policy { return r.inForce.Load().policy }

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
	return append(r.inForce.Load().files(), a.files...)
}

// attempt is what one reading of the files came to.
type attempt struct {
	outcome outcome
	err     error             // why the files' policy is not to be in force; nil if it is
	next    *rules            // what is to be in force: the files' policy, or the last good one
	text    [sha256.Size]byte // of the policy
	files   []string          // that its policy names
}

// attempt does all that can fail, and touches nothing that is live.
func (r *reloader) attempt() attempt {
	a := r.read()
	if a.err != nil {
		a.next = r.rotated()
	}
	return a
}

func (r *reloader) read() attempt {
	text, err := readRegular(r.path)
	if err != nil {
		return attempt{outcome: outcomeUnreadable, err: err}
	}
	a := attempt{text: sha256.Sum256(text)}
	parsed, err := parse(r.path, text)
	if err != nil {
		a.outcome, a.err = outcomeFaults, err
		return a
	}
	a.files = parsed.files()
	if a.err = r.allow(parsed); a.err != nil {
		a.outcome = outcomeFanout
		return a
	}
	if a.next, a.err = parsed.identified(); a.err != nil {
		a.outcome = outcomeDiscovery
		return a
	}
	a.outcome = outcomeApplied
	if now := r.inForce.Load(); a.next.samePolicy(now) && a.next.sameIdentities(now) {
		a.outcome, a.next = outcomeUnchanged, now
	}
	return a
}

// allow refuses another fan-out: tickets of one are worthless at another, and the filters, which name theirs in their
// own configuration, would be refused from one request to the next.
func (r *reloader) allow(next *rules) error {
	was, is := r.policy().Fanout(), next.policy.Fanout()
	if was == is {
		return nil
	}
	return fmt.Errorf("%s: fanout has changed from %q to %q, which needs a restart: change it back, or restart Bellhop", r.path, was, is)
}

// rotated are the rules in force with the discovery identities as they are now: a fault in a policy does not keep a
// credential from being rotated.
func (r *reloader) rotated() *rules {
	now := r.inForce.Load()
	next, err := now.identified()
	if err != nil || next.sameIdentities(now) {
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
		r.processor.Apply(a.next.policy, a.next.identities)
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
		r.log.Info("policy unchanged", "file", r.path, "digest", was.policy.Digest())
	}
}

// announce tells what is in force from the next request on.
func (r *reloader) announce(now, was *rules) {
	if now.samePolicy(was) {
		r.log.Info("discovery identities reloaded", "backends", len(now.identities), "digest", now.policy.Digest())
		return
	}
	r.log.Info("policy reloaded", "file", r.path, "digest", now.policy.Digest(), "previous", was.policy.Digest(), "backends", len(now.policy.Backends()))
	now.warn(r.log)
	if names := now.beyond(was); len(names) > 0 {
		r.log.Warn("Envoy shows, and lets be changed, only the headers in its own configuration; if that was made from the policy before, make it anew",
			"headers", names, "command", "bellhop envoy bootstrap --policy "+r.path)
	}
}

// complain tells why the last good rules stay in force.
func (r *reloader) complain(a attempt) {
	const message = "policy not reloaded; the last good one stays in force"
	digest := r.policy().Digest()
	var findings policy.Findings
	if !errors.As(a.err, &findings) {
		r.log.Error(message, "reason", string(a.outcome), "error", a.err, "digest", digest)
		return
	}
	for _, finding := range findings {
		if finding.Severity == policy.SeverityError {
			r.log.Error(message, "reason", string(a.outcome), "at", fmt.Sprintf("%s:%d:%d", finding.File, finding.Line, finding.Column),
				"error", finding.Message, "mend", finding.Mend, "faults", findings.Count(policy.SeverityError), "digest", digest)
			return
		}
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
