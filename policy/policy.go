package policy

import (
	"bytes"
	"slices"
	"strings"
	"time"
)

// Policy is a checked and compiled document. It is immutable, so goroutines may share it.
type Policy struct {
	doc      Document
	digest   string
	sources  sources           // what is captured
	hidden   []string          // names that the fan-out must not see, not families
	spelled  spellings         // of what is captured, or set at a backend
	strip    []string          // names and families that no backend may see
	required []string          // names that every client request must have
	routes   map[string]*route // what each declared backend gets
	open     *route            // what every backend gets where none is declared; else nil
	owners   map[string]string // cluster → backend
}

// route is what one backend gets.
type route struct {
	deliveries []delivery
	sources    sourceSet // of all deliveries
	governed   []string  // the names that only Bellhop may set at this backend
	families   []string  // the families of such names
	tools      bool      // a delivery is for certain tools
	identity   bool      // the backend has a discovery identity
	clusters   []string  // that the policy declares for the backend
}

// delivery is a rule for one backend.
type delivery struct {
	Rule
	source sourceSet // of one: the rule's name
	shown  bool      // the fan-out sees the header too
}

// byteOrderMark is what some editors write at the start of a file.
const byteOrderMark = "\ufeff"

// Load decodes, checks and compiles one policy document. The file's name is used in findings only. If there is an error
// among the findings, the policy is nil: a policy loads whole or not at all.
func Load(file string, text []byte) (*Policy, Findings) { return LoadUnder(nil, file, text) }

