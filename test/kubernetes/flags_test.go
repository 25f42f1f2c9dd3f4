package kubernetes_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// flags are those of bellhop serve, with their defaults.
type flags map[string]string

func newFlags(t *testing.T) flags {
	t.Helper()
	help, err := exec.CommandContext(t.Context(), bellhop, "serve", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := flags{}
	for _, line := range regexp.MustCompile(`(?m)^ +--([a-z-]+) .*$`).FindAllStringSubmatch(string(help), -1) {
		value := ""
		if match := regexp.MustCompile(`\(default "?([^")]*)"?\)$`).FindStringSubmatch(line[0]); match != nil {
			value = match[1]
		}
		all[line[1]] = value
	}
	if len(all) < 10 {
		t.Fatalf("only %d flags in\n%s", len(all), help)
	}
	return all
}

// of reads a container's command line and environment: the flags that are in force, all values of each, and what the
// binary does not know.
func (f flags) of(c *corev1.Container) (inForce map[string][]string, unknown []string) {
	inForce = map[string][]string{}
	for name, value := range f {
		inForce[name] = []string{value}
	}
	for _, variable := range c.Env {
		suffix, ours := strings.CutPrefix(variable.Name, "BELLHOP_")
		if !ours {
			continue
		}
		name := strings.ToLower(strings.ReplaceAll(suffix, "_", "-"))
		if _, ok := f[name]; !ok {
			unknown = append(unknown, variable.Name)
			continue
		}
		inForce[name] = []string{variable.Value}
	}
	if len(c.Args) == 0 || c.Args[0] != "serve" {
		return inForce, append(unknown, "args that do not begin with serve")
	}
	given := map[string][]string{}
	for _, arg := range c.Args[1:] {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if _, ok := f[name]; !ok || !strings.HasPrefix(arg, "--") {
			unknown = append(unknown, arg)
			continue
		}
		given[name] = append(given[name], value)
	}
	for name, values := range given {
		inForce[name] = values
	}
	return inForce, unknown
}
