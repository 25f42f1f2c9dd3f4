package policy_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"bellhop/policy"
)

// world is a random policy with the rules that it was made of.
type world struct {
	policy *policy.Policy
	rules  []policy.Rule
}

var (
	worldBackends = []string{"a", "b", "c"}
	worldNames    = []string{"x-one", "x-two", "x-three", "x-four"}
)

func drawWorld(t *rapid.T) world {
	var rules []policy.Rule
	var text strings.Builder
	text.WriteString("version: 1\nbackends: {a: {}, b: {}, c: {}}\nforward:\n")
	written := map[string]bool{} // destination at backend
	for i, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(worldNames), 1, 4, rapid.ID).Draw(t, "names") {
		rule := policy.Rule{
			Name: name, As: rapid.SampledFrom(append([]string{name}, "x-as", "x-one")).Draw(t, "as"),
			To:     rapid.SliceOfNDistinct(rapid.SampledFrom(worldBackends), 1, 3, rapid.ID).Draw(t, "to"),
			Prefix: rapid.SampledFrom([]string{"", "Bearer "}).Draw(t, "prefix"),
			Hide:   rapid.Bool().Draw(t, "hide"),
		}
		rule.To = slices.DeleteFunc(rule.To, func(backend string) bool { return written[rule.As+"@"+backend] })
		if len(rule.To) == 0 {
			continue
		}
		for _, backend := range rule.To {
			written[rule.As+"@"+backend] = true
		}
		rules = append(rules, rule)
		fmt.Fprintf(&text, "  - {name: %s, as: %s, to: [%s], prefix: %q, hide: %v} # %d\n",
			rule.Name, rule.As, strings.Join(rule.To, ", "), rule.Prefix, rule.Hide, i)
	}
	loaded, findings := policy.Load("drawn.yaml", []byte(text.String()))
	if loaded == nil {
		t.Fatalf("drew a policy with faults:\n%s\n%s", text.String(), findings.Error())
	}
	return world{policy: loaded, rules: rules}
}

// drawHeaders draws lines whose values tell whose they are, so that a value in the wrong place is seen.
func drawHeaders(t *rapid.T, owner string) []policy.Header {
	names := rapid.SliceOfN(rapid.SampledFrom(append([]string{"x-as", "host", "x-other"}, worldNames...)), 0, 8).
		Draw(t, owner)
	var lines []policy.Header
	for i, name := range names {
		lines = append(lines, policy.Header{Name: name, Value: policy.NewValue(fmt.Sprintf("%s/%s/%d", owner, name, i))})
	}
	return lines
}

// apply is what a proxy does with a decision: first remove, then set.
func apply(request []policy.Header, decision policy.Decision) []policy.Header {
	var result []policy.Header
	for _, header := range request {
		set := slices.ContainsFunc(decision.Set, func(h policy.Header) bool { return h.Name == header.Name })
		if !set && !slices.Contains(decision.Remove, header.Name) {
			result = append(result, header)
		}
	}
	return append(result, decision.Set...)
}

// Invariants 1 and 3: a backend gets of a client exactly what the rules allow it, in order, and of another client
// nothing.
func TestABackendGetsExactlyWhatTheRulesAllow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		client := drawHeaders(t, "client")
		capture, rejection := w.policy.Capture(client)
		if rejection != nil {
			t.Fatal(rejection)
		}
		for _, backend := range append([]string{"undeclared"}, worldBackends...) {
			sent := drawHeaders(t, "fanout")
			got := apply(
				sent,
				w.policy.Decide(
					policy.Call{Backend: backend, Ticket: policy.StatusRedeemed, Capture: capture.Capture, Request: sent},
				),
			)
			for _, name := range append([]string{"x-as", "x-other", "host"}, worldNames...) {
				if want := w.expect(backend, name, client, sent); !slices.EqualFunc(
					values(got, name), want, func(a, b string) bool { return a == b },
				) {
					t.Fatalf("backend %s header %s: got %q, want %q", backend, name, values(got, name), want)
				}
			}
		}
	})
}

// expect says by the rules alone what a backend gets under a name.
func (w world) expect(backend, name string, client, sent []policy.Header) []string {
	for _, rule := range w.rules {
		if rule.As == name && slices.Contains(rule.To, backend) {
			want := values(client, rule.Name)
			for i := range want {
				want[i] = rule.Prefix + want[i]
			}
			return want
		}
	}
	if slices.ContainsFunc(w.rules, func(rule policy.Rule) bool { return rule.Name == name && !rule.Hide }) {
		return nil // shown to the fan-out, and not for this backend
	}
	return values(sent, name)
}

// Invariant 10: without a redeemed ticket nothing of any client, and nothing of the fan-out's under a governed name.
func TestWithoutACaptureNothingOfAClientIsSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		capture, _ := w.policy.Capture(drawHeaders(t, "client"))
		for _, status := range []policy.TicketStatus{policy.StatusUnknown, policy.StatusNone} {
			for _, backend := range worldBackends {
				sent := drawHeaders(t, "fanout")
				got := apply(
					sent,
					w.policy.Decide(policy.Call{Backend: backend, Ticket: status, Capture: capture.Capture, Request: sent}),
				)
				for _, rule := range w.rules {
					if slices.Contains(rule.To, backend) && len(values(got, rule.As)) > 0 {
						t.Fatalf("status %d: backend %s got %s", status, backend, rule.As)
					}
				}
			}
		}
	})
}

