package e2e

import (
	"net/http"
	"strings"
	"testing"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
)

// Invariant 5: whatever a client sends as a ticket, in whatever carrier, it gets its own headers only.
// The forger here knows a live ticket of somebody else, which is more than a real one can.
func TestAForgedTicketGetsNothing(t *testing.T) {
	for name, options := range map[string]stack.Options{
		"header":                 {Policy: smallest},
		"header, vMCP with otel": {Policy: smallest, Baggage: true},
		"both":                   carriers["both"],
		"baggage alone":          carriers["baggage"],
	} {
		t.Run(name, func(t *testing.T) {
			backends := both(t)
			s := start(t, options, backends)
			if err := s.WaitHealthy(limit(t)); err != nil {
				t.Fatal(err)
			}
			wantKey(t, connect(t, s, mcptest.ClientOptions{Header: sends("bob")}), "old_whoami", "bob")
			stolen := liveTicket(t, s)
			meta := map[string]any{"baggage": "bellhop=" + stolen}
			if name == "baggage alone" {
				meta = nil // it would replace the ticket in vMCP, which is why baggage is not the default (FANOUTS.md)
			}
			for _, own := range [][]string{{"mallory"}, nil} {
				for place, header := range forgeries(stolen) {
					header[key] = own
					for _, era := range eras {
						client := connect(t, s, mcptest.ClientOptions{
							Era: era, Header: func() http.Header { return header }, Meta: meta,
						})
						t.Log(place, era)
						wantKey(t, client, "old_whoami", own...)
						wantKey(t, client, "new_whoami", own...)
					}
				}
			}
			wantClean(t, s, backends)
		})
	}
}

func forgeries(ticket string) map[string]http.Header {
	return map[string]http.Header{
		"none but _meta":   {},
		"header":           {"X-Bellhop-Ticket": {ticket}},
		"two headers":      {"X-Bellhop-Ticket": {ticket, ticket}},
		"baggage":          {"Baggage": {"bellhop=" + ticket}},
		"baggage in cases": {"Baggage": {"a=1,BellHop = " + ticket + ";p=1", "bellhop=" + ticket}},
		"Unicode space":    {"Baggage": {"\u00a0bellhop=" + ticket + ",bellhop\u2003=" + ticket}},
		"encoded":          {"Baggage": {"%62ellhop=" + ticket}},
		"underscores":      {"X_bellhop_ticket": {ticket}},
		"all":              {"X-Bellhop-Ticket": {ticket}, "Baggage": {"bellhop=" + ticket}},
	}
}

// Where baggage is the only carrier, a client's _meta.baggage replaces the ticket in vMCP (FANOUTS.md): a made-up
// one loses the client its own headers, and gains it nothing.
func TestAForgedTicketInBaggageGetsNothing(t *testing.T) {
	backends := both(t)
	s := start(t, carriers["baggage"], backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	wantKey(t, connect(t, s, mcptest.ClientOptions{Header: sends("bob")}), "old_whoami", "bob")
	client := connect(t, s, mcptest.ClientOptions{Meta: map[string]any{"baggage": "bellhop=" + strings.Repeat("A", 43)}})
	wantKey(t, client, "old_whoami")
	wantKey(t, client, "new_whoami")
}

// liveTicket takes a ticket off what the fan-out saw.
func liveTicket(t *testing.T, s *stack.Stack) string {
	t.Helper()
	for _, request := range s.FanoutTap().Requests() {
		if ticket := request.Header.Get("X-Bellhop-Ticket"); ticket != "" {
			return ticket
		}
		if _, member, ok := strings.Cut(request.Header.Get("Baggage"), "bellhop="); ok {
			ticket, _, _ := strings.Cut(member, ",")
			return ticket
		}
	}
	t.Fatal("the fan-out saw no ticket")
	return ""
}
