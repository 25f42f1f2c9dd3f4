package extproc_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"bellhop/policy"
)

// Envoy runs its filters again on an internal redirect, on the request as they have changed it: the ticket is gone, the
// headers are set, and x-envoy-original-url is new. The redirect may lead to another backend, so nothing of a client's
// is left, and the discovery identity does not take its place. After that, once more changes nothing.
func TestARedirectedRequestGetsNothing(t *testing.T) {
	identity := []policy.Header{{Name: "x-key", Value: policy.NewValue("discovery")}}
	b := start(t, setup{
		policy: "version: 1\nforward: [x-key, {name: x-other, to: [b]}, {name: x-kept, to: [b], conflict: " +
			"keep}]\nbackends: {a: {}, b: {discovery: [{name: x-id, file: f}]}}\n",
		identities: map[string][]policy.Header{"a": identity, "b": identity},
	})
	_, ticket := b.ingress(t, "x-key: alice", "x-other: alice", "x-kept: alice")
	rapid.Check(t, func(r *rapid.T) {
		backends := rapid.SampledFrom([]string{"a", "b"})
		first := b.egress(t, backends.Draw(r, "first"), "x-bellhop-ticket: "+ticket, "x-key: fan-out", "accept: text/plain")
		if !slices.Contains(first, "x-key: alice") {
			t.Fatalf("the first time: %q", first)
		}
		backend := backends.Draw(r, "then")
		if rapid.Bool().Draw(r, "of no backend") { // the identity is no other backend's either
			first = b.egress(t, "b", "accept: text/plain", "x-id: i")
		}
		again := b.egress(t, backend, append(first, "x-envoy-original-url: http://a/mcp")...)
		for _, line := range again {
			if strings.HasPrefix(line, "x-key") || strings.HasPrefix(line, "x-other") || strings.HasPrefix(line, "x-kept") ||
				strings.HasPrefix(line, "x-id") {
				t.Fatalf("the second time: %q", again)
			}
		}
		if !slices.Contains(again, "accept: text/plain") {
			t.Fatalf("what is not Bellhop's stays: %q", again)
		}
		if third := b.egress(t, backend, again...); !slices.Equal(third, again) {
			t.Fatalf("once more: %q, then %q", again, third)
		}
	})
}

func TestARedirectedRequestIsRefusedWhereAHeaderIsRequired(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [{name: x-key, required: true}]\n"})
	answer := b.ask(t, requestHeaders("x-envoy-original-url: http://a/mcp"), "bellhop-role", "egress")
	if answer.GetImmediateResponse() == nil {
		t.Errorf("it went on: %v", answer)
	}
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="redirected",role="egress"} 1`)
}

// A retry, and a filter at the cluster, begin with the request as the fan-out sent it: the same comes of it.
func TestApplyingEgressToTheSameRequestGivesTheSame(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [x-key, {name: x-acme-*, conflict: keep}]\n"})
	_, ticket := b.ingress(t, "x-key: alice", "x-acme-a: 1", "x-acme-b: 2")
	request := []string{"x-bellhop-ticket: " + ticket, "x-key: fan-out", "x-acme-a: fan-out"}
	if once, twice := b.egress(t, "a", request...), b.egress(t, "a", request...); !slices.Equal(once, twice) {
		t.Errorf("once %q, twice %q", once, twice)
	}
}
