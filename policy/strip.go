package policy

import (
	"slices"
	"strings"
)

// alwaysStripped are taken off every request to a backend: they say where a client is, and the backend must trust its
// own proxy only. Some fan-outs pass on all that they get, and the proxy at the ingress adds some of them.
func alwaysStripped() []string {
	return []string{"forwarded", "x-forwarded-*", "x-real-ip", ExternalAddressHeader}
}

// ExternalAddressHeader is where Envoy names the client's address.
const ExternalAddressHeader = "x-envoy-external-address"

// maxStrip bounds the list: each name can need a change of its own, of which Envoy accepts 100 in one answer.
const maxStrip = 32

// unstrippable are the patterns without which a request is no request any more, or none of MCP.
func unstrippable() []string {
	return []string{
		":*", "host", "connection", "close", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
		"proxy-*", "content-*", "expect", "mcp-*", "x-bellhop-*",
	}
}

// strip checks the names and families to strip. Restricted ones are allowed, but for those that frame the request.
func (c *checker) strip(names []string) {
	if len(names) > maxStrip {
		c.errorAt(
			c.at("strip[%d]", maxStrip),
			"strip families in place of many names",
			"%d names are more than the %d allowed",
			len(names),
			maxStrip,
		)
	}
	for i, name := range names {
		at := c.at("strip[%d]", i)
		prefix, isFamily := family(name)
		framing := func(pattern string) bool { return intersects(pattern, hyphenated(name)) }
		switch {
		case prefix == "" || !ValidName(prefix) || strings.Contains(prefix, "*"):
			hint := nameHint
			if isFamily || strings.Contains(name, "*") {
				hint = familyHint
			}
			c.errorAt(at, hint, "strip: %q is neither a header name nor a family", name)
		case slices.ContainsFunc(unstrippable(), framing):
			c.errorAt(at, "take it out; a request cannot do without it", "strip: %q is part of HTTP, of MCP or of Bellhop", name)
		case slices.Contains(names[:i], name):
			c.errorAt(at, "keep one of the two", "strip: %q is listed twice", name)
		}
	}
}

// StripPattern returns the name or family under which the policy strips a header, or "" if it does not list it.
func (p *Policy) StripPattern(name string) string { return firstCover(p.doc.Strip, name) }

// firstCover returns the first pattern that covers a name in either spelling, or "".
func firstCover(patterns []string, name string) string {
	spelled := name
	if strings.IndexByte(name, '_') >= 0 {
		spelled = hyphenated(name)
	}
	for _, pattern := range patterns {
		if covers(pattern, name) || covers(pattern, spelled) {
			return pattern
		}
	}
	return ""
}

// stripped removes from a request to a backend what no backend may see, whatever put it there, and returns the rest.
func (p *Policy) stripped(request []Header, decision *Decision) []Header {
	left, dropped := decision.drop(request, func(header Header) bool { return firstCover(p.strip, header.Name) != "" })
	for _, header := range dropped {
		if p.StripPattern(header.Name) != "" {
			decision.Verdicts = append(decision.Verdicts, Verdict{Header: header.Name, Outcome: OutcomeStripped})
		}
	}
	return left
}
