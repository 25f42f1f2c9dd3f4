package docs

import (
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Only this code may take a value out of its type, each for the reason given.
func TestOnlyTheListedCodeRevealsValues(t *testing.T) {
	allowed := map[string]string{
		"policy/header.go":                       "reads what Connection nominates",
		"policy/capture.go":                      "trims and checks bytes",
		"policy/act.go":                          "reads mcp-method and mcp-name",
		"policy/decide.go":                       "puts the prefix before a value",
		"processor/session/session.go":           "writes what tells users apart into a digest",
		"processor/view.go":                      "reads x-bellhop-explain",
		"processor/wire.go":                      "reads :method, :status and mcp-session-id",
		"policy/value.go":                        "declares it",
		"processor/store/redis/codec.go":         "writes values that are encrypted then",
		"processor/store/storetest/storetest.go": "compares values of tests",
		"processor/ticket/sealed.go":             "encrypts them into a ticket",
		"processor/ticket/ticket.go":             "writes values into the MAC",
		"processor/ticket/carrier.go":            "reads tickets and baggage",
		"processor/reply.go":                     "writes values on the wire",
	}
	for _, file := range code(t) {
		if _, ok := allowed[file]; !ok && regexp.MustCompile(`\.Reveal\(\)`).MatchString(read(t, file)) {
			t.Errorf("%s reveals header values: put it on the list in this test with its reason, or do without", file)
		}
	}
}

func TestEveryAnswerToEnvoyIsBuiltInOneFile(t *testing.T) {
	for _, file := range code(t) {
		if file != "processor/reply.go" && strings.Contains(read(t, file), "extprocv3.ProcessingResponse{") {
			t.Errorf("%s builds an answer: that belongs into processor/reply.go", file)
		}
	}
}

func TestEnvoysTypesStayAtTheEdge(t *testing.T) {
	allowed := map[string]bool{
		"processor/wire.go": true, "processor/reply.go": true, "processor/stream.go": true, "processor/processor.go": true,
		"processor/accesslog.go": true, "processor/server/server.go": true,
	}
	for _, file := range code(t) {
		outside := !strings.HasPrefix(file, "envoy/") && !strings.HasPrefix(file, "test/istio/") // a module of its own
		if !allowed[file] && outside && strings.Contains(read(t, file), `"github.com/envoyproxy/`) {
			t.Errorf("%s knows Envoy's types", file)
		}
	}
}

// Each invariant of the contract is guarded by a test that names it.
func TestEveryInvariantHasATest(t *testing.T) {
	var tests strings.Builder
	for _, file := range tracked(t, "*_test.go") {
		tests.WriteString(read(t, file))
	}
	for number := 1; number <= 10; number++ {
		if !regexp.MustCompile(fmt.Sprintf(`// Invariants? [0-9, and]*\b%d\b`, number)).MatchString(tests.String()) {
			t.Errorf("no test names invariant %d", number)
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string]int{}
	for _, file := range code(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Dir(file)
		comments[folder] += 0
		if parsed.Doc != nil {
			comments[folder]++
		}
	}
	for folder, n := range comments {
		if n != 1 {
			t.Errorf("package %s has %d comments, want 1", folder, n)
		}
	}
}

// code lists the program's files, without tests.
func code(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, file := range tracked(t, "*.go") {
		if !strings.HasSuffix(file, "_test.go") {
			files = append(files, file)
		}
	}
	return files
}
