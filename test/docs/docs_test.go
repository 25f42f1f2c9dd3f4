// Package docs keeps the READMEs and the repository's own rules true: it runs what they say and looks up what they
// claim.
package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"bellhop/policy"
	"bellhop/test/tools"
)

// root is the project's folder, seen from this package.
const root = "../.."

// snippet is one fenced block of a document.
type snippet struct {
	file, language, text string
	line                 int
}

// snippets finds every fenced block of every document that git knows or would know.
func snippets(t *testing.T) []snippet {
	t.Helper()
	var all []snippet
	for _, file := range tracked(t, "*.md") {
		var open *snippet
		for i, line := range strings.Split(read(t, file), "\n") {
			fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
			switch {
			case isFence && open == nil:
				open = &snippet{file: file, language: fence, line: i + 1}
			case isFence:
				all = append(all, *open)
				open = nil
			case open != nil:
				open.text += line + "\n"
			}
		}
		if open != nil {
			t.Errorf("%s:%d: a block is not closed", file, open.line)
		}
	}
	return all
}

func TestEveryPolicyInTheDocumentsIsValid(t *testing.T) {
	policies := 0
	for _, s := range snippets(t) {
		if s.language != "yaml" {
			continue
		}
		name := fmt.Sprintf("%s:%d", s.file, s.line)
		if !strings.HasPrefix(s.text, "version: 1\n") {
			var document any
			if err := yaml.Unmarshal([]byte(s.text), &document); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		policies++
		if findings := errs(name, s.text); findings.HasErrors() {
			t.Errorf("%s", findings.Error())
		}
	}
	if policies < 5 {
		t.Errorf("only %d policies were found", policies)
	}
}

// errors checks a policy, or a ceiling.
func errs(name, text string) policy.Findings {
	if strings.Contains(text, "\nceiling:") {
		_, findings := policy.LoadCeiling(name, []byte(text))
		return findings
	}
	_, findings := policy.Load(name, []byte(text))
	return findings
}

// Every command in the documents exists, with its flags; every make target too.
func TestEveryCommandInTheDocumentsExists(t *testing.T) {
	bellhop := build(t)
	targets := read(t, "Makefile")
	for _, s := range snippets(t) {
		if !strings.HasPrefix(s.language, "sh") {
			continue
		}
		for line := range strings.SplitSeq(strings.ReplaceAll(s.text, "\\\n", " "), "\n") {
			words := strings.Fields(line)
			switch {
			case len(words) > 1 && words[0] == "make" && !strings.Contains(targets, "\n"+words[1]+":"):
				t.Errorf("%s:%d: make %s does not exist", s.file, s.line, words[1])
			case len(words) > 1 && words[0] == "bellhop":
				wantFlags(t, bellhop, s, words[1:])
			}
		}
	}
}

func wantFlags(t *testing.T, bellhop string, s snippet, words []string) {
	t.Helper()
	var command []string
	for _, word := range words {
		if !regexp.MustCompile(`^[a-z]+$`).MatchString(word) {
			break
		}
		command = append(command, word)
	}
	help, err := exec.CommandContext(t.Context(), bellhop, append(command, "--help")...).CombinedOutput()
	if err != nil {
		t.Errorf("%s:%d: bellhop %q: %v", s.file, s.line, command, err)
	}
	for _, word := range words {
		if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") && !strings.Contains(string(help), flag+" ") {
			t.Errorf("%s:%d: bellhop %s has no flag %s", s.file, s.line, strings.Join(command, " "), flag)
		}
	}
}

func TestTheTableOfFlagsIsThatOfServe(t *testing.T) {
	help, err := exec.CommandContext(t.Context(), build(t), "serve", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	flag := regexp.MustCompile(`--[a-z][a-z-]+`)
	_, table, _ := strings.Cut(read(t, "deploy/README.md"), "## Flags of serve")
	table, _, _ = strings.Cut(table, "\n## ")
	documented := flag.FindAllString(table, -1)
	_, flags, _ := strings.Cut(string(help), "Flags:")
	for line := range strings.SplitSeq(flags, "\n") {
		if name := flag.FindString(line); name != "" && name != "--help" && !slices.Contains(documented, name) {
			t.Errorf("%s is not in deploy/README.md", name)
		}
	}
	for _, name := range documented {
		if !strings.Contains(flags, name+" ") {
			t.Errorf("%s is in deploy/README.md and not in serve", name)
		}
	}
}

func TestTheTableOfMetricsIsComplete(t *testing.T) {
	made := map[string]bool{}
	for _, file := range tracked(t, "*.go") {
		if strings.HasPrefix(file, "processor/") && !strings.HasSuffix(file, "_test.go") {
			for _, match := range regexp.MustCompile(`"(bellhop_[a-z_]+)",\s*(?:Help|")|gauge\("(bellhop_[a-z_]+)"`).FindAllStringSubmatch(read(t, file), -1) {
				made[match[1]+match[2]] = true
			}
		}
	}
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile("bellhop_[a-z_]+").FindAllString(read(t, "deploy/README.md"), -1) {
		documented[name] = true
	}
	for name := range made {
		if !documented[name] {
			t.Errorf("%s is not in deploy/README.md", name)
		}
	}
	for name := range documented {
		if !made[name] {
			t.Errorf("%s is in deploy/README.md, but no code counts it", name)
		}
	}
}

func TestTheTableOfRestrictedNamesIsThatOfTheCode(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "policy/README.md"), "<!-- restricted")
	rows := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (.+) \| (.+) \|$`).FindAllStringSubmatch(text, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			rows[name[1]] = row[2]
		}
	}
	for _, row := range policy.Restrictions() {
		if rows[row.Pattern] != row.Reason {
			t.Errorf("%s: the document says %q, the code %q", row.Pattern, rows[row.Pattern], row.Reason)
		}
		delete(rows, row.Pattern)
	}
	if len(rows) > 0 {
		t.Errorf("the document has more: %v", rows)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for _, file := range tracked(t, "*.md") {
		for _, match := range link.FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(file), match[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

func build(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	path, err := tools.BuildBellhop(ctx, t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// tracked lists the project's files that match, without those that git ignores.
func tracked(t *testing.T, pattern string) []string {
	t.Helper()
	command := exec.CommandContext(
		t.Context(), "git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern,
	)
	command.Dir = root
	output, err := command.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	files := strings.Fields(string(output))
	if len(files) == 0 {
		t.Fatalf("no file matches %s", pattern)
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every policy that stands in a file tells an editor where its schema is, and that is true.
func TestEveryExampleNamesItsSchema(t *testing.T) {
	line := regexp.MustCompile(`^# yaml-language-server: \$schema=(\S+)\n`)
	examples := 0
	for _, file := range append(tracked(t, "deploy/*.yaml"), tracked(t, "envoy/examples/*.yaml")...) {
		text := read(t, file)
		if !strings.Contains("\n"+text, "\nversion: 1\n") {
			continue
		}
		examples++
		match := line.FindStringSubmatch(text)
		if match == nil {
			t.Errorf("%s: the first line names no schema", file)
			continue
		}
		schema := "policy/schema.json"
		if strings.Contains(text, "\nceiling:") {
			schema = "policy/ceiling.schema.json"
		}
		if named := filepath.Join(filepath.Dir(file), match[1]); named != schema {
			t.Errorf("%s: its schema is %s, not %s", file, schema, named)
		}
	}
	if examples < 15 {
		t.Errorf("only %d examples were found", examples)
	}
}
