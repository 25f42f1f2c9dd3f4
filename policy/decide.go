package policy

import "slices"

// Claim says what a request to a backend knows of the client that caused it.
type Claim int

const (
	// ClaimUnknown is a ticket that cannot be redeemed: expired, forged, or of another fan-out. The zero value, because
	// it is the one that gets nothing.
	ClaimUnknown Claim = iota
	// ClaimNone is no ticket at all: no client caused the request.
	ClaimNone
	// ClaimCapture is a redeemed ticket, of a capture that may be empty.
	ClaimCapture
)

// Call is one request to one backend, as [Policy.Decide] has to know it.
type Call struct {
	Backend  string // as [Policy.Backend] names it
	Claim    Claim
	Capture  Capture  // with ClaimCapture
	Identity []Header // the backend's discovery identity, as it is to be sent
	Request  []Header // what the fan-out sent
}

// Outcome says what became of one header at one backend. Its text is stable: metrics may rely on it.
type Outcome string

const (
	// OutcomeForwarded is a client's header that the backend gets.
	OutcomeForwarded Outcome = "forwarded"
	// OutcomeAbsent is a header that may go to the backend and that this client did not send.
	OutcomeAbsent Outcome = "absent"
	// OutcomeNotAllowed is a client's header that no rule allows for the backend.
	OutcomeNotAllowed Outcome = "not_allowed"
	// OutcomeUnknown is a header that may go to the backend and whose ticket could not be redeemed.
	OutcomeUnknown Outcome = "unknown_ticket"
	// OutcomeIdentity is a header of the backend's discovery identity.
	OutcomeIdentity Outcome = "discovery"
)

// Verdict is the outcome for one header, by the name the client sends; for an identity, the backend's name for it.
type Verdict struct {
	Header  string
	Outcome Outcome
}

// Decision is what a request to a backend becomes: first Remove, then Set.
type Decision struct {
	Remove   []string
	Set      []Header // several lines of one name stand together, in the client's order
	Verdicts []Verdict
}

// Decide says what one request to one backend gets. Every name that a rule governs at the backend is Bellhop's: it
// is removed, whoever put it there, and set again only from the capture.
func (p *Policy) Decide(call Call) Decision {
	r := p.routeTo(call.Backend)
	switch call.Claim {
	case ClaimCapture:
		return p.deliver(r, call)
	case ClaimNone:
		return identify(p.withheld(r, call.Request), call)
	default:
		decision := Decision{Remove: p.withheld(r, call.Request)}
		for _, delivery := range r.deliveries {
			decision.verdict(p.sources[delivery.source].name, OutcomeUnknown)
		}
		return decision
	}
}

func (p *Policy) deliver(r *route, call Call) Decision {
	decision := Decision{Remove: r.governed}
	for _, delivery := range r.deliveries {
		name, outcome := p.sources[delivery.source].name, OutcomeAbsent
		for _, header := range call.Capture {
			if header.Name == name {
				decision.set(delivery.as, delivery.prefix, header.Value)
				outcome = OutcomeForwarded
			}
		}
		decision.verdict(name, outcome)
	}
	p.withhold(r, call, &decision)
	return decision
}

// withhold takes away what a fan-out that saw a header (hide: false) passes on by itself to a backend that no rule
// allows it for. Only the very value of this client's capture goes: the fan-out may have a header of that name of
// its own for the backend.
func (p *Policy) withhold(r *route, call Call, decision *Decision) {
	for i, captured := range call.Capture {
		source := p.index[captured.Name]
		if i == 0 || call.Capture[i-1].Name != captured.Name {
			if !r.delivers(source) {
				decision.verdict(captured.Name, OutcomeNotAllowed)
			}
		}
		if r.governs(captured.Name) {
			continue
		}
		for _, sent := range call.Request {
			if sent.Name == captured.Name && sent.Value.Equal(captured.Value) && !slices.Contains(decision.Remove, sent.Name) {
				decision.Remove = append(slices.Clip(decision.Remove), sent.Name)
			}
		}
	}
}

// withheld is what is taken away of a request that has no capture to compare with: beside the governed names all
// that clients show to the fan-out and that no rule allows for this backend. It may be the fan-out's own, but nobody
// can tell.
func (p *Policy) withheld(r *route, request []Header) []string {
	remove := slices.Clip(r.governed)
	for _, sent := range request {
		i, carried := p.index[sent.Name]
		if carried && !p.sources[i].hide && !r.governs(sent.Name) && !slices.Contains(remove, sent.Name) {
			remove = append(remove, sent.Name)
		}
	}
	return remove
}

// identify gives a request that no client caused the backend's own identity, unless its method is one that only a
// client can cause.
func identify(remove []string, call Call) Decision {
	decision := Decision{Remove: remove}
	if ofClient(call.Request) {
		return decision
	}
	for _, header := range call.Identity {
		decision.Set = append(decision.Set, header)
		decision.verdict(header.Name, OutcomeIdentity)
	}
	return decision
}

// ofClient reports whether the request says, where it says so at all, that its method is one that acts for a client.
func ofClient(request []Header) bool {
	for _, header := range request {
		if header.Name != MethodHeader {
			continue
		}
		switch header.Value.Reveal() {
		case "tools/call", "resources/read", "prompts/get", "completion/complete":
			return true
		}
	}
	return false
}

func (r *route) delivers(source int) bool {
	for _, delivery := range r.deliveries {
		if delivery.source == source {
			return true
		}
	}
	return false
}

func (r *route) governs(name string) bool {
	for _, governed := range r.governed {
		if governed == name {
			return true
		}
	}
	return false
}

func (d *Decision) set(name, prefix string, value Value) {
	if prefix != "" {
		value = NewValue(prefix + value.Reveal())
	}
	d.Set = append(d.Set, Header{Name: name, Value: value})
}

func (d *Decision) verdict(header string, outcome Outcome) {
	d.Verdicts = append(d.Verdicts, Verdict{Header: header, Outcome: outcome})
}
