package ticket

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
)

// KeyBytes is the length of a key in bytes.
const KeyBytes = 32

// Key is the secret under which tickets are made. It prints as nothing but its kind.
type Key struct{ secret []byte }

// String implements [fmt.Stringer] without the secret.
func (Key) String() string { return "[KEY]" }

// GoString implements [fmt.GoStringer] without the secret.
func (Key) GoString() string { return "[KEY]" }

// RandomKey makes a key that lives as long as the process.
func RandomKey() Key {
	secret := make([]byte, KeyBytes)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the program instead
	return Key{secret: secret}
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
		keys = append(keys, Key{secret: secret})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("a line is too long to be a key; make one with: openssl rand -base64 %d", KeyBytes)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("it holds no key; make one with: openssl rand -base64 %d", KeyBytes)
	}
	return keys, nil
}
