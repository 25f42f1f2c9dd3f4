package extproc_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	search  = "version: 1\nfanout: search\nforward: [x-key, {name: x-kept, keep: session}]\n"
	billing = "version: 1\nfanout: billing\nforward: [x-key, {name: x-kept, keep: session}]\nbackends: {a: {}}\n"
)

// at sends one message from a filter of a fan-out and returns the request that comes of it.
func (b *bench) at(t *testing.T, fanout, role string, lines ...string) []string {
	t.Helper()
	return apply(
		t, lines,
		b.ask(t, requestHeaders(lines...), "bellhop-role", role, "bellhop-fanout", fanout, "bellhop-backend", "a"),
	)
}

func ticketLine(request []string) string {
	return request[slices.IndexFunc(request, func(line string) bool {
		return strings.HasPrefix(line,
			"x-bellhop-ticket: ")
	})]
}

// Invariant 1: one Bellhop serves several fan-outs, and a ticket of one is invalid at another.
func TestATicketIsInvalidAtAnotherFanout(t *testing.T) {
	b := start(t, setup{policy: search, others: []string{billing}})
	ticket := ticketLine(b.at(t, "search", "ingress", "x-key: alice"))
	if got := b.at(t, "billing", "egress", ticket); len(got) != 0 {
		t.Errorf("billing redeemed a ticket of search: %q", got)
	}
	if got := b.at(t, "search", "egress", ticket); !slices.Equal(got, []string{"x-key: alice"}) {
		t.Errorf("search did not redeem its own: %q", got)
	}
	if same := ticketLine(b.at(t, "billing", "ingress", "x-key: alice")); same == ticket {
		t.Error("the same headers have the same ticket at two fan-outs")
	}
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="billing",outcome="captured",role="ingress"} 1
bellhop_requests_total{fanout="billing",outcome="malformed_ticket",role="egress"} 1
bellhop_requests_total{fanout="search",outcome="captured",role="ingress"} 1
bellhop_requests_total{fanout="search",outcome="forwarded",role="egress"} 1`)
}

// Invariant 3: an MCP session of one fan-out is not known at another, whatever its ID.
func TestASessionBelongsToOneFanout(t *testing.T) {
	b := start(t, setup{policy: search, others: []string{billing}})
	session := []string{"mcp-session-id: S", "authorization: user-1"}
	b.at(t, "search", "ingress", append(session, "x-kept: alice")...)
	for fanout, want := range map[string]int{"search": 1, "billing": 0} {
		ticket := ticketLine(b.at(t, fanout, "ingress", session...))
		if got := b.at(t, fanout, "egress", ticket); len(got) != want {
			t.Errorf("%s: got %q, want %d headers", fanout, got, want)
		}
	}
}

func TestAFilterMustNameItsFanoutIfThereAreSeveral(t *testing.T) {
	b := start(t, setup{policy: search, others: []string{billing}})
	refused := func(want string, pairs ...string) {
		t.Helper()
		stream := b.stream(t, append(pairs, "bellhop-role", "egress")...)
		_ = stream.Send(requestHeaders("x-key: 1"))
		_, err := stream.Recv()
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(status.Convert(err).Message(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	refused("does not name its fan-out")
	refused("matches no policy's fanout", "bellhop-fanout", "other")
	b.apply(t, search)
	refused("matches no policy's fanout", "bellhop-fanout", "billing") // it is gone
	refused("does not name its fan-out")                               // it may mean the one that is gone
	b.apply(t, search, "version: 1\nforward: [x-other]\n")
	if got := apply(t, []string{"x-other: 1"}, b.ask(t, requestHeaders("x-other: 1"), "bellhop-role", "egress")); len(
		got,
	) != 0 {
		t.Errorf("a filter that names none is at the fan-out without a name: %q", got)
	}
}
