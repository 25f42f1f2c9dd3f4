package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"bellhop/policy"
)

// Tracker tracks the MCP sessions of one fan-out under one policy. Safe for concurrent use.
type Tracker struct {
	policy *policy.Policy
	store  Store
	names  []Names // by key, the newest first
}

// NewTracker returns a tracker. Keys name sessions: the newest names what is written, and all are looked up.
func NewTracker(keys [][]byte, p *policy.Policy, store Store) *Tracker {
	t := &Tracker{policy: p, store: store}
	for _, key := range keys {
		t.names = append(t.names, NewNames(key, p.Fanout()))
	}
	return t
}

// State is what a request may use of its session. Headers are neither read from nor saved to another principal's
// session. Requests without a principal have no session unless session.bind is empty.
type State struct {
	Name      string // of the session; empty: the request has none that it may use
	Found     bool   // the store has a record of it
	CanKeep   bool   // the request may read kept headers from the session and save them to it
	Denied    Denial // why the session's record was withheld
	record    Record
	foreign   bool   // the record is another principal's
	denied    string // the stored name of the session whose record was withheld
	previous  string // the name by an older key under which the record was found; empty: the newest
	principal string
	accepted  bool // the change comes late: once the fan-out has accepted the request
}

// Denial says why a request gets nothing from an existing session.
type Denial int

const (
	// NotDenied is for a session that the request may use, or that does not exist.
	NotDenied Denial = iota
	// PrincipalMismatch is for a session of another principal.
	PrincipalMismatch
	// NoPrincipal is for a request with none of the headers in session.bind.
	NoPrincipal
)

// Kept returns the headers that the session keeps.
func (s State) Kept() policy.Capture { return s.record.Kept }

// Request is what a tracker reads of a client's request.
type Request struct {
	ID      string          // Mcp-Session-Id; empty: none
	Headers []policy.Header // for the principal
}

// Lookup looks up the session of a request. An error means that the store cannot answer; it is returned only if the
// policy keeps headers for sessions and the request could get some, because otherwise no header is lost.
func (t *Tracker) Lookup(ctx context.Context, request Request) (State, error) {
	keeps := t.policy.KeepsSessions()
	if !keeps && t.policy.Sealed() {
		return State{}, nil // sessions matter to nothing
	}
	state := State{CanKeep: keeps && t.policy.HasPrincipal(request.Headers)}
	if keeps {
		state.principal = t.names[0].Principal(request.Headers, t.policy.Session().Bind)
	}
	if request.ID == "" {
		return state, nil
	}
	found, err := t.find(ctx, request, state)
	switch {
	case !keeps: // then only the last issued ticket is tracked, which is no secret
		return found, nil
	case err != nil && !state.CanKeep:
		return State{}, nil
	case err != nil:
		return State{}, err
	case found.foreign:
		return State{Denied: denial(state), denied: found.StoredName()}, nil
	default:
		return found, nil
	}
}

// find looks up a session by its name under each key, the newest first. A session found by an older key moves to its
// newest name when it is saved.
func (t *Tracker) find(ctx context.Context, request Request, state State) (State, error) {
	state.Name = t.names[0].Session(request.ID)
	for i, names := range t.names {
		name, principal := state.Name, ""
		if i > 0 {
			name = names.Session(request.ID)
		}
		if state.CanKeep {
			principal = state.principal
		}
		if state.CanKeep && i > 0 {
			principal = names.Principal(request.Headers, t.policy.Session().Bind)
		}
		var err error
		if state.record, state.Found, err = t.store.Lookup(ctx, name, principal); err != nil {
			return state, err
		}
		if !state.Found {
			continue
		}
		if i > 0 {
			state.previous = name
		}
		state.foreign = state.record.Principal != "" && state.record.Principal != principal
		return state, nil
	}
	return state, nil
}

func denial(state State) Denial {
	if state.CanKeep {
		return PrincipalMismatch
	}
	return NoPrincipal
}

// ErrSupersession wraps an error after which only the last issued ticket is not recorded: no header is lost, but a
// ticket that it superseded can be used for longer.
var ErrSupersession = errors.New("the last issued ticket of a session is not recorded")

// Change is the change that a request makes to its session.
type Change struct {
	Own     policy.Capture // what the request itself sent
	Content string         // of the ticket that it was issued; empty: not tracked
}

