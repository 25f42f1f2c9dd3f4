package policy_test

import (
	"testing"

	"bellhop/policy"
)

func BenchmarkCapture(b *testing.B) {
	p := load(b, decidePolicy)
	request := headers("x-tenant-id: t", "x-mcp-api-key: k", "x-github-token: g", "accept: x")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = p.Capture(request)
	}
}

func BenchmarkDecide(b *testing.B) {
	p := load(b, decidePolicy)
	capture, _ := p.Capture(headers("x-tenant-id: t", "x-mcp-api-key: k", "x-github-token: g"))
	call := policy.Call{Backend: "billing", Ticket: policy.StatusRedeemed, Capture: capture.Capture, Request: headers("x-bellhop-ticket: T")}
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Decide(call)
	}
}
