package policy_test

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"bellhop/policy"
)

// wholeNames are what clients and fan-outs send in the properties of the whole language: names of rules, members of the
// family c*, and among these what no policy can carry.
var wholeNames = []string{
	"x-one",
	"x-two",
	"x-three",
	"c-own",
	"c-other",
	"content-type",
	"cookie",
	"connection",
	"te",
	"x-other",
	"x-as",
}

// whole is a random policy over the whole language of rules.
type whole struct {
	policy *policy.Policy
	rules  []policy.Rule
	limits policy.Limits
}

// drawWhole draws a policy; a narrow one has limits that what drawLines draws breaks, as often as not.
func drawWhole(t *rapid.T, narrow bool) whole {
	w := whole{limits: policy.Limits{Headers: 64, ValueBytes: 64, TotalBytes: 4096}}
	if narrow {
		w.limits = policy.Limits{
			Headers: rapid.IntRange(1, 6).
				Draw(t, "headers"),
			ValueBytes: rapid.IntRange(4, 12).Draw(t, "value bytes"), TotalBytes: rapid.IntRange(12, 80).Draw(t, "total bytes"),
		}
	}
	var text strings.Builder
	fmt.Fprintf(
		&text,
		"version: 1\nlimits: {headers: %d, value_bytes: %d, total_bytes: %d}\nbackends: {a: {}, b: {}}\nforward:\n",
		w.limits.Headers, w.limits.ValueBytes, w.limits.TotalBytes,
	)
	for i, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x-one", "x-two", "x-three", "c*"}), 1, 4,
		rapid.ID).Draw(t, "names") {
		rule := policy.Rule{
			Name: name, As: name, To: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b"}), 1, 2, rapid.ID).Draw(t,
				"to"),
			Hide: rapid.Bool().Draw(t, "hide"),
			Keep: rapid.SampledFrom([]policy.Keep{policy.KeepRequest, policy.KeepSession}).Draw(t, "keep"),
			Repeat: rapid.SampledFrom([]policy.Repeat{policy.RepeatAll, policy.RepeatAll, policy.RepeatFirst,
				policy.RepeatReject}).
				Draw(t, "repeat"),
			Conflict: rapid.SampledFrom([]policy.Conflict{policy.ConflictReplace, policy.ConflictKeep, policy.ConflictReject}).
				Draw(t, "conflict"),
			MaxBytes: w.limits.ValueBytes,
			Tools:    rapid.SampledFrom([][]string{nil, nil, {"search_*"}}).Draw(t, "tools"),
		}
		if narrow {
			rule.MaxBytes = rapid.IntRange(1, w.limits.ValueBytes).Draw(t, "max bytes")
		}
		if name != "c*" {
			rule.Required = rapid.IntRange(0, 3).Draw(t, "required") == 3
			rule.Prefix = rapid.SampledFrom([]string{"", "Key "}).Draw(t, "prefix")
			if i == 0 {
				rule.As = rapid.SampledFrom([]string{name, "x-as"}).Draw(t, "as")
			}
		}
		w.rules = append(w.rules, rule)
		fmt.Fprintf(
			&text, "  - {name: %q, to: [%s], hide: %v, keep: %s, repeat: %s, conflict: %s, max_bytes: %d", rule.Name,
			strings.Join(rule.To, ", "), rule.Hide, rule.Keep, rule.Repeat, rule.Conflict, rule.MaxBytes,
		)
		for field, value := range map[string]string{"as": rule.As, "prefix": rule.Prefix} {
			if value != "" && value != name {
				fmt.Fprintf(&text, ", %s: %q", field, value)
			}
		}
		if rule.Required {
			text.WriteString(", required: true")
		}
		if len(rule.Tools) > 0 {
			text.WriteString(", tools: [search_*]")
		}
		text.WriteString("}\n")
	}
	loaded, findings := policy.Load("drawn.yaml", []byte(text.String()))
	if loaded == nil {
		t.Fatalf("drew a policy with faults:\n%s\n%s", text.String(), findings.Error())
	}
	w.policy = loaded
	return w
}

// drawLines draws lines of whose values the first letter says whose they are, and the rest how many they are.
func drawLines(t *rapid.T, owner string) []policy.Header {
	var lines []policy.Header
	names := append([]string{"x-one", "x-two", "x-three", "c-own"}, wholeNames...) // those that may be carried, more often
	for i, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 7).Draw(t, owner) {
		long := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 9}).Draw(t, "long"))
		lines = append(lines, policy.Header{Name: name, Value: policy.NewValue(fmt.Sprintf("%s%d%s", owner[:1], i, long))})
	}
	return lines
}

// of is the rule that carries a client's header, if one may.
func (w whole) of(name string, client []policy.Header) (policy.Rule, bool) {
	for _, line := range client {
		if line.Name == "connection" && strings.EqualFold(line.Value.Reveal(), name) {
			return policy.Rule{}, false
		}
	}
	for _, rule := range w.rules {
		member := rule.Name == "c*" && strings.HasPrefix(name, "c") && !policy.Restricted(name) && name != "cookie"
		if rule.Name == name || member {
			return rule, true
		}
	}
	return policy.Rule{}, false
}

