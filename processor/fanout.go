package processor

import (
	"slices"
	"strings"
	"time"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/ticket"
)

// fanout serves one fan-out under one policy. A request is served by one fanout from beginning to end, so that none
// sees a mix of two policies.
type fanout struct {
	*shared

	policy     *policy.Policy
	withdrawn  bool
	tickets    *ticket.Issuer
	sessions   *session.Tracker
	identities map[string][]policy.Header // discovery identities, by backend
	metrics    *metrics
	lastSeen   *lastSeen
	waits      *waits
	// discoveryPausedUntil is until when requests without a ticket get no discovery identity. A dry run gives out no
	// tickets, so when it ends, requests of clients without a ticket may still be open.
	discoveryPausedUntil time.Time
}

// fanouts are all served fan-outs, by name. A map is immutable.
type fanouts map[string]*fanout

func (s *shared) fanout(keys ticket.Keys, rules Rules, before *fanouts) *fanout {
	p := rules.Policy
	stores := s.stores(p.Fanout())
	return &fanout{
		shared: s, policy: p, withdrawn: rules.Withdrawn, identities: rules.Identities, metrics: s.families.of(p),
		tickets:  ticket.NewIssuer(keys, p, stores.Store, stores.Supersession, s.now),
		sessions: session.NewTracker(keys.Derive("session"), p, stores.Sessions),
		lastSeen: before.lastSeen(p, s.now()), discoveryPausedUntil: before.discoveryPausedUntil(p, s.now()),
		waits: before.waits(p.Fanout(), s.families),
	}
}

// fanout returns the fan-out that a filter names. A filter without a name gets the fan-out without a name, or the only
// one if there can be only one. If only one of several is served, it does not get the filters of the others.
func (p *Processor) fanout(name string) (*fanout, error) {
	all := *p.current.Load()
	if found, ok := all[name]; ok {
		return found, nil
	}
	switch {
	case name != "":
		return nil, &Misconfiguration{
			"fanout",
			"the filter's bellhop-fanout matches no policy's fanout: use the same name in both",
		}
	case p.shared.Single && len(all) == 1:
		for _, only := range all {
			return only, nil
		}
	}
	return nil, &Misconfiguration{
		"fanout",
		"the filter does not name its fan-out: add {key: bellhop-fanout, value: NAME} to its grpc_service.initial_metadata",
	}
}

// discoveryPausedUntil returns until when a policy that is applied now gives no discovery identity.
func (all *fanouts) discoveryPausedUntil(next *policy.Policy, now time.Time) time.Time {
	was, ok := all.get(next.Fanout())
	switch {
	case !ok:
		return time.Time{}
	case was.observes():
		return now.Add(next.Grace())
	default:
		return was.discoveryPausedUntil
	}
}

// lastSeen returns the records of the previous policy if it is the same.
func (all *fanouts) lastSeen(p *policy.Policy, now time.Time) *lastSeen {
	if was, ok := all.get(p.Fanout()); ok && was.policy.Digest() == p.Digest() {
		return was.lastSeen
	}
	return newLastSeen(p, now)
}

func (all *fanouts) get(name string) (*fanout, bool) {
	if all == nil {
		return nil, false
	}
	found, ok := (*all)[name]
	return found, ok
}

// sorted returns the fan-outs by name.
func (all fanouts) sorted() []*fanout {
	var list []*fanout
	for _, one := range all {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b *fanout) int { return strings.Compare(a.policy.Fanout(), b.policy.Fanout()) })
	return list
}

// observes reports whether the policy is only observed.
func (f *fanout) observes() bool { return f.policy.Mode() == policy.ModeObserve }

// observed is the answer of a dry run: it only removes carriers. Sessions are still tracked.
func (f *fanout) observed(role Role, computed Answer, request parsed) Answer {
	answer := withoutCarriers(role, request.Headers)
	answer.Session, answer.Pending, answer.Reading = computed.Session, computed.Pending, computed.Reading
	if answer.Pending != nil {
		answer.Pending.explanation = nil
	}
	return answer
}
