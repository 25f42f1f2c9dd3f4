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

// takes reports whether a rule for the pattern speaks of a header name: what no family may have needs a rule of its own.
func takes(pattern, name string) bool {
	return covers(pattern, name) && (pattern == name || !outsideFamilies(name))
}

// overlap reports whether there can be a name that both patterns cover.
func overlap(a, b string) bool {
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

// matchGlob reports whether text matches a pattern in which * stands for any run of characters.
func matchGlob(pattern, text string) bool {
	before, rest, starred := strings.Cut(pattern, "*")
	if !starred {
		return pattern == text
	}
	if text, starred = strings.CutPrefix(text, before); !starred {
		return false
	}
	for {
		if matchGlob(rest, text) {
			return true
		}
		if text == "" {
			return false
		}
		text = text[1:]
	}
}
