package envoy_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/envoy"
)

var update = flag.Bool("update", false, "regenerate the examples")

// examples are the files in the folder of that name, and those of set-ups in deploy.
func examples() map[string]envoy.BootstrapOptions {
	minimal := func(change func(*envoy.BootstrapOptions)) envoy.BootstrapOptions {
		o := envoy.BootstrapOptions{
			Ingress:       "127.0.0.1:8080",
			Fanout:        "http://127.0.0.1:4483",
			Egress:        "127.0.0.1:8081",
			Backends:      []string{"a=http://127.0.0.1:9001/mcp", "gh=https://mcp.example.com/mcp"},
			FilterOptions: envoy.FilterOptions{Bellhop: []string{"unix:///run/bellhop/bellhop.sock"}},
		}
		change(&o)
		return o
	}
	all := map[string]envoy.BootstrapOptions{
		"minimal":   minimal(func(*envoy.BootstrapOptions) {}),
		"fail-open": minimal(func(o *envoy.BootstrapOptions) { o.FailOpen = true }),
		"sessions":  minimal(func(*envoy.BootstrapOptions) {}),
		"baggage":   minimal(func(*envoy.BootstrapOptions) {}),
		"replicas": minimal(func(o *envoy.BootstrapOptions) {
			o.Egress, o.EgressHosts = "0.0.0.0:8081", []string{"envoy.internal"}
			o.Ingress, o.IngressHosts = "0.0.0.0:8080", []string{"mcp.example.com"}
			o.IngressOrigins = []string{"https://app.example.com"}
			o.Bellhop = []string{"10.0.0.11:4484", "10.0.0.12:4484"}
			const folder = "/etc/envoy/bellhop/"
			o.BellhopCA, o.BellhopCert, o.BellhopKey = folder+"ca.pem", folder+"cert.pem", folder+"key.pem"
		}),
		"https": minimal(func(o *envoy.BootstrapOptions) {
			o.Fanout = "https://fanout.example.com"
			o.Backends = []string{"github=https://mcp.example.com/mcp", "wiki=https://192.0.2.7:8443"}
			o.Admin = "127.0.0.1:9901"
		}),
		"discovery": minimal(func(o *envoy.BootstrapOptions) {
			o.Backends = []string{"github=https://mcp.github.example/mcp", "billing=http://localhost:9002/mcp"}
		}),
	}
	for name, options := range all {
		options.PolicyFile = "envoy/" + policyFile(name) // commands are run at the top of the repository
		all[name] = options
	}
	all["systemd"] = minimal(func(o *envoy.BootstrapOptions) {
		o.Backends = []string{"billing=http://127.0.0.1:9001/mcp"}
		o.PolicyFile = "deploy/systemd/policy.yaml"
	})
	all["compose"] = minimal(func(o *envoy.BootstrapOptions) {
		o.Ingress, o.Egress = "0.0.0.0:8080", "172.31.48.2:8081"
		o.Fanout, o.Backends = "http://vmcp:4483", []string{"billing=http://mcp-billing:8080/mcp"}
		o.PolicyFile = "deploy/compose/policy/policy.yaml"
	})
	return all
}

func policyFile(example string) string { return "examples/" + example + ".policy.yaml" }

func configFile(example string) string {
	if example == "compose" || example == "systemd" {
		return "../deploy/" + example + "/envoy.yaml"
	}
	return "examples/" + example + ".yaml"
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExamples(t *testing.T) {
	for name, options := range examples() {
		t.Run(name, func(t *testing.T) {
			p := load(t, read(t, "../"+options.PolicyFile))
			got, err := envoy.Bootstrap(p, options)
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				again, err := envoy.Bootstrap(p, options)
				if err != nil || !bytes.Equal(got, again) {
					t.Fatalf("another result for the same input (error %v):\n%s", err, cmp.Diff(string(got), string(again)))
				}
			}
			golden(t, configFile(name), got)
		})
	}
}

func TestNoExampleIsLeftOver(t *testing.T) {
	files, err := filepath.Glob("examples/*")
	if err != nil {
		t.Fatal(err)
	}
	known := examples()
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".yaml"), ".policy")
		if _, ok := known[name]; !ok && name != "filters" {
			t.Errorf("%s belongs to no example of this test: take it out, or add the example", file)
		}
	}
}
