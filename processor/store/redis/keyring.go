package redis

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"

	"bellhop/processor/ticket"
)

// ringKey names and encrypts what is written, under one key: the server learns neither tickets nor headers.
type ringKey struct {
	name []byte
	aead cipher.AEAD
}

// keyring has the keys, the newest first: that one writes, all of them read.
type keyring []ringKey

func newKeyring(keys ticket.Keys) keyring {
	var all keyring
	names := keys.Derive("store name")
	for i, key := range keys.Derive("store value") {
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			panic(err) // it takes any 32 bytes
		}
		all = append(all, ringKey{name: names[i], aead: aead})
	}
	return all
}

// purpose separates the names of different kinds of values.
type purpose string

const (
	captures purpose = "capture"
	sessions purpose = "session"
	holders  purpose = "holders" // sessions that have a ticket now
	replaced purpose = "replaced"
)

// prefix begins the names of all values of one kind.
func prefix(of purpose) string { return "bellhop:" + string(of) + ":" }

// key is the name under which the server keeps a value. What belongs to one ticket has the same hash tag, so that a
// cluster keeps it on one node.
func (v ringKey) key(of purpose, name string) string {
	mac := hmac.New(sha256.New, v.name)
	mac.Write([]byte(name))
	var sum [sha256.Size]byte
	return prefix(of) + "{" + base64.RawURLEncoding.EncodeToString(mac.Sum(sum[:0])) + "}"
}

// keys are the names of a value under each key, the newest first.
func (all keyring) keys(of purpose, name string) []string {
	names := make([]string, len(all))
	for i, v := range all {
		names[i] = v.key(of, name)
	}
	return names
}

// open decrypts what any of the keys has encrypted.
func (all keyring) open(key, sealed string) (text []byte, err error) {
	for _, v := range all {
		if text, err = v.open(key, []byte(sealed)); err == nil {
			break
		}
	}
	return text, err
}

// seal encrypts a value for its own name, and no other.
func (v ringKey) seal(key string, value []byte) []byte {
	nonce := make([]byte, v.aead.NonceSize(), v.aead.NonceSize()+len(value)+v.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the program instead
	return v.aead.Seal(nonce, nonce, value, []byte(key))
}

// version identifies one write of a value.
func version(sealed string) string { return sealed[:min(chacha20poly1305.NonceSizeX, len(sealed))] }

var errSealed = errors.New("a value in the store cannot be opened: it was changed, or is of another key")

func (v ringKey) open(key string, sealed []byte) ([]byte, error) {
	if len(sealed) < v.aead.NonceSize() {
		return nil, errSealed
	}
	value, err := v.aead.Open(nil, sealed[:v.aead.NonceSize()], sealed[v.aead.NonceSize():], []byte(key))
	if err != nil {
		return nil, errSealed
	}
	return value, nil
}
