package main

import (
	"net/http"
	"time"

	"bellhop/policy"
	"bellhop/test/mcptest"
)

// toFanout is a request as vMCP would get it from a player, with a ticket or the key.
func toFanout(player, method, name, value string) mcptest.Recorded {
	header := http.Header{}
	header.Set("user-agent", player)
	header.Set(name, value)
	return mcptest.Recorded{Method: http.MethodPost, RPCMethod: method, Header: header}
}

// toBackend is a request as a backend would get it.
func toBackend(method, key, session, body string) mcptest.Recorded {
	header := http.Header{}
	for name, value := range map[string]string{keyHeader: key, "mcp-session-id": session} {
		if value != "" {
			header.Set(name, value)
		}
	}
	return mcptest.Recorded{Method: http.MethodPost, RPCMethod: method, Header: header, Body: []byte(body)}
}

// sampleWith is a short but complete evidence in which nothing is wrong.
func sampleWith() evidence {
	e := evidence{
		atBackend: map[string][]mcptest.Recorded{
			notes:   {toBackend("server/discover", "", "", ""), toBackend("tools/list", "", "", "")},
			billing: {toBackend("initialize", discoveryKey, "", ""), toBackend("tools/list", discoveryKey, "s-1", "")},
		},
		health: map[string]string{notes: "healthy", billing: "healthy"},
	}
	for _, p := range players() {
		ticket := p.name + "0123456789"
		e.atFanout = append(
			e.atFanout, toFanout(p.name, "initialize", policy.TicketHeader, ticket),
			toFanout(p.name, "tools/call", policy.TicketHeader, ticket),
		)
		for _, s := range servers() {
			e.atBackend[s.name] = append(e.atBackend[s.name],
				toBackend("tools/call", p.key, s.name+p.name, ""), toBackend("tools/call", p.key, s.name+p.name, p.greeting()))
		}
		e.answers = append(e.answers, answer{player: p.name, what: "tools/list", text: "3 notes, 3 billing"})
		for _, c := range calls() {
			e.answers = append(e.answers, sampleAnswer(p, c))
		}
	}
	return e
}

func sampleAnswer(p player, c call) answer {
	if c.echo {
		return answer{player: p.name, what: c.tool, text: p.greeting()}
	}
	header := http.Header{}
	header.Set(keyHeader, p.key)
	return answer{player: p.name, what: c.tool, text: "saw " + p.key, header: header}
}

// sampleWithout is what goes on without Bellhop.
func sampleWithout() evidence {
	e := sampleWith()
	e.atFanout = nil
	e.atBackend[billing] = []mcptest.Recorded{toBackend("initialize", "", "", ""), toBackend("brand/new", "", "", "")}
	e.health[billing] = "unauthenticated, authentication_failed"
	for i, a := range e.answers {
		if a.what == "tools/list" {
			e.answers[i].text, e.answers[i].failed = "3 notes, 0 billing", true
		}
		if a.what == "billing_whoami" || a.what == "billing_echo" {
			e.answers[i] = answer{player: a.player, what: a.what, text: "unknown tool, and much more to say", failed: true}
		}
	}
	for _, p := range players() {
		e.atFanout = append(e.atFanout, toFanout(p.name, "tools/call", keyHeader, p.key))
	}
	return e
}

func sampleReport() report {
	return report{
		envoy: "1.40.0", vmcp: "v0.44.0", elapsed: 1250 * time.Millisecond,
		with: sampleWith(), without: sampleWithout(), saved: "/home/you/.cache/bellhop/demo",
	}
}
