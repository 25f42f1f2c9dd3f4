package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The highest values of the limits. Envoy accepts at most 100 headers and 60 KiB in one request; the rest is for the
// headers that the fan-out sends itself.
const (
	maxHeaders    = 80
	maxPrefix     = 256 // bytes
	maxTotalBytes = 48 << 10
	maxRules      = 48
)

// MaxBodyBytes is the highest limits.body_bytes: a server that reads bodies has to accept messages of this size.
const MaxBodyBytes = 16 << 20

// checker reports what is well-formed but not allowed.
type checker struct {
	*recorder
	places map[string]Position
}

// errorAt reports an error unless the value there could not be decoded: that error is already reported.
func (c *checker) errorAt(at Position, hint, format string, args ...any) {
	if !c.unread[at] {
		c.recorder.errorAt(at, hint, format, args...)
	}
}

func (c *checker) at(format string, args ...any) Position {
	return c.places[fmt.Sprintf(format, args...)]
}

func (c *checker) document(doc *Document) {
	c.version(doc.Version, "the policy")
	if _, ok := c.places["fanout"]; ok && !ValidLabel(doc.Fanout) {
		c.errorAt(c.at("fanout"), labelHint, "%q cannot be the name of a fan-out", doc.Fanout)
	}
	c.forward(doc)
	c.backends(doc.Backends)
	c.reachable(doc)
	c.destinations(doc)
	c.strip(doc.Strip)
	c.limits(doc.Limits)
	c.ticket(doc)
	c.session(doc)
}

func (c *checker) version(version int, what string) {
	if _, ok := c.places["version"]; !ok {
		c.errorAt(Position{}, "add the line: version: 1", "%s has no version", what)
	} else if version != Version {
		c.errorAt(c.at("version"), "write version: 1", "version %d is not known", version)
	}
}

func (c *checker) backends(backends []Backend) {
	if backends != nil && len(backends) == 0 {
		c.errorAt(
			c.at("backends"), "declare at least one, or take the line out to mean every backend behind the filter",
			"backends is empty: no backend would get anything",
		)
	}
	owner := make(map[string]string)
	for _, backend := range backends {
		path := "backends." + backend.Name
		if !ValidLabel(backend.Name) {
			c.errorAt(c.at("%s", path), labelHint, "%q cannot be the name of a backend", backend.Name)
		}
		for i, cluster := range backend.Clusters {
			at := c.at("%s.clusters[%d]", path, i)
			if cluster == "" {
				c.errorAt(at, "write the cluster's name as Envoy has it", "the cluster name is empty")
			} else if other, taken := owner[cluster]; taken {
				c.errorAt(at, "a cluster is one backend only", "cluster %q already belongs to backend %q", cluster, other)
			}
			owner[cluster] = backend.Name
		}
		c.discovery(path, backend.Discovery)
	}
}

// reachable warns of backends without clusters, and of rules whose backends all have none.
func (c *checker) reachable(doc *Document) {
	const hint = "list its Envoy clusters under clusters: (not needed where each filter or route sets " +
		"bellhop-backend, as bellhop envoy does)"
	var lost []string
	for _, backend := range doc.Backends {
		if len(backend.Clusters) == 0 {
			lost = append(lost, backend.Name)
			c.warnOf(
				TopicClusters, c.at("backends.%s", backend.Name), hint,
				"backend %q has no clusters: only a filter or route with bellhop-backend: %s identifies it", backend.Name,
				backend.Name,
			)
		}
	}
	if len(lost) == len(doc.Backends) {
		return // metadata names the backends
	}
	for i, rule := range doc.Forward {
		if len(rule.To) > 0 &&
			!slices.ContainsFunc(rule.To, func(to string) bool { return !slices.Contains(lost, to) }) {
			c.warnOf(
				TopicClusters, c.at("forward[%d]", i), "give its backends clusters:",
				"no backend of this rule has clusters: %q may reach none of them", rule.Name,
			)
		}
	}
}

