package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/policy"
)

func TestCaptureTakesListedHeadersInThePolicysOrder(t *testing.T) {
	p := load(t, "version: 1\nforward: [x-b, x-a]\n")
	got, rejection := p.Capture(headers("x-a: 1", "x-other: no", "x-b: 2", "x-a: 3"))
	if rejection != nil {
		t.Fatal(rejection)
	}
	if diff := cmp.Diff(headers("x-b: 2", "x-a: 1", "x-a: 3"), []policy.Header(got.Capture)); diff != "" {
		t.Error(diff)
	}
}

func TestCaptureKeepsBytesAndTrimsOuterSpace(t *testing.T) {
	p := load(t, "version: 1\nforward: [x-a]\n")
	tests := []struct{ name, sent, want string }{
		{"plain", "v", "v"},
		{"outer space", " \tv\t ", "v"},
		{"inner space and tab", "a \tb", "a \tb"},
		{"comma stays one line", "a, b", "a, b"},
		{"bytes beyond ASCII", "\x80\xff\xe9", "\x80\xff\xe9"},
		{"empty", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, rejection := p.Capture([]policy.Header{{Name: "x-a", Value: policy.NewValue(test.sent)}})
			if rejection != nil || len(got.Capture) != 1 || got.Capture[0].Value.Reveal() != test.want {
				t.Errorf("got %d headers, rejection %v", len(got.Capture), rejection)
			}
		})
	}
}

func TestCaptureLeavesWhatConnectionNominates(t *testing.T) {
	p := load(t, "version: 1\nforward: [x-a, x-b]\n")
	got, _ := p.Capture(headers("connection: keep-alive, X-A, x-c", "x-a: 1", "x-b: 2", "x-c: 3"))
	if diff := cmp.Diff([]string{"x-a"}, got.Nominated); diff != "" {
		t.Errorf("nominated: %s", diff)
	}
	if diff := cmp.Diff(headers("x-b: 2"), []policy.Header(got.Capture)); diff != "" {
		t.Error(diff)
	}
}

func TestLimitsRejectAndNameTheHeaderButNotItsValue(t *testing.T) {
	p := load(t, "version: 1\nforward: [x-a, x-b]\nlimits: {headers: 3, value_bytes: 40, total_bytes: 60}\n")
	const canary = "canary"
	tests := []struct {
		name    string
		request []policy.Header
		want    *policy.Rejection
	}{
		{"within", headers("x-a: 1", "x-a: 2", "x-b: 3"), nil},
		{"line feed", headers("x-a: " + canary + "\n"), &policy.Rejection{Header: "x-a", Reason: policy.ReasonByte}},
		{"NUL", headers("x-a: \x00" + canary), &policy.Rejection{Header: "x-a", Reason: policy.ReasonByte}},
		{"DEL", headers("x-b: \x7f" + canary), &policy.Rejection{Header: "x-b", Reason: policy.ReasonByte}},
		{
			"too long",
			headers("x-a: " + strings.Repeat(canary, 7)),
			&policy.Rejection{Header: "x-a", Reason: policy.ReasonValue, Limit: 40},
		},
		{
			"too many",
			headers("x-a: 1", "x-a: 2", "x-a: 3", "x-b: 4"),
			&policy.Rejection{Header: "x-b", Reason: policy.ReasonCount, Limit: 3},
		},
		{
			"too much",
			headers("x-a: "+strings.Repeat("c", 38), "x-b: "+strings.Repeat("c", 38)),
			&policy.Rejection{Header: "x-b", Reason: policy.ReasonTotal, Limit: 60},
		},
		{"not of the policy", headers("x-c: \n"), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, got := p.Capture(test.request)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if got != nil && (!strings.Contains(got.Error(), got.Header) || strings.Contains(got.Error(), canary)) {
				t.Errorf("the error must name the header and not its value: %s", got)
			}
		})
	}
}

// Invariant 6: a value never appears in a log, metric or error.
func TestValueCannotPrintItself(t *testing.T) {
	value := policy.NewValue("canary")
	header := policy.Header{Name: "x-a", Value: value}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%t", "%e", "%p", "%U",
		"%T", "%10.3s"} {
		for _, printed := range []any{value, &value, header, &header, []policy.Header{header}, policy.Capture{header},
			map[string]policy.Value{"a": value}} {
			if text := fmt.Sprintf(verb, printed); strings.Contains(text, "canary") || strings.Contains(text, "63616e617279") ||
				strings.Contains(text, "99 97 110") {
				t.Errorf("%s of %T prints the value: %s", verb, printed, text)
			}
		}
	}
}

// headers reads "name: value" lines.
func headers(lines ...string) []policy.Header {
	var all []policy.Header
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		all = append(all, policy.Header{Name: name, Value: policy.NewValue(value)})
	}
	return all
}

// What surrounds a value takes memory like the value itself: HTTP/2 does not trim it.
func TestTheRawLengthOfAValueIsLimited(t *testing.T) {
	p := load(t, "version: 1\nforward: [x-a]\nlimits: {value_bytes: 100}\n")
	for spaces, want := range map[int]bool{99: true, 100: false, 60000: false} {
		taken, rejection := p.Capture([]policy.Header{{
			Name: "x-a", Value: policy.NewValue("k" + strings.Repeat(" ", spaces)),
		}})
		if (rejection == nil) != want || want && taken.Capture[0].Value.Reveal() != "k" {
			t.Errorf("%d spaces: %v", spaces, rejection)
		}
	}
}
