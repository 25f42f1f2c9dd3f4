package processor_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
	"bellhop/processor"
	"bellhop/processor/store/memory"
	"bellhop/processor/ticket"
)

// newCore makes a core with a memory store.
func newCore(t testing.TB, document string) *processor.Processor {
	t.Helper()
	loaded, findings := policy.Load("policy.yaml", []byte(document))
	if loaded == nil {
		t.Fatal(findings)
	}
	kept := memory.New(4 << 20)
	t.Cleanup(kept.Close)
	return processor.New(processor.Settings{
		Store: kept, Sessions: kept, Supersession: kept, Single: true,
		Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	}, ticket.RandomKeys(), processor.Rules{Policy: loaded})
}

func headers(lines ...string) []policy.Header {
	var all []policy.Header
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		all = append(all, policy.Header{Name: name, Value: policy.NewValue(value)})
	}
	return all
}

func do(t testing.TB, core *processor.Processor, role processor.Role, request processor.Request) processor.Answer {
	t.Helper()
	answer, err := core.Request(context.Background(), processor.Binding{Role: role}, request)
	if err != nil || answer.Error != nil {
		t.Fatal(err, answer.Error)
	}
	return answer
}

// steadyState is a request of each kind, as it comes again and again while nothing changes.
func steadyState(t testing.TB) map[string]func() {
	t.Helper()
	const plain = "version: 1\nforward: [x-mcp-api-key]\n"
	const kept = "version: 1\nkeep: session\nforward: [x-mcp-api-key]\n"
	plainCore, keptCore := newCore(t, plain), newCore(t, kept)
	client := processor.Request{
		Headers: headers(":method: POST", "x-mcp-api-key: 0123456789012345678901234567890123456789"),
	}
	answer := do(t, plainCore, processor.Ingress, client)
	backend := processor.Request{
		Headers: headers("x-bellhop-ticket: " + answer.Set[0].Value.Reveal()),
		Cluster: "mcp-billing",
	}
	session := processor.Request{
		Headers: headers(":method: POST", "x-mcp-api-key: 0123456789012345678901234567890123456789",
			"mcp-session-id: 6f1b1f0e-3a53-4b1d-9d6e-1c0e1b1f0e3a", "authorization: Bearer 0123456789"),
	}
	if first := do(t, keptCore, processor.Ingress, session); first.Pending != nil { // the fan-out accepts it
		keptCore.Response(context.Background(), first.Pending, processor.Response{Headers: headers(":status: 200")})
	}
	return map[string]func(){
		"egress":  func() { do(t, plainCore, processor.Egress, backend) },
		"ingress": func() { do(t, plainCore, processor.Ingress, client) },
		"session": func() { do(t, keptCore, processor.Ingress, session) },
	}
}

// TestAllocations holds the ceilings of the steady state. Raise one only with a reason.
func TestAllocations(t *testing.T) {
	for name, ceiling := range map[string]float64{"egress": 5, "ingress": 7, "session": 9} {
		if raced {
			ceiling *= 3
		}
		run := steadyState(t)[name]
		run()
		if got := testing.AllocsPerRun(1000, run); got > ceiling {
			t.Errorf("%s: %v allocations a request, want at most %v", name, got, ceiling)
		} else {
			t.Logf("%s: %v allocations", name, got)
		}
	}
}

func BenchmarkCore(b *testing.B) {
	for name, run := range steadyState(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}
