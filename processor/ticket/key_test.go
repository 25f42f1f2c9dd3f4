package ticket_test

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/daead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"bellhop/processor/ticket"
)

// tinkFile writes a keyset as Tink does, its last template the primary key.
func tinkFile(t *testing.T, templates ...*tinkpb.KeyTemplate) []byte {
	t.Helper()
	manager := keyset.NewManager()
	for _, template := range templates {
		id, err := manager.Add(template)
		if err == nil {
			err = manager.SetPrimary(id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	handle, err := manager.Handle()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&file)); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestATinkKeysetIsAKeyFile(t *testing.T) {
	file := tinkFile(t, mac.HMACSHA256Tag256KeyTemplate(), daead.AESSIVKeyTemplate(), aead.AES256GCMKeyTemplate())
	keys, err := ticket.ParseKeys(file)
	if err != nil || len(keys) != 3 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	again, _ := ticket.ParseKeys(file)
	if !keys.Equal(again) || keys.Equal(ticket.RandomKeys()) {
		t.Error("the same file has the same keys")
	}
	old, err := ticket.ParseKeys(bytes.Replace(file, []byte(`"ENABLED"`), []byte(`"DISABLED"`), 1))
	if err != nil || len(old) != 2 || !keys[:1].Equal(old[:1]) {
		t.Errorf("a key that is disabled is left out, and the primary one comes first: %d keys, %v", len(old), err)
	}
}

func TestAnUnusableTinkKeyset(t *testing.T) {
	for want, file := range map[string][]byte{
		"it has 16 bytes": tinkFile(t, aead.AES128GCMKeyTemplate()),
		"neither an HMAC": tinkFile(t, aead.XChaCha20Poly1305KeyTemplate()),
		"no key of the keyset": bytes.ReplaceAll(
			tinkFile(t, daead.AESSIVKeyTemplate()), []byte("ENABLED"), []byte("DISABLED")),
		"is not a Tink keyset": []byte(`{"canary": 1}`),
	} {
		if _, err := ticket.ParseKeys(file); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "canary") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestAKeyIsAddedInFront(t *testing.T) {
	var file []byte
	var all []ticket.Keys
	for range 5 {
		var err error
		if file, err = ticket.AddKey(file, 2); err != nil {
			t.Fatal(err)
		}
		keys, err := ticket.ParseKeys(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, keys)
	}
	for i, want := range []int{1, 2, 3, 3, 3} {
		if len(all[i]) != want {
			t.Errorf("after %d keys the file has %d, want %d", i+1, len(all[i]), want)
		}
	}
	if !all[4][1:].Equal(all[3][:2]) {
		t.Error("the keys from before come after the new one")
	}
	for _, bad := range []string{"canary\n", "{}"} {
		if _, err := ticket.AddKey([]byte(bad), 2); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPermissionsOfAKeyFile(t *testing.T) {
	for mode, want := range map[fs.FileMode]string{
		0o600: "", 0o400: "", 0o440: "", 0o640: "", 0o660: "a group can write", 0o644: "every user", 0o604: "every user",
	} {
		if got := ticket.Exposed(mode); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%o: %q, want %q", mode, got, want)
		}
	}
}

func TestPurposesShareNoKey(t *testing.T) {
	keys := append(ticket.RandomKeys(), ticket.RandomKeys()...)
	seen := map[string]bool{}
	for _, purpose := range []string{"session", "seal mac", "seal cipher", "seal id"} {
		for _, derived := range keys.Derive(purpose) {
			if text := base64.StdEncoding.EncodeToString(derived); seen[text] || len(derived) != ticket.KeyBytes {
				t.Errorf("%s: %d bytes, seen before: %v", purpose, len(derived), seen[text])
			} else {
				seen[text] = true
			}
		}
	}
}

// In two steps no replica meets a ticket of a key that it does not have: first all can redeem it, then all make it.
func TestAKeyIsStagedAndPromoted(t *testing.T) {
	if _, err := ticket.StageKey(nil); err == nil {
		t.Error("a key is staged behind none: it would be the newest")
	}
	file, _ := ticket.AddKey(nil, 2)
	before := parse(t, file)
	if _, err := ticket.PromoteKey(file, 2); err == nil {
		t.Error("a key that was not staged is promoted")
	}
	file, err := ticket.StageKey(file)
	if err != nil {
		t.Fatal(err)
	}
	staged := parse(t, file)
	if len(staged) != 2 || !staged[:1].Equal(before) {
		t.Error("a staged key is the last")
	}
	if _, err := ticket.AddKey(file, 1); err == nil {
		t.Error("a key was added, and the staged one cut off")
	}
	if _, err := ticket.StageKey(file); err == nil {
		t.Error("a second key was staged, so it is unknown which one every replica has")
	}
	file, err = ticket.PromoteKey(file, 2)
	if err != nil {
		t.Fatal(err)
	}
	promoted := parse(t, file)
	if len(promoted) != 2 || !promoted[:1].Equal(staged[1:]) || !promoted[1:].Equal(before) {
		t.Error("a promoted key is the first")
	}
	if _, err := ticket.PromoteKey(file, 2); err == nil {
		t.Error("an old key is promoted")
	}
	if _, err := ticket.AddKey(file, 2); err != nil {
		t.Errorf("after it keys are added again: %v", err)
	}
}

func TestCommentsStayWithTheirKeys(t *testing.T) {
	first, second := ticket.NewLine(), ticket.NewLine()
	file := []byte("# Ours.\n" + second + "\n# From March.\n" + first + "\n# The end.\n")
	file, err := ticket.StageKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if file, err = ticket.PromoteKey(file, 2); err != nil {
		t.Fatal(err)
	}
	newest, _, _ := strings.Cut(strings.TrimPrefix(string(file), "# Ours.\n"), "\n")
	want := "# Ours.\n" + newest + "\n" + second + "\n# From March.\n" + first + "\n# The end.\n"
	if string(file) != want {
		t.Errorf("the file is\n%swant\n%s", file, want)
	}
	if file, err = ticket.AddKey([]byte("# Ours.\n"), 2); err != nil || !strings.HasPrefix(string(file), "# Ours.\n") ||
		strings.Count(string(file), "#") != 1 {
		t.Errorf("%v, and the comment of a file without keys does not stay:\n%s", err, file)
	}
}

func parse(t *testing.T, file []byte) ticket.Keys {
	t.Helper()
	keys, err := ticket.ParseKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
