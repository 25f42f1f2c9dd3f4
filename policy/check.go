package policy

import (
	"fmt"
	"slices"
	"strings"
)

// The bounds of the limits. Envoy takes at most 100 headers and 60 KiB in one request; what is left over is for the
// headers that the fan-out sends itself.
const (
	maxHeaders    = 80
	maxPrefix     = 256 // bytes
	maxTotalBytes = 48 << 10
	maxRules      = 48
)

// checker looks for what is well-formed but not allowed.
type checker struct {
	*recorder
	places map[string]Position
}

// errorAt reports an error unless the value there could not even be read, so that one error is not reported as two.
func (c *checker) errorAt(at Position, hint, format string, args ...any) {
	if !c.unread[at] {
		c.recorder.errorAt(at, hint, format, args...)
	}
}

func (c *checker) at(format string, args ...any) Position {
	return c.places[fmt.Sprintf(format, args...)]
}

func (c *checker) document(doc *Document) {
	c.version(doc.Version, "the policy")
	if _, ok := c.places["fanout"]; ok && !ValidLabel(doc.Fanout) {
		c.errorAt(c.at("fanout"), labelHint, "%q cannot be the name of a fan-out", doc.Fanout)
	}
	c.forward(doc)
	c.backends(doc.Backends)
	c.reach(doc)
	c.destinations(doc)
	c.limits(doc.Limits)
	c.ticket(doc)
	c.session(doc)
}

func (c *checker) version(version int, what string) {
	if _, ok := c.places["version"]; !ok {
		c.errorAt(Position{}, "add the line: version: 1", "%s has no version", what)
	} else if version != Version {
		c.errorAt(c.at("version"), "write version: 1", "version %d is not known", version)
	}
}

