package ticket_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

const (
	rotate   = time.Hour
	lifetime = 30 * time.Minute
)

func sealer(keys ticket.Keys, fanout string) *ticket.Sealer {
	return ticket.NewSealer(keys, fanout, rotate, lifetime)
}

func seal(t testing.TB, s *ticket.Sealer, headers policy.Capture, now time.Time) string {
	t.Helper()
	sealed, err := s.Seal(headers, now)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func same(a, b policy.Capture) bool {
	return slices.EqualFunc(a, b, func(a, b policy.Header) bool { return a.Name == b.Name && a.Value.Equal(b.Value) })
}

func drawCapture(t *rapid.T) policy.Capture {
	var headers policy.Capture
	for range rapid.IntRange(0, 6).Draw(t, "lines") {
		headers = append(headers, policy.Header{
			Name:  rapid.StringMatching("[a-z0-9-]{1,40}").Draw(t, "name"),
			Value: policy.NewValue(string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value"))),
		})
	}
	return headers
}

// Whatever a client sent comes out as it went in, at every replica that has the key, and nowhere else.
func TestOpenReturnsWhatWasSealed(t *testing.T) {
	keys := ticket.RandomKeys()
	rapid.Check(t, func(t *rapid.T) {
		headers := drawCapture(t)
		sealed, err := sealer(keys, "search").Seal(headers, noon)
		if err != nil {
			t.Fatal(err)
		}
		if !ticket.Sealed(sealed) || ticket.WellFormed(sealed) {
			t.Fatalf("%q cannot be distinguished from a stored ticket", sealed)
		}
		if got, ok := sealer(keys, "search").Open(sealed, noon); !ok || !same(got, headers) {
			t.Fatalf("opened: %v, with %d headers of %d", ok, len(got), len(headers))
		}
		if again, _ := sealer(keys, "search").Seal(headers, noon.Add(time.Minute)); again != sealed {
			t.Fatal("the same headers must have the same ticket on every replica, within an epoch")
		}
		for name, other := range map[string]*ticket.Sealer{
			"another fan-out": sealer(keys, "other"), "another key": sealer(ticket.RandomKeys(), "search"),
		} {
			if _, ok := other.Open(sealed, noon); ok {
				t.Fatalf("%s opens it", name)
			}
		}
		raw, _ := base64.RawURLEncoding.DecodeString(sealed)
		raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, ok := sealer(keys, "search").Open(base64.RawURLEncoding.EncodeToString(raw), noon); ok {
			t.Fatal("a changed ticket is opened")
		}
	})
}

func TestTwoCapturesNeverShareASealedTicket(t *testing.T) {
	s := sealer(ticket.RandomKeys(), "")
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawCapture(t), drawCapture(t)
		one, _ := s.Seal(a, noon)
		two, _ := s.Seal(b, noon)
		if (one == two) != same(a, b) {
			t.Fatalf("same ticket %v, same headers %v", one == two, same(a, b))
		}
	})
}

func TestASealedTicketExpires(t *testing.T) {
	s := sealer(ticket.RandomKeys(), "")
	begin := noon.Truncate(rotate)
	for _, minted := range []time.Time{begin, begin.Add(rotate - time.Second)} {
		sealed := seal(t, s, capture("x-a: 1"), minted)
		for at, want := range map[time.Time]bool{
			minted: true, begin.Add(rotate + lifetime - time.Second): true, begin.Add(rotate + lifetime): false,
		} {
			if _, ok := s.Open(sealed, at); ok != want {
				t.Errorf("minted %s, at %s: opened %v", minted, at, ok)
			}
		}
	}
	if seal(t, s, capture("x-a: 1"), begin) == seal(t, s, capture("x-a: 1"), begin.Add(rotate)) {
		t.Error("a ticket has to rotate")
	}
}

// A new key seals; the old ones still open, until they are taken out of the file.
func TestKeysRotate(t *testing.T) {
	older, newer := ticket.RandomKeys(), ticket.RandomKeys()
	both := append(slices.Clone(newer), older...)
	sealed := seal(t, sealer(older, ""), capture("x-a: 1"), noon)
	if _, ok := sealer(both, "").Open(sealed, noon); !ok {
		t.Error("an old key that is in the file opens")
	}
	if _, ok := sealer(newer, "").Open(sealed, noon); ok {
		t.Error("an old key that is gone opens nothing")
	}
	if seal(t, sealer(both, ""), capture("x-a: 1"), noon) != seal(t, sealer(newer, ""), capture("x-a: 1"), noon) {
		t.Error("the newest key seals")
	}
}

// The length of a ticket tells the fan-out little of the value.
func TestLengthsArePadded(t *testing.T) {
	s := sealer(ticket.RandomKeys(), "")
	if a, b := seal(t, s, capture("x-a: 1"), noon), seal(t, s, capture("x-a: 123456"), noon); len(a) != len(b) {
		t.Errorf("%d and %d bytes", len(a), len(b))
	}
	if empty := seal(t, s, nil, noon); len(empty) <= ticket.Length {
		t.Errorf("an empty capture has %d bytes", len(empty))
	}
}

// What check promises to fit does: the most lines that limits allow, in as many bytes of names and values.
func TestWhatCheckAcceptsFits(t *testing.T) {
	s := sealer(ticket.RandomKeys(), "")
	for most, fits := range map[int]int{ticket.MaxSealedInHeader: 8 << 10, ticket.MaxSealedInBaggage: 5 << 10} {
		const lines = 64
		var headers policy.Capture
		for range lines {
			headers = append(
				headers,
				policy.Header{Name: "x-name", Value: policy.NewValue(strings.Repeat("v", fits/lines-len("x-name")))},
			)
		}
		if got := len(seal(t, s, headers, noon)); got > most {
			t.Errorf("%d bytes become %d, and %d is the most", fits, got, most)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s := sealer(ticket.RandomKeys(), "")
	f.Add(seal(f, s, capture("x-a: 1"), noon))
	f.Add(strings.Repeat("A", 68))
	f.Fuzz(func(t *testing.T, text string) {
		if headers, ok := s.Open(text, noon); ok && text != seal(t, s, headers, noon) {
			t.Errorf("%q is opened and was never sealed", text)
		}
	})
}

// BenchmarkTicket measures what a ticket costs at both sides, without the store of the stored one.
func BenchmarkTicket(b *testing.B) {
	keys, headers := ticket.RandomKeys(), capture("x-mcp-api-key: "+strings.Repeat("k", 64), "x-tenant-id: tenant")
	minter, s := ticket.NewMinter(keys[0], "", rotate), sealer(keys, "")
	sealed := seal(b, s, headers, noon)
	b.Run("mint-stored", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = minter.Mint(headers, noon)
		}
	})
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Seal(headers, noon)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Open(sealed, noon)
		}
	})
}
