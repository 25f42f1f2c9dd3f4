package policy

import "slices"

// Footprint lists the headers that a proxy must show to Bellhop in one role, and those that Bellhop may change. A proxy
// that enforces both makes the policy hold even if Bellhop has a bug.
//
// A name that ends in * is a family.
type Footprint struct {
	Reads    []string
	ReadsAll bool // every header, whatever Reads holds
	Writes   []string
}

// IngressFootprint is the footprint on client requests.
func (p *Policy) IngressFootprint() Footprint {
	carriers := []string{TicketHeader, BaggageHeader}
	reads := append(slices.Clone(carriers), MethodHeader, NameHeader, SessionHeader, ":method", connectionHeader)
	if p.KeepsSessions() {
		reads = append(reads, ":status") // of the response that begins or ends a session
		reads = append(reads, p.doc.Session.Bind...)
	}
	for _, source := range p.sources.list {
		reads = appendOnce(reads, source.pattern)
	}
	writes := append(slices.Clone(carriers), TicketAliases()...)
	for _, source := range p.sources.list {
		if source.hide {
			writes = append(writes, source.pattern)
		}
	}
	if p.doc.Explain {
		// Bellhop can only list the headers without a rule if it sees all headers.
		writes = append(
			writes, "x-bellhop-explain", "x-bellhop-captured", "x-bellhop-not-listed", "x-bellhop-left-out",
			"x-bellhop-rejected",
		)
	}
	return Footprint{Reads: reads, ReadsAll: p.doc.Explain, Writes: writes}
}

// EgressFootprint is the footprint on requests to backends, over all of them.
func (p *Policy) EgressFootprint() Footprint {
	names := []string{TicketHeader, BaggageHeader}
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, rule := range p.doc.Forward {
		add(rule.As)
		add(rule.Name)
	}
	for _, backend := range p.doc.Backends {
		for _, identity := range backend.Discovery {
			add(identity.Name)
		}
	}
	reads := append(slices.Clone(names), MethodHeader, NameHeader, OriginalURLHeader)
	if p.NeedsOperation() {
		reads = append(reads, ":method") // only a POST has an operation
	}
	return Footprint{Reads: reads, Writes: names}
}
