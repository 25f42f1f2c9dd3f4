package processor

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"bellhop/policy"
	"bellhop/processor/session"
)

// visit is one request of an MCP session, as far as Bellhop may know the session.
type visit struct {
	id        string // the session's name; empty: the request has no session, or that of another principal
	before    string // the name that it has by an older key; empty: none
	principal string
	record    session.Record
	known     bool
	nameless  bool // the session may keep nothing of the request, and give it nothing
}

// kept is what the session remembers.
func (v visit) kept() policy.Capture { return v.record.Kept }

// visit finds the session of a request. A session that another principal began gives nothing and learns nothing; nor
// has a request that says nothing of its principal a session, unless the policy binds sessions to nothing: all such
// requests look alike. Without a rule that keeps headers, a session that cannot be read fails no request.
func (e *engine) visit(ctx context.Context, request incoming) (visit, error) {
	var v visit
	if !e.policy.KeepsSessions() && e.policy.Sealed() {
		return v, nil // nothing is remembered
	}
	if e.policy.KeepsSessions() { // else a session only has a ticket, which is nobody's secret
		v.nameless = !e.policy.HasPrincipal(request.headers)
		v.principal = e.names[0].Principal(request.headers, e.policy.Session().Bind)
	}
	if request.session == "" {
		return v, nil
	}
	v, stranger, err := e.find(ctx, request, v)
	switch {
	case !e.policy.KeepsSessions():
		return v, nil
	case err != nil && v.nameless: // it would get nothing anyway
		return visit{nameless: true}, nil
	case err != nil:
		return visit{nameless: true}, err
	case stranger:
		if v.nameless {
			e.metrics.nameless.Inc()
			e.warnings.warn("a request of a session that keeps headers has no principal: it gets nothing of them; let clients send one of the headers in session.bind with each request", "bind", e.policy.Session().Bind)
		} else {
			e.metrics.strangers.Inc()
		}
		return visit{nameless: true}, nil
	default:
		if !v.known && !v.nameless && request.method != http.MethodDelete {
			e.metrics.unknown.Inc()
		}
		return v, nil
	}
}

// find looks a session up under the names that it has by each key, the newest first, and reports whether it is another
// principal's. One that began before the newest key moves to its new name when it is remembered again.
func (e *engine) find(ctx context.Context, request incoming, v visit) (found visit, stranger bool, err error) {
	v.id = e.names[0].Session(request.session)
	for i, names := range e.names {
		id, principal := names.Session(request.session), ""
		if e.policy.KeepsSessions() && !v.nameless {
			principal = names.Principal(request.headers, e.policy.Session().Bind)
		}
		if v.record, v.known, err = e.sessions.Lookup(ctx, id, principal); err != nil || v.known {
			if i > 0 {
				v.before = id
			}
			return v, v.record.Principal != "" && v.record.Principal != principal, err
		}
	}
	return v, false, nil
}

// remember writes what a request tells about its session. Nothing is written while nothing changes, for a session that is
// being ended, and for one of which there is nothing to keep.
func (e *engine) remember(ctx context.Context, v visit, request incoming, own, complete policy.Capture) error {
	content := e.succeeding(complete)
	if content != "" {
		e.succession.Issued(ctx, content)
	}
	if v.nameless {
		own = nil
	}
	kept := e.policy.Renew(v.record.Kept, own)
	switch {
	case v.id == "" || request.method == http.MethodDelete:
		return nil
	case content == "" && len(kept) == 0:
		return nil
	case v.known && v.before == "" && v.record.Content == content && slices.EqualFunc(v.record.Kept, kept, sameLine):
		return nil
	}
	record := session.Record{Content: content, Lifetime: e.policy.Lifetime()}
	err := e.sessions.Update(ctx, v.id, e.policy.Session().Idle, func(now session.Record) (session.Record, bool) {
		if now.Principal != "" && (now.Principal != v.principal || v.nameless) {
			return now, false // another's request has begun it in between
		}
		if v.before != "" && now.Principal == "" {
			now.Kept = v.record.Kept
		}
		next := record
		if next.Kept = e.policy.Renew(now.Kept, own); len(next.Kept) > 0 {
			next.Principal = v.principal
		}
		return next, true
	})
	if err == nil && v.before != "" {
		err = e.sessions.End(ctx, v.before)
	}
	if err != nil && len(kept) == 0 { // only which ticket it had last is lost
		e.warnings.warn("sessions cannot be written; a ticket that is replaced may be of use for longer", "error", err)
		return nil
	}
	return err
}

// succeeding is the content by which a session tells that another has been replaced. With sealed tickets it tells nothing: they are
// redeemed without a look at any session.
func (e *engine) succeeding(complete policy.Capture) string {
	if e.policy.Sealed() {
		return ""
	}
	return e.content(complete)
}

func sameLine(a, b policy.Header) bool { return a.Name == b.Name && a.Value.Equal(b.Value) }

// awaited is what the response of a request has to tell.
type awaited struct {
	begins *session.Record // not nil: the response names the session that this begins
	ends   string          // not empty: the session of which the client asked for the end
	view   []policy.Header // what the client asked to be told with the response
	id     any             // of the client's JSON-RPC request
}

// await says what the response has to tell. Most responses tell nothing, and are not waited for: a session's ID stands
// in the response to its first request, and its end in that to a DELETE. That the fan-out has forgotten a session is heard
// of by other means, so that a call under way never depends on Bellhop: see [Processor.StreamAccessLogs].
func (e *engine) await(request incoming, v visit, own, complete policy.Capture) *awaited {
	kept := e.policy.Kept(own)
	switch {
	case !e.policy.KeepsSessions():
		return nil
	case request.session == "" && !v.nameless && len(kept) > 0 && beginsSession(request):
		return &awaited{id: request.id, begins: &session.Record{Principal: v.principal, Kept: kept, Content: e.succeeding(complete), Lifetime: e.policy.Lifetime()}}
	case v.known && request.method == http.MethodDelete:
		return &awaited{ends: cmp.Or(v.before, v.id)} // it was not remembered again
	default:
		return nil
	}
}

// beginsSession reports whether a request without a session may begin one. A modern one (2026-07-28), which names its
// method in a header, never does.
func beginsSession(request incoming) bool {
	return (request.method == "" || request.method == http.MethodPost) && !request.modern &&
		(request.operation.Method == "" || request.operation.Method == "initialize")
}

// hear takes from a response what was awaited of it. A response that tells nothing of use is passed over. A session that
// cannot be remembered must not begin: its later requests would lack their headers, and nobody would know why.
func (e *engine) hear(ctx context.Context, a *awaited, response outgoing) *problem {
	if response.status < 200 || response.status >= 300 {
		return nil
	}
	if a.ends != "" {
		e.end(ctx, a.ends)
	}
	if a.begins == nil || response.session == "" {
		return nil
	}
	err := e.sessions.Update(ctx, e.names[0].Session(response.session), e.policy.Session().Idle, func(now session.Record) (session.Record, bool) {
		return *a.begins, now.Principal == "" || now.Principal == a.begins.Principal
	})
	if err == nil || e.fails("a session cannot be written", err) {
		return nil
	}
	e.metrics.request(ingress, outcomeStoreFailed) // once more: at its beginning all was well
	return storeFailed()
}

// end forgets a session. One that cannot be forgotten now is so when it has not been used for a while.
func (e *engine) end(ctx context.Context, id string) {
	if err := e.sessions.End(ctx, id); err != nil {
		e.warnings.warn("that a session has ended cannot be written", "error", err)
		return
	}
	e.metrics.ended.Inc()
}
