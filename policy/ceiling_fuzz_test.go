package policy_test

import (
	"os"
	"testing"

	"bellhop/policy"
)

// FuzzCeiling: whatever the two documents are, both are read or refused with findings that have a place, and a policy
// that is read below a ceiling is read without it too.
func FuzzCeiling(f *testing.F) {
	for _, file := range []string{"testdata/ceiling/mesh.yaml", "testdata/ceiling/team.yaml"} {
		f.Add(readFuzzed(f, "testdata/ceiling/mesh.yaml"), readFuzzed(f, file))
	}
	f.Fuzz(func(t *testing.T, above, below []byte) {
		ceiling, findings := policy.LoadCeiling("mesh.yaml", above)
		if (ceiling == nil) != findings.HasErrors() {
			t.Fatalf("a ceiling is %v with the findings %s", ceiling, findings.Error())
		}
		if ceiling == nil {
			return
		}
		under, findings := policy.LoadUnder(ceiling, "p.yaml", below)
		if (under == nil) != findings.HasErrors() {
			t.Fatalf("a policy is %v with the findings %s", under, findings.Error())
		}
		if alone, _ := policy.Load("p.yaml", below); under != nil && alone == nil {
			t.Fatal("the ceiling lets a policy pass that is refused without it")
		}
	})
}

func readFuzzed(f *testing.F, file string) []byte {
	f.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	return text
}
