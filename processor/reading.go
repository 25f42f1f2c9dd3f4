package processor

import (
	"net/http"
	"strings"

	"bellhop/policy"
	"bellhop/processor/jsonrpc"
)

// Reading is a request whose body is needed: at egress to know what it asks for, at ingress for the ID of the request
// that is refused. It is bound to the policy that serves the request.
type Reading struct {
	fanout  *fanout
	wait    *wait
	request parsed
	refused *Error // not nil: at ingress, the request is refused with it whatever the body says
	asking  asking // at egress
}

// Body answers the body of a request whose answer had a [Reading].
func (p *Processor) Body(reading *Reading, body []byte) Answer {
	f := reading.fanout
	read := jsonrpc.Body{}
	answer, refused := Answer{}, reading.refused
	switch tooLarge := len(body) > f.policy.BodyLimit(); {
	case tooLarge && refused == nil:
		refused = f.bodyTooLarge(reading.asking.backend, len(body))
	case tooLarge:
	default:
		read = jsonrpc.Read(reading.request.Headers, body)
		if refused == nil {
			answer, refused = f.decide(reading.request, reading.asking, read.Operation)
		}
	}
	switch {
	case f.observes():
		return Answer{}
	case refused != nil:
		return Answer{Error: refused.withID(read.ID)}
	default:
		return answer
	}
}

// Unread answers a request whose answer had a [Reading], and whose body does not come.
func (p *Processor) Unread(reading *Reading) Answer {
	f := reading.fanout
	refused := reading.refused
	if refused == nil {
		f.metrics.request(Egress, outcomeBodyTimeout)
		f.warnings.warn("the body of a request to a backend did not come whole within --body-timeout; the request is refused",
			"backend", reading.asking.backend)
		refused = bodyTimeout()
	}
	if f.observes() {
		return Answer{}
	}
	return Answer{Error: refused}
}

// operation returns what a request asks for without its body, or that the body has to be read.
func (p parsed) operation() (asked policy.Operation, needsBody bool) {
	switch {
	case p.Body == BodyNone:
		ofSession := p.sessionID != "" && (p.method == http.MethodGet || p.method == http.MethodDelete)
		return policy.AsksNothing(ofSession), false
	case p.Body == BodyHidden:
		return policy.NotKnown(policy.UnreadableHidden), false
	case p.method != http.MethodPost:
		return policy.NotKnown(policy.UnreadableMethod), false
	case !jsonrpc.IsJSON(p.Headers):
		return policy.NotKnown(policy.UnreadableType), false
	default:
		return policy.Operation{}, true
	}
}

// within reports whether the path of a request is a backend's own, or below it. A path that servers read in several
// ways is not.
func (p parsed) within(own string) bool {
	if own == "" {
		return true
	}
	path, _, _ := strings.Cut(p.path, "?")
	if strings.ContainsAny(path, "%\\;#") || strings.Contains(path, "//") || strings.Contains(path, "/.") {
		return false
	}
	below, ok := strings.CutPrefix(path, strings.TrimSuffix(own, "/"))
	return ok && (below == "" || below[0] == '/')
}
