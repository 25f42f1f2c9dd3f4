package policy

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

func (d *decoder) ceiling(node ast.Node) CeilingDocument {
	var doc CeilingDocument
	d.mapping(node, "", "the ceiling document", []field{
		{"version", func(n ast.Node, p string) { d.integer(n, p, &doc.Version) }},
		{"ceiling", func(n ast.Node, p string) { d.bounds(n, p, &doc.Ceiling) }},
	})
	return doc
}

func (d *decoder) bounds(node ast.Node, path string, bounds *Bounds) {
	d.mapping(node, path, "the ceiling", []field{
		{"allow", func(n ast.Node, p string) { bounds.Allow = list(d, n, p, d.lowerWord) }},
		{"deny", func(n ast.Node, p string) { bounds.Deny = list(d, n, p, d.lowerWord) }},
		{"sensitive", func(n ast.Node, p string) { bounds.Sensitive = list(d, n, p, d.grant) }},
		{"discovery", func(n ast.Node, p string) { bounds.Discovery = list(d, n, p, d.word) }},
		{"limits", func(n ast.Node, p string) { d.limits(n, p, &bounds.Limits) }},
	})
}

func (d *decoder) grant(node ast.Node, path string) Grant {
	var grant Grant
	d.mapping(node, path, "a grant", []field{
		{"name", func(n ast.Node, p string) { grant.Name = d.lowerWord(n, p) }},
		{"to", func(n ast.Node, p string) { grant.To = list(d, n, p, d.word) }},
		{"clusters", func(n ast.Node, p string) { grant.Clusters = list(d, n, p, d.word) }},
		{"fanouts", func(n ast.Node, p string) { grant.Fanouts = list(d, n, p, d.word) }},
	})
	return grant
}

func (d *decoder) lowerWord(node ast.Node, path string) string {
	return strings.ToLower(d.word(node, path))
}

// ceiling checks a ceiling document by itself.
func (c *checker) ceiling(doc CeilingDocument) {
	c.version(doc.Version, "the ceiling")
	if _, ok := c.places["ceiling"]; !ok {
		c.errorAt(
			Position{},
			"add ceiling: with allow:, deny:, sensitive:, discovery: or limits:",
			"the document has no ceiling",
		)
	}
	c.patterns("ceiling.allow", doc.Ceiling.Allow)
	c.patterns("ceiling.deny", doc.Ceiling.Deny)
	if doc.Ceiling.Allow != nil && len(doc.Ceiling.Allow) == 0 {
		c.errorAt(
			c.at("ceiling.allow"),
			"list what policies may carry, or take the line out for all that is not restricted",
			"allow is empty: no policy could carry anything",
		)
	}
	for i, grant := range doc.Ceiling.Sensitive {
		c.grant(fmt.Sprintf("ceiling.sensitive[%d]", i), grant)
	}
	for i, folder := range doc.Ceiling.Discovery {
		if !path.IsAbs(folder) {
			c.errorAt(
				c.at("ceiling.discovery[%d]", i),
				"write an absolute path, such as /run/secrets/"+fanoutWord,
				"%q is not the path of a folder",
				folder,
			)
		}
	}
	for _, limit := range doc.Ceiling.Limits.all() {
		if _, ok := c.places["ceiling."+limit.path]; ok {
			c.within("ceiling."+limit.path, *limit.value, limit.most)
		}
	}
}

// patterns checks names and families, of which a lone * is that of all headers.
func (c *checker) patterns(path string, patterns []string) {
	for i, pattern := range patterns {
		name := strings.TrimSuffix(pattern, "*")
		if pattern != "*" && (!ValidName(name) || strings.Contains(name, "*")) {
			c.errorAt(
				c.at("%s[%d]", path, i),
				"write a header's name, or the common beginning of names and one * at the end",
				"%q is neither a header name nor a family of them",
				pattern,
			)
		}
	}
}

func (c *checker) grant(path string, grant Grant) {
	if _, ok := c.places[path+".name"]; !ok {
		c.errorAt(c.at("%s", path), "add name: authorization or name: cookie", "the grant has no name")
	} else if !sensitive(grant.Name) {
		c.errorAt(c.at("%s.name", path), "grants are for authorization and cookie; list other names "+
			"under allow:", "name: %q is not a sensitive header", grant.Name)
	}
	if len(grant.To) == 0 {
		c.errorAt(c.at("%s", path), "add to: with the backends that may have it", "the grant is for no backend")
	}
	c.labels(path+".to", "backend", grant.To)
	c.labels(path+".fanouts", "fan-out", grant.Fanouts)
	for _, list := range []struct {
		name    string
		entries []string
	}{{"clusters", grant.Clusters}, {"fanouts", grant.Fanouts}} {
		if list.entries != nil && len(list.entries) == 0 {
			c.errorAt(
				c.at("%s.%s", path, list.name),
				"name at least one, or take the line out for all",
				"%s is empty: the grant would be of no use",
				list.name,
			)
		}
	}
}

