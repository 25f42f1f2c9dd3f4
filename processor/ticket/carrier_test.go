package ticket_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

var (
	header  = []policy.Carrier{policy.CarrierHeader}
	baggage = []policy.Carrier{policy.CarrierBaggage}
	both    = []policy.Carrier{policy.CarrierHeader, policy.CarrierBaggage}
)

func TestReadFindsEveryTicketAndKeepsOtherBaggage(t *testing.T) {
	tests := []struct {
		name    string
		request policy.Capture
		want    ticket.Carried
	}{
		{"nothing", capture("x-a: 1"), ticket.Carried{}},
		{"header", capture("x-bellhop-ticket: T"), ticket.Carried{Header: []string{"T"}}},
		{"two lines", capture("x-bellhop-ticket: T", "x-bellhop-ticket: U"), ticket.Carried{Header: []string{"T", "U"}}},
		{"member in front", capture("baggage: bellhop=T,k=v"), ticket.Carried{Member: []string{"T"}, Baggage: "k=v"}},
		{
			"member between, with properties and space",
			capture("baggage: a=1 , bellhop = T ;p=q , b=2;x"),
			ticket.Carried{Member: []string{"T"}, Baggage: "a=1,b=2;x"},
		},
		{
			"several lines",
			capture("baggage: a=1,bellhop=T", "baggage: bellhop=U,b=2"),
			ticket.Carried{Member: []string{"T", "U"}, Baggage: "a=1,b=2"},
		},
		{"in another case", capture("baggage: BellHop=T"), ticket.Carried{Member: []string{"T"}}},
		{
			"with Unicode space, as OpenTelemetry trims it",
			capture("baggage: a=1,\u00a0bellhop=T,\u2003bellhop=U,bellhop\u00a0=V"),
			ticket.Carried{Member: []string{"T", "U", "V"}, Baggage: "a=1"},
		},
		{"encoded", capture("baggage: %62ellhop=T,bellhop%20=U"), ticket.Carried{Member: []string{"T", "U"}}},
		{"no token", capture("baggage: a=1,\u00a0x=T,be llhop=U,\"q\"=1"), ticket.Carried{Baggage: "a=1", Malformed: true}},
		{"no value", capture("baggage: a,b=1"), ticket.Carried{Baggage: "b=1", Malformed: true}},
		{
			"only alike",
			capture("baggage: xbellhop=T,bellhop2=U,k=bellhop=V"),
			ticket.Carried{Baggage: "xbellhop=T,bellhop2=U,k=bellhop=V"},
		},
		{"empty member", capture("baggage: bellhop="), ticket.Carried{Member: []string{""}}},
		{"empty parts", capture("baggage: ,, a=1 ,"), ticket.Carried{Baggage: "a=1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, ticket.Read(test.request)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTicketFollowsThePolicysOrder(t *testing.T) {
	tests := []struct {
		name     string
		carried  ticket.Carried
		carriers []policy.Carrier
		want     string
		mismatch bool
	}{
		{"header", ticket.Carried{Header: []string{"T"}}, header, "T", false},
		{"a carrier that is not configured does not count", ticket.Carried{Member: []string{"T"}}, header, "", false},
		{"baggage", ticket.Carried{Member: []string{"T"}}, baggage, "T", false},
		{"both agree", ticket.Carried{Header: []string{"T"}, Member: []string{"T"}}, both, "T", false},
		{
			"the first wins, the mismatch is reported",
			ticket.Carried{Header: []string{"T"}, Member: []string{"U"}},
			both,
			"T",
			true,
		},
		{"the second stands in", ticket.Carried{Member: []string{"U"}}, both, "U", false},
		{"the same line twice", ticket.Carried{Header: []string{"T", "T"}}, header, "T", false},
		{"two different lines are none", ticket.Carried{Header: []string{"T", "U"}}, header, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, mismatch := test.carried.Ticket(test.carriers)
			if got != test.want || mismatch != test.mismatch {
				t.Errorf("got %q %v, want %q %v", got, mismatch, test.want, test.mismatch)
			}
		})
	}
}

func TestBaggageDropsWholeMembersFromTheEndOnly(t *testing.T) {
	name := strings.Repeat("T", ticket.Length)
	if line, dropped := ticket.Baggage(name, "a=1,b=2"); line != "bellhop="+name+",a=1,b=2" || dropped != 0 {
		t.Errorf("got %q, %d dropped", line, dropped)
	}
	var many []string
	for i := range 70 {
		many = append(many, fmt.Sprintf("k%d=v", i))
	}
	if line, dropped := ticket.Baggage(name, strings.Join(many, ",")); strings.Count(line, ",") != 63 || dropped != 7 {
		t.Errorf("%d members, %d dropped; want 64 members", strings.Count(line, ",")+1, dropped)
	}
	line, dropped := ticket.Baggage(name, "a=1,b="+strings.Repeat("x", 8192)+",c=3")
	if line != "bellhop="+name+",a=1" || dropped != 2 {
		t.Errorf("got %d bytes, %d dropped", len(line), dropped)
	}
}

func FuzzBaggage(f *testing.F) {
	for _, seed := range []string{
		"", "bellhop=T", "a=1,bellhop=T;p,b", "BELLHOP =x", "bellhop", ",,", "a=\"x,bellhop=T\"", "bellhop=T,bellhop=U",
		"%62ellhop=T",
		"\tbellhop\t=T", "\u00a0bellhop=T", "bellhop\u2003=T", "a,bellhop=T",
	} {
		f.Add(seed)
	}
	name := strings.Repeat("T", ticket.Length)
	f.Fuzz(func(t *testing.T, line string) {
		sent := ticket.Read(capture("baggage: " + line))
		if again := ticket.Read(capture("baggage: " + sent.Baggage)); len(again.Member) > 0 {
			t.Fatalf("a ticket survives in %q", sent.Baggage)
		}
		made, dropped := ticket.Baggage(name, sent.Baggage)
		got := ticket.Read(capture("baggage: " + made))
		if len(got.Member) != 1 || got.Member[0] != name {
			t.Fatalf("%q does not hold just our ticket", made)
		}
		if dropped == 0 && got.Baggage != sent.Baggage {
			t.Fatalf("other members changed: %q became %q", sent.Baggage, got.Baggage)
		}
	})
}
