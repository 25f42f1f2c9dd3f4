package policy

import (
	"slices"
	"strings"
)

// Restriction is one row of the table of names that no policy can carry, neither as source nor as destination.
type Restriction struct {
	Pattern string // a header name, or a family of names when it ends in *
	Reason  string // shown to the author of a policy
}

// restrictions is the compiled table. It never changes; it is a variable because requests look names up in it.
var restrictions = newRestrictions(restrictionTable())

// restrictionIndex finds the row of a name.
type restrictionIndex struct {
	rows     []Restriction
	names    map[string]int // rows of single names
	families []int          // rows of families
	prefixes []string       // of these families
}

func newRestrictions(rows []Restriction) restrictionIndex {
	index := restrictionIndex{rows: rows, names: make(map[string]int)}
	for i, row := range rows {
		if prefix, isFamily := family(row.Pattern); isFamily {
			index.families, index.prefixes = append(index.families, i), append(index.prefixes, prefix)
		} else {
			index.names[row.Pattern] = i
		}
	}
	return index
}

// Restrictions returns a copy of the whole table, for documents and for proxies that enforce it too.
func Restrictions() []Restriction { return slices.Clone(restrictions.rows) }

func restrictionTable() []Restriction {
	const (
		routing   = "it routes the request, so carrying it would send the request elsewhere"
		hopByHop  = "it is hop-by-hop: it is about one connection only (RFC 9110, 7.6.1)"
		framing   = "it frames the message; a wrong value smuggles requests (RFC 9112, 6)"
		content   = "it describes the body, and the fan-out sends a body of its own"
		negotiate = "it negotiates the response, which the fan-out reads, not the client"
		condition = "it makes the request conditional or partial, and the fan-out needs the whole response"
		origin    = "it says where a request came from; a backend must trust its own proxy only"
		envoy     = "it controls Envoy"
		protocol  = "it belongs to the MCP exchange between fan-out and backend; a foreign one breaks every backend"
		browser   = "a browser sets it for one site, and the backend is another"
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

// restricted returns the row that restricts a name.
func restricted(name string) (Restriction, bool) {
	spelled := hyphenated(name)
	if i, ok := restrictions.names[spelled]; ok {
		return restrictions.rows[i], true
	}
	return withPrefixOf(spelled)
}

// restrictedFamily returns the row that restricts every name with that prefix.
func restrictedFamily(prefix string) (Restriction, bool) {
	return withPrefixOf(hyphenated(prefix))
}

func withPrefixOf(spelled string) (Restriction, bool) {
	for i, prefix := range restrictions.prefixes {
		if strings.HasPrefix(spelled, prefix) {
			return restrictions.rows[restrictions.families[i]], true
		}
	}
	return Restriction{}, false
}

// sensitiveNames carry a credential that the fan-out itself may need, so a policy must say explicitly where they go and
// whether the fan-out sees them.
func sensitiveNames() []string { return []string{"authorization", "cookie"} }

// sensitive reports whether a name is one of [sensitiveNames].
func sensitive(name string) bool { return name == "authorization" || name == "cookie" }
