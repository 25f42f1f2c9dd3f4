package policy

import (
	"fmt"
	"slices"
	"strings"
)

func (c *checker) forward(doc *Document) {
	if len(doc.Forward) == 0 {
		c.errorAt(c.at("forward"), "list under forward: the headers that may be carried", "the policy carries no header")
	}
	if len(doc.Forward) > maxRules {
		c.errorAt(
			c.at("forward[%d]", maxRules),
			"carry fewer headers; Envoy accepts at most 100 changes in one answer, and a rule can need two",
			"%d rules are more than the %d allowed", len(doc.Forward), maxRules,
		)
		return // the checks below compare each rule with each other
	}
	for i, rule := range doc.Forward {
		path := fmt.Sprintf("forward[%d]", i)
		c.name(path, rule.Name)
		c.as(path, rule)
		c.to(path, rule, doc)
		c.sensitive(path, rule)
		c.values(path, rule, doc.Limits)
		c.repeat(path, rule)
		c.tools(path, rule)
		c.consistent(i, doc.Forward)
	}
}

func (c *checker) name(path, name string) {
	at, ok := c.places[path+".name"]
	if !ok {
		c.errorAt(c.at("%s", path), "add name: with the header that clients send", "the rule has no name")
		return
	}
	c.headerName(at, name, "name")
}

func (c *checker) headerName(at Position, name, field string) {
	switch row, found := restricted(name); {
	case found:
		c.errorAt(
			at, "choose another header; no policy can carry this one", "%s: %q is restricted (%s): %s", field, name,
			row.Pattern, row.Reason,
		)
	case len(name) > maxName:
		c.errorAt(at, fmt.Sprintf("use a name of %d bytes or less", maxName), "%s has %d bytes", field, len(name))
	case strings.HasSuffix(name, "*"):
		c.familyName(at, name)
	case strings.Contains(name, "*"):
		c.errorAt(at, familyHint, "%s: %q has a * that is not at the end", field, name)
	case !ValidName(name):
		c.errorAt(at, nameHint, "%s: %q is not a header name", field, name)
	}
}

const (
	// maxName is the longest name of a header, in bytes: ToolHive's vMCP accepts no longer one.
	maxName    = 256
	nameHint   = "write letters, digits and !#$%&'+-.^_`|~ only, such as x-mcp-api-key"
	familyHint = "write the common beginning of the names and one * at the end, such as x-acme-*"
)

// familyName reports a family of all headers, and one whose members are all restricted.
func (c *checker) familyName(at Position, name string) {
	prefix, _ := family(name)
	switch row, found := restrictedFamily(prefix); {
	case prefix == "" || !ValidName(prefix) || strings.Contains(prefix, "*"):
		c.errorAt(at, familyHint, "name: %q is not a family of header names", name)
	case found:
		c.errorAt(
			at, "choose other headers; no policy can carry these", "name: every header of %q is restricted (%s): %s", name,
			row.Pattern, row.Reason,
		)
	}
}

// oneName reports anything but the name of one header.
func (c *checker) oneName(at Position, name, field string) {
	if _, ok := family(name); ok {
		c.errorAt(at, "write one name", "%s: %q is a family of headers, and this is one header", field, name)
		return
	}
	c.headerName(at, name, field)
}

func (c *checker) as(path string, rule Rule) {
	at := c.at("%s.as", path)
	_, isFamily := family(rule.Name)
	switch {
	case rule.As == rule.Name:
	case isFamily:
		c.errorAt(
			at, "rename each header with a rule of its own",
			"a family of headers keeps its names: as: %q would make one name of many", rule.As,
		)
	default:
		c.oneName(at, rule.As, "as")
	}
}

func (c *checker) to(path string, rule Rule, doc *Document) {
	if _, ok := c.places[path+".to"]; ok && len(rule.To) == 0 {
		c.errorAt(
			c.at("%s.to", path), "name at least one backend, or remove the line for every declared one",
			"the rule goes to no backend",
		)
	}
	for i, name := range rule.To {
		at := c.at("%s.to[%d]", path, i)
		switch {
		case !slices.ContainsFunc(doc.Backends, func(b Backend) bool { return b.Name == name }):
			c.errorAt(
				at, "declare it under backends:, or correct the name ("+declared(doc.Backends)+")",
				"backend %q is not declared", name,
			)
		case slices.Contains(rule.To[:i], name):
			c.errorAt(at, "keep one of the two", "backend %q is listed twice", name)
		}
	}
}

// sensitive requires explicit to: and hide: for a credential that the fan-out itself may need.
func (c *checker) sensitive(path string, rule Rule) {
	_, to := c.places[path+".to"]
	_, hide := c.places[path+".hide"]
	if sensitive(rule.Name) {
		at := c.at("%s.name", path)
		if !to || !hide {
			c.errorAt(
				at,
				"write {name: "+rule.Name+", to: [BACKEND], hide: true} (or hide: false, where the fan-out itself needs it)",
				"%q carries the client's own credential: it needs an explicit to: and an explicit hide:", rule.Name,
			)
		} else {
			c.warn(at, "carry it only where the token was issued for that backend; better: a header of its own",
				"MCP forbids passing on the access token that a client got for the gateway itself")
		}
	}
	if sensitive(rule.As) && rule.As != rule.Name && !to {
		c.errorAt(
			c.at("%s.as", path), "add to: with the backends that may have it", "as: %q needs an explicit to:", rule.As,
		)
	}
}

