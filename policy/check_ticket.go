package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// What surely fits into a sealed ticket, in bytes of names and values, for each carrier.
const (
	sealedHeaderBytes  = 8 << 10
	sealedBaggageBytes = 5 << 10
)

func (c *checker) ticket(doc *Document) {
	ticket := &doc.Ticket
	c.carriers(ticket.Carriers)
	baggage := ticket.uses(CarrierBaggage)
	_, explicit := c.places["ticket.rotate"]
	switch {
	case !explicit && baggage:
		ticket.Rotate = maxBaggageRotate
	case !explicit:
		ticket.Rotate = defaultRotate
	case baggage && ticket.Rotate > maxBaggageRotate:
		c.errorAt(
			c.at("ticket.rotate"), "write rotate: 5m or less, or carry tickets in the header",
			"with baggage, rotate must be at most 5m: fan-outs copy baggage into the body of calls",
		)
	}
	c.atLeast("ticket.rotate", ticket.Rotate, time.Second)
	c.atLeast("ticket.lifetime", ticket.Lifetime, time.Second)
	c.atLeast("ticket.grace", ticket.Grace, 0)
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
	c.atLeast("session.idle", doc.Session.Idle, time.Second)
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

func (c *checker) atLeast(path string, value, least time.Duration) {
	if value < least {
		c.errorAt(c.at("%s", path), "write "+least.String()+" or more", "%s: %s is too short", path, value)
	}
}
