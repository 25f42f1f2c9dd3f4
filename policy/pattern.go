package policy

import "strings"

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
	for _, pattern := range patterns {
		if matchGlob(pattern, tool) {
			return true
		}
	}
	return false
}

// maxTool is the longest tool name that a rule can match, in bytes.
const maxTool = 256

// matchGlob reports whether text matches a pattern in which * stands for any run of characters. It searches
// for each part of the pattern once, so its time is linear in the text.
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
