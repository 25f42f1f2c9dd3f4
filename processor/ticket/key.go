package ticket

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// KeyBytes is the length of a key in bytes.
const KeyBytes = 32

// Key is the secret under which tickets are made. It prints as nothing but its kind.
//
// It is behind a pointer because fmt prints the fields of what it reaches through an unexported field, whatever
// formatter that has.
type Key struct{ secret *string }

// Format implements [fmt.Formatter] for every verb, without the secret.
func (Key) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, "[KEY]") }

// RandomKey makes a key that lives as long as the process.
func RandomKey() Key {
	secret := make([]byte, KeyBytes)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the program instead
	return newKey(secret)
}

func newKey(secret []byte) Key {
	text := string(secret)
	return Key{secret: &text}
}

// Derive makes a key for another purpose, so that no two purposes share one.
func (k Key) Derive(purpose string) []byte {
	mac := hmac.New(sha256.New, []byte(*k.secret))
	mac.Write([]byte("bellhop " + purpose))
	return mac.Sum(nil)
}

// ParseKeys reads a key file: one key a line, 32 bytes in base64, the newest first; empty lines and lines that begin
// with # are passed over. An error names the line, never its content.
func ParseKeys(file []byte) ([]Key, error) {
	var keys []Key
	lines := bufio.NewScanner(bytes.NewReader(file))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		secret, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(secret) != KeyBytes {
			return nil, fmt.Errorf("line %d is not %d bytes in base64; make a key with: openssl rand -base64 %d", number, KeyBytes, KeyBytes)
		}
		keys = append(keys, newKey(secret))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("a line is too long to be a key; make one with: openssl rand -base64 %d", KeyBytes)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("it holds no key; make one with: openssl rand -base64 %d", KeyBytes)
	}
	return keys, nil
}
