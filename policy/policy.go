package policy

import (
	"bytes"
	"slices"
	"time"
)

// Policy is a checked document in the form in which it is applied. It never changes, so any number of goroutines
// may share it.
type Policy struct {
	doc      Document
	digest   string
	sources  sources           // what is captured
	hidden   []string          // names, not families
	required []string          // names that every client request needs
	routes   map[string]*route // what each declared backend gets
	open     *route            // what every backend gets where none is declared; else nil
	owners   map[string]string // cluster → backend
}

// route is what one backend gets.
type route struct {
	deliveries []delivery
	sources    sourceSet // of all deliveries
	governed   []string  // the names that are Bellhop's alone at this backend
	families   []string  // the families of such names
}

// delivery is a rule for one backend.
type delivery struct {
	Rule
	source sourceSet // of one: the rule's name
}

// byteOrderMark is what some editors put in front of a text.
const byteOrderMark = "\ufeff"

// Load reads, checks and compiles one policy document. The file's name is for the findings only. With an error
// among the findings the policy is nil: a policy loads whole or not at all. Findings may hold warnings beside a
// policy.
func Load(file string, text []byte) (*Policy, Findings) { return LoadUnder(nil, file, text) }

// LoadUnder is [Load] for a policy that has to stay below a ceiling; nil is none.
func LoadUnder(ceiling *Ceiling, file string, text []byte) (*Policy, Findings) {
	text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	recorder := newRecorder(file, text)
	places := make(map[string]Position)
	decoder := decoder{recorder: recorder, places: places}
	var doc *Document
	if root := decoder.root(text, "the policy", "the smallest policy is: version: 1, and forward: with the "+
		"name of a header"); root != nil {
		doc = decoder.document(root)
		checker := checker{recorder: recorder, places: places}
		if ceiling != nil {
			checker.below(ceiling, doc)
			checker.lower(ceiling, &doc.Limits)
		}
		checker.document(doc)
	}
	findings := recorder.sorted()
	if findings.HasErrors() {
		return nil, findings
	}
	p := compile(*doc)
	p.digest = digest(text)
	if ceiling != nil {
		p.digest = digest(text, []byte(ceiling.digest))
	}
	return p, findings
}

func compile(doc Document) *Policy {
	p := &Policy{
		doc:     doc,
		sources: newSources(doc.Forward),
		routes:  make(map[string]*route),
		owners:  make(map[string]string),
	}
	for _, source := range p.sources.list {
		if _, isFamily := family(source.pattern); !isFamily && source.hide {
			p.hidden = append(p.hidden, source.pattern)
		}
	}
	for _, rule := range doc.Forward {
		// What a rule for certain tools requires is checked only where the backend is known: clients know its tools by the
		// fan-out's names.
		if rule.Required && len(rule.Tools) == 0 {
			p.required = append(p.required, rule.Name)
		}
	}
	if doc.Backends == nil {
		p.open = p.route(Backend{})
	}
	for _, backend := range doc.Backends {
		p.routes[backend.Name] = p.route(backend)
		for _, cluster := range backend.Clusters {
			p.owners[cluster] = backend.Name
		}
	}
	return p
}

// Pattern returns the name or the family under which the policy lists a header, or "" where it lists none. There are
// few of them, whatever clients send.
func (p *Policy) Pattern(name string) string { return p.sources.pattern(name) }

// Patterns lists the names and families that the policy takes off client requests, in its order.
func (p *Policy) Patterns() []string {
	patterns := make([]string, len(p.sources.list))
	for i, source := range p.sources.list {
		patterns[i] = source.pattern
	}
	return patterns
}

func (p *Policy) route(backend Backend) *route {
	r := &route{}
	for _, rule := range p.doc.Forward {
		if len(rule.To) > 0 && !slices.Contains(rule.To, backend.Name) {
			continue
		}
		own := delivery{Rule: rule, source: 1 << p.sources.position(rule)}
		r.deliveries = append(r.deliveries, own)
		r.sources |= own.source
		if rule.Conflict == ConflictKeep {
			continue
		}
		if _, isFamily := family(rule.As); isFamily {
			r.families = append(r.families, rule.As)
		} else {
			r.governed = append(r.governed, rule.As)
		}
	}
	return r
}