// taken is what the rules take off a client's request, and whether it breaks any limit of theirs.
func (w whole) taken(client []policy.Header) (lines []policy.Header, broken bool) {
	total := 0
	for _, line := range client {
		rule, ok := w.of(line.Name, client)
		if !ok {
			continue
		}
		if rule.Repeat != policy.RepeatAll && len(values(lines, line.Name)) > 0 {
			broken = broken || rule.Repeat == policy.RepeatReject
			continue
		}
		lines = append(lines, line)
		total += len(line.Name) + line.Value.Len()
		broken = broken || line.Value.Len() > min(w.limits.ValueBytes, cmp.Or(rule.MaxBytes, w.limits.ValueBytes))
	}
	return lines, broken || len(lines) > w.limits.Headers || total > w.limits.TotalBytes
}

// Limits reject, and they never cut: what is captured is whole, in the client's order, and within every limit; what is
// above one is refused, and nothing else is.
func TestLimitsRejectAndNeverTruncate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWhole(t, true)
		client := drawLines(t, "client")
		want, broken := w.taken(client)
		got, rejection := w.policy.Capture(client)
		if (rejection != nil) != broken {
			t.Fatalf("rejection %v, want one: %v", rejection, broken)
		}
		if broken {
			return
		}
		for _, name := range wholeNames {
			if !slices.Equal(values(got.Capture, name), values(want, name)) {
				t.Fatalf("%s: captured %q, want %q", name, values(got.Capture, name), values(want, name))
			}
		}
	})
}

// Invariants 1, 2, 3 and 10, for any policy and any headers: whatever a backend gets of Bellhop is a value that this
// client sent, whole and in its order, under the name that a rule for this backend and this act gives it; and without a
// ticket that is redeemed it is nothing. The same request gives the same again.
func TestWhateverABackendGetsARuleAllows(t *testing.T) {
	forwarded := 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawWhole(t, false)
		client, sent := drawLines(t, "client"), drawLines(t, "fanout")
		taken, rejection := w.policy.Capture(client)
		if rejection != nil {
			return
		}
		status := rapid.SampledFrom([]policy.TicketStatus{
			policy.StatusRedeemed, policy.StatusRedeemed, policy.StatusRedeemed, policy.StatusNone, policy.StatusUnknown,
			policy.StatusSuperseded, policy.StatusRedirected,
		}).Draw(t, "status")
		for _, backend := range []string{"a", "b", "undeclared"} {
			for _, act := range wholeActs {
				forwarded += w.gives(
					t, policy.Call{Backend: backend, Ticket: status, Capture: taken.Capture, Operation: act, Request: sent},
					client,
				)
			}
		}
	})
	t.Logf("%d headers were forwarded", forwarded)
	if forwarded == 0 && !testing.Short() { // then there are few tries
		t.Error("no header was ever forwarded: this proves nothing")
	}
}

var searchCall = policy.Message{Method: "tools/call", Tool: "search_x"}

// wholeActs are what requests ask for.
var wholeActs = []policy.Operation{
	{},
	policy.Asks(searchCall), policy.Asks(searchCall, searchCall),
	policy.Asks(searchCall, policy.Message{Method: "tools/call", Tool: "other"}),
	policy.Asks(policy.Message{Method: "tools/call", Tool: "other"}), policy.Asks(policy.Message{Method: "tools/list"}),
	policy.NotKnown(policy.UnreadableKey),
}

// gives decides on a call, holds that against the rules, and returns how many headers the backend is given.
func (w whole) gives(t *rapid.T, call policy.Call, client []policy.Header) int {
	decision := w.policy.Decide(call)
	if len(decision.Set) > 0 && (call.Ticket != policy.StatusRedeemed || call.Backend == "undeclared") {
		t.Fatalf("status %v at %s sets %d headers", call.Ticket, call.Backend, len(decision.Set))
	}
	if decision.Rejection != nil {
		return 0
	}
	given := map[string][]string{}
	for _, header := range decision.Set {
		given[header.Name] = append(given[header.Name], header.Value.Reveal())
	}
	for name, lines := range given {
		if want := w.allowed(name, call, client); policy.Restricted(name) || !slices.Equal(lines, want) {
			t.Fatalf("%s at %s for %+v: got %q, allowed is %q", name, call.Backend, call.Operation, lines, want)
		}
	}
	once := apply(call.Request, decision)
	call.Request = once
	if twice := w.policy.Decide(call); twice.Rejection == nil && !slices.EqualFunc(once, apply(once, twice), same) &&
		!w.keeps() {
		t.Fatalf("once %v, twice %v", once, apply(once, twice))
	}
	return len(given)
}

// allowed is what the rules let a backend have of a client under a name.
func (w whole) allowed(name string, call policy.Call, client []policy.Header) []string {
	var want []string
	lines, _ := w.taken(client)
	for _, line := range lines {
		rule, _ := w.of(line.Name, client)
		as := rule.As
		if as == "c*" {
			as = line.Name
		}
		search := reflect.DeepEqual(call.Operation, policy.Asks(searchCall)) ||
			reflect.DeepEqual(call.Operation, policy.Asks(searchCall, searchCall))
		if as == name && slices.Contains(rule.To, call.Backend) && (len(rule.Tools) == 0 || search) {
			want = append(want, rule.Prefix+line.Value.Reveal())
		}
	}
	return want
}

// keeps reports whether what Bellhop has set could be taken for the fan-out's own the second time.
func (w whole) keeps() bool {
	return slices.ContainsFunc(w.rules, func(r policy.Rule) bool { return r.Conflict != policy.ConflictReplace })
}

func same(a, b policy.Header) bool { return a.Name == b.Name && a.Value.Equal(b.Value) }
