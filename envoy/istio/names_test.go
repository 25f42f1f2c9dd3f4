package istio_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"bellhop/envoy/istio"
	"bellhop/policy"
)

// resource is what names a resource of Kubernetes, and what it says.
type resource struct {
	Kind     string
	Metadata struct {
		Name, Namespace string
		Annotations     map[string]string
	}
	Spec map[string]any
}

// resources reads manifests.
func resources(t *testing.T, manifests []byte) []resource {
	t.Helper()
	var all []resource
	decoder := yaml.NewDecoder(strings.NewReader(string(manifests)))
	for {
		var one resource
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// No backend's name makes two resources one, or a name that Kubernetes does not take.
func TestIstioNamesAreDistinct(t *testing.T) {
	backends := []string{
		"a.b=https://one.example",
		"a_b=https://two.example",
		"egress=https://three.example",
		strings.Repeat("x", 63) + "=https://four.example",
		"hyphen=https://a.b-c.example", "dot=https://a-b.c.example", "dots=https://a.b.c.example",
		"long=https://" + strings.Repeat("a", 60) + ".example", "longer=https://" + strings.Repeat("a", 60) + ".b.example",
		"longest=https://" + strings.Repeat("a.", 120) + "example",
	}
	for _, setUp := range []istio.SetUp{istio.Sidecar, istio.Gateway} {
		options := setUps()[setUp]
		options.Backends = backends
		made, err := istio.Manifests([]*policy.Policy{load(t, openPolicy)}, options)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, one := range resources(t, made) {
			name := one.Kind + " " + one.Metadata.Namespace + "/" + one.Metadata.Name
			if seen[name] || len(one.Metadata.Name) > 253 {
				t.Errorf("%s: %s is listed twice, or is too long", setUp, name)
			}
			seen[name] = true
			subsets, _ := one.Spec["subsets"].([]any)
			for _, subset := range subsets {
				name, _ := subset.(map[string]any)["name"].(string)
				if seen[name] || len(name) > 63 {
					t.Errorf("%s: the subset %q is listed twice, or is too long", setUp, name)
				}
				seen[name] = true
			}
		}
	}
}

// A run for one fan-out takes nothing from another's, whatever their namespaces and labels make together.
func TestNamesOfTwoRunsAreDistinct(t *testing.T) {
	runs := []struct{ namespace, workload string }{
		{"team-a", "app=mcp"}, {"team", "app=a-mcp"}, {"team", "app=mcp"}, {"team", "toolhive-name=mcp"},
		{"team-a-mcp", "app=x"},
	}
	for setUp, options := range setUps() {
		if setUp == istio.Mesh {
			continue // one run for all
		}
		seen := map[string]string{}
		for _, run := range runs {
			options.Namespace, options.Workload = run.namespace, []string{run.workload}
			made, err := istio.Manifests([]*policy.Policy{load(t, openPolicy)}, options)
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range resources(t, made) {
				shared := one.Metadata.Namespace == "bellhop" && one.Metadata.Name == "bellhop" ||
					strings.HasPrefix(one.Metadata.Name, "bellhop-to-") // the same, whoever writes it
				name := one.Kind + " " + one.Metadata.Namespace + "/" + one.Metadata.Name
				if other, ok := seen[name]; ok && !shared {
					t.Errorf("%s: %s of %v takes the place of that of %s", setUp, name, run, other)
				}
				seen[name] = run.namespace + " " + run.workload
			}
		}
	}
}
