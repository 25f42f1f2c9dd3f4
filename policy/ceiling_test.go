package policy_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bellhop/policy"
)

func loadCeiling(t *testing.T, text string) *policy.Ceiling {
	t.Helper()
	ceiling, findings := policy.LoadCeiling("mesh.yaml", []byte(text))
	if ceiling == nil {
		t.Fatal(findings.Error())
	}
	return ceiling
}

func TestEachErrorOfACeilingIsReportedAtItsPosition(t *testing.T) {
	for _, file := range fixtures(t, "ceiling/invalid") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text := read(t, file)
			loaded, findings := policy.LoadCeiling(file, text)
			if loaded != nil {
				t.Fatal("a ceiling with a fault was loaded")
			}
			wantOneError(t, text, findings)
		})
	}
}

func TestEachPolicyAboveItsCeilingIsReportedAtItsPosition(t *testing.T) {
	ceiling := loadCeiling(t, string(read(t, "testdata/ceiling/mesh.yaml")))
	for _, file := range fixtures(t, "ceiling/below") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text := read(t, file)
			if alone, findings := policy.Load(file, text); alone == nil {
				t.Fatalf("it must be good without a ceiling: %s", findings.Error())
			}
			loaded, findings := policy.LoadUnder(ceiling, file, text)
			if loaded != nil {
				t.Fatal("a policy above its ceiling was loaded")
			}
			wantOneError(t, text, findings)
		})
	}
}

func TestAPolicyBelowItsCeiling(t *testing.T) {
	ceiling := loadCeiling(t, string(read(t, "testdata/ceiling/mesh.yaml")))
	text := read(t, "testdata/ceiling/team.yaml")
	loaded, findings := policy.LoadUnder(ceiling, "team.yaml", text)
	if loaded == nil {
		t.Fatal(findings.Error())
	}
	want := policy.Limits{Headers: 16, ValueBytes: 4096, TotalBytes: 8192, BodyBytes: 4 << 20}
	if got := loaded.Limits(); got != want {
		t.Errorf("limits that it does not set are the ceiling's: got %+v", got)
	}
	alone, _ := policy.Load("team.yaml", text)
	other, _ := policy.LoadUnder(
		loadCeiling(
			t,
			"version: 1\nceiling: {allow: [\"*\"], sensitive: [{name: authorization, to: [github]}, {name: cookie, to: "+
				"[billing]}], discovery: [/run]}\n",
		),
		"team.yaml",
		text,
	)
	if other == nil || alone.Digest() == loaded.Digest() || loaded.Digest() == other.Digest() {
		t.Error("the same policy under another ceiling is another policy")
	}
}

// What one of several grants allows is allowed: they need not be one line.
func TestGrantsAddUp(t *testing.T) {
	const grant = "{name: cookie, to: [a], clusters: [%s]}"
	for _, test := range []struct{ grants, want string }{
		{fmt.Sprintf(grant, "one") + ", " + fmt.Sprintf(grant, "two"), ""},
		{fmt.Sprintf(grant, "two") + ", {name: cookie, to: [a]}", ""},
		{fmt.Sprintf(grant, "one") + ", {name: cookie, to: [a], clusters: [two], fanouts: [other]}", "use only one, or ask"},
		{fmt.Sprintf(grant, "one") + ", {name: cookie, to: [b], clusters: [two]}", "use only one, or ask"},
		{fmt.Sprintf(grant, "one") + ", " + fmt.Sprintf(grant, "three"), "use only one, three, or ask"},
	} {
		ceiling := loadCeiling(t, "version: 1\nceiling: {sensitive: ["+test.grants+"]}\n")
		_, findings := policy.LoadUnder(
			ceiling, "team.yaml",
			[]byte("version: 1\nforward: [{name: cookie, to: [a], hide: true}]\nbackends: {a: {clusters: [one, two]}}\n"),
		)
		if findings.HasErrors() != (test.want != "") ||
			(test.want != "" && !strings.Contains(findings.Error(), test.want)) {
			t.Errorf("%s: %q, want %q", test.grants, findings.Error(), test.want)
		}
	}
}

// A ceiling for all values together is one for each of them: the hint must not be to raise what may not be raised.
func TestAValueLimitStaysBelowTheCeilingsTotal(t *testing.T) {
	ceiling := loadCeiling(t, "version: 1\nceiling: {limits: {total_bytes: 8192}}\n")
	for limits, want := range map[string]string{
		"value_bytes: 8192":                     "",
		"value_bytes: 9000":                     "write 8192 or less",
		"value_bytes: 9000, total_bytes: 8192":  "write 8192 or less",
		"value_bytes: 9000, total_bytes: 10000": "write 8192 or less",
		"value_bytes: 5000, total_bytes: 4096":  "raise total_bytes too, or lower this",
	} {
		_, findings := policy.LoadUnder(
			ceiling, "team.yaml", []byte("version: 1\nforward: [x-a]\nlimits: {"+limits+"}\n"),
		)
		if findings.HasErrors() != (want != "") {
			t.Errorf("%s: %v", limits, findings)
		}
		for _, finding := range findings {
			if finding.Severity == policy.SeverityError && finding.Hint != want {
				t.Errorf("%s: %q, want %q", limits, finding.Hint, want)
			}
		}
	}
}