func (c *checker) discovery(path string, identities []Identity) {
	for i, identity := range identities {
		at := fmt.Sprintf("%s.discovery[%d]", path, i)
		if _, ok := c.places[at+".name"]; !ok {
			c.errorAt(
				c.at("%s", at), "add name: with the header that the backend reads", "the discovery header has no name",
			)
		} else {
			c.oneName(c.at("%s.name", at), identity.Name, "name")
		}
		if identity.File == "" {
			c.errorAt(
				c.at("%s", at), "add file: with the path of a file that holds the value", "the discovery header has no file",
			)
		}
		c.prefix(at, identity.Prefix)
		if slices.ContainsFunc(identities[:i], func(other Identity) bool { return other.Name == identity.Name }) {
			c.errorAt(c.at("%s", at), "keep one of the two", "the discovery header %q is listed twice", identity.Name)
		}
	}
}

func (c *checker) limits(limits Limits) {
	for _, limit := range limits.all() {
		c.inRange(limit.path, *limit.value, limit.most)
	}
	if _, ok := c.places["limits.value_bytes"]; ok && limits.ValueBytes > limits.TotalBytes {
		c.errorAt(
			c.at("limits.value_bytes"), "raise total_bytes too, or lower this", "value_bytes is above total_bytes (%d)",
			limits.TotalBytes,
		)
	}
}

func (c *checker) inRange(path string, value, most int) {
	if value < 1 || value > most {
		c.errorAt(
			c.at("%s", path),
			fmt.Sprintf("write a number from 1 to %d: %s", most, purpose(most)),
			"%s: %d is out of range",
			path,
			value,
		)
	}
}

// purpose says what a highest value is for.
func purpose(most int) string {
	if most == MaxBodyBytes {
		return "Envoy holds the whole body of a request until it is read"
	}
	return "Envoy accepts 100 headers and 60 KiB in one request, its own included"
}

const labelHint = "use 1 to 63 letters, digits, '.', '_' or '-', and begin with a letter or digit"

