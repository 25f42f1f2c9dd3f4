package processor

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
)

// outcome is the outcome of one request. Its text is stable: dashboards and alerts rely on it.
type outcome string

const (
	outcomeCaptured      outcome = "captured"           // ingress: headers captured, ticket issued
	outcomeEmpty         outcome = "empty"              // the client sent nothing, or nothing for this backend
	outcomeRejected      outcome = "rejected"           // a rule or a limit was broken; refused
	outcomeForwarded     outcome = "forwarded"          // egress: headers put back
	outcomeDiscovery     outcome = "discovery"          // egress: no client caused it; the backend's own identity
	outcomeNoIdentity    outcome = "no_identity"        // egress: the same, and its file cannot be read; refused
	outcomeNoTicket      outcome = "no_ticket"          // egress: no client caused it; nothing
	outcomeUnknownTicket outcome = "unknown_ticket"     // egress: expired, forged, or lost in a restart; nothing
	outcomeOtherKey      outcome = "other_key"          // egress: made with a key that Bellhop does not have; nothing
	outcomeMalformed     outcome = "malformed_ticket"   // egress: forged, or changed on the way; nothing
	outcomeSuperseded    outcome = "superseded"         // egress: every session that had the ticket has another; nothing
	outcomeRedirected    outcome = "redirected"         // egress: a backend has sent the request on to another; nothing
	outcomeElsewhere     outcome = "other_cluster"      // egress: sent to a cluster that is not the backend's; nothing
	outcomeUndeclared    outcome = "undeclared_backend" // egress: outside the policy's world; nothing
	outcomeNoRoom        outcome = "no_room"            // egress: Envoy's own limits; nothing
	outcomeBodyTooLarge  outcome = "body_too_large"     // egress: it has to be read, and is too long for that; refused
	outcomeBusy          outcome = "too_many_bodies"    // egress: it has to be read, and too many others wait; refused
	outcomeBodyTimeout   outcome = "body_timeout"       // egress: it has to be read, and does not come; refused
	outcomeWithdrawn     outcome = "withdrawn"          // the policy is above its ceiling; refused
	outcomeStoreFailed   outcome = "store_failed"
)

// metricFamilies are the processor's own metrics. Labels are names from policies and from Envoy's configuration, never
// from a request, so clients cannot make new series: a header of a family is counted under the family.
type metricFamilies struct {
	requests          *prometheus.CounterVec
	headers           *prometheus.CounterVec
	seconds           *prometheus.HistogramVec
	refused           *prometheus.CounterVec
	mismatches        *prometheus.CounterVec
	baggageDropped    *prometheus.CounterVec
	principalMismatch *prometheus.CounterVec
	noPrincipal       *prometheus.CounterVec
	unknownSession    *prometheus.CounterVec
	sessionsEnded     *prometheus.CounterVec
	foreignEnds       *prometheus.CounterVec
	notAccepted       *prometheus.CounterVec
	waiting           *prometheus.GaugeVec
	notWaited         *prometheus.CounterVec
}