// Whatever a policy under a ceiling captures or writes, nothing of it is denied and everything is allowed.
func TestNoPolicyGetsAboveItsCeiling(t *testing.T) {
	names := []string{"x-a", "x-a-b", "x_a_c", "x-b", "y-a", "y", "authorization", "cookie", "user-agent"}
	patterns := append([]string{"x-a*", "x-*", "x-a-*", "x_*", "y*"}, names...)
	passed := 0
	rapid.Check(t, func(t *rapid.T) {
		allow := rapid.SliceOfN(rapid.SampledFrom(append([]string{"*", "x-*"}, patterns...)), 1, 6).Draw(t, "allow")
		deny := rapid.SliceOfN(rapid.SampledFrom(patterns), 0, 2).Draw(t, "deny")
		ceiling, findings := policy.LoadCeiling(
			"mesh.yaml",
			[]byte(
				fmt.Sprintf(
					"version: 1\nceiling: {allow: [%s], deny: [%s], sensitive: [{name: cookie, to: [a]}]}\n", quoted(allow),
					quoted(deny),
				),
			),
		)
		if ceiling == nil {
			t.Fatal(findings.Error())
		}
		p, _ := policy.LoadUnder(ceiling, "p.yaml", []byte(drawRules(t, patterns, names)))
		if p == nil {
			return
		}
		passed++
		var request []policy.Header
		for _, name := range names {
			request = append(request, policy.Header{Name: name, Value: policy.NewValue("v")})
		}
		taken, rejection := p.Capture(request)
		if rejection != nil {
			t.Fatal(rejection)
		}
		for _, backend := range []string{"a", "b"} {
			decision := p.Decide(policy.Call{Backend: backend, Ticket: policy.StatusRedeemed, Capture: taken.Capture})
			for _, header := range append(slices.Clone(taken.Capture), decision.Set...) {
				if matches(deny, header.Name) {
					t.Fatalf("%s is denied", header.Name)
				}
				if !matches(allow, header.Name) && header.Name != "cookie" {
					t.Fatalf("%s is not allowed", header.Name)
				}
			}
			for _, header := range decision.Set {
				if header.Name == "authorization" || (header.Name == "cookie" && backend != "a") {
					t.Fatalf("backend %s was not granted %s", backend, header.Name)
				}
			}
		}
	})
	t.Logf("%d drawn policies were below their ceiling", passed)
	if passed == 0 && !testing.Short() {
		t.Error("no drawn policy was below its ceiling: the test proves nothing")
	}
}

func drawRules(t *rapid.T, patterns, names []string) string {
	var text strings.Builder
	text.WriteString("version: 1\nbackends: {a: {}, b: {}}\nforward:\n")
	for range rapid.IntRange(1, 3).Draw(t, "rules") {
		name := rapid.SampledFrom(patterns).Draw(t, "name")
		to := rapid.SampledFrom([]string{"a", "b", "a, b"}).Draw(t, "to")
		as := name
		if !strings.HasSuffix(name, "*") {
			as = rapid.SampledFrom(append([]string{name}, names...)).Draw(t, "as")
		}
		fmt.Fprintf(&text, "  - {name: %q, as: %q, to: [%s], hide: true}\n", name, as, to)
	}
	return text.String()
}

func quoted(patterns []string) string {
	var all []string
	for _, pattern := range patterns {
		all = append(all, strconv.Quote(pattern))
	}
	return strings.Join(all, ", ")
}

// matches is the meaning of a list of patterns, said in another way than the code says it.
func matches(patterns []string, name string) bool {
	for _, pattern := range patterns {
		pattern, name := strings.ReplaceAll(pattern, "_", "-"), strings.ReplaceAll(name, "_", "-")
		if ok, _ := filepath.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// What is carried for how long is bounded too: by default the ceiling's, and no policy may say more.
func TestACeilingBoundsDurations(t *testing.T) {
	ceiling := loadCeiling(t, "version: 1\nceiling: {lifetime: 10m, rotate: 1h, idle: 20m}\n")
	loaded, findings := policy.LoadUnder(ceiling, "p.yaml", []byte("version: 1\nforward: [x-a]\n"))
	if loaded == nil {
		t.Fatal(findings)
	}
	if loaded.Lifetime() != 10*time.Minute || loaded.Rotate() != time.Hour || loaded.Session().Idle != 20*time.Minute {
		t.Errorf("got %s, %s, %s", loaded.Lifetime(), loaded.Rotate(), loaded.Session().Idle)
	}
	for _, line := range []string{
		"ticket: {lifetime: 11m}", "ticket: {rotate: 2h}", "session: {idle: 21m}", "ticket: {lifetime: 2562047h}",
	} {
		_, findings := policy.LoadUnder(ceiling, "p.yaml", []byte("version: 1\nforward: [x-a]\n"+line+"\n"))
		if !strings.Contains(findings.Error(), "is above the ceiling of") {
			t.Errorf("%s: %v", line, findings)
		}
	}
	for _, line := range []string{
		"ticket: {lifetime: 2562047h}", "ticket: {lifetime: 9999999999h}", "ticket: {grace: 8761h}",
	} {
		if _, findings := policy.Load("p.yaml", []byte("version: 1\nforward: [x-a]\n"+line+"\n")); !findings.HasErrors() {
			t.Errorf("%s: no error", line)
		}
	}
}
