package policy

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// ceiling checks a ceiling document by itself.
func (c *checker) ceiling(doc CeilingDocument) {
	c.version(doc.Version, "the ceiling")
	if _, ok := c.places["ceiling"]; !ok {
		c.errorAt(
			Position{}, "add ceiling: with allow:, deny:, sensitive:, discovery: or limits:", "the document has no ceiling",
		)
	}
	c.patterns("ceiling.allow", doc.Ceiling.Allow)
	c.patterns("ceiling.deny", doc.Ceiling.Deny)
	if doc.Ceiling.Allow != nil && len(doc.Ceiling.Allow) == 0 {
		c.errorAt(
			c.at("ceiling.allow"),
			"list what policies may carry, or remove the line to allow everything that is not restricted",
			"allow is empty: no policy could carry anything",
		)
	}
	for i, grant := range doc.Ceiling.Sensitive {
		c.grant(fmt.Sprintf("ceiling.sensitive[%d]", i), grant)
	}
	for i, folder := range doc.Ceiling.Discovery {
		if !path.IsAbs(folder) {
			c.errorAt(
				c.at("ceiling.discovery[%d]", i), "write an absolute path, such as /run/secrets/"+fanoutWord,
				"%q is not the path of a folder", folder,
			)
		}
	}
	for _, bound := range doc.Ceiling.durations(&Document{}) {
		if _, ok := c.places["ceiling."+bound.name]; ok {
			c.inTime("ceiling."+bound.name, bound.most, time.Second)
		}
	}
	for _, limit := range doc.Ceiling.Limits.all() {
		if _, ok := c.places["ceiling."+limit.path]; ok {
			c.inRange("ceiling."+limit.path, *limit.value, limit.most)
		}
	}
}