// Deciding twice gives the same request: a proxy may run its filters again.
func TestDecidingTwiceIsDecidingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		capture, _ := w.policy.Capture(drawHeaders(t, "client"))
		backend := rapid.SampledFrom(worldBackends).Draw(t, "backend")
		once := drawHeaders(t, "fanout")
		call := policy.Call{Backend: backend, Ticket: policy.StatusRedeemed, Capture: capture.Capture, Request: once}
		once = apply(once, w.policy.Decide(call))
		call.Request = once
		twice := apply(once, w.policy.Decide(call))
		for _, header := range append(slices.Clone(once), twice...) {
			if !slices.Equal(values(once, header.Name), values(twice, header.Name)) {
				t.Fatalf("%s: once %q, twice %q", header.Name, values(once, header.Name), values(twice, header.Name))
			}
		}
	})
}

// Invariant 2: no spelling of a restricted name gets into a policy.
func TestNoSpellingOfARestrictedNameIsCarried(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := rapid.SampledFrom(policy.Restrictions()).Draw(t, "row")
		name := row.Pattern
		if family, ok := strings.CutSuffix(name, "*"); ok {
			name = family + rapid.StringMatching(`[a-z0-9-]{0,8}`).Draw(t, "rest")
		}
		spelled := []byte(name)
		for i := range spelled {
			switch {
			case spelled[i] == '-' && rapid.Bool().Draw(t, "underscore"):
				spelled[i] = '_'
			case rapid.Bool().Draw(t, "upper"):
				spelled[i] = []byte(strings.ToUpper(string(spelled[i])))[0]
			}
		}
		for _, rule := range []string{fmt.Sprintf("%q", spelled), fmt.Sprintf("{name: x-a, as: %q}", spelled)} {
			if loaded, _ := policy.Load("p.yaml", []byte("version: 1\nforward:\n  - "+rule+"\n")); loaded != nil {
				t.Fatalf("%s was accepted", rule)
			}
		}
	})
}

func values(lines []policy.Header, name string) []string {
	var all []string
	for _, header := range lines {
		if header.Name == name {
			all = append(all, header.Value.Reveal())
		}
	}
	return all
}

// Invariant 2, with families: whatever is captured or set, no restricted name is among it, and sensitive ones only
// where a rule names them.
func TestNoFamilyCarriesARestrictedName(t *testing.T) {
	restricted := []string{
		"x-forwarded-for",
		"x_forwarded_for",
		"x-envoy-x",
		"content-type",
		"content_length",
		"mcp-session-id",
		"authorization",
		"cookie",
		"x-bellhop-ticket",
		"proxy-authorization",
		"sec-fetch",
		"traceparent",
	}
	rapid.Check(t, func(t *rapid.T) {
		family := rapid.SampledFrom([]string{"x-*", "x*", "c*", "co*", "a*", "m*", "t*", "p*", "s*"}).Draw(t, "family")
		p, findings := policy.Load(
			"p.yaml",
			[]byte(
				"version: 1\nforward: [{name: \""+family+"\", hide: "+strconv.FormatBool(rapid.Bool().Draw(t, "hide"))+"}]\n",
			),
		)
		if p == nil {
			t.Fatal(findings.Error())
		}
		var request []policy.Header
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(append([]string{"x-fine", "color", "app"}, restricted...)), 0,
			12).Draw(t, "names") {
			request = append(request, policy.Header{Name: name, Value: policy.NewValue("v")})
		}
		taken, rejection := p.Capture(request)
		if rejection != nil {
			t.Fatal(rejection)
		}
		decision := p.Decide(policy.Call{Ticket: policy.StatusRedeemed, Capture: taken.Capture, Request: request})
		for _, name := range restricted {
			removed := slices.Contains(decision.Remove, name) &&
				!strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), "x-forwarded-") // which no backend gets at all
			if taken.Capture.Has(name) || slices.Contains(taken.Hide, name) || removed ||
				len(values(decision.Set, name)) > 0 {
				t.Fatalf("%s takes %s", family, name)
			}
		}
	})
}

// Invariant 3: a session gives back only what it was given, of the headers that the policy keeps.
func TestASessionKeepsOnlyHeadersWithKeepSession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, findings := policy.Load("p.yaml", []byte("version: 1\nforward: [{name: x-one, keep: session}, x-two]\n"))
		if p == nil {
			t.Fatal(findings.Error())
		}
		var kept policy.Capture
		last := map[string][]string{}
		for i := range rapid.IntRange(1, 6).Draw(t, "requests") {
			client := drawHeaders(t, fmt.Sprintf("request%d", i))
			taken, rejection := p.Capture(client)
			if rejection != nil {
				t.Fatal(rejection)
			}
			complete, leftOut := p.Complete(taken.Capture, kept)
			if len(leftOut) > 0 {
				t.Fatal(leftOut)
			}
			kept = p.Renew(kept, taken.Capture)
			if own := values(client, "x-one"); len(own) > 0 {
				last["x-one"] = own
			}
			if got := values(complete, "x-one"); !slices.Equal(got, last["x-one"]) {
				t.Fatalf("kept: got %q, want %q", got, last["x-one"])
			}
			if got, want := values(complete, "x-two"), values(client, "x-two"); !slices.Equal(got, want) {
				t.Fatalf("not kept: got %q, want %q", got, want)
			}
		}
	})
}
