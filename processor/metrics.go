package processor

import (
	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
)

// outcome says what became of one request. Its text is stable: dashboards and alerts rely on it.
type outcome string

const (
	outcomeCaptured      outcome = "captured"           // ingress: headers taken off, ticket given
	outcomeEmpty         outcome = "empty"              // the client sent nothing, or nothing for this backend
	outcomeRejected      outcome = "rejected"           // ingress: a limit was broken
	outcomeForwarded     outcome = "forwarded"          // egress: headers put back
	outcomeDiscovery     outcome = "discovery"          // egress: no client caused it; the backend's own identity
	outcomeNoIdentity    outcome = "no_identity"        // egress: the same, and its file cannot be read; refused
	outcomeNoTicket      outcome = "no_ticket"          // egress: no client caused it; nothing
	outcomeUnknownTicket outcome = "unknown_ticket"     // egress: expired, forged, or lost in a restart; nothing
	outcomeSuperseded    outcome = "superseded"         // egress: every session that had the ticket has another; nothing
	outcomeRedirected    outcome = "redirected"         // egress: a backend has sent the request on to another; nothing
	outcomeUndeclared    outcome = "undeclared_backend" // egress: outside the policy's world; nothing
	outcomeNoRoom        outcome = "no_room"            // egress: Envoy's own limits; nothing
	outcomeStoreFailed   outcome = "store_failed"
)

// families are the processor's own metrics. Labels are names from policies and from Envoy's configuration, never from a
// request, so clients cannot make new series: a header of a family is counted under the family.
type families struct {
	requests       *prometheus.CounterVec
	headers        *prometheus.CounterVec
	seconds        *prometheus.HistogramVec
	refused        *prometheus.CounterVec
	mismatches     *prometheus.CounterVec
	baggageDropped *prometheus.CounterVec
	strangers      *prometheus.CounterVec
	nameless       *prometheus.CounterVec
	unknown        *prometheus.CounterVec
	ended          *prometheus.CounterVec
}

func newFamilies(registerer prometheus.Registerer) *families {
	f := &families{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellhop_requests_total", Help: "HTTP requests, by role and by what became of them.",
		}, []string{"fanout", "role", "outcome"}),
		headers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellhop_headers_total", Help: "Headers of the policy, by the name clients send, backend (empty at ingress) and what became of them.",
		}, []string{"fanout", "header", "backend", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bellhop_processing_seconds", Help: "Time from a request's headers to their answer, in seconds, by role.",
			Buckets: []float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 5e-3, 25e-3, 100e-3, 500e-3},
		}, []string{"fanout", "role"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellhop_streams_refused_total", Help: "Streams of misconfigured filters, by the metadata at fault.",
		}, []string{"reason"}),
		mismatches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellhop_carrier_mismatches_total", Help: "Requests to backends whose two carriers held different tickets.",
		}, []string{"fanout"}),
		baggageDropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellhop_baggage_members_dropped_total", Help: "Clients' baggage members left out to make room for the ticket.",
		}, []string{"fanout"}),
		strangers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellhop_session_strangers_total", Help: "Requests with the session of another principal: they got nothing of it.",
		}, []string{"fanout"}),
		nameless: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellhop_session_nameless_total", Help: "Requests of a session that keeps headers, without any principal: they got nothing of it.",
		}, []string{"fanout"}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellhop_session_unknown_total", Help: "Requests of a session of which nothing is known: it has kept nothing yet, or what it kept is lost.",
		}, []string{"fanout"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellhop_sessions_ended_total", Help: "Sessions that were forgotten because their client or the fan-out ended them.",
		}, []string{"fanout"}),
	}
	registerer.MustRegister(f.strangers, f.nameless, f.unknown, f.ended, f.requests, f.headers, f.seconds, f.refused, f.mismatches, f.baggageDropped)
	return f
}

// metrics are those of one fan-out.
type metrics struct {
	requests       *prometheus.CounterVec
	headers        *prometheus.CounterVec
	seconds        prometheus.ObserverVec
	mismatches     prometheus.Counter
	baggageDropped prometheus.Counter
	strangers      prometheus.Counter
	nameless       prometheus.Counter
	unknown        prometheus.Counter
	ended          prometheus.Counter
}

func (f *families) of(fanout string) *metrics {
	label := prometheus.Labels{"fanout": fanout}
	return &metrics{
		requests: f.requests.MustCurryWith(label), headers: f.headers.MustCurryWith(label), seconds: f.seconds.MustCurryWith(label),
		mismatches: f.mismatches.With(label), baggageDropped: f.baggageDropped.With(label), strangers: f.strangers.With(label),
		nameless: f.nameless.With(label), unknown: f.unknown.With(label), ended: f.ended.With(label),
	}
}

func (m *metrics) request(r role, o outcome) { m.requests.WithLabelValues(string(r), string(o)).Inc() }

// header counts one header under the name, or the family, by which the policy lists it.
func (m *metrics) header(p *policy.Policy, name, backend, outcome string) {
	if pattern := p.Pattern(name); pattern != "" {
		name = pattern
	} else if outcome != string(policy.OutcomeIdentity) && outcome != "rejected" {
		name = "other" // captured under an earlier policy: clients chose it
	}
	m.headers.WithLabelValues(name, backend, outcome).Inc()
}

func (m *metrics) timer(r role) *prometheus.Timer {
	return prometheus.NewTimer(m.seconds.WithLabelValues(string(r)))
}

// rejected counts a header for which a request is refused; backend is empty at ingress.
func (m *metrics) rejected(p *policy.Policy, backend string, rejection *policy.Rejection) {
	m.header(p, rejection.Header, backend, "rejected")
}

func (m *metrics) taken(p *policy.Policy, taken policy.Captured, complete policy.Capture, leftOut []string) {
	if len(complete) == 0 {
		m.request(ingress, outcomeEmpty)
	} else {
		m.request(ingress, outcomeCaptured)
	}
	for i, header := range taken.Capture {
		if i == 0 || taken.Capture[i-1].Name != header.Name {
			m.header(p, header.Name, "", "captured")
		}
	}
	for i, header := range complete {
		if (i == 0 || complete[i-1].Name != header.Name) && !taken.Capture.Has(header.Name) {
			m.header(p, header.Name, "", "remembered")
		}
	}
	for _, name := range taken.LeftOut {
		m.header(p, name, "", "restricted")
	}
	for _, name := range leftOut {
		m.header(p, name, "", "over_limit")
	}
	for _, name := range taken.Repeated {
		m.header(p, name, "", "repeated")
	}
}

func (m *metrics) delivered(p *policy.Policy, backend string, verdicts []policy.Verdict) {
	for _, verdict := range verdicts {
		m.header(p, verdict.Header, backend, string(verdict.Outcome))
	}
}
