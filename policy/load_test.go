package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/policy"
)

// Invariant 9: a policy loads whole or not at all. Each fixture has exactly one error; its first line says where and
// how it is reported.
func TestEachErrorIsReportedAtItsPosition(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			loaded, findings := policy.Load(file, text)
			if loaded != nil {
				t.Fatal("a policy with a fault was loaded")
			}
			wantOneError(t, text, findings)
		})
	}
}

// wantOneError wants the one error that the first line of a document names.
func wantOneError(t *testing.T, text []byte, findings policy.Findings) {
	t.Helper()
	if findings.Count(policy.SeverityError) != 1 {
		t.Fatalf("want one fault, got %d:\n%s", findings.Count(policy.SeverityError), findings.Error())
	}
	first, _, _ := strings.Cut(string(text), "\n")
	place, message, _ := strings.Cut(strings.TrimPrefix(first, "# want "), " ")
	fault := only(findings, policy.SeverityError)
	if got := fmt.Sprintf("%d:%d", fault.Line, fault.Column); got != place || !strings.Contains(fault.Message, message) {
		t.Errorf("got  %s %s\nwant %s %s", got, fault.Message, place, message)
	}
	if fault.Hint == "" || (fault.Source == "" && len(text) > 0 && place != "1:1") {
		t.Errorf("the fault must say how to fix it and show the line: %#v", fault)
	}
}

func only(findings policy.Findings, severity policy.Severity) policy.Finding {
	for _, finding := range findings {
		if finding.Severity == severity {
			return finding
		}
	}
	return policy.Finding{}
}

