package istio_test

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/policy"
)

var update = flag.Bool("update", false, "write the examples again")

const openPolicy = "version: 1\nforward: [x-mcp-api-key]\n"

func load(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, findings := policy.Load("policy.yaml", []byte(text))
	if p == nil {
		t.Fatal(findings)
	}
	return p
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// golden wants a file to hold what was made.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, file), string(got)); diff != "" {
		t.Errorf("run go test ./envoy/istio -update, if this is meant to be (-file +got):\n%s", diff)
	}
}
