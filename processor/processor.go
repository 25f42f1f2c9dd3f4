package processor

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/ticket"
)

// Settings are all that a [Processor] needs. Fields without "optional" are required.
type Settings struct {
	Store        ticket.Store
	Sessions     session.Store
	Supersession ticket.Supersession
	// Share returns the stores of a fan-out, where each has its own. Optional; nil: all use the same.
	Share func(fanout string) Stores
	// StoreTimeout limits how long one message may wait for the store. Optional; 0: a store that never
	// makes a caller wait.
	StoreTimeout time.Duration
	// FailOpen lets requests continue without the headers that a failing store could not save or return; else they are
	// refused. A required header is missing in either case. Optional.
	FailOpen bool
	// Single says that there is one fan-out and never another, so that filters need not name it. Optional.
	Single  bool
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Stores are what a fan-out keeps its state in.
type Stores struct {
	Store        ticket.Store
	Sessions     session.Store
	Supersession ticket.Supersession
}

// Processor serves the requests of all fan-outs. It keeps state only in its store.
type Processor struct {
	shared  *shared
	current atomic.Pointer[fanouts]
}

// Rules are a fan-out's policy and discovery identities.
type Rules struct {
	Policy *policy.Policy
	// Identities are the discovery identities, by backend. An empty one could not be read: requests that need it are
	// refused.
	Identities map[string][]policy.Header
	// Withdrawn says that the policy may not be served: all requests of its fan-out are refused.
	Withdrawn bool
}

// shared is the state that outlives a policy.
type shared struct {
	Settings
	families *metricFamilies
	warnings *warnings
	now      func() time.Time
}

// New makes a processor that applies the rules of each fan-out.
func New(settings Settings, keys ticket.Keys, all ...Rules) *Processor {
	p := &Processor{shared: &shared{
		Settings: settings, families: newMetricFamilies(settings.Metrics), warnings: newWarnings(settings.Log), now: time.Now,
	}}
	p.Apply(keys, all...)
	settings.Metrics.MustRegister(newLastSeenCollector(&p.current))
	return p
}

// Apply replaces the keys and the rules of all fan-outs at once, from the next request on; no two of them may have the
// same name. Open requests keep the rules with which they began. Tickets made under earlier rules of the same
// fan-out can still be redeemed.
func (p *Processor) Apply(keys ticket.Keys, all ...Rules) {
	before := p.current.Load()
	next := make(fanouts, len(all))
	for _, rules := range all {
		next[rules.Policy.Fanout()] = p.shared.fanout(keys, rules, before)
	}
	p.current.Store(&next)
	p.shared.families.forget(before, next)
}

// Request answers the headers of one request. An error is a [Misconfiguration]: the filter's requests must fail.
func (p *Processor) Request(ctx context.Context, binding Binding, request Request) (Answer, error) {
	f, err := p.fanout(binding.Fanout)
	if err != nil {
		return Answer{}, err
	}
	begun := p.shared.now()
	defer func() { f.metrics.observe(binding.Role, p.shared.now().Sub(begun)) }()
	if f.withdrawn {
		f.metrics.request(binding.Role, outcomeWithdrawn)
		return Answer{Error: policyWithdrawn()}, nil
	}
	ctx, cancel := p.shared.limit(ctx)
	defer cancel()
	serve := f.egress
	if binding.Role == Ingress {
		serve = f.ingress
	}
	parsed := parse(request, begun)
	answer, refused := serve(ctx, binding, parsed)
	if refused != nil && binding.Role == Ingress && request.Body == BodyOffered {
		answer, refused = f.refuseWithID(parsed, refused)
	}
	if refused == nil {
		answer, refused = f.bounded(answer)
	}
	switch {
	case f.observes():
		return f.observed(binding.Role, answer, parsed), nil
	case refused != nil:
		return Answer{Error: refused}, nil
	default:
		return answer, nil
	}
}

// Response answers the response headers of a request whose answer had a [Pending]: with lines to add, or an error.
func (p *Processor) Response(ctx context.Context, pending *Pending, response Response) Answer {
	ctx, cancel := p.shared.limit(ctx)
	defer cancel()
	f := pending.fanout
	if refused := f.onResponse(ctx, pending, response); refused != nil && !f.observes() {
		return Answer{Error: refused}
	}
	return Answer{Set: pending.explanation}
}

// SessionNotFound ends a session of that fan-out (see [Answer.Session]), which has answered 404 to a request of it. A
// session of another fan-out is not touched: that is counted and logged. An error is a [Misconfiguration].
func (p *Processor) SessionNotFound(ctx context.Context, fanout, name string) error {
	f, err := p.fanout(fanout)
	if err != nil {
		return err
	}
	ctx, cancel := p.shared.limit(ctx)
	defer cancel()
	if !f.sessions.Owns(name) {
		f.metrics.foreignEnds.Inc()
		f.warnings.warn("an access log reports a session that is not of its fan-out; the session stays", "fanout", fanout)
		return nil
	}
	f.endSession(ctx, name)
	return nil
}

// HeadersNotShown counts and logs a filter that sends other parts of a request but not its headers. Such a request
// would pass with all the headers that Bellhop should remove, so the answer refuses it, except for a policy that
// only observes. An error is a [Misconfiguration].
func (p *Processor) HeadersNotShown(binding Binding) (Answer, error) {
	f, err := p.fanout(binding.Fanout)
	if err != nil {
		return Answer{}, err
	}
	p.Refused(
		&Misconfiguration{
			Reason:  "processing_mode",
			Message: "the filter shows no request headers: set request_header_mode to SEND in its processing_mode",
		},
	)
	if f.observes() {
		return Answer{}, nil
	}
	return Answer{Error: headersNotShown()}, nil
}

// Serves returns the name of the fan-out that a filter names, which may name none if there is only one. An error is a
// [Misconfiguration]: no policy is for it.
func (p *Processor) Serves(fanout string) (name string, err error) {
	f, err := p.fanout(fanout)
	if err != nil {
		return "", err
	}
	return f.policy.Fanout(), nil
}

// Misconfiguration is an error in a filter's configuration, for which its requests must fail.
type Misconfiguration struct {
	Reason  string // stable: the label of a metric
	Message string // with what to change
}

// Error implements error.
func (m *Misconfiguration) Error() string { return m.Message }

// Refused counts and logs the requests of a misconfigured filter.
func (p *Processor) Refused(why *Misconfiguration) {
	p.shared.families.refused.WithLabelValues(why.Reason).Inc()
	p.shared.warnings.warn("stream refused, so Envoy fails the request", "reason", why.Message)
}

// stores are those of a fan-out.
func (s *shared) stores(fanout string) Stores {
	if s.Share != nil {
		return s.Share(fanout)
	}
	return Stores{Store: s.Store, Sessions: s.Sessions, Supersession: s.Supersession}
}

// limit limits how long one message waits for the store.
func (s *shared) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.StoreTimeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.StoreTimeout)
}

// storeFailed logs a failing store, and reports whether the request continues.
func (s *shared) storeFailed(what string, err error) (failOpen bool) {
	consequence := "the request is refused"
	if s.FailOpen {
		consequence = "the request continues without its headers"
	}
	s.warnings.warn(what+"; "+consequence, "error", err)
	return s.FailOpen
}