func (c *checker) labels(path, of string, names []string) {
	for i, name := range names {
		if !ValidLabel(name) {
			c.errorAt(c.at("%s[%d]", path, i), labelHint, "%q cannot be the name of a %s", name, of)
		}
	}
}

// below checks a policy against the ceiling above it. Limits that the policy leaves to their defaults are lowered to
// the ceiling's, others refused.
func (c *checker) below(ceiling *Ceiling, doc *Document) {
	ask := "take it out, or ask the owner of " + ceiling.file
	for i, rule := range doc.Forward {
		path := fmt.Sprintf("forward[%d]", i)
		c.permitted(ceiling, c.firstOf(path+".name", path), rule.Name, ask)
		if rule.As != rule.Name {
			c.permitted(ceiling, c.at("%s.as", path), rule.As, ask)
		}
		for _, name := range slices.Compact([]string{rule.Name, rule.As}) {
			if sensitive(name) {
				c.granted(ceiling, path, name, rule, doc)
			}
		}
	}
	for _, backend := range doc.Backends {
		for i, identity := range backend.Discovery {
			c.identityBelow(ceiling, fmt.Sprintf("backends.%s.discovery[%d]", backend.Name, i), identity, doc.Fanout, ask)
		}
	}
}

func (c *checker) firstOf(paths ...string) Position {
	for _, path := range paths {
		if at, ok := c.places[path]; ok {
			return at
		}
	}
	return Position{}
}

// permitted finds a name that the ceiling denies, or does not allow. _ counts as -: many servers read it so.
func (c *checker) permitted(ceiling *Ceiling, at Position, name, ask string) {
	if name == "" {
		return
	}
	if i := slices.IndexFunc(ceiling.bounds.Deny, func(denied string) bool {
		return meets(plain(denied),
			plain(name))
	}); i >= 0 {
		what := "%q is denied"
		if denied, isFamily := ceiling.bounds.Deny[i], strings.HasSuffix(name, "*"); isFamily &&
			!includes(plain(denied), plain(name)) {
			what = "%q has headers that are denied" // and others that are not
		}
		c.errorAt(at, ask, what+" by the ceiling (%s: %s)", name, ceiling.where("ceiling.deny[%d]", i), ceiling.bounds.Deny[i])
		return
	}
	if ceiling.bounds.Allow == nil || sensitive(name) { // who may have these is for the grants to say
		return
	}
	if !slices.ContainsFunc(
		ceiling.bounds.Allow,
		func(allowed string) bool { return includes(plain(allowed), plain(name)) },
	) {
		c.errorAt(
			at,
			ask+" (allowed: "+strings.Join(ceiling.bounds.Allow, ", ")+")",
			"%q is not allowed by the ceiling (%s)",
			name,
			ceiling.where("ceiling.allow"),
		)
	}
}

// granted finds backends that would get a sensitive header and may not.
func (c *checker) granted(ceiling *Ceiling, path, name string, rule Rule, doc *Document) {
	for i, to := range rule.To {
		grants := ceiling.grants(name, to, doc.Fanout)
		if len(grants) == 0 {
			c.errorAt(
				c.at("%s.to[%d]", path, i),
				"send it elsewhere, or ask the owner of "+ceiling.file,
				"the ceiling does not let backend %q have %s (%s)",
				to,
				name,
				ceiling.where("ceiling.sensitive"),
			)
			continue
		}
		c.clustersGranted(ceiling, grants, to, doc)
	}
}

// grants are those, by their index, that let a backend have a sensitive header.
func (c *Ceiling) grants(name, backend, fanout string) []int {
	var found []int
	for i, grant := range c.bounds.Sensitive {
		if grant.Name == name && slices.Contains(grant.To, backend) &&
			(grant.Fanouts == nil || slices.Contains(grant.Fanouts, fanout)) {
			found = append(found, i)
		}
	}
	return found
}

// clustersGranted keeps a policy from giving another server the name of a backend that may have more. What one of the
// grants allows is allowed.
func (c *checker) clustersGranted(ceiling *Ceiling, grants []int, backend string, doc *Document) {
	var clusters []string
	for _, i := range grants {
		grant := ceiling.bounds.Sensitive[i]
		if grant.Clusters == nil {
			return
		}
		clusters = append(clusters, grant.Clusters...)
	}
	for _, declared := range doc.Backends {
		if declared.Name != backend {
			continue
		}
		for k, cluster := range declared.Clusters {
			if at := c.at("backends.%s.clusters[%d]", backend, k); !slices.Contains(clusters, cluster) {
				c.errorAt(
					at,
					"keep to "+strings.Join(clusters, ", ")+", or ask the owner of "+ceiling.file,
					"backend %q gets %s, and so cannot be cluster %q (%s)",
					backend,
					ceiling.bounds.Sensitive[grants[0]].Name,
					cluster,
					ceiling.where("ceiling.sensitive[%d]", grants[0]),
				)
			}
		}
	}
}

