package envoy

import (
	"strings"

	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"bellhop/policy"
)

// corsFilterName is the name of Envoy's filter for browsers' questions.
const corsFilterName = "envoy.filters.http.cors"

// corsFilter is the first, so that its headers are on the errors of all others.
func (w *bootstrapWriter) corsFilter(path string) *hcmv3.HttpFilter {
	w.Note(path, "Answers browsers for --ingress-origin, and lets their pages read what they get, errors too.")
	return &hcmv3.HttpFilter{
		Name:       corsFilterName,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: w.Pack(&corsv3.Cors{})},
	}
}

// corsPolicy says what the pages of those origins may send and read.
func (w *bootstrapWriter) corsPolicy() *corsv3.CorsPolicy {
	// The last one stands for the headers of parameters (Mcp-Param-…) and for families of the policy, whose names nobody
	// knows; authorization is never meant by it.
	sends := []string{
		"accept", "authorization", "content-type", "last-event-id", "mcp-session-id", "mcp-protocol-version",
		policy.MethodHeader, policy.NameHeader,
	}
	for _, name := range w.plan.atIngress.Reads {
		if ordinary := !strings.HasPrefix(name, ":") && !strings.HasSuffix(name, "*"); ordinary && !transport(name) {
			sends = appendNew(sends, []string{name})
		}
	}
	sends = append(sends, "*")
	reads := []string{"mcp-session-id", "mcp-protocol-version", "www-authenticate"}
	for _, name := range w.plan.atIngress.Writes {
		if strings.HasPrefix(name, "x-bellhop-") && !transport(name) {
			reads = append(reads, name)
		}
	}
	made := &corsv3.CorsPolicy{
		AllowMethods:              "GET, POST, DELETE, OPTIONS",
		AllowHeaders:              strings.Join(sends, ", "),
		ExposeHeaders:             strings.Join(reads, ", "),
		MaxAge:                    "600",
		AllowPrivateNetworkAccess: wrapperspb.Bool(true),
	}
	for _, origin := range w.origins {
		made.AllowOriginStringMatch = append(made.AllowOriginStringMatch, &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: origin.browserOrigin()},
		})
	}
	return made
}

// transport reports whether a header is none that a page could send or should read.
func transport(name string) bool {
	switch name {
	case policy.TicketHeader, policy.BaggageHeader, "connection", "x-bellhop-explain":
		return true
	}
	return false
}
