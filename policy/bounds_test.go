package policy_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"bellhop/policy"
)

// One team's document must not take the memory or the time of all: what costs the YAML library more than its size is
// refused before it is parsed. The first two took 640 MB and 12 s.
func TestADocumentThatIsMeantToBeCostly(t *testing.T) {
	for name, text := range map[string]string{
		"brackets":  "backends: " + strings.Repeat("[", 20000),
		"keys":      strings.Repeat("a: b\n", 50000),
		"JSON keys": "{" + strings.Repeat(`"a":b,`, 19000) + "}",
		"null keys": "{" + strings.Repeat(`a,`, 19000) + "}",
		"braces":    "backends: " + strings.Repeat("{a: ", 20000),
		"quoted":    "backends: " + strings.Repeat("[\"]\", ", 20000),
		"dashes":    strings.Repeat("- ", 20000) + "a",
		"tabs":      strings.Repeat("-\t", 20000) + "a",
		"questions": strings.Repeat("? ", 20000) + "a",
		"items":     "forward: [" + strings.Repeat("a,", 200000) + "a]",
		"lines":     "forward:\n" + strings.Repeat("- a\n", 100000),
		"documents": strings.Repeat("---\na: b\n", 20000),
		"windows":   strings.Repeat("a:\r\n", 50000),
		"indentation": func() string {
			var text strings.Builder
			for i := range 600 {
				text.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return text.String()
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, findings := policy.Load("p.yaml", []byte(text))
			_, above := policy.LoadCeiling("c.yaml", []byte(text))
			runtime.ReadMemStats(&after)
			if !findings.HasErrors() || !above.HasErrors() {
				t.Error("it loads")
			}
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 64 {
				t.Errorf("it took %d MiB", took)
			}
		})
	}
}

// A document of any use is not refused for its size.
func TestALargePolicyLoads(t *testing.T) {
	var text strings.Builder
	text.WriteString("version: 1\nforward:\n")
	for i := range 48 {
		fmt.Fprintf(&text, "  - {name: x-h-%d, keep: session, tools: [a*, b*, c*], required: true}\n", i)
	}
	text.WriteString("backends:\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "  b%d: {clusters: [mcp-%d]}\n", i, i)
	}
	if p, findings := policy.Load("p.yaml", []byte(text.String())); p == nil {
		t.Error(findings)
	}
}
