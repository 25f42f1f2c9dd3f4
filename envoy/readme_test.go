package envoy_test

import (
	"regexp"
	"strings"
	"testing"
)

// Everything that README.md shows is in an example, so it is what the program prints.
func TestReadme(t *testing.T) {
	readme := read(t, "README.md")
	minimal, filters := read(t, configFile("minimal")), read(t, configFile("filters"))
	blocks := regexp.MustCompile("(?s)```(yaml|sh)\n(.*?) *```").FindAllStringSubmatch(readme, -1)
	if len(blocks) != 5 {
		t.Errorf("%d snippets found, want 5", len(blocks))
	}
	for _, block := range blocks {
		text := block[2]
		if block[1] == "sh" {
			text = "# " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n# ") + "\n"
		}
		if !strings.Contains(minimal, text) && !strings.Contains(filters, text) {
			t.Errorf("this snippet is in neither %s nor %s:\n%s", configFile("minimal"), configFile("filters"), text)
		}
	}
	for name := range examples() {
		if !strings.Contains(readme, "("+configFile(name)+")") {
			t.Errorf("the example %s is not listed", name)
		}
	}
}

func TestReadmeListsEveryFlag(t *testing.T) {
	readme := read(t, "README.md")
	source := read(t, "options.go")
	flags := regexp.MustCompile(`"(--[a-z-]+)"`).FindAllStringSubmatch(source, -1)
	if len(flags) < 10 {
		t.Fatalf("only %d flags found in options.go", len(flags))
	}
	for _, flag := range flags {
		if !regexp.MustCompile(`\| .*` + "`" + flag[1] + "[` ]").MatchString(readme) {
			t.Errorf("%s is not in the table of flags", flag[1])
		}
	}
}
