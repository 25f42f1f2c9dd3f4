package jsonrpc

import (
	"slices"
	"strings"
	"unicode"
)

// keys finds the keys of one object that readers do not read alike: some readers ignore the case of a key, as Go's
// encoding/json does, with all that Unicode takes for the same letter.
type keys struct {
	defined []string // as they are written right
	seen    map[string]bool
}

func newKeys(defined ...string) *keys {
	return &keys{defined: defined, seen: make(map[string]bool, len(defined))}
}

// add reports whether a key is new in the object, and is not a defined one in another case.
func (k *keys) add(key string) bool {
	folded := fold(key)
	if k.seen[folded] || slices.Contains(k.defined, folded) && folded != key {
		return false
	}
	k.seen[folded] = true
	return true
}

// fold maps all texts that differ only in case to the same one, which for ASCII letters is in lower case.
func fold(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return r >= 0x80 || 'A' <= r && r <= 'Z' }) < 0 {
		return text
	}
	return strings.Map(func(r rune) rune {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		if 'A' <= least && least <= 'Z' {
			return least - 'A' + 'a'
		}
		return least
	}, text)
}