// ValidLabel reports whether name can stand in metadata, in a path and as a metric label.
func ValidLabel(name string) bool {
	if name == "" || len(name) > 63 || strings.IndexByte("._-", name[0]) >= 0 {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

func declared(backends []Backend) string {
	if len(backends) == 0 {
		return "none is declared"
	}
	all := make([]string, len(backends))
	for i, backend := range backends {
		all[i] = backend.Name
	}
	return "declared: " + strings.Join(all, ", ")
}

// What surely fits into a sealed ticket, in bytes of names and values, for each carrier.
const (
	sealedHeaderBytes  = 8 << 10
	sealedBaggageBytes = 5 << 10
)

// shortLived bounds how long a ticket in baggage is of use to a reader of a body into which the fan-out has copied it.
func (c *checker) shortLived(field string, value *time.Duration) {
	if _, explicit := c.places["ticket."+field]; !explicit {
		*value = min(*value, maxBaggageAge)
		return
	}
	if *value > maxBaggageAge {
		c.errorAt(
			c.at("ticket.%s", field), "write "+field+": 5m or less, or carry tickets in the header",
			"with baggage, %s must be at most 5m: fan-outs copy baggage into the body of calls", field,
		)
	}
}

func (c *checker) ticket(doc *Document) {
	ticket := &doc.Ticket
	c.carriers(ticket.Carriers)
	baggage := ticket.uses(CarrierBaggage)
	if _, explicit := c.places["ticket.rotate"]; !explicit {
		ticket.Rotate = defaultRotate
	}
	if baggage {
		c.shortLived("rotate", &ticket.Rotate)
		c.shortLived("max_age", &ticket.MaxAge)
	}
	c.inTime("ticket.rotate", ticket.Rotate, time.Second)
	c.inTime("ticket.lifetime", ticket.Lifetime, time.Second)
	c.inTime("ticket.max_age", ticket.MaxAge, time.Second)
	c.inTime("ticket.grace", ticket.Grace, 0)
	if ticket.Mode == TicketSealed {
		c.sealed(doc)
	}
	if !baggage {
		return
	}
	c.warn(
		c.at("ticket.carriers"),
		"use carriers: [header] where the fan-out can pass on one header",
		"baggage is the weaker carrier: a client's _meta.baggage can replace the ticket, and vMCP shows the ticket to "+
			"backends and one user another's tool list",
	)
	for _, backend := range doc.Backends {
		if len(backend.Discovery) > 0 {
			c.errorAt(
				c.at("backends.%s.discovery", backend.Name),
				"carry tickets in the header, or remove the discovery identity",
				"a discovery identity cannot be used with baggage: a client could remove the ticket from its own request and "+
					"would then get the identity",
			)
		}
	}
}

// sealed warns of settings that need a store, which sealed tickets are meant to avoid.
func (c *checker) sealed(doc *Document) {
	fits := sealedHeaderBytes
	if doc.Ticket.uses(CarrierBaggage) {
		fits = sealedBaggageBytes
	}
	if doc.Limits.TotalBytes > fits {
		c.warn(
			c.firstPlace("limits.total_bytes", "ticket.mode"),
			fmt.Sprintf(
				"write limits: {total_bytes: %d}; or mode: stored where clients send more, with --store redis://… if there are "+
					"several Bellhops",
				fits,
			),
			"a sealed ticket crosses the fan-out with about %d bytes of names and values; a client that sends more, up to the "+
				"%d of limits.total_bytes, is refused",
			fits,
			doc.Limits.TotalBytes,
		)
	}
	if _, explicit := c.places["ticket.grace"]; explicit {
		c.warn(
			c.at("ticket.grace"), "remove it, or use mode: stored where the fan-out may freeze a carrier",
			"grace has no effect with sealed tickets: supersession is not tracked",
		)
	}
	for i, rule := range doc.Forward {
		if rule.Keep == KeepSession {
			c.warn(
				c.at("forward[%d]", i),
				"run one Bellhop, or give all of them one store (--store redis://…); with a store, stored tickets cost "+
					"nothing more",
				"keep: session needs a store, also with sealed tickets: only the store knows what a session sent",
			)
			return
		}
	}
}

// session checks what a session is bound to. Without a principal, anyone who learns a session's ID gets its headers.
func (c *checker) session(doc *Document) {
	c.inTime("session.idle", doc.Session.Idle, time.Second)
	if doc.Ticket.Mode == TicketStored && doc.Ticket.Lifetime > doc.Session.Idle {
		c.warn(
			c.firstPlace("ticket.lifetime", "session.idle"),
			fmt.Sprintf("write session: {idle: %s} or more, or a shorter ticket.lifetime", doc.Ticket.Lifetime),
			"ticket.lifetime is longer than session.idle: when a session expires, Bellhop forgets which of its tickets were "+
				"superseded, and a fan-out that froze one can go on using it",
		)
	}
	for i, name := range doc.Session.Bind {
		at := c.at("session.bind[%d]", i)
		if !ValidName(name) || strings.Contains(name, "*") || len(name) > maxName {
			c.errorAt(
				at, "name one header that tells users apart, such as authorization", "bind: %q is not a header name", name,
			)
		} else if slices.Contains(doc.Session.Bind[:i], name) {
			c.errorAt(at, "keep one of the two", "bind: %q is listed twice", name)
		}
	}
	if len(doc.Session.Bind) > 0 {
		return
	}
	for i, rule := range doc.Forward {
		if rule.Keep == KeepSession {
			c.warn(
				c.at("forward[%d]", i), "name in session: {bind: [...]} the headers that tell users apart",
				"keep: session without a principal: anyone who learns a session's ID gets the headers of its owner",
			)
		}
	}
}

func (c *checker) carriers(carriers []Carrier) {
	if len(carriers) == 0 {
		c.errorAt(
			c.at("ticket.carriers"), "write carriers: [header]", "no carrier: the ticket could not cross the fan-out",
		)
	}
	for i, carrier := range carriers {
		at := c.at("ticket.carriers[%d]", i)
		switch {
		case carrier != CarrierHeader && carrier != CarrierBaggage:
			c.errorAt(at, "the carriers are header and baggage", "carrier %q is not known", carrier)
		case slices.Contains(carriers[:i], carrier):
			c.errorAt(at, "keep one of the two", "carrier %q is listed twice", carrier)
		}
	}
}

// maxDuration bounds every duration, so that sums of them do not overflow.
const maxDuration = 365 * 24 * time.Hour

func (c *checker) inTime(path string, value, least time.Duration) {
	switch {
	case value < least:
		c.errorAt(c.at("%s", path), "write "+least.String()+" or more", "%s: %s is too short", path, value)
	case value > maxDuration:
		c.errorAt(c.at("%s", path), "write "+maxDuration.String()+" or less", "%s: %s is too long", path, value)
	}
}
