package processor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"bellhop/policy"
)

// The keys of a filter's grpc_service.initial_metadata. A client cannot set them.
const (
	roleKey    = "bellhop-role"
	backendKey = "bellhop-backend"
	fanoutKey  = "bellhop-fanout"
	readsKey   = "bellhop-reads"
)

// readsMCP is what a filter says by readsKey: the one in front of it is envoy.filters.http.mcp.
const readsMCP = "mcp"

// role is the side of the fan-out on which a filter stands.
type role string

const (
	ingress role = "ingress" // client → fan-out
	egress  role = "egress"  // fan-out → backend
)

// binding is what a filter's configuration says of itself.
type binding struct {
	role    role
	backend string // empty: take the cluster's name
	fanout  string // empty: the one that has no name, or the only one
	reads   string // readsMCP, or empty: nobody reads bodies
}

// misconfiguration is why a stream must not be served.
type misconfiguration struct{ reason, text string }

func (m misconfiguration) Error() string { return m.text }

func misconfigured(reason, text string) error { return misconfiguration{reason: reason, text: text} }

// bind reads who opened the stream. A filter that does not say its role, or says it twice, is misconfigured, and
// guessing could give a client's headers away.
func bind(ctx context.Context) (binding, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	var bound binding
	for _, word := range []struct {
		key, reason string
		into        *string
	}{{roleKey, "role", (*string)(&bound.role)}, {fanoutKey, "fanout", &bound.fanout}, {backendKey, "backend", &bound.backend}, {readsKey, "reads", &bound.reads}} {
		values := md.Get(word.key)
		if len(values) > 1 {
			return binding{}, misconfigured(word.reason, "the filter says "+word.key+" more than once: keep one in its grpc_service.initial_metadata")
		}
		*word.into = strings.Join(values, "")
	}
	if bound.reads != "" && bound.reads != readsMCP {
		return binding{}, misconfigured("reads", "the filter's bellhop-reads is not mcp: correct its grpc_service.initial_metadata, or leave it out")
	}
	switch bound.role {
	case ingress, egress:
		return bound, nil
	case "":
		return binding{}, misconfigured("role", "the filter says no role: add {key: bellhop-role, value: ingress} or {…, value: egress} to its grpc_service.initial_metadata")
	default:
		return binding{}, misconfigured("role", "the filter's bellhop-role is neither ingress nor egress: correct its grpc_service.initial_metadata")
	}
}

// engines are one for each fan-out, by its name. They never change.
type engines map[string]*engine

// engineOf finds the engine of a fan-out. A filter that names none means the fan-out without a name, or the one that there is where
// there can be no other: one of several that is left alone is not meant by the filters of those that are not served.
func (p *Processor) engineOf(fanout string) (*engine, error) {
	all := *p.current.Load()
	if engine, ok := all[fanout]; ok {
		return engine, nil
	}
	switch {
	case fanout != "":
		return nil, misconfigured("fanout", "the filter's bellhop-fanout is the fanout of no policy: make the two the same")
	case p.shared.single && len(all) == 1:
		for _, only := range all {
			return only, nil
		}
	}
	return nil, misconfigured("fanout", "the filter does not say which of the fan-outs it is at: add {key: bellhop-fanout, value: NAME} to its grpc_service.initial_metadata")
}

// quiet is until when a fan-out's policy, that is taken now, gives no discovery identity: see engine.quiet.
func (all *engines) quiet(next *policy.Policy, now time.Time) time.Time {
	if all == nil {
		return time.Time{}
	}
	was, ok := (*all)[next.Fanout()]
	switch {
	case !ok:
		return time.Time{}
	case was.policy.Mode() == policy.ModeObserve:
		return now.Add(next.Grace())
	default:
		return was.quiet
	}
}

// sorted are the engines by the names of their fan-outs.
func (all engines) sorted() []*engine {
	var list []*engine
	for _, engine := range all {
		list = append(list, engine)
	}
	slices.SortFunc(list, func(a, b *engine) int { return strings.Compare(a.policy.Fanout(), b.policy.Fanout()) })
	return list
}

// refuse ends a stream that must not be served, and says so once a minute in the log.
func (s *shared) refuse(err error) error {
	reason := "other"
	if known, ok := errors.AsType[misconfiguration](err); ok {
		reason = known.reason
	}
	s.families.refused.WithLabelValues(reason).Inc()
	s.warnings.warn("stream refused, so Envoy fails the request", "reason", err.Error())
	return status.Error(codes.InvalidArgument, "bellhop: "+err.Error())
}