// LoadUnder is [Load] for a policy that must stay below a ceiling; nil is no ceiling.
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
			checker.belowCeiling(ceiling, doc)
			checker.lowerLimits(ceiling, &doc.Limits)
		}
		checker.document(doc)
		if ceiling != nil {
			checker.lowerDurations(ceiling, doc)
		}
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
	p.spelled = newSpellings(p.writtenAtBackends())
	p.strip = append(alwaysStripped(), doc.Strip...)
	for _, name := range doc.Strip {
		if _, isFamily := family(name); !isFamily && p.sources.pattern(name) == "" {
			p.hidden = append(p.hidden, name)
		}
	}
	for _, rule := range doc.Forward {
		// A rule for certain tools is checked at egress only, where the backend is known: clients know its tools by the
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

// Pattern returns the name or family under which the policy lists a header, or "" if it lists none. Their number is
// bounded, whatever clients send, so metrics may use them as labels.
func (p *Policy) Pattern(name string) string { return p.sources.pattern(name) }

// Patterns lists the names and families that the policy captures, in its order.
func (p *Policy) Patterns() []string {
	return slices.Clone(p.sources.spelled.patterns)
}

// Hidden returns the names that the fan-out must not see of a request: those of the rules, present or not, and the
// members of families.
func (p *Policy) Hidden(request []Header) []string {
	names := slices.Clone(p.hidden)
	for _, header := range request {
		cover, _ := p.sources.cover(header.Name)
		position := cover.position
		if cover.set == 0 {
			position = p.sources.spelled.respelled(header.Name)
		}
		hides := position >= 0 && p.sources.list[position].hide
		if hides || cover.set == 0 && p.StripPattern(header.Name) != "" {
			names = appendOnce(names, header.Name)
		}
	}
	return names
}

func (p *Policy) route(backend Backend) *route {
	r := &route{identity: len(backend.Discovery) > 0, clusters: backend.Clusters}
	for _, rule := range p.doc.Forward {
		if len(rule.To) > 0 && !slices.Contains(rule.To, backend.Name) {
			continue
		}
		position := p.sources.position(rule)
		own := delivery{Rule: rule, source: 1 << position, shown: !p.sources.list[position].hide}
		r.deliveries = append(r.deliveries, own)
		r.sources |= own.source
		r.tools = r.tools || len(rule.Tools) > 0
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

// Digest identifies the text of the policy and of its ceiling: the same text has the same digest.
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

// MaxAge returns how long a stored ticket can be redeemed after its client last sent its headers, however often it is.
func (p *Policy) MaxAge() time.Duration { return p.doc.Ticket.MaxAge }

// Lifetime is how long an unused ticket can be redeemed.
func (p *Policy) Lifetime() time.Duration { return p.doc.Ticket.Lifetime }

// Rotate is how often the same headers get a new ticket.
func (p *Policy) Rotate() time.Duration { return p.doc.Ticket.Rotate }

// Mode says whether the policy is enforced or only observed.
func (p *Policy) Mode() Mode { return p.doc.Mode }

// Grace is how long a superseded ticket can still be redeemed.
func (p *Policy) Grace() time.Duration { return p.doc.Ticket.Grace }

// Session says how MCP sessions are recognised.
func (p *Policy) Session() Session { return p.doc.Session }

// HasPrincipal reports whether a request has one of the headers of session.bind with a value, or bind is empty. A
// request without a principal has no session, because all such requests look alike.
func (p *Policy) HasPrincipal(request []Header) bool {
	bind := p.doc.Session.Bind
	return len(bind) == 0 || slices.ContainsFunc(request, func(h Header) bool {
		return slices.Contains(bind, h.Name) && !h.Value.IsEmpty()
	})
}

// SamePrincipal reports whether two requests have the same principal: the same values under each header of
// session.bind.
func (p *Policy) SamePrincipal(a, b []Header) bool {
	values := func(request []Header, name string) []Value {
		return slices.DeleteFunc(lines(request, name), Value.IsEmpty)
	}
	return !slices.ContainsFunc(p.doc.Session.Bind, func(name string) bool {
		return !slices.EqualFunc(values(a, name), values(b, name), Value.Equal)
	})
}

// Explains reports whether clients can ask which of their headers were captured.
func (p *Policy) Explains() bool { return p.doc.Explain }

// Open reports whether the policy declares no backends, so that it applies to every backend behind the filter.
func (p *Policy) Open() bool { return p.open != nil }

// Backends returns the declared backends in the policy's order.
func (p *Policy) Backends() []Backend { return slices.Clone(p.doc.Backends) }

// Backend identifies the backend of a request by the name in the proxy's configuration, else by the request's cluster.
// If no backends are declared the result is only a label. The second result is false for a backend that is not
// declared: it gets nothing.
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

// Reaches reports whether a cluster may be that of a backend that the proxy's configuration names: one that the
// configuration or the policy lists for it. In one of the configuration * stands for any text. Where neither lists any,
// all may be, and so may a cluster that is not known: then the request goes nowhere.
func (p *Policy) Reaches(backend, cluster string, listed []string) bool {
	declared := p.routeTo(backend).clusters
	return cluster == "" || len(listed) == 0 && len(declared) == 0 || slices.Contains(declared, cluster) ||
		slices.ContainsFunc(listed, func(pattern string) bool { return matchCluster(pattern, cluster) })
}

// matchCluster reports whether a cluster matches a pattern with one * at most. Every request to a backend asks it.
func matchCluster(pattern, cluster string) bool {
	begin, end, open := strings.Cut(pattern, "*")
	if !open {
		return pattern == cluster
	}
	return len(cluster) >= len(begin)+len(end) && strings.HasPrefix(cluster, begin) && strings.HasSuffix(cluster, end)
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

// Footprint lists the headers that a proxy must show to Bellhop in one role, and those that Bellhop may change. A proxy
// that enforces both makes the policy hold even if Bellhop has a bug.
//
// A name that ends in * is a family. Each stands for its other spellings too, with _ in place of -.
type Footprint struct {
	Reads    []string
	ReadsAll bool // every header, whatever Reads holds
	Writes   []string
}

// IngressFootprint is the footprint on client requests.
func (p *Policy) IngressFootprint() Footprint {
	carriers := []string{TicketHeader, BaggageHeader}
	reads := append(slices.Clone(carriers), MethodHeader, SessionHeader, ":method", connectionHeader)
	reads = append(reads, LengthHeader, TypeHeader, EncodingHeader) // the body of a refused request has its ID
	if p.TracksSessions() {
		reads = append(reads, ":status") // of the response that begins or ends a session
	}
	if p.KeepsSessions() {
		reads = append(reads, p.doc.Session.Bind...)
	}
	for _, source := range p.sources.list {
		reads = appendOnce(reads, source.pattern)
	}
	writes := slices.Clone(carriers)
	for _, source := range p.sources.list {
		if source.hide {
			writes = append(writes, source.pattern)
		}
	}
	for _, name := range p.doc.Strip {
		reads, writes = appendOnce(reads, name), appendOnce(writes, name)
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
	for _, name := range p.strip {
		add(name)
	}
	reads := append(slices.Clone(names), OriginalURLHeader)
	if p.ReadsBodies() {
		reads = append(
			reads, ":method", ":path", SessionHeader, LengthHeader, TypeHeader, EncodingHeader, MethodHeader, NameHeader,
		)
	}
	return Footprint{Reads: reads, Writes: names}
}