// identityBelow keeps a policy from writing a denied header, and from reading files that are not meant for it.
func (c *checker) identityBelow(ceiling *Ceiling, at string, identity Identity, fanout, ask string) {
	for i, denied := range ceiling.bounds.Deny {
		if meets(plain(denied), plain(identity.Name)) {
			c.errorAt(
				c.at("%s.name", at),
				ask,
				"%q is denied by the ceiling (%s: %s)",
				identity.Name,
				ceiling.where("ceiling.deny[%d]", i),
				denied,
			)
		}
	}
	inside := slices.ContainsFunc(ceiling.bounds.Discovery, func(folder string) bool {
		if strings.Contains(folder, fanoutWord) && fanout == "" {
			return false
		}
		folder = path.Clean(strings.ReplaceAll(folder, fanoutWord, fanout))
		return path.IsAbs(identity.File) && strings.HasPrefix(path.Clean(identity.File), strings.TrimSuffix(folder, "/")+"/")
	})
	if !inside && identity.File != "" {
		c.errorAt(
			c.at("%s.file", at),
			"write the absolute path of a file in a folder that is allowed ("+cmp.Or(
				strings.Join(ceiling.bounds.Discovery, ", "),
				"none is",
			)+"), or ask the owner of "+ceiling.file,
			"the ceiling does not let %q be read (%s)",
			identity.File,
			ceiling.where("ceiling.discovery"),
		)
	}
}

// lower brings the limits of a policy below those of its ceiling.
func (c *checker) lower(ceiling *Ceiling, limits *Limits) {
	most := ceiling.bounds.Limits.all()
	for i, limit := range limits.all() {
		bound := *most[i].value
		_, explicit := c.places[limit.path]
		switch {
		case bound == 0 || *limit.value <= bound:
		case explicit:
			c.errorAt(
				c.at("%s", limit.path),
				fmt.Sprintf("write %d or less", bound),
				"%s: %d is above the ceiling of %d (%s)",
				limit.path,
				*limit.value,
				bound,
				ceiling.where("ceiling.%s", limit.path),
			)
		default:
			*limit.value = bound
		}
	}
	c.lowerValue(ceiling.bounds.Limits, limits, ceiling.where("ceiling.limits.total_bytes"))
}

// lowerValue keeps one value below the ceiling of all together.
func (c *checker) lowerValue(bounds Limits, limits *Limits, where string) {
	at, explicit := c.places["limits.value_bytes"]
	switch refused := bounds.ValueBytes != 0 && bounds.ValueBytes < limits.ValueBytes; {
	case !explicit:
		limits.ValueBytes = min(limits.ValueBytes, limits.TotalBytes)
	case !refused && bounds.TotalBytes != 0 && bounds.TotalBytes < limits.ValueBytes:
		c.errorAt(
			at,
			fmt.Sprintf("write %d or less", bounds.TotalBytes),
			"limits.value_bytes: %d is above the ceiling of %d for all together (%s)",
			limits.ValueBytes,
			bounds.TotalBytes,
			where,
		)
		limits.ValueBytes = limits.TotalBytes // is told
	}
}

// limit is one of the limits, by its path in a policy.
type limit struct {
	path  string
	value *int
	most  int
}

func (l *Limits) all() []limit {
	return []limit{
		{"limits.headers", &l.Headers, maxHeaders},
		{"limits.value_bytes", &l.ValueBytes, maxTotalBytes},
		{"limits.total_bytes", &l.TotalBytes, maxTotalBytes},
	}
}

// where names a line of the ceiling document.
func (c *Ceiling) where(format string, args ...any) string {
	at, ok := c.places[fmt.Sprintf(format, args...)]
	if !ok {
		at = c.places["ceiling"]
	}
	return fmt.Sprintf("%s:%d", c.file, at.Line)
}

// plain is a name as servers read it that take _ for -.
func plain(name string) string { return strings.ReplaceAll(name, "_", "-") }

// includes reports whether a pattern covers a name, or all names of a family.
func includes(pattern, name string) bool {
	prefix, isFamily := family(name)
	if wide, ok := family(pattern); ok && isFamily {
		return strings.HasPrefix(prefix, wide)
	}
	return !isFamily && covers(pattern, name)
}