// Claims reports whether a request would change a session that is not known to be its own: one that keeps nothing, so
// that no principal guards it. Only the fan-out knows whose a session is, so the change waits until it has accepted the
// request: else another client could claim the session, or end its owner's ticket.
func (t *Tracker) Claims(state State, change Change) bool {
	keeps := state.CanKeep && len(t.policy.Kept(change.Own)) > 0
	issues := change.Content != "" && (!state.Found || state.record.Content != change.Content)
	return state.Name != "" && state.record.Principal == "" && (keeps || issues)
}

// Accept saves the change of a request that the fan-out has accepted. Responses come in any order: where another
// request has been issued something else meanwhile, that stands.
func (t *Tracker) Accept(ctx context.Context, state State, change Change) error {
	state.accepted = true
	return t.Save(ctx, state, change)
}

// Save saves the change that a request makes to its session. It writes nothing if nothing changes or there is nothing
// to keep.
func (t *Tracker) Save(ctx context.Context, state State, change Change) error {
	if !state.CanKeep {
		change.Own = nil
	}
	kept := t.policy.Renew(state.record.Kept, change.Own)
	if state.Name == "" || change.Content == "" && len(kept) == 0 || state.has(kept, change.Content) {
		return nil
	}
	err := t.store.Update(ctx, state.Name, t.policy.Session().Idle, func(now Record) (Record, bool) {
		return t.merge(state, change, now)
	})
	if err == nil && state.previous != "" {
		err = t.store.End(ctx, state.previous)
	}
	if err != nil && len(kept) == 0 {
		return fmt.Errorf("%w: %w", ErrSupersession, err)
	}
	return err
}

// has reports whether the stored record already has all of the change, under its newest name.
func (s State) has(kept policy.Capture, content string) bool {
	return s.Found && s.previous == "" && s.record.Content == content && slices.EqualFunc(s.record.Kept, kept, equalLines)
}

func equalLines(a, b policy.Header) bool { return a.Name == b.Name && a.Value.Equal(b.Value) }

// merge returns the record after a change. It is false if another principal has taken the session meanwhile.
func (t *Tracker) merge(state State, change Change, now Record) (Record, bool) {
	if now.Principal != "" && (now.Principal != state.principal || !state.CanKeep) {
		return now, false
	}
	if state.previous != "" && now.Principal == "" {
		now.Kept = state.record.Kept
	}
	if state.accepted && now.Content != state.record.Content {
		change.Content = now.Content
	}
	next := Record{Kept: t.policy.Renew(now.Kept, change.Own), Content: change.Content, Lifetime: t.policy.Lifetime()}
	if len(next.Kept) > 0 {
		next.Principal = state.principal
	}
	return next, true
}

// Opening returns the record of a session that the response to a request may begin. It is nil if the request keeps
// nothing.
func (t *Tracker) Opening(state State, change Change) *Record {
	kept := t.policy.Kept(change.Own)
	if !state.CanKeep || len(kept) == 0 {
		return nil
	}
	return &Record{Principal: state.principal, Kept: kept, Content: change.Content, Lifetime: t.policy.Lifetime()}
}

// Begin writes the first record of the session with an ID, unless another principal has it.
func (t *Tracker) Begin(ctx context.Context, id string, opening Record) error {
	return t.store.Update(ctx, t.names[0].Session(id), t.policy.Session().Idle, func(now Record) (Record, bool) {
		return opening, now.Principal == "" || now.Principal == opening.Principal
	})
}

// StoredName is the name under which the store has the session's record.
func (s State) StoredName() string { return cmp.Or(s.previous, s.Name) }

// Supersession is that of the content that a session was last issued, by a request of another principal.
type Supersession struct{ name, content string }

// Superseding returns the supersession that the response to a request confirms: if the fan-out accepts another
// principal in a session, as after a renewed access token, what the session was issued before is superseded. What it
// keeps stays its own principal's.
func (t *Tracker) Superseding(state State, change Change) *Supersession {
	return &Supersession{name: state.denied, content: change.Content}
}

// Supersede records that a session was issued another content.
func (t *Tracker) Supersede(ctx context.Context, s Supersession) error {
	return t.store.Update(ctx, s.name, t.policy.Session().Idle, func(now Record) (Record, bool) {
		known, changes := now.Content != "", now.Content != s.content
		now.Content = s.content
		return now, known && changes
	})
}

// Owns reports whether a name is that of a session of this fan-out, by any key that still names sessions.
func (t *Tracker) Owns(name string) bool {
	return slices.ContainsFunc(t.names, func(names Names) bool { return names.Owns(name) })
}

// End deletes the session of that name.
func (t *Tracker) End(ctx context.Context, name string) error { return t.store.End(ctx, name) }
