package policy

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawSources draws rules whose names and families overlap in many ways.
func drawSources(t *rapid.T) []Rule {
	pattern := rapid.Custom(func(t *rapid.T) string {
		name := "x" + strings.Join(
			rapid.SliceOfN(rapid.SampledFrom([]string{"-a", "-b", "_a", "-x"}), 0, 4).Draw(t, "parts"),
			"",
		)
		return rapid.SampledFrom([]string{name, name + "*", name + "-*", "a*", "authorization", "c*"}).Draw(t, "pattern")
	})
	rules := make([]Rule, rapid.IntRange(1, maxRules).Draw(t, "rules"))
	for i := range rules {
		rules[i] = Rule{
			Name:     pattern.Draw(t, "name"),
			Keep:     rapid.SampledFrom([]Keep{KeepRequest, KeepSession}).Draw(t, "keep"),
			MaxBytes: rapid.SampledFrom([]int{0, 1, 5, 9}).Draw(t, "max_bytes"),
		}
	}
	return rules
}

// slowCover is what [sources.cover] says, from the words of the README and one pattern after the other.
func slowCover(s sources, name string) (want covering, leftOut bool) {
	listed := slices.IndexFunc(s.list, func(source source) bool {
		_, isFamily := family(source.pattern)
		return source.pattern == name && !isFamily
	})
	for i, source := range s.list {
		if matches(source.pattern, name) {
			want.maxBytes = lower(want.maxBytes, source.maxBytes)
			want.set |= 1 << i
		}
	}
	switch {
	case listed >= 0:
		want.position = listed
	case want.set != 0:
		want.position = want.set.first()
	default:
		return covering{}, slices.ContainsFunc(s.list, func(source source) bool { return covers(source.pattern, name) })
	}
	return want, false
}

func TestLookupOfANameAgreesWithEveryPattern(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSources(drawSources(t))
		suffix := rapid.SampledFrom([]string{"", "-a", "-a-b", "_a-x", "-", "-b-b-b", "uthorization", "ontent-length"})
		for _, source := range s.list {
			for _, name := range []string{source.pattern, strings.TrimSuffix(source.pattern, "*") + suffix.Draw(t, "suffix")} {
				got, leftOut := s.cover(name)
				want, wantLeftOut := slowCover(s, name)
				if got != want || leftOut != wantLeftOut {
					t.Fatalf("%s: %+v %v, want %+v %v in %v", name, got, leftOut, want, wantLeftOut, s.list)
				}
			}
		}
	})
}

// slowComplete adds kept lines one name at a time.
func slowComplete(p *Policy, own, kept Capture) (Capture, []string) {
	breaks := func(lines []line) bool {
		var within budget
		for i := range lines {
			if within.take(p.doc.Limits, &lines[i]) != nil {
				return true
			}
		}
		return false
	}
	lines := p.lines(own, nil)
	var leftOut []string
	for _, one := range p.lines(kept, nil) {
		if own.Has(one.Name) || !p.keeps(one.Name) || slices.Contains(leftOut, one.Name) ||
			slices.ContainsFunc(lines, func(l line) bool { return l.Name == one.Name }) {
			continue
		}
		with := slices.Clone(lines)
		for _, same := range kept {
			if same.Name == one.Name {
				with = append(with, line{same, one.covering})
			}
		}
		if breaks(with) {
			leftOut = append(leftOut, one.Name)
		} else {
			lines = with
		}
	}
	return inOrder(lines), leftOut
}

func TestCompleteAgreesWithOneNameAtATime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := drawSources(t)
		p := compile(Document{Forward: rules, Limits: Limits{
			Headers: rapid.IntRange(1, 12).
				Draw(t, "headers"),
			ValueBytes: 9, TotalBytes: rapid.IntRange(20, 200).Draw(t, "total"),
		}})
		capture := func(label string) Capture {
			var request []Header
			for i := range rapid.IntRange(0, 12).Draw(t, label) {
				name := strings.TrimSuffix(rapid.SampledFrom(rules).Draw(t, "rule").Name, "*")
				name += rapid.SampledFrom([]string{"", "-1", "-2"}).Draw(t, "member")
				request = append(request, Header{Name: name, Value: NewValue(strconv.Itoa(i % 3))})
			}
			captured, rejection := p.Capture(request)
			if rejection != nil {
				t.Skip("it breaks a limit by itself")
			}
			return captured.Capture
		}
		own, kept := capture("own"), p.Kept(capture("kept"))
		got, leftOut := p.Complete(own, kept)
		want, wantLeftOut := slowComplete(p, own, kept)
		same := slices.EqualFunc(got, want, func(a, b Header) bool { return a.Name == b.Name && a.Value.Equal(b.Value) })
		if !same || !slices.Equal(leftOut, wantLeftOut) {
			t.Fatalf("own %v, kept %v: %v without %v, want %v without %v", own, kept, got, leftOut, want, wantLeftOut)
		}
	})
}
