package ticket

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
)

// KeyBytes is the length of a key in bytes.
const KeyBytes = 32

// Key is a secret for tickets. It prints as "[KEY]".
//
// The secret is behind a pointer, because fmt prints the fields of an unexported field whatever formatter it has.
type Key struct{ secret *string }

// Format implements [fmt.Formatter] for every verb, without the secret.
func (Key) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, "[KEY]") }

func newKey(secret []byte) Key {
	text := string(secret)
	return Key{secret: &text}
}

// Derive derives a key for another purpose, so that no two purposes share one.
func (k Key) Derive(purpose string) []byte {
	mac := hmac.New(sha256.New, []byte(*k.secret))
	mac.Write([]byte("bellhop " + purpose))
	return mac.Sum(nil)
}

func (k Key) equal(other Key) bool { return hmac.Equal([]byte(*k.secret), []byte(*other.secret)) }

// Keys are the keys of a key file, at least one, the newest first. The newest mints tickets; all keys redeem.
type Keys []Key

// RandomKeys generates a key that lives as long as the process.
func RandomKeys() Keys {
	secret := make([]byte, KeyBytes)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the program instead
	return Keys{newKey(secret)}
}

// Derive derives keys for another purpose, the newest first.
func (k Keys) Derive(purpose string) [][]byte {
	derived := make([][]byte, len(k))
	for i, key := range k {
		derived[i] = key.Derive(purpose)
	}
	return derived
}

// Equal reports whether others are the same keys in the same order.
func (k Keys) Equal(others Keys) bool { return slices.EqualFunc(k, others, Key.equal) }

// NewLine generates a key as a line of a key file.
func NewLine() string {
	secret := make([]byte, KeyBytes)
	_, _ = rand.Read(secret)
	return base64.StdEncoding.EncodeToString(secret)
}

// ParseKeys reads a key file: one key per line, 32 bytes in base64, the newest first; empty lines and lines that begin
// with # are ignored. Or a cleartext Tink keyset in JSON. An error names the line or the key, never its content.
func ParseKeys(file []byte) (Keys, error) {
	if isKeyset(file) {
		return parseKeyset(file)
	}
	var keys Keys
	for number, line := range lines(file) {
		secret, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(secret) != KeyBytes {
			return nil, fmt.Errorf("line %d is not %d bytes in base64; make a key with: bellhop keygen", number, KeyBytes)
		}
		keys = append(keys, newKey(secret))
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no key; make one with: bellhop keygen")
	}
	return keys, nil
}

// lines are the lines of a key file that hold keys, by their number from 1.
func lines(file []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		number := 0
		for line := range strings.Lines(string(file)) {
			number++
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && !yield(number, line) {
				return
			}
		}
	}
}

// AddKey adds a new key at the front of a key file, and keeps at most keep of the others.
func AddKey(file []byte, keep int) ([]byte, error) {
	return rewrite(file, func(old []entry) ([]entry, error) {
		if staged(old) {
			return nil, errors.New(
				"its last key is staged, and a later --add would drop it; promote it first: bellhop keygen --promote FILE",
			)
		}
		return append([]entry{{key: NewLine()}}, old[:min(keep, len(old))]...), nil
	})
}

// StageKey adds a new key at the end of a key file: it redeems tickets, but mints none yet.
func StageKey(file []byte) ([]byte, error) {
	return rewrite(file, func(old []entry) ([]entry, error) {
		switch {
		case len(old) == 0:
			return nil, errors.New(
				"it has no key yet, and a staged key cannot be the only one; add one first: bellhop keygen --add FILE",
			)
		case staged(old):
			return nil, errors.New("its last key is staged already; promote it: bellhop keygen --promote FILE")
		default:
			return append(old, entry{above: stagedMark + "\n", key: NewLine()}), nil
		}
	})
}

// PromoteKey moves the staged key of a key file to the front and keeps at most keep of the others.
func PromoteKey(file []byte, keep int) ([]byte, error) {
	return rewrite(file, func(old []entry) ([]entry, error) {
		if !staged(old) {
			return nil, errors.New("its last key is not staged; stage one first: bellhop keygen --stage FILE")
		}
		last := len(old) - 1
		return append([]entry{old[last].unmarked()}, old[:min(keep, last)]...), nil
	})
}

const (
	keysHeading = "# Keys of Bellhop's tickets, the newest first.\n"
	// stagedMark is the line above a staged key, whose place alone does not distinguish it from an old one.
	stagedMark = "# Staged: redeems, and makes no tickets until it is promoted."
)

// entry is a key of a raw key file.
type entry struct {
	above string // the comments and empty lines that stand above it
	key   string
}

// unmarked is the key without the mark of a staged one.
func (e entry) unmarked() entry {
	return entry{above: strings.ReplaceAll(e.above, stagedMark+"\n", ""), key: e.key}
}

// staged reports whether the last key is.
func staged(keys []entry) bool {
	return len(keys) > 0 && strings.Contains(keys[len(keys)-1].above, stagedMark+"\n")
}

// rewrite changes the keys of a raw key file, which may be empty. Comments move with the key below them; those above
// the first key and below the last stay in place. Tink keysets are left to tinkey.
func rewrite(file []byte, change func(old []entry) ([]entry, error)) ([]byte, error) {
	if isKeyset(file) {
		return nil, errors.New("it is a Tink keyset; rotate it with: tinkey rotate-keyset")
	}
	old, below := entries(file)
	heading := cmp.Or(below, keysHeading)
	if len(old) > 0 {
		if _, err := ParseKeys(file); err != nil {
			return nil, err
		}
		heading, old[0].above = old[0].unmarked().above, ""
	} else {
		below = ""
	}
	keys, err := change(old)
	if err != nil {
		return nil, err
	}
	var next strings.Builder
	next.WriteString(heading)
	for _, entry := range keys {
		next.WriteString(entry.above + entry.key + "\n")
	}
	return []byte(next.String() + below), nil
}

// entries are the keys of a raw key file, and the lines below the last one.
func entries(file []byte) (keys []entry, below string) {
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			below += line + "\n"
			continue
		}
		keys = append(keys, entry{above: below, key: line})
		below = ""
	}
	return keys, below
}

// Exposed describes what is wrong with the permissions of a key file, or returns "". A group may read it, because that
// is how Kubernetes mounts Secrets.
func Exposed(mode fs.FileMode) string {
	switch {
	case mode&0o007 != 0:
		return "every user of this machine can read or write the key file"
	case mode&0o020 != 0:
		return "a group can write the key file"
	default:
		return ""
	}
}
