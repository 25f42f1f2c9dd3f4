package policy

import "strings"

// family returns the common beginning of a family of header names, such as x-acme-*, and whether name is one.
func family(name string) (prefix string, ok bool) { return strings.CutSuffix(name, "*") }

// covers reports whether a header name is the pattern's, or of the pattern's family.
func covers(pattern, name string) bool {
	if prefix, ok := family(pattern); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// matches reports whether a rule for the pattern speaks of a header name: what no family may have needs a rule of its
// own.
func matches(pattern, name string) bool {
	return covers(pattern, name) && (pattern == name || !outsideFamilies(name))
}

// overlap reports whether there can be a name of which rules for both patterns speak: what no family may have is in
// none.
func overlap(a, b string) bool {
	_, aIsFamily := family(a)
	_, bIsFamily := family(b)
	if aIsFamily != bIsFamily && (!aIsFamily && outsideFamilies(a) || !bIsFamily && outsideFamilies(b)) {
		return false
	}
	return meets(a, b)
}

// meets reports whether there can be a name that both patterns cover.
func meets(a, b string) bool {
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
	for _, pattern := range patterns {
		if matchGlob(pattern, tool) {
			return true
		}
	}
	return false
}

// maxTool bounds the name of a tool, in bytes: a longer one is none that a rule could mean.
const maxTool = 256

// matchGlob reports whether text matches a pattern in which * stands for any run of characters. It looks at each part
// of the pattern once, at the first place where it stands, so that no text makes it slow.
func matchGlob(pattern, text string) bool {
	if len(text) > maxTool {
		return false
	}
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