// values checks what a rule says about values.
func (c *checker) values(path string, rule Rule, limits Limits) {
	c.prefix(path, rule.Prefix)
	if rule.Prefix != "" && rule.As == rule.Name {
		c.warn(
			c.at("%s.prefix", path), "add as: with the name that the backend reads, such as authorization",
			"prefix without as: the backend gets %s with another value than the client sent", rule.Name,
		)
	}
	if _, ok := c.places[path+".max_bytes"]; ok && (rule.MaxBytes < 1 || rule.MaxBytes > limits.ValueBytes) {
		c.errorAt(
			c.at("%s.max_bytes", path), fmt.Sprintf("write a number from 1 to %d (limits.value_bytes)", limits.ValueBytes),
			"max_bytes: %d is out of range", rule.MaxBytes,
		)
	}
	if _, ok := family(rule.Name); ok && rule.Required {
		c.errorAt(
			c.at("%s.required", path), "require each header with a rule of its own",
			"a family of headers cannot be required",
		)
	}
}

// joinedNames are the headers of which Envoy makes one line of several, before any filter sees them (measured with
// Envoy 1.40).
func joinedNames() []string {
	return []string{
		"authorization", "user-agent", "referer", "x-request-id", "cache-control", "pragma", "x-client-trace-id",
		"grpc-timeout", "grpc-accept-encoding", "access-control-request-method", "access-control-request-headers",
	}
}

// Joined reports whether Envoy makes one line of several lines of a header, before any filter sees them.
func Joined(name string) bool { return slices.Contains(joinedNames(), name) }

// repeat reports a rule about repeated lines that could never see one.
func (c *checker) repeat(path string, rule Rule) {
	at := c.at("%s.repeat", path)
	i := slices.IndexFunc(joinedNames(), func(name string) bool { return matches(rule.Name, name) })
	switch {
	case rule.Repeat == RepeatAll || i < 0:
	case Joined(rule.Name):
		c.errorAt(
			at, "take it out; a repeated header arrives as one value with a comma, as it was joined",
			"repeat: %s can never apply to %q: Envoy joins its lines before Bellhop sees them", rule.Repeat, rule.Name,
		)
	default:
		c.warn(
			at, "give it a rule of its own, with repeat: all",
			"repeat: %s does not apply to %s: Envoy joins its lines before Bellhop sees them", rule.Repeat, joinedNames()[i],
		)
	}
}

func (c *checker) prefix(path, prefix string) {
	switch at := c.at("%s.prefix", path); {
	case !ValidValue(prefix):
		c.errorAt(
			at, "remove line breaks and other control characters", "prefix contains a byte that no header value may have",
		)
	case len(prefix) > maxPrefix:
		c.errorAt(at, fmt.Sprintf("write %d bytes or less", maxPrefix), "prefix has %d bytes", len(prefix))
	}
}

// tools checks the patterns for tool names. MCP names consist of letters, digits and ._-/ only.
func (c *checker) tools(path string, rule Rule) {
	if _, ok := c.places[path+".tools"]; ok && len(rule.Tools) == 0 {
		c.errorAt(
			c.at("%s.tools", path), "name at least one tool, or remove the line to apply the rule to every request",
			"the rule applies to no tool",
		)
	}
	for i, pattern := range rule.Tools {
		if pattern == "" ||
			strings.Trim(pattern, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/*") != "" {
			c.errorAt(
				c.at("%s.tools[%d]", path, i),
				"write a tool's name as the backend has it; * stands for any run of characters",
				"%q cannot be the name of a tool", pattern,
			)
		}
	}
}

// consistent requires rules for the same header to agree on hide, keep and repeat: these apply when the header is
// captured, before the backend is known.
func (c *checker) consistent(i int, rules []Rule) {
	for j, earlier := range rules[:i] {
		rule := rules[i]
		if rule.Name == "" || earlier.Name == "" || !overlap(rule.Name, earlier.Name) {
			continue
		}
		what := ""
		switch {
		case rule.Hide != earlier.Hide:
			what = "hide"
		case rule.Keep != earlier.Keep:
			what = "keep"
		case rule.Repeat != earlier.Repeat:
			what = "repeat"
		}
		if what != "" {
			c.errorAt(
				c.at("forward[%d]", i), "give both rules the same "+what+":",
				"this rule and the one in line %d capture the same header, with a different %s", c.at("forward[%d]", j).Line,
				what,
			)
			return
		}
	}
}

// destinations reports two rules that would write the same header at the same backend.
func (c *checker) destinations(doc *Document) {
	for i, rule := range doc.Forward[:min(len(doc.Forward), maxRules)] {
		for j, earlier := range doc.Forward[:i] {
			if rule.As == "" || earlier.As == "" || !overlap(rule.As, earlier.As) {
				continue
			}
			if backend, both := commonBackend(rule.To, earlier.To); both {
				c.errorAt(
					c.at("forward[%d]", i), "send one of them elsewhere with to:, or under another name with as:",
					"this rule and the one in line %d both write %q at %s", c.at("forward[%d]", j).Line, rule.As, backend,
				)
				break
			}
		}
	}
}

// commonBackend describes a backend that two lists have in common. An empty list means all backends.
func commonBackend(a, b []string) (string, bool) {
	if len(a) == 0 && len(b) == 0 {
		return "every backend", true
	}
	if len(a) == 0 {
		a, b = b, a
	}
	for _, name := range a {
		if len(b) == 0 || slices.Contains(b, name) {
			return "backend " + name, true
		}
	}
	return "", false
}
