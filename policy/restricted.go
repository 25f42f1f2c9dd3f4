package policy

import (
	"slices"
	"strings"
)

// Restriction is one row of the table of names that no policy can carry, neither as name nor as destination.
type Restriction struct {
	Pattern string // a header name, or a family of names when it ends in *
	Reason  string // why, as it is shown to the author of a policy
}

// restrictions is the whole table. It is never changed; it stands here, and not in what each call makes anew, because
// headers of families are looked up in it for every request.
var restrictions = restrictionTable()

// Restrictions returns a copy of the whole table, for documents and for proxies that enforce it too.
func Restrictions() []Restriction { return slices.Clone(restrictions) }

func restrictionTable() []Restriction {
	const (
		routing   = "it routes the request, so carrying it would send the request elsewhere"
		hopByHop  = "it is hop-by-hop: it speaks of one connection only (RFC 9110, 7.6.1)"
		framing   = "it says how the message is framed; a wrong one smuggles requests (RFC 9112, 6)"
		content   = "it describes the body, and the fan-out sends a body of its own"
		negotiate = "it negotiates the response, which the fan-out reads, not the client"
		condition = "it makes the request conditional or partial, and the fan-out asks for the whole"
		origin    = "it tells where a request came from; a backend must believe its own proxy only"
		envoy     = "Envoy takes orders from it"
		protocol  = "it belongs to the MCP exchange between fan-out and backend; a foreign one breaks every backend"
		browser   = "a browser vouches for it towards one site, and the backend is another"
		trace     = "it is a trace carrier, written by the tracer of each hop"
		response  = "it is a response header"
		own       = "it is Bellhop's own"
		proxy     = "it is meant for the proxy itself"
	)
	return []Restriction{
		{":*", routing},
		{"host", routing},
		{"connection", hopByHop},
		{"close", hopByHop},
		{"keep-alive", hopByHop},
		{"te", hopByHop},
		{"trailer", hopByHop},
		{"transfer-encoding", framing},
		{"upgrade", hopByHop},
		{"http2-settings", hopByHop},
		{"proxy-*", proxy},
		{"content-length", framing},
		{"content-*", content},
		{"accept", negotiate},
		{"accept-encoding", negotiate},
		{"accept-charset", negotiate},
		{"accept-ranges", negotiate},
		{"expect", condition},
		{"range", condition},
		{"if-*", condition},
		{"forwarded", origin},
		{"x-forwarded-*", origin},
		{"x-real-ip", origin},
		{"via", origin},
		{"x-envoy-*", envoy},
		{"mcp-*", protocol},
		{"last-event-id", protocol},
		{"origin", browser},
		{"sec-*", browser},
		{"traceparent", trace},
		{"tracestate", trace},
		{"baggage", trace},
		{"b3", trace},
		{"x-b3-*", trace},
		{"set-cookie", response},
		{"x-bellhop-*", own},
	}
}

// Restricted reports whether no policy can carry a header of that name.
func Restricted(name string) bool {
	_, found := restricted(name)
	return found
}

// restricted returns the row that forbids name. An underscore counts as a hyphen, because many servers read
// content_length as content-length.
func restricted(name string) (Restriction, bool) {
	spelled := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	for _, row := range restrictions {
		if family, ok := strings.CutSuffix(row.Pattern, "*"); ok && strings.HasPrefix(spelled, family) || row.Pattern == spelled {
			return row, true
		}
	}
	return Restriction{}, false
}

// restrictedFamily returns the row that forbids every name with that beginning.
func restrictedFamily(prefix string) (Restriction, bool) {
	spelled := strings.ReplaceAll(strings.ToLower(prefix), "_", "-")
	for _, row := range restrictions {
		if beginning, ok := family(row.Pattern); ok && strings.HasPrefix(spelled, beginning) {
			return row, true
		}
	}
	return Restriction{}, false
}

// sensitive reports whether name carries a credential that the fan-out itself may need, so that a policy has to
// say outright where it goes and whether the fan-out still sees it.
func sensitive(name string) bool { return name == "authorization" || name == "cookie" }