func newMetricFamilies(registerer prometheus.Registerer) *metricFamilies {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		family := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		registerer.MustRegister(family)
		return family
	}
	families := &metricFamilies{
		requests: counter("bellhop_requests_total",
			"HTTP requests, by role and by what became of them.", "fanout", "role", "outcome"),
		headers: counter("bellhop_headers_total",
			"Headers of the policy, by the name clients send, backend (empty at ingress) and what became of them.",
			"fanout", "header", "backend", "outcome"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bellhop_processing_seconds", Help: "Time from a request's headers to their answer, in seconds, by role.",
			Buckets: []float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 5e-3, 25e-3, 100e-3, 500e-3},
		}, []string{"fanout", "role"}),
		refused: counter("bellhop_streams_refused_total",
			"Streams of misconfigured filters, by the wrong setting.", "reason"),
		mismatches: counter("bellhop_carrier_mismatches_total",
			"Requests to backends whose two carriers held different tickets.", "fanout"),
		baggageDropped: counter("bellhop_baggage_members_dropped_total",
			"Clients' baggage members left out to make room for the ticket.", "fanout"),
		principalMismatch: counter("bellhop_session_principal_mismatch_total",
			"Requests with the session of another principal; they got nothing from it.", "fanout"),
		noPrincipal: counter("bellhop_session_no_principal_total",
			"Requests without a principal in a session that keeps headers; they got nothing from it.", "fanout"),
		unknownSession: counter("bellhop_session_unknown_total",
			"Requests of an unknown session: it has kept nothing yet, or what it kept is lost.", "fanout"),
		sessionsEnded: counter("bellhop_sessions_ended_total",
			"Sessions deleted because their client or the fan-out ended them.", "fanout"),
		notAccepted: counter(
			"bellhop_session_not_accepted_total",
			"Requests that would have changed a session for others and that the fan-out refused; they changed nothing.",
			"fanout",
		),
		foreignEnds: counter("bellhop_session_foreign_ends_total",
			"Ends of sessions that an access log reported and that are not of its fan-out; they stay.", "fanout"),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "bellhop_streams_waiting", Help: "Streams that wait for the body of a request, or for a response.",
		}, []string{"fanout"}),
		notWaited: counter("bellhop_streams_not_waited_total",
			"Streams that did not wait for a body or a response because too many did.", "fanout"),
	}
	registerer.MustRegister(families.seconds, families.waiting)
	return families
}

// forget deletes the series of what is no longer served, fan-outs and the headers and backends of their policies: they
// would be reported, and take memory, for ever.
func (families *metricFamilies) forget(before *fanouts, now fanouts) {
	if before == nil {
		return
	}
	for name, was := range *before {
		if is, served := now[name]; served {
			families.forgetNames(name, was.policy, is.policy)
			continue
		}
		label := prometheus.Labels{"fanout": name}
		for _, family := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
			families.requests, families.headers, families.seconds, families.mismatches, families.baggageDropped,
			families.principalMismatch, families.noPrincipal, families.unknownSession, families.sessionsEnded,
			families.foreignEnds, families.notAccepted, families.waiting, families.notWaited,
		} {
			family.DeletePartialMatch(label)
		}
	}
}

// forgetNames deletes the series of headers and backends that the policy of a fan-out names no longer.
func (families *metricFamilies) forgetNames(fanout string, was, is *policy.Policy) {
	for _, pattern := range was.Patterns() {
		if !slices.Contains(is.Patterns(), pattern) {
			families.headers.DeletePartialMatch(prometheus.Labels{"fanout": fanout, "header": pattern})
		}
	}
	for _, backend := range was.Backends() {
		same := func(other policy.Backend) bool { return other.Name == backend.Name }
		if !slices.ContainsFunc(is.Backends(), same) {
			families.headers.DeletePartialMatch(prometheus.Labels{"fanout": fanout, "backend": backend.Name})
		}
	}
}

// counters are those of one family and one fan-out, by their other labels, of which there are up to three. Each is
// looked up in the family once, because that costs three times what a map does.
type counters struct {
	family *prometheus.CounterVec
	labels int

	mu    sync.RWMutex
	known map[[3]string]prometheus.Counter
}

func newCounters(family *prometheus.CounterVec, labels int) *counters {
	return &counters{family: family, labels: labels, known: make(map[[3]string]prometheus.Counter)}
}

func (c *counters) inc(labels [3]string) {
	c.mu.RLock()
	counter, ok := c.known[labels]
	c.mu.RUnlock()
	if !ok {
		counter = c.family.WithLabelValues(labels[:c.labels]...)
		c.mu.Lock()
		c.known[labels] = counter
		c.mu.Unlock()
	}
	counter.Inc()
}

