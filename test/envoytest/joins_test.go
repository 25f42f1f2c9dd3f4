package envoytest_test

import (
	"net/http"
	"testing"

	"bellhop/policy"
)

// Of some headers Envoy makes one line before any filter sees them, so that a policy cannot tell a repeated one from
// one that holds a comma. The policy's list is what the real Envoy does.
func TestEnvoyJoinsWhatThePolicyKnowsItToJoin(t *testing.T) {
	r := startReal(t)
	for _, name := range []string{
		"authorization", "user-agent", "referer", "accept-language", "x-request-id", "x-correlation-id", "cookie",
		"cache-control", "pragma", "x-api-key", "api-key", "date", "from", "dnt", "x-client-trace-id", "grpc-timeout",
		"grpc-accept-encoding", "x-ot-span-context", "x-amzn-trace-id", "priority", "x-cloud-trace-context", "grpc-trace-bin",
		"x-requested-with", "x-csrf-token", "access-control-request-method", "access-control-request-headers", "link", "vary",
		"etag", "age", "server", "location", "expires", "last-modified", "x-datadog-trace-id", "uber-trace-id",
		"x-goog-api-key", "x-auth-token", "x-mcp-api-key",
	} {
		r.take(answer(nil))
		if status, _ := r.send(t, http.MethodGet, name+": one", name+": two"); status != http.StatusOK {
			t.Fatalf("%s: status %d", name, status)
		}
		lines := 0
		for _, header := range r.requests()[0].GetRequestHeaders().GetHeaders().GetHeaders() {
			if header.GetKey() == name {
				lines++
			}
		}
		if joined := lines == 1; joined != policy.Joined(name) {
			t.Errorf("%s: Envoy shows %d lines of two, the policy says joined: %v", name, lines, policy.Joined(name))
		}
	}
}
