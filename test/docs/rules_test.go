package docs

import (
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Only this code may take a value out of its type, each for the reason given.
func TestOnlyTheListedCodeRevealsValues(t *testing.T) {
	allowed := map[string]string{
		"policy/header.go":                       "declares it, and reads what Connection nominates",
		"policy/capture.go":                      "trims and checks bytes",
		"policy/decide.go":                       "puts the prefix before a value",
		"processor/jsonrpc/headers.go":           "reads mcp-method, mcp-name and the type of the body",
		"processor/message.go":                   "reads :method and mcp-session-id",
		"processor/response.go":                  "reads :status and mcp-session-id",
		"processor/explain.go":                   "reads x-bellhop-explain",
		"processor/session/names.go":             "digests what identifies a principal",
		"processor/ticket/stored.go":             "digests values into the MAC",
		"processor/ticket/sealed.go":             "encrypts them into a ticket",
		"processor/ticket/carrier.go":            "reads tickets and baggage",
		"processor/store/redis/codec.go":         "writes values that are encrypted then",
		"processor/store/storetest/storetest.go": "compares values of tests",
		"processor/extproc/reply.go":             "writes values on the wire",
		"processor/extproc/encode.go":            "writes values on the wire",
	}
	reveals := regexp.MustCompile(`\.Reveal\(\)`)
	for _, file := range code(t) {
		_, ok := allowed[file]
		if found := reveals.MatchString(read(t, file)); found && !ok {
			t.Errorf("%s reveals header values: put it on the list in this test with its reason, or do without", file)
		} else if found {
			delete(allowed, file)
		}
	}
	for file := range allowed {
		t.Errorf("%s reveals no header values any more: take it off the list", file)
	}
}

// A test that a document names exists.
func TestEveryTestInTheDocumentsExists(t *testing.T) {
	var tests strings.Builder
	for _, file := range tracked(t, "*_test.go") {
		tests.WriteString(read(t, file))
	}
	named := 0
	for _, document := range tracked(t, "*.md") {
		for _, match := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z]*)`").FindAllStringSubmatch(read(t, document), -1) {
			named++
			if !strings.Contains(tests.String(), "func "+match[1]+"(") {
				t.Errorf("%s names %s, which does not exist", document, match[1])
			}
		}
	}
	if named == 0 {
		t.Error("no document names a test")
	}
}

func TestEveryAnswerToEnvoyIsBuiltInOneFile(t *testing.T) {
	for _, file := range code(t) {
		if file != "processor/extproc/reply.go" && !strings.HasPrefix(file, "test/") &&
			strings.Contains(read(t, file), "extprocv3.ProcessingResponse{") {
			t.Errorf("%s builds an answer: that belongs into processor/extproc/reply.go", file)
		}
	}
}

func TestOnlyTheEdgeImportsEnvoysTypes(t *testing.T) {
	for _, file := range code(t) {
		edge := slices.ContainsFunc([]string{"envoy/", "processor/extproc/", "test/"}, func(folder string) bool {
			return strings.HasPrefix(file, folder)
		})
		if !edge && strings.Contains(read(t, file), `"github.com/envoyproxy/`) {
			t.Errorf("%s knows Envoy's types: they stay in envoy/ and processor/extproc/", file)
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
		parsed, err := parser.ParseFile(
			token.NewFileSet(), filepath.Join(root, file), nil, parser.PackageClauseOnly|parser.ParseComments,
		)
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