// metrics are the metrics of one fan-out under one policy. Counters that every request needs are looked up once.
type metrics struct {
	policy            *policy.Policy
	requests          *counters // by role and outcome
	headers           *counters // by header, backend and outcome
	seconds           map[Role]prometheus.Observer
	mismatches        prometheus.Counter
	baggageDropped    prometheus.Counter
	principalMismatch prometheus.Counter
	noPrincipal       prometheus.Counter
	unknownSession    prometheus.Counter
	sessionsEnded     prometheus.Counter
	foreignEnds       prometheus.Counter
	notAccepted       prometheus.Counter
}

func (families *metricFamilies) of(p *policy.Policy) *metrics {
	label := prometheus.Labels{"fanout": p.Fanout()}
	seconds := families.seconds.MustCurryWith(label)
	return &metrics{
		policy:   p,
		requests: newCounters(families.requests.MustCurryWith(label), 2),
		headers:  newCounters(families.headers.MustCurryWith(label), 3),
		seconds: map[Role]prometheus.Observer{
			Ingress: seconds.WithLabelValues(string(Ingress)), Egress: seconds.WithLabelValues(string(Egress)),
		},
		mismatches: families.mismatches.With(label), baggageDropped: families.baggageDropped.With(label),
		principalMismatch: families.principalMismatch.With(label), noPrincipal: families.noPrincipal.With(label),
		unknownSession: families.unknownSession.With(label), sessionsEnded: families.sessionsEnded.With(label),
		foreignEnds: families.foreignEnds.With(label),
		notAccepted: families.notAccepted.With(label),
	}
}

func (m *metrics) request(role Role, o outcome) {
	m.requests.inc([3]string{string(role), string(o)})
}

func (m *metrics) observe(role Role, took time.Duration) {
	if observer, ok := m.seconds[role]; ok {
		observer.Observe(took.Seconds())
	}
}

// header counts one header under the name, or the family, by which the policy lists it.
func (m *metrics) header(name, backend, outcome string) {
	if pattern := m.policy.Pattern(name); pattern != "" {
		name = pattern
	} else if outcome == string(policy.OutcomeSpelling) {
		name = m.policy.SpelledPattern(name)
	} else if outcome == string(policy.OutcomeStripped) {
		name = m.policy.StripPattern(name)
	} else if outcome != string(policy.OutcomeIdentity) && outcome != "rejected" {
		name = "other" // captured under an earlier policy: clients chose it
	}
	m.headers.inc([3]string{name, backend, outcome})
}

// rejected counts a header for which a request is refused; backend is empty at ingress.
func (m *metrics) rejected(backend string, rejection *policy.Rejection) {
	m.header(rejection.Header, backend, "rejected")
}

// captured counts a request whose capture, with what its session adds, is complete; leftOut are kept headers that broke
// a limit.
func (m *metrics) captured(captured policy.Captured, complete policy.Capture, leftOut []string) {
	if len(complete) == 0 {
		m.request(Ingress, outcomeEmpty)
	} else {
		m.request(Ingress, outcomeCaptured)
	}
	own := captured.Capture
	for i := range own {
		if i == 0 || own[i-1].Name != own[i].Name {
			m.header(own[i].Name, "", "captured")
		}
	}
	for i := range complete {
		if (i == 0 || complete[i-1].Name != complete[i].Name) && !own.Has(complete[i].Name) {
			m.header(complete[i].Name, "", "kept")
		}
	}
	for _, list := range []struct {
		names   []string
		outcome string
	}{
		{captured.LeftOut, "restricted"}, {leftOut, "over_limit"}, {captured.Repeated, "repeated"},
		{captured.Stripped, "stripped"}, {captured.Respelled, "other_spelling"},
	} {
		for _, name := range list.names {
			m.header(name, "", list.outcome)
		}
	}
}

func (m *metrics) delivered(backend string, verdicts []policy.Verdict) {
	for i := range verdicts {
		m.header(verdicts[i].Header, backend, string(verdicts[i].Outcome))
	}
}