// patterns checks names and families. A lone * matches every header.
func (c *checker) patterns(path string, patterns []string) {
	for i, pattern := range patterns {
		name := strings.TrimSuffix(pattern, "*")
		if pattern != "*" && (!ValidName(name) || strings.Contains(name, "*") || len(pattern) > maxName) {
			c.errorAt(
				c.at("%s[%d]", path, i), "write a header's name, or the common beginning of names and one * at the end",
				"%q is neither a header name nor a family of names", pattern,
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
		c.errorAt(c.at("%s", path), "add to: with the backends that may have it", "the grant names no backend")
	}
	c.labels(path+".to", "backend", grant.To)
	c.labels(path+".fanouts", "fan-out", grant.Fanouts)
	for _, list := range []struct {
		name    string
		entries []string
	}{{"clusters", grant.Clusters}, {"fanouts", grant.Fanouts}} {
		if list.entries != nil && len(list.entries) == 0 {
			c.errorAt(
				c.at("%s.%s", path, list.name), "name at least one, or remove the line to allow all",
				"%s is empty: the grant would allow nothing", list.name,
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

// belowCeiling checks the rules and discovery identities of a policy against its ceiling.
func (c *checker) belowCeiling(ceiling *Ceiling, doc *Document) {
	ask := "remove it, or ask the owner of " + ceiling.file
	for i, rule := range doc.Forward {
		path := fmt.Sprintf("forward[%d]", i)
		c.allowedByCeiling(ceiling, c.firstPlace(path+".name", path), rule.Name, ask)
		if rule.As != rule.Name {
			c.allowedByCeiling(ceiling, c.at("%s.as", path), rule.As, ask)
		}
		for _, name := range slices.Compact([]string{rule.Name, rule.As}) {
			if sensitive(name) {
				c.sensitiveGranted(ceiling, path, name, rule, doc)
			}
		}
	}
	for _, backend := range doc.Backends {
		for i, identity := range backend.Discovery {
			c.identityBelowCeiling(
				ceiling, fmt.Sprintf("backends.%s.discovery[%d]", backend.Name, i), identity, doc.Fanout, ask,
			)
		}
	}
}

func (c *checker) firstPlace(paths ...string) Position {
	for _, path := range paths {
		if at, ok := c.places[path]; ok {
			return at
		}
	}
	return Position{}
}

// allowedByCeiling reports a name that the ceiling denies or does not allow. An underscore counts as a hyphen, because
// many servers read it as one.
func (c *checker) allowedByCeiling(ceiling *Ceiling, at Position, name, ask string) {
	if name == "" {
		return
	}
	if i := slices.IndexFunc(ceiling.bounds.Deny, func(denied string) bool {
		return intersects(hyphenated(denied),
			hyphenated(name))
	}); i >= 0 {
		what := "%q is denied"
		if denied, isFamily := ceiling.bounds.Deny[i], strings.HasSuffix(name, "*"); isFamily &&
			!includes(hyphenated(denied), hyphenated(name)) {
			what = "%q includes headers that are denied" // and others that are not
		}
		c.errorAt(
			at, ask, what+" by the ceiling (%s: %s)", name, ceiling.where("ceiling.deny[%d]", i), ceiling.bounds.Deny[i],
		)
		return
	}
	if ceiling.bounds.Allow == nil || sensitive(name) { // the grants decide about these
		return
	}
	if !slices.ContainsFunc(
		ceiling.bounds.Allow,
		func(allowed string) bool { return includes(hyphenated(allowed), hyphenated(name)) },
	) {
		c.errorAt(
			at, ask+" (allowed: "+strings.Join(ceiling.bounds.Allow, ", ")+")", "%q is not allowed by the ceiling (%s)",
			name, ceiling.where("ceiling.allow"),
		)
	}
}

// sensitiveGranted reports backends of a rule that may not get its sensitive header.
func (c *checker) sensitiveGranted(ceiling *Ceiling, path, name string, rule Rule, doc *Document) {
	for i, to := range rule.To {
		grants := ceiling.grants(name, to, doc.Fanout)
		if len(grants) == 0 {
			c.errorAt(
				c.at("%s.to[%d]", path, i), "send it elsewhere, or ask the owner of "+ceiling.file,
				"the ceiling does not let backend %q have %s (%s)", to, name, ceiling.where("ceiling.sensitive"),
			)
			continue
		}
		c.clustersGranted(ceiling, grants, to, doc)
	}
}

// grants returns the indexes of the grants that let a backend have a sensitive header.
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

// clustersGranted reports clusters that the grants of a backend do not list, so that a policy cannot give another
// server the name of a privileged backend. Any one of the grants is enough.
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
					at, "use only "+strings.Join(clusters, ", ")+", or ask the owner of "+ceiling.file,
					"backend %q gets %s, so its clusters cannot include %q (%s)", backend,
					ceiling.bounds.Sensitive[grants[0]].Name, cluster, ceiling.where("ceiling.sensitive[%d]", grants[0]),
				)
			}
		}
	}
}

// Folders are the folders beneath which the discovery files of a fan-out's policy may lie.
func (c *Ceiling) Folders(fanout string) []string {
	folders := []string{}
	for _, folder := range c.bounds.Discovery {
		if fanout != "" || !strings.Contains(folder, fanoutWord) {
			folders = append(folders, path.Clean(strings.ReplaceAll(folder, fanoutWord, fanout)))
		}
	}
	return folders
}

// identityBelowCeiling reports a discovery identity that writes a denied header or reads a file outside the allowed
// folders.
func (c *checker) identityBelowCeiling(ceiling *Ceiling, at string, identity Identity, fanout, ask string) {
	for i, denied := range ceiling.bounds.Deny {
		if intersects(hyphenated(denied), hyphenated(identity.Name)) {
			c.errorAt(
				c.at("%s.name", at), ask, "%q is denied by the ceiling (%s: %s)", identity.Name,
				ceiling.where("ceiling.deny[%d]", i), denied,
			)
		}
	}
	inside := slices.ContainsFunc(ceiling.Folders(fanout), func(folder string) bool {
		return path.IsAbs(identity.File) &&
			strings.HasPrefix(path.Clean(identity.File), strings.TrimSuffix(folder, "/")+"/")
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

// lowerLimits lowers the default limits of a policy to those of its ceiling, and reports explicit ones above them.
func (c *checker) lowerLimits(ceiling *Ceiling, limits *Limits) {
	most := ceiling.bounds.Limits.all()
	for i, limit := range limits.all() {
		bound := *most[i].value
		_, explicit := c.places[limit.path]
		switch {
		case bound == 0 || *limit.value <= bound:
		case explicit:
			c.errorAt(
				c.at("%s", limit.path), fmt.Sprintf("write %d or less", bound), "%s: %d is above the ceiling of %d (%s)",
				limit.path, *limit.value, bound, ceiling.where("ceiling.%s", limit.path),
			)
		default:
			*limit.value = bound
		}
	}
	c.lowerValueLimit(ceiling.bounds.Limits, limits, ceiling.where("ceiling.limits.total_bytes"))
}

// bound is the most that a policy may set for one of its durations.
type bound struct {
	name, path string // in the ceiling and in a policy
	most       time.Duration
	value      *time.Duration // of the policy
}

func (b Bounds) durations(doc *Document) []bound {
	return []bound{
		{"lifetime", "ticket.lifetime", b.Lifetime, &doc.Ticket.Lifetime},
		{"max_age", "ticket.max_age", b.MaxAge, &doc.Ticket.MaxAge},
		{"rotate", "ticket.rotate", b.Rotate, &doc.Ticket.Rotate},
		{"idle", "session.idle", b.Idle, &doc.Session.Idle},
	}
}

// lowerDurations lowers the default durations of a policy to those of its ceiling, and reports explicit ones above
// them.
func (c *checker) lowerDurations(ceiling *Ceiling, doc *Document) {
	for _, bound := range ceiling.bounds.durations(doc) {
		_, explicit := c.places[bound.path]
		switch {
		case bound.most == 0 || *bound.value <= bound.most:
		case explicit:
			c.errorAt(
				c.at("%s", bound.path), "write "+bound.most.String()+" or less", "%s: %s is above the ceiling of %s (%s)",
				bound.path, *bound.value, bound.most, ceiling.where("ceiling.%s", bound.name),
			)
		default:
			*bound.value = bound.most
		}
	}
}

// lowerValueLimit does the same for value_bytes, which must not exceed the ceiling's total_bytes either.
func (c *checker) lowerValueLimit(bounds Limits, limits *Limits, where string) {
	at, explicit := c.places["limits.value_bytes"]
	switch refused := bounds.ValueBytes != 0 && bounds.ValueBytes < limits.ValueBytes; {
	case !explicit:
		limits.ValueBytes = min(limits.ValueBytes, limits.TotalBytes)
	case !refused && bounds.TotalBytes != 0 && bounds.TotalBytes < limits.ValueBytes:
		c.errorAt(
			at, fmt.Sprintf("write %d or less", bounds.TotalBytes),
			"limits.value_bytes: %d is above the ceiling's total_bytes of %d (%s)", limits.ValueBytes, bounds.TotalBytes,
			where,
		)
		limits.ValueBytes = limits.TotalBytes // reported above; avoids a second error
	}
}

// limit is one of the limits and its path in a policy.
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
		{"limits.body_bytes", &l.BodyBytes, MaxBodyBytes},
	}
}

// where formats the file and line of an entry of the ceiling document.
func (c *Ceiling) where(format string, args ...any) string {
	at, ok := c.places[fmt.Sprintf(format, args...)]
	if !ok {
		at = c.places["ceiling"]
	}
	return fmt.Sprintf("%s:%d", c.file, at.Line)
}

// includes reports whether a pattern covers a name, or all names of a family.
func includes(pattern, name string) bool {
	prefix, isFamily := family(name)
	if wide, ok := family(pattern); ok && isFamily {
		return strings.HasPrefix(prefix, wide)
	}
	return !isFamily && covers(pattern, name)
}