func (c *checker) forward(doc *Document) {
	if len(doc.Forward) == 0 {
		c.errorAt(c.at("forward"), "list under forward: the headers that may be carried", "the policy carries no header")
	}
	if len(doc.Forward) > maxRules {
		c.errorAt(
			c.at("forward[%d]", maxRules),
			"carry fewer headers; Envoy takes at most 100 changes in one answer, and a rule can need two",
			"%d rules are more than the %d allowed",
			len(doc.Forward),
			maxRules,
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
		c.tools(path, rule)
		c.agrees(i, doc.Forward)
	}
}

func (c *checker) as(path string, rule Rule) {
	at := c.at("%s.as", path)
	_, isFamily := family(rule.Name)
	switch {
	case rule.As == rule.Name:
	case isFamily:
		c.errorAt(
			at,
			"rename each header with a rule of its own",
			"a family of headers keeps its names: as: %q would make one name of many",
			rule.As,
		)
	default:
		c.oneName(at, rule.As, "as")
	}
}

// oneName wants a header's name, and no family of names.
func (c *checker) oneName(at Position, name, field string) {
	if _, ok := family(name); ok {
		c.errorAt(at, "write one name", "%s: %q is a family of headers, and this is one header", field, name)
		return
	}
	c.headerName(at, name, field)
}

// values checks what a rule says of the values.
func (c *checker) values(path string, rule Rule, limits Limits) {
	c.prefix(path, rule.Prefix)
	if rule.Prefix != "" && rule.As == rule.Name {
		c.warn(
			c.at("%s.prefix", path),
			"add as: with the name that the backend reads, such as authorization",
			"prefix without as: the backend gets %s with another value than the client sent",
			rule.Name,
		)
	}
	if _, ok := c.places[path+".max_bytes"]; ok && (rule.MaxBytes < 1 || rule.MaxBytes > limits.ValueBytes) {
		c.errorAt(
			c.at("%s.max_bytes", path),
			fmt.Sprintf("write a number from 1 to %d (limits.value_bytes)", limits.ValueBytes),
			"max_bytes: %d is out of range",
			rule.MaxBytes,
		)
	}
	if _, ok := family(rule.Name); ok && rule.Required {
		c.errorAt(
			c.at("%s.required", path),
			"require each header with a rule of its own",
			"a family of headers cannot be required",
		)
	}
}

// tools checks the patterns of tools. MCP names have letters, digits and ._-/ only.
func (c *checker) tools(path string, rule Rule) {
	if _, ok := c.places[path+".tools"]; ok && len(rule.Tools) == 0 {
		c.errorAt(
			c.at("%s.tools", path),
			"name at least one tool, or take the line out for every request",
			"the rule is for no tool",
		)
	}
	for i, pattern := range rule.Tools {
		if pattern == "" ||
			strings.Trim(pattern, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/*") != "" {
			c.errorAt(
				c.at("%s.tools[%d]", path, i),
				"write a tool's name as the backend has it; * stands for any run of characters",
				"%q cannot be the name of a tool",
				pattern,
			)
		}
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
			at,
			"choose another header; no policy can carry this one",
			"%s: %q is restricted (%s): %s",
			field,
			name,
			row.Pattern,
			row.Reason,
		)
	case strings.HasSuffix(name, "*"):
		c.familyName(at, name)
	case !ValidName(name):
		c.errorAt(
			at,
			"a header name has letters, digits and hyphens only, such as x-mcp-api-key",
			"%s: %q is not a header name",
			field,
			name,
		)
	}
}

func (c *checker) prefix(path, prefix string) {
	switch at := c.at("%s.prefix", path); {
	case !ValidValue(prefix):
		c.errorAt(at, "take out line breaks and other control characters", "prefix holds a byte that no header value may have")
	case len(prefix) > maxPrefix:
		c.errorAt(at, fmt.Sprintf("write %d bytes or less", maxPrefix), "prefix has %d bytes", len(prefix))
	}
}

// familyName wants a family to be narrower than all headers, and to have members that may be carried.
func (c *checker) familyName(at Position, name string) {
	prefix, _ := family(name)
	switch row, found := restrictedFamily(prefix); {
	case prefix == "" || !ValidName(prefix) || strings.Contains(prefix, "*"):
		c.errorAt(
			at,
			"write the common beginning of the names and one * at the end, such as x-acme-*",
			"name: %q is not a family of header names",
			name,
		)
	case found:
		c.errorAt(
			at,
			"choose other headers; no policy can carry these",
			"name: every header of %q is restricted (%s): %s",
			name,
			row.Pattern,
			row.Reason,
		)
	}
}

func (c *checker) to(path string, rule Rule, doc *Document) {
	if _, ok := c.places[path+".to"]; ok && len(rule.To) == 0 {
		c.errorAt(
			c.at("%s.to", path),
			"name at least one backend, or take the line out for every declared one",
			"the rule goes to no backend",
		)
	}
	for i, name := range rule.To {
		at := c.at("%s.to[%d]", path, i)
		switch {
		case !slices.ContainsFunc(doc.Backends, func(b Backend) bool { return b.Name == name }):
			c.errorAt(
				at,
				"declare it under backends:, or correct the name ("+declared(doc.Backends)+")",
				"backend %q is not declared",
				name,
			)
		case slices.Contains(rule.To[:i], name):
			c.errorAt(at, "keep one of the two", "backend %q stands twice", name)
		}
	}
}

// sensitive asks for an explicit word where a rule carries the credential that the fan-out itself may live by.
func (c *checker) sensitive(path string, rule Rule) {
	_, to := c.places[path+".to"]
	_, hide := c.places[path+".hide"]
	if sensitive(rule.Name) {
		at := c.at("%s.name", path)
		if !to || !hide {
			c.errorAt(
				at,
				"write {name: "+rule.Name+", to: [BACKEND], hide: true} (or hide: false, where the fan-out itself needs it)",
				"%q carries the client's own credential: it needs an explicit to: and an explicit hide:",
				rule.Name,
			)
		} else {
			c.warn(at, "carry it only where the token was issued for that backend; better: a header of its own",
				"MCP forbids passing on the access token that a client got for the gateway itself")
		}
	}
	if sensitive(rule.As) && rule.As != rule.Name && !to {
		c.errorAt(c.at("%s.as", path), "add to: with the backends that may have it", "as: %q needs an explicit to:", rule.As)
	}
}

// agrees wants the rules that take the same header to say the same of how it is taken: what the fan-out sees, what a
// session keeps, and what a repeated header means are decided once, before anybody knows the backend.
func (c *checker) agrees(i int, rules []Rule) {
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
				c.at("forward[%d]", i),
				"give both rules the same "+what+":",
				"this rule and the one in line %d take the same header, with another %s",
				c.at("forward[%d]", j).Line,
				what,
			)
			return
		}
	}
}

func (c *checker) backends(backends []Backend) {
	if backends != nil && len(backends) == 0 {
		c.errorAt(
			c.at("backends"),
			"declare at least one, or take the line out to mean every backend behind the filter",
			"backends is empty: no backend would get anything",
		)
	}
	owner := make(map[string]string)
	for _, backend := range backends {
		path := "backends." + backend.Name
		if !ValidLabel(backend.Name) {
			c.errorAt(c.at("%s", path), labelHint, "%q cannot be the name of a backend", backend.Name)
		}
		for i, cluster := range backend.Clusters {
			at := c.at("%s.clusters[%d]", path, i)
			if cluster == "" {
				c.errorAt(at, "write the cluster's name as Envoy has it", "an empty cluster name")
			} else if other, taken := owner[cluster]; taken {
				c.errorAt(at, "a cluster is one backend only", "cluster %q already belongs to backend %q", cluster, other)
			}
			owner[cluster] = backend.Name
		}
		c.discovery(path, backend.Discovery)
	}
}

// reach warns of backends that no cluster leads to, and of rules that are for such backends only.
func (c *checker) reach(doc *Document) {
	const hint = "list under clusters: the names that Envoy has for it (or leave it, where each filter or route says " +
		"bellhop-backend, as bellhop envoy writes it)"
	var lost []string
	for _, backend := range doc.Backends {
		if len(backend.Clusters) == 0 {
			lost = append(lost, backend.Name)
			c.aside(
				TopicClusters,
				c.at("backends.%s", backend.Name),
				hint,
				"backend %q has no clusters: only a filter or route that says bellhop-backend: %s leads to it",
				backend.Name,
				backend.Name,
			)
		}
	}
	if len(lost) == len(doc.Backends) {
		return // the backends are known by metadata
	}
	for i, rule := range doc.Forward {
		if len(rule.To) > 0 && !slices.ContainsFunc(rule.To, func(to string) bool { return !slices.Contains(lost, to) }) {
			c.aside(
				TopicClusters,
				c.at("forward[%d]", i),
				"give its backends clusters:",
				"no backend of this rule has clusters: it may be that none can get %q",
				rule.Name,
			)
		}
	}
}

func (c *checker) discovery(path string, identities []Identity) {
	for i, identity := range identities {
		at := fmt.Sprintf("%s.discovery[%d]", path, i)
		if _, ok := c.places[at+".name"]; !ok {
			c.errorAt(c.at("%s", at), "add name: with the header that the backend reads", "the discovery header has no name")
		} else {
			c.oneName(c.at("%s.name", at), identity.Name, "name")
		}
		if identity.File == "" {
			c.errorAt(c.at("%s", at), "add file: with the path of a file that holds the value", "the discovery header has no file")
		}
		c.prefix(at, identity.Prefix)
		if slices.ContainsFunc(identities[:i], func(other Identity) bool { return other.Name == identity.Name }) {
			c.errorAt(c.at("%s", at), "keep one of the two", "the discovery header %q stands twice", identity.Name)
		}
	}
}

// destinations finds two rules that would write one header of one backend.
func (c *checker) destinations(doc *Document) {
	for i, rule := range doc.Forward[:min(len(doc.Forward), maxRules)] {
		for j, earlier := range doc.Forward[:i] {
			if rule.As == "" || earlier.As == "" || !overlap(rule.As, earlier.As) {
				continue
			}
			if backend, both := meet(rule.To, earlier.To); both {
				c.errorAt(c.at("forward[%d]", i), "send one of them elsewhere with to:, or under another name with as:",
					"this rule and the one in line %d both write %q at %s", c.at("forward[%d]", j).Line, rule.As, backend)
				break
			}
		}
	}
}

// meet says which backend, in words, two lists of backends have in common; an empty list means all.
func meet(a, b []string) (string, bool) {
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

func (c *checker) limits(limits Limits) {
	for _, limit := range limits.all() {
		c.within(limit.path, *limit.value, limit.most)
	}
	if _, ok := c.places["limits.value_bytes"]; ok && limits.ValueBytes > limits.TotalBytes {
		c.errorAt(
			c.at("limits.value_bytes"),
			"raise total_bytes too, or lower this",
			"value_bytes is above total_bytes (%d)",
			limits.TotalBytes,
		)
	}
}

func (c *checker) within(path string, value, most int) {
	if value < 1 || value > most {
		c.errorAt(
			c.at("%s", path),
			fmt.Sprintf(
				"write a number from 1 to %d: Envoy takes 100 headers and 60 KiB in one request, its own included",
				most,
			),
			"%s: %d is out of range",
			path,
			value,
		)
	}
}

const labelHint = "use 1 to 63 letters, digits, '.', '_' or '-', and begin with a letter or digit"

// ValidLabel reports whether name can stand in metadata, in a path and as a metric label.
func ValidLabel(name string) bool {
	if name == "" || len(name) > 63 || strings.IndexByte("._-", name[0]) >= 0 {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

func declared(backends []Backend) string {
	if len(backends) == 0 {
		return "none is declared"
	}
	all := make([]string, len(backends))
	for i, backend := range backends {
		all[i] = backend.Name
	}
	return "declared: " + strings.Join(all, ", ")
}
