package processor

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"bellhop/policy"
	"bellhop/processor/session"
)

// Role is the side of the fan-out on which a filter stands.
type Role string

const (
	// Ingress is between clients and the fan-out.
	Ingress Role = "ingress"
	// Egress is between the fan-out and the backends.
	Egress Role = "egress"
)

// Binding is what a filter's configuration says about the filter. Clients cannot set any of it.
type Binding struct {
	Role    Role
	Fanout  string // empty: the fan-out without a name, or the only one
	Backend string // at egress; empty: identified by the cluster
	// Clusters are those of the backend, with one * for any text, beside those of the policy. A request that the proxy
	// sends to another one is not for the backend, whoever led it there. If neither lists any, all are the backend's.
	Clusters []string
	// Path is where the backend's own URL stands at the filter, such as /a/mcp; empty: not known. The discovery identity
	// goes there and below it.
	Path string
}

// Request is one HTTP request, as far as the proxy sends it.
type Request struct {
	// Headers are all lines in their order, pseudo-headers among them if the proxy shows these. Names are in lower case.
	Headers []policy.Header
	Cluster string // to which the proxy sends the request; empty: not known
	Body    Body
}

// Body says whether a request has a body, and whether the core can have it.
type Body int

const (
	// BodyHidden is a body, or none, that the proxy does not show.
	BodyHidden Body = iota
	// BodyNone is none.
	BodyNone
	// BodyOffered is a body that the proxy holds until the answer says whether it is needed.
	BodyOffered
)

// Response is the headers of one HTTP response, as far as the proxy sends them.
type Response struct {
	Headers []policy.Header // as in [Request]
}

// The pseudo-headers that are read.
const (
	methodPseudoHeader = ":method"
	pathPseudoHeader   = ":path"
	statusPseudoHeader = ":status"
)

// parsed is a request with the MCP fields of its headers.
type parsed struct {
	Request
	at        time.Time
	method    string // of HTTP; empty where no pseudo-headers are shown
	path      string // with the query; empty where it is not shown
	sessionID string // the MCP session's, as the client sends it; empty: none
	modern    bool   // of MCP 2026-07-28, which has no sessions
	length    int    // of the body, in bytes, as the request says; 0: not known
	// sessions counts the lines of Mcp-Session-Id, of which a request may have one.
	sessions int
}

func parse(request Request, at time.Time) parsed {
	p := parsed{Request: request, at: at}
	for i := range request.Headers {
		switch header := &request.Headers[i]; header.Name {
		case methodPseudoHeader:
			p.method = header.Value.Reveal()
		case pathPseudoHeader:
			p.path = header.Value.Reveal()
		case policy.LengthHeader:
			p.length, _ = strconv.Atoi(header.Value.Reveal())
		case policy.SessionHeader:
			p.sessionID = header.Value.Reveal()
			p.sessions++
		case policy.MethodHeader:
			p.modern = true
		}
	}
	if p.modern {
		p.sessionID = ""
	}
	return p
}

// mayBeginSession reports whether the response to a request without a session may begin one. A modern request never
// does.
func (p parsed) mayBeginSession() bool {
	return p.sessionID == "" && !p.modern && (p.method == "" || p.method == http.MethodPost)
}

func (p parsed) has(name string) bool {
	return slices.ContainsFunc(p.Headers, func(h policy.Header) bool { return h.Name == name })
}

// forTracker is what the session tracker reads of the request.
func (p parsed) forTracker() session.Request {
	return session.Request{ID: p.sessionID, Headers: p.Headers}
}