func TestAllErrorsAreReportedAtOnceInOrder(t *testing.T) {
	_, findings := policy.Load(
		"p.yaml",
		[]byte("version: 3\nforward:\n  - host\n  - {nam: x-a}\nlimits: {headers: 0}\ntickets: {}\n"),
	)
	if got := findings.Count(policy.SeverityError); got != 6 {
		t.Errorf("got %d faults, want 6:\n%s", got, findings.Error())
	}
	for i, finding := range findings[1:] {
		if finding.Line < findings[i].Line {
			t.Errorf("line %d stands after line %d", finding.Line, findings[i].Line)
		}
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct{ name, document, want string }{
		{"baggage", "version: 1\nforward: [x-a]\nticket: {carriers: [baggage]}\n", "baggage is the weaker carrier"},
		{
			"no clusters",
			"version: 1\nforward: [x-a]\nbackends: {a: {clusters: [c]}, b: {}}\n",
			"backend \"b\" has no clusters",
		},
		{
			"no way for a rule",
			"version: 1\nforward: [{name: x-a, to: [b]}]\nbackends: {a: {clusters: [c]}, b: {}}\n",
			"no backend of this rule has clusters",
		},
		{
			"sealed and long",
			"version: 1\nforward: [x-a]\nticket: {mode: sealed}\n",
			"a sealed ticket crosses the fan-out with about 8192 bytes",
		},
		{
			"sealed in baggage and long",
			"version: 1\nforward: [x-a]\nlimits: {value_bytes: 6000, total_bytes: 6000}\nticket: {mode: sealed, carriers: " +
				"[baggage]}\n",
			"with about 5120 bytes",
		},
		{
			"sealed and grace",
			"version: 1\nforward: [x-a]\nlimits: {total_bytes: 8192}\nticket: {mode: sealed, grace: 1m}\n",
			"grace has no effect with sealed tickets",
		},
		{
			"sealed and a session",
			"version: 1\nlimits: {total_bytes: 8192}\nforward: [{name: x-a, keep: session}]\nticket: {mode: sealed}\n",
			"keep: session needs a store, also with sealed tickets",
		},
		{
			"anonymous session",
			"version: 1\nforward: [{name: x-a, keep: session}]\nsession: {bind: []}\n",
			"keep: session without a principal",
		},
		{
			"a ticket that outlives its session",
			"version: 1\nforward: [x-a]\nticket: {lifetime: 2h}\n",
			"ticket.lifetime is longer than session.idle",
		},
		{"prefix alone", "version: 1\nforward: [{name: x-a, prefix: \"Bearer \"}]\n", "prefix without as"},
		{
			"token",
			"version: 1\nbackends: {a: {clusters: [c]}}\nforward:\n  - {name: authorization, to: [a], hide: true}\n",
			"MCP forbids passing on the access token",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			loaded, findings := policy.Load("p.yaml", []byte(test.document))
			if loaded == nil {
				t.Fatalf("a warning must not keep a policy from being used: %s", findings.Error())
			}
			if !slices.ContainsFunc(
				findings,
				func(f policy.Finding) bool { return strings.Contains(f.Message, test.want) && f.Hint != "" },
			) {
				t.Errorf("got %s\nwant %q", findings.Error(), test.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	p := load(t, "version: 1\nforward: [X-MCP-API-Key]\n")
	if got := p.Limits(); got != (policy.Limits{Headers: 64, ValueBytes: 8192, TotalBytes: 16384, BodyBytes: 4 << 20}) {
		t.Errorf("limits %+v", got)
	}
	if got := fmt.Sprintln(p.Carriers(), p.Lifetime(), p.Rotate(), p.Grace(), p.Open(),
		p.Mode()); got != "[header] 30m0s 24h0m0s 30s true enforce\n" {
		t.Errorf("got %s", got)
	}
}

// What the fan-out copies into the body of a call can be read there: a ticket in baggage is of no use for long.
func TestTicketsInBaggageAreShortLived(t *testing.T) {
	p := load(t, "version: 1\nforward: [x-a]\nticket: {carriers: [baggage]}\n")
	if p.Rotate().Minutes() != 5 || p.MaxAge().Minutes() != 5 {
		t.Errorf("rotate %s, max_age %s, want 5m", p.Rotate(), p.MaxAge())
	}
	for _, field := range []string{"rotate", "max_age"} {
		text := "version: 1\nforward: [x-a]\nticket: {carriers: [header, baggage], " + field + ": 6m}\n"
		loaded, findings := policy.Load("p.yaml", []byte(text))
		if loaded != nil || !strings.Contains(findings.Error(), field+" must be at most 5m") {
			t.Errorf("%s: %v", field, findings)
		}
	}
}

func TestALongLineIsShownAroundTheError(t *testing.T) {
	_, findings := policy.Load(
		"p.yaml",
		[]byte(
			"version: 1\nforward: ["+strings.Repeat("x-a-long-name, ", 12)+"\"\x1b[31m\", "+strings.Repeat("x-b, ", 12)+"]\n",
		),
	)
	for _, finding := range findings {
		lines := strings.Split(finding.String(), "\n")
		if len(lines[1]) > 200 || strings.ContainsRune(finding.String(), '\x1b') {
			t.Errorf("%q is no line for a terminal", lines[1])
		}
	}
	if !findings.HasErrors() {
		t.Error("no fault")
	}
}

func TestAByteOrderMarkIsIgnored(t *testing.T) {
	load(t, "\ufeffversion: 1\nforward: [x-a]\n")
}

func TestFindingShowsTheLineAndTheHint(t *testing.T) {
	_, findings := policy.Load("p.yaml", []byte("version: 1\nforward:\n  - Host\n"))
	want := `p.yaml:3:5: error: name: "host" is restricted (host): it routes the request, so carrying it would send the request elsewhere
  3 |   - Host
    |     ^
  hint: choose another header; no policy can carry this one
`
	if got := findings.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAQuotedKeyEqualsTheUnquotedOne(t *testing.T) {
	p := load(t, "\"version\": 1\nforward: [{name: x-a, to: [\"on\"]}]\nbackends: {\"on\": {clusters: [c]}}\n")
	if name, ok := p.Backend("", "c"); name != "on" || !ok {
		t.Errorf("got %q %v", name, ok)
	}
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/invalid/*.yaml", "testdata/good/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		loaded, findings := policy.Load("fuzz.yaml", text)
		if (loaded == nil) != findings.HasErrors() {
			t.Fatalf("a policy and faults must exclude each other: %v", findings)
		}
		for _, finding := range findings {
			if finding.Line < 1 || finding.Column < 1 || finding.Hint == "" {
				t.Fatalf("a finding without a place or a hint: %#v", finding)
			}
		}
	})
}

func load(t testing.TB, document string) *policy.Policy {
	t.Helper()
	p, findings := policy.Load("policy.yaml", []byte(document))
	if p == nil {
		t.Fatalf("the policy has faults:\n%s", findings.Error())
	}
	return p
}
