package ticket

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/keyset"
	aesgcmpb "github.com/tink-crypto/tink-go/v2/proto/aes_gcm_go_proto"
	aessivpb "github.com/tink-crypto/tink-go/v2/proto/aes_siv_go_proto"
	hmacpb "github.com/tink-crypto/tink-go/v2/proto/hmac_go_proto"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"google.golang.org/protobuf/proto"
)

// isKeyset reports whether a key file is a Tink keyset in JSON
// (https://developers.google.com/tink/key-management-overview).
func isKeyset(file []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(file), []byte("{")) }

// parseKeyset reads a cleartext Tink keyset in JSON: its primary key first, then the others that are enabled. Tink has
// no key type for tickets, so any symmetric key will do: only its secret is used.
func parseKeyset(file []byte) (Keys, error) {
	read, err := keyset.NewJSONReader(bytes.NewReader(file)).Read()
	if err != nil {
		return nil, errors.New(
			"it begins with { but is not a Tink keyset in JSON: write one with tinkey, or raw keys with: bellhop keygen",
		)
	}
	var keys Keys
	for _, entry := range read.GetKey() {
		if entry.GetStatus() != tinkpb.KeyStatusType_ENABLED {
			continue
		}
		material, err := material(entry.GetKeyData())
		if err != nil {
			return nil, fmt.Errorf(
				"key %d of the keyset: %w; make one with: tinkey create-keyset --key-template AES256_SIV", entry.GetKeyId(),
				err,
			)
		}
		made := newKey(material)
		if entry.GetKeyId() == read.GetPrimaryKeyId() {
			keys = slices.Insert(keys, 0, made)
			continue
		}
		keys = append(keys, made)
	}
	if len(keys) == 0 {
		return nil, errors.New("no key of the keyset is enabled; enable one with tinkey")
	}
	return keys, nil
}

// material is the secret of a Tink key, hashed to the length of a Bellhop key.
func material(data *tinkpb.KeyData) ([]byte, error) {
	var secret []byte
	switch data.GetTypeUrl() {
	case "type.googleapis.com/google.crypto.tink.HmacKey":
		key := &hmacpb.HmacKey{}
		if err := proto.Unmarshal(data.GetValue(), key); err != nil {
			return nil, errors.New("it cannot be read")
		}
		secret = key.GetKeyValue()
	case "type.googleapis.com/google.crypto.tink.AesSivKey":
		key := &aessivpb.AesSivKey{}
		if err := proto.Unmarshal(data.GetValue(), key); err != nil {
			return nil, errors.New("it cannot be read")
		}
		secret = key.GetKeyValue()
	case "type.googleapis.com/google.crypto.tink.AesGcmKey":
		key := &aesgcmpb.AesGcmKey{}
		if err := proto.Unmarshal(data.GetValue(), key); err != nil {
			return nil, errors.New("it cannot be read")
		}
		secret = key.GetKeyValue()
	default:
		return nil, errors.New("it is neither an HMAC, an AES-SIV nor an AES-GCM key")
	}
	if len(secret) < KeyBytes {
		return nil, fmt.Errorf("it has %d bytes, and %d are the least", len(secret), KeyBytes)
	}
	sum := sha256.Sum256(append([]byte("bellhop keyset"), secret...))
	return sum[:], nil
}
