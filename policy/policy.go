package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// Policy is a checked document in the form in which it is applied. It never changes, so any number of goroutines
// may share it.
type Policy struct {
	doc     Document
	digest  string
	sources []source       // what is captured: each name once, in the policy's order
	index   map[string]int // name → position in sources
	hidden  []string
	routes  map[string]*route // what each declared backend gets
	open    *route            // what every backend gets where none is declared; else nil
	owners  map[string]string // cluster → backend
}

// source is one name that is taken off client requests.
type source struct {
	name string
	hide bool
}

// route is what one backend gets.
type route struct {
	deliveries []delivery
	governed   []string // the names that are Bellhop's alone at this backend
}

// delivery carries one source to one backend.
type delivery struct {
	source int
	as     string
	prefix string
}

// Load reads, checks and compiles one policy document. The file's name is for the findings only. With a fault
// among the findings the policy is nil: a policy loads whole or not at all. Findings may hold warnings beside a
// policy.
func Load(file string, text []byte) (*Policy, Findings) {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // some editors put a byte order mark in front
	recorder := newRecorder(file, text)
	places := make(map[string]Position)
	decoder := decoder{recorder: recorder, places: places}
	doc := decoder.decode(text)
	if doc != nil {
		checker := checker{recorder: recorder, places: places}
		checker.document(doc)
	}
	findings := recorder.sorted()
	if findings.Faulty() {
		return nil, findings
	}
	return compile(*doc, text), findings
}

func compile(doc Document, text []byte) *Policy {
	sum := sha256.Sum256(text)
	p := &Policy{
		doc:    doc,
		digest: hex.EncodeToString(sum[:8]),
		index:  make(map[string]int),
		routes: make(map[string]*route),
		owners: make(map[string]string),
	}
	for _, rule := range doc.Forward {
		p.addSource(rule)
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

func (p *Policy) addSource(rule Rule) {
	if _, known := p.index[rule.Name]; known {
		return
	}
	p.index[rule.Name] = len(p.sources)
	p.sources = append(p.sources, source{name: rule.Name, hide: rule.Hide})
	if rule.Hide {
		p.hidden = append(p.hidden, rule.Name)
	}
}

func (p *Policy) route(backend Backend) *route {
	r := &route{}
	for _, rule := range p.doc.Forward {
		if len(rule.To) == 0 || slices.Contains(rule.To, backend.Name) {
			r.deliveries = append(r.deliveries, delivery{source: p.index[rule.Name], as: rule.As, prefix: rule.Prefix})
			r.governed = append(r.governed, rule.As)
		}
	}
	return r
}

// Digest identifies the text of the policy: the same text has the same digest.
func (p *Policy) Digest() string { return p.digest }

// Fanout is the name of the fan-out that the policy is for, or empty.
func (p *Policy) Fanout() string { return p.doc.Fanout }

// Limits returns the limits in force.
func (p *Policy) Limits() Limits { return p.doc.Limits }

// Carriers returns the carriers in the order in which egress reads them.
func (p *Policy) Carriers() []Carrier { return slices.Clone(p.doc.Ticket.Carriers) }

// Uses reports whether tickets cross the fan-out in the given carrier.
func (p *Policy) Uses(carrier Carrier) bool { return p.doc.Ticket.uses(carrier) }

// Lifetime is how long an unused ticket can be redeemed.
func (p *Policy) Lifetime() time.Duration { return p.doc.Ticket.Lifetime }

// Rotate is how often the same headers get a new ticket.
func (p *Policy) Rotate() time.Duration { return p.doc.Ticket.Rotate }

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
// A proxy that enforces both makes the policy hold even against a fault of Bellhop's own.
type Footprint struct {
	Reads  []string
	Writes []string
}

// IngressFootprint is the footprint on client requests.
func (p *Policy) IngressFootprint() Footprint {
	carriers := []string{TicketHeader, BaggageHeader}
	reads := slices.Clone(carriers)
	for _, source := range p.sources {
		reads = append(reads, source.name)
	}
	return Footprint{Reads: reads, Writes: append(append(carriers, TicketAlias), p.hidden...)}
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
	return Footprint{Reads: append(slices.Clone(names), MethodHeader), Writes: names}
}
