package policy_test

import (
	"strings"
	"testing"

	"bellhop/policy"
)

func TestEveryRestrictionHasAReason(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range policy.Restrictions() {
		if row.Reason == "" || seen[row.Pattern] || row.Pattern != strings.ToLower(row.Pattern) {
			t.Errorf("row %q: no reason, twice, or not in lower case", row.Pattern)
		}
		seen[row.Pattern] = true
	}
}

// The names of DESIGN's list, one for each of its families.
func TestRestrictedNames(t *testing.T) {
	names := strings.Fields(`:path :authority host connection close keep-alive te trailer transfer-encoding upgrade
		http2-settings proxy-authorization proxy-connection content-type content-length content-encoding accept
		accept-encoding accept-charset accept-ranges expect range if-match if-none-match forwarded x-forwarded-for
		x-forwarded-client-cert x-real-ip via x-envoy-original-path mcp-session-id mcp-protocol-version mcp-method
		last-event-id origin sec-fetch-mode traceparent tracestate baggage b3 x-b3-traceid set-cookie
		x-bellhop-ticket x-bellhop-explain`)
	for _, name := range names {
		if loaded, _ := policy.Load("p.yaml", []byte("version: 1\nforward: [\""+name+"\"]\n")); loaded != nil {
			t.Errorf("%s was accepted as name", name)
		}
		if loaded, _ := policy.Load("p.yaml", []byte("version: 1\nforward: "+
			"[{name: x-a, as: \""+name+"\"}]\n")); loaded != nil {
			t.Errorf("%s was accepted as destination", name)
		}
	}
}

func TestNamesThatUsersNeed(t *testing.T) {
	for _, name := range []string{"accept-language", "user-agent", "x-request-id", "x-correlation-id", "x-api-key",
		"hostname", "contentful", "viatoll"} {
		load(t, "version: 1\nforward: ["+name+"]\n")
	}
}