// Digest identifies the text of the policy, and of the ceiling above it: the same text has the same digest.
func (p *Policy) Digest() string { return p.digest }

// Fanout is the name of the fan-out that the policy is for, or empty.
func (p *Policy) Fanout() string { return p.doc.Fanout }

// Limits returns the limits in force.
func (p *Policy) Limits() Limits { return p.doc.Limits }

// Carriers returns the carriers in the order in which egress reads them.
func (p *Policy) Carriers() []Carrier { return slices.Clone(p.doc.Ticket.Carriers) }

// Uses reports whether tickets cross the fan-out in the given carrier.
func (p *Policy) Uses(carrier Carrier) bool { return p.doc.Ticket.uses(carrier) }

// Sealed reports whether tickets hold the headers themselves.
func (p *Policy) Sealed() bool { return p.doc.Ticket.Mode == TicketSealed }

// Lifetime is how long an unused ticket can be redeemed.
func (p *Policy) Lifetime() time.Duration { return p.doc.Ticket.Lifetime }

// Rotate is how often the same headers get a new ticket.
func (p *Policy) Rotate() time.Duration { return p.doc.Ticket.Rotate }

// Mode says whether the policy is applied or only watched.
func (p *Policy) Mode() Mode { return p.doc.Mode }

// Grace is how long a ticket is of use after every session that had it has another.
func (p *Policy) Grace() time.Duration { return p.doc.Ticket.Grace }

// Session says how MCP sessions are recognised.
func (p *Policy) Session() Session { return p.doc.Session }

// HasPrincipal reports whether a request says whose it is, as far as sessions are bound to that. One that does not has
// no session: all such requests look alike.
func (p *Policy) HasPrincipal(request []Header) bool {
	bind := p.doc.Session.Bind
	return len(bind) == 0 || slices.ContainsFunc(request, func(h Header) bool { return slices.Contains(bind, h.Name) })
}

// Explains reports whether a client that asks is told which of its own headers were captured.
func (p *Policy) Explains() bool { return p.doc.Explain }

// Open reports whether the policy declares no backends, so that every backend behind the filter is meant.
func (p *Policy) Open() bool { return p.open != nil }

// Backends returns the declared backends in the policy's order.
func (p *Policy) Backends() []Backend { return slices.Clone(p.doc.Backends) }

// Backend finds the backend of a request from what the proxy says of it: the name its configuration gives outright,
// else the cluster it goes to. Where no backends are declared the answer is only a label. The second result is
// false for a backend outside the declared world: it gets nothing.
func (p *Policy) Backend(explicit, cluster string) (string, bool) {
	name := explicit
	if name == "" {
		name = cluster
		if owner, ok := p.owners[cluster]; ok {
			name = owner
		} else if p.open == nil {
			return "", false
		}
	}
	if p.open != nil {
		return name, true
	}
	_, ok := p.routes[name]
	return name, ok
}

func (p *Policy) routeTo(backend string) *route {
	if p.open != nil {
		return p.open
	}
	if r, ok := p.routes[backend]; ok {
		return r
	}
	return &route{}
}

// Footprint is all that a proxy has to show to Bellhop in one role, and all that it has to let Bellhop change.
// A proxy that enforces both makes the policy hold even against an error of Bellhop's own.
//
// A name that ends in * stands for a family.
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
		reads = append(reads, ":status") // of the response, that begins or ends a session
		reads = append(reads, p.doc.Session.Bind...)
	}
	for _, source := range p.sources.list {
		reads = appendOnce(reads, source.pattern)
	}
	writes := append(slices.Clone(carriers), TicketAlias)
	for _, source := range p.sources.list {
		if source.hide {
			writes = append(writes, source.pattern)
		}
	}
	if p.doc.Explain {
		// A client can only be told which of its headers no rule lists when all of them are shown.
		writes = append(
			writes,
			"x-bellhop-explain",
			"x-bellhop-captured",
			"x-bellhop-not-listed",
			"x-bellhop-left-out",
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
		reads = append(reads, ":method") // only a POST asks for something
	}
	return Footprint{Reads: reads, Writes: names}
}
