package policy

import (
	"math/bits"
	"slices"
	"sort"
	"strings"
)

// family returns the common beginning of a family of header names, such as x-acme-*, and whether name is one.
func family(name string) (prefix string, ok bool) { return strings.CutSuffix(name, "*") }

// covers reports whether a header name equals the pattern or is in its family.
func covers(pattern, name string) bool {
	if prefix, ok := family(pattern); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// matches reports whether a rule for the pattern applies to a header name. Restricted and sensitive names are in no
// family; only a rule of their own applies to them.
func matches(pattern, name string) bool {
	return covers(pattern, name) && (pattern == name || !outsideFamilies(name))
}

// overlap reports whether rules for both patterns can apply to the same name.
func overlap(a, b string) bool {
	_, aIsFamily := family(a)
	_, bIsFamily := family(b)
	if aIsFamily != bIsFamily && (!aIsFamily && outsideFamilies(a) || !bIsFamily && outsideFamilies(b)) {
		return false
	}
	return intersects(a, b)
}

// intersects reports whether both patterns can cover the same name.
func intersects(a, b string) bool {
	prefix, isFamily := family(a)
	other, otherIsFamily := family(b)
	switch {
	case isFamily && otherIsFamily:
		return strings.HasPrefix(prefix, other) || strings.HasPrefix(other, prefix)
	case isFamily:
		return covers(a, b)
	default:
		return covers(b, a)
	}
}

// matchTool reports whether a tool's name matches one of the patterns.
func matchTool(patterns []string, tool string) bool {
	return len(tool) <= maxTool &&
		slices.ContainsFunc(patterns, func(pattern string) bool { return matchGlob(pattern, tool) })
}

// maxTool is the longest tool name that a rule can match, in bytes.
const maxTool = 256

// matchGlob reports whether text matches a pattern in which * stands for any run of characters. It searches
// for each part of the pattern once, so its time is linear in the text.
func matchGlob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	text, begins := strings.CutPrefix(text, parts[0])
	if !begins {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = rest
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// source is one name or family that is captured from client requests.
type source struct {
	pattern  string
	hide     bool
	keep     Keep
	repeat   Repeat
	maxBytes int // of one value; 0: no limit of its own
}

// sourceSet is a set of sources, a bit for each by its position. There are at most maxRules.
type sourceSet uint64

func (s sourceSet) has(position int) bool { return s&(1<<position) != 0 }

// first is the lowest position in a set that is not empty.
func (s sourceSet) first() int { return bits.TrailingZeros64(uint64(s)) }

// sources are the names and families that a policy captures, each once, in the policy's order. Each header of a request
// is looked up once, in time that does not depend on their number.
type sources struct {
	list     []source
	names    map[string]covering // of the single names
	families []familyNode        // by prefix
	kept     sourceSet           // with keep: session
	spelled  spellings           // of the list
}

// covering is the result of looking up one header name.
type covering struct {
	set      sourceSet // the sources that match the name; empty: it is not carried
	position int       // of the source that decides: the name itself, else the first family
	maxBytes int       // the lowest limit of all patterns that match the name; 0: none
}

// familyNode is a family, sorted by prefix. Its covering holds for every name of which it is the longest prefix: the
// shorter families whose prefixes it extends cover these names too.
type familyNode struct {
	prefix string
	parent int // the longest family whose prefix this one extends; -1: none
	// holes says that names with the prefix can be restricted or sensitive, and so in no family. Most families have none.
	holes bool
	covering
}

func newSources(rules []Rule) sources {
	var s sources
	for _, rule := range rules {
		s.add(rule)
	}
	s.linkFamilies()
	patterns := make([]string, len(s.list))
	for i, source := range s.list {
		patterns[i] = source.pattern
	}
	s.spelled = newSpellings(patterns)
	s.names = make(map[string]covering)
	for i, source := range s.list {
		if source.keep == KeepSession {
			s.kept |= 1 << i
		}
		if _, isFamily := family(source.pattern); !isFamily {
			s.names[source.pattern] = s.coverName(i)
		}
	}
	return s
}

func (s *sources) add(rule Rule) {
	i := s.position(rule)
	if i < 0 {
		i = len(s.list)
		s.list = append(s.list, source{pattern: rule.Name, hide: rule.Hide, keep: rule.Keep, repeat: rule.Repeat})
	}
	s.list[i].maxBytes = lower(s.list[i].maxBytes, rule.MaxBytes)
}

// position returns the position of a rule's source; -1: there is none yet.
func (s *sources) position(rule Rule) int {
	return slices.IndexFunc(s.list, func(known source) bool { return known.pattern == rule.Name })
}

// lower returns the lower of two limits; 0 is no limit.
func lower(a, b int) int {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// linkFamilies sorts the families by prefix and links each to the longest one that it extends.
func (s *sources) linkFamilies() {
	for i, source := range s.list {
		if prefix, isFamily := family(source.pattern); isFamily {
			own := covering{set: 1 << i, position: i, maxBytes: source.maxBytes}
			s.families = append(s.families, familyNode{prefix: prefix, parent: -1, holes: hasHoles(prefix), covering: own})
		}
	}
	slices.SortFunc(s.families, func(a, b familyNode) int { return strings.Compare(a.prefix, b.prefix) })
	for i := range s.families {
		node := &s.families[i]
		node.parent = s.longest(node.prefix, i)
		if node.parent >= 0 {
			above := s.families[node.parent].covering
			node.set |= above.set
			node.position = node.set.first()
			node.maxBytes = lower(node.maxBytes, above.maxBytes)
		}
	}
}

// longest returns the longest of the families before end that is a prefix of a name; -1: none. Such a family sorts
// before the name and is a prefix of all that sort between them, so the search follows parents from the last one.
func (s *sources) longest(name string, end int) int {
	at := sort.Search(end, func(i int) bool { return s.families[i].prefix > name }) - 1
	for at >= 0 && !strings.HasPrefix(name, s.families[at].prefix) {
		at = s.families[at].parent
	}
	return at
}

// coverName returns the covering of a name that is listed by itself. Families cover it too, unless it is restricted or
// sensitive.
func (s *sources) coverName(position int) covering {
	name := s.list[position].pattern
	c := covering{set: 1 << position, position: position, maxBytes: s.list[position].maxBytes}
	if at := s.longest(name, len(s.families)); at >= 0 && !outsideFamilies(name) {
		c.maxBytes = lower(c.maxBytes, s.families[at].maxBytes)
		c.set |= s.families[at].set
	}
	return c
}

// cover looks up a header name. The set is empty for a name that is not carried; leftOut is true if such a name has the
// prefix of a family but is restricted or sensitive.
func (s *sources) cover(name string) (c covering, leftOut bool) {
	if c, ok := s.names[name]; ok {
		return c, false
	}
	at := s.longest(name, len(s.families))
	if at < 0 {
		return covering{}, false
	}
	if node := &s.families[at]; !node.holes || !outsideFamilies(name) {
		return node.covering, false
	}
	return covering{}, true
}

// pattern returns the name or family under which the policy lists a name, restricted or not; "": none.
func (s *sources) pattern(name string) string {
	if _, ok := s.names[name]; ok {
		return name
	}
	if at := s.longest(name, len(s.families)); at >= 0 {
		return s.list[s.families[at].position].pattern
	}
	return ""
}

// hasHoles reports whether names with that prefix can be restricted or sensitive.
func hasHoles(prefix string) bool {
	spelled := hyphenated(prefix)
	return slices.ContainsFunc(
		restrictions.rows,
		func(row Restriction) bool { return intersects(row.Pattern, spelled+"*") },
	) ||
		slices.ContainsFunc(sensitiveNames(), func(name string) bool { return strings.HasPrefix(name, prefix) })
}

// outsideFamilies reports whether a name is in no family, whatever its prefix.
func outsideFamilies(name string) bool { return Restricted(name) || sensitive(name) }
