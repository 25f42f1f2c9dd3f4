// Package oldest_test holds what is written for Istio against the API of the oldest Envoy that it may meet: that of
// Istio 1.29, which is Envoy 1.37. It is a module of its own, for a module has one version of that API.
package oldest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// everything uses all that needs something of Envoy.
const everything = `
version: 1
explain: true
forward:
  - {name: x-a, keep: session, tools: [search_*]}
  - x-b-*
`

// parts are the messages that patches write.
var parts = map[string]func() proto.Message{
	"CLUSTER":             func() proto.Message { return &clusterv3.Cluster{} },
	"HTTP_FILTER":         func() proto.Message { return &hcmv3.HttpFilter{} },
	"HTTP_ROUTE":          func() proto.Message { return &routev3.Route{} },
	"NETWORK_FILTER":      func() proto.Message { return &listenerv3.Filter{} },
	"ROUTE_CONFIGURATION": func() proto.Message { return &routev3.RouteConfiguration{} },
	"VIRTUAL_HOST":        func() proto.Message { return &routev3.VirtualHost{} },
}

// errors reads the patches of manifests strictly: a field that the API does not have is an error.
func errs(t *testing.T, manifests string) []string {
	t.Helper()
	var found []string
	patches := 0
	for document := range strings.SplitSeq(manifests, "\n---\n") {
		var filter struct {
			Kind string
			Spec struct {
				ConfigPatches []struct {
					ApplyTo string `json:"applyTo"`
					Patch   struct{ Value json.RawMessage }
				} `json:"configPatches"`
			}
		}
		if err := yaml.Unmarshal([]byte(document), &filter); err != nil {
			t.Fatal(err)
		}
		if filter.Kind != "EnvoyFilter" {
			continue
		}
		for _, patch := range filter.Spec.ConfigPatches {
			patches++
			if err := protojson.Unmarshal(patch.Patch.Value, parts[patch.ApplyTo]()); err != nil {
				found = append(found, fmt.Sprintf("%s: %v", patch.ApplyTo, err))
			}
		}
	}
	if patches == 0 {
		t.Fatal("there are no patches")
	}
	return found
}

// write runs the command.
func write(t *testing.T, binary string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(everything), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(
		t.Context(),
		binary,
		append(
			[]string{"envoy", "istio", "--policy", file, "--backend", "a=http://a.tools.svc.cluster.local:80"},
			args...)...)
	command.Stderr = os.Stderr
	text, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Proxies of the oldest Istio know every field that is written for them.
func TestTheOldestProxiesKnowEveryField(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "bellhop")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/bellhop")
	build.Dir = "../../.."
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, setUp := range [][]string{{"sidecar"}, {"central", "--account", "default/vmcp"}} {
		for _, fault := range errs(t, write(t, binary, append(setUp, "--proxy-version", "1.29")...)) {
			t.Errorf("%s: %s", setUp[0], fault)
		}
	}
	newer := strings.ReplaceAll(
		write(t, binary, "sidecar", "--proxy-version", "1.29"), "message_timeout:", "message_timeout_of_envoy_2:",
	)
	if len(errs(t, newer)) == 0 {
		t.Error("a field that they do not know is not noticed")
	}
}

// The examples use nothing that only newer proxies have.
func TestTheOldestProxiesKnowTheExamples(t *testing.T) {
	for _, example := range []string{"sidecar", "central", "mesh", "gateway"} {
		text, err := os.ReadFile(filepath.Join("../../../deploy/istio", example, "istio.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range errs(t, string(text)) {
			t.Errorf("%s: %s", example, fault)
		}
	}
}
