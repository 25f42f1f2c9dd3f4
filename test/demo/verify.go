package main

import (
	"bytes"
	"fmt"
	"strings"

	"bellhop/policy"
	"bellhop/test/mcptest"
)

// verify returns all that is wrong in the evidence of the way with Bellhop.
func verify(e evidence) []string {
	errs := verifyFanout(e.atFanout)
	tickets := ticketsOf(e.atFanout)
	for _, s := range servers() {
		for _, request := range e.atBackend[s.name] {
			where := s.name + ", " + kindOf(request)
			errs = append(errs, verifyTicketGone(where, request, tickets)...)
			errs = append(errs, verifyOwner(where, s, request)...)
		}
		errs = append(errs, verifySessions(s.name, e.atBackend[s.name])...)
	}
	errs = append(errs, verifyCalls(e)...)
	return append(errs, verifyAnswers(e)...)
}

// verifyFanout checks that vMCP got a ticket for every key, and no key.
func verifyFanout(requests []mcptest.Recorded) []string {
	var errs []string
	owners := map[string]string{} // by ticket
	for _, request := range requests {
		where := "vMCP, " + kindOf(request) + " from " + senderOf(request)
		if holdsKey(request) {
			errs = append(errs, where+": holds a key")
		}
		tickets := request.Header.Values(policy.TicketHeader)
		if len(tickets) != 1 {
			errs = append(errs, fmt.Sprintf("%s: holds %d tickets, not 1", where, len(tickets)))
			continue
		}
		owner, known := owners[tickets[0]]
		if known && owner != senderOf(request) {
			errs = append(errs, where+": holds the ticket of "+owner)
		}
		owners[tickets[0]] = senderOf(request)
	}
	if len(requests) == 0 {
		errs = append(errs, "vMCP got no request")
	}
	return errs
}

// holdsKey looks for the keys everywhere in a request.
func holdsKey(request mcptest.Recorded) bool {
	all := fmt.Sprint(request.Path, request.Header, string(request.Body))
	for _, p := range players() {
		if strings.Contains(all, p.key) {
			return true
		}
	}
	return strings.Contains(all, discoveryKey)
}

func ticketsOf(requests []mcptest.Recorded) []string {
	var tickets []string
	for _, request := range requests {
		tickets = append(tickets, request.Header.Values(policy.TicketHeader)...)
	}
	return tickets
}

// verifyTicketGone checks that no ticket, in whatever form, reached a backend.
func verifyTicketGone(where string, request mcptest.Recorded, tickets []string) []string {
	if len(request.Header.Values(policy.TicketHeader)) > 0 {
		return []string{where + ": holds a ticket"}
	}
	everything := fmt.Sprint(request.Path, request.Header)
	for _, ticket := range tickets {
		if strings.Contains(everything, ticket) || bytes.Contains(request.Body, []byte(ticket)) {
			return []string{where + ": holds a ticket, under another name"}
		}
	}
	return nil
}

// verifyOwner checks that the key in a request to a backend is one that may be there.
func verifyOwner(where string, s server, request mcptest.Recorded) []string {
	owner := ownerOf(request)
	ofPlayer := owner != noKey && owner != discovery && owner != unknownKey
	switch {
	case owner == unknownKey:
		return []string{where + ": holds an unknown key, or several"}
	case request.RPCMethod == "tools/call" && !ofPlayer:
		return []string{where + ": a client's call came with the key of: " + owner}
	case owner == discovery && !s.strict:
		return []string{where + ": holds the discovery key of another backend"}
	case owner == noKey && s.strict:
		return []string{where + ": came without a key"}
	}
	for _, p := range players() {
		if bytes.Contains(request.Body, []byte(p.greeting())) && owner != p.name {
			return []string{where + ": the call of " + p.name + " came with the key of " + owner}
		}
	}
	return nil
}

// verifyCalls checks that each call of each player came exactly once, with its key.
func verifyCalls(e evidence) []string {
	var errs []string
	for _, p := range players() {
		for _, s := range servers() {
			got, want := 0, len(calls())/len(servers())
			for _, request := range e.atBackend[s.name] {
				if request.RPCMethod == "tools/call" && ownerOf(request) == p.name {
					got++
				}
			}
			if got != want {
				errs = append(errs, fmt.Sprintf("%s got %d tool calls with the key of %s, not %d", s.name, got, p.name, want))
			}
		}
	}
	return errs
}

// verifyAnswers checks that all calls succeeded, and what the whoami tools have seen.
func verifyAnswers(e evidence) []string {
	var errs []string
	for _, a := range e.answers {
		switch {
		case a.failed:
			errs = append(errs, fmt.Sprintf("%s, %s: %s", a.player, a.what, a.text))
		case a.header != nil && ownerOf(mcptest.Recorded{Header: a.header}) != a.player:
			errs = append(errs, fmt.Sprintf("%s, %s: the tool did not see the key of its caller", a.player, a.what))
		}
	}
	if want := len(players()) * (len(calls()) + 1); len(e.answers) != want {
		errs = append(errs, fmt.Sprintf("%d answers came, not %d", len(e.answers), want))
	}
	return errs
}

// verifySessions checks that each session at a backend has one key for all its life.
func verifySessions(where string, requests []mcptest.Recorded) []string {
	var errs []string
	owners := map[string]string{} // by session
	for _, request := range requests {
		session := request.Header.Get("mcp-session-id")
		if session == "" {
			continue
		}
		owner, known := owners[session]
		if known && owner != ownerOf(request) {
			errs = append(
				errs,
				fmt.Sprintf("%s, %s: a session of %s came with the key of %s", where, kindOf(request), owner, ownerOf(request)),
			)
		}
		owners[session] = ownerOf(request)
	}
	return errs
}
