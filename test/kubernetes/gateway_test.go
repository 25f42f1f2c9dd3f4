package kubernetes_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// What is patched into Envoy Gateway's configuration is what bellhop envoy makes of the policy: the role, the lists of
// headers, and all else.
func TestEnvoyGatewaysFiltersAreThoseOfThePolicy(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), bellhop, "envoy", "filters", "--policy",
		filepath.Join(root, "deploy/envoy-gateway/policy.yaml")).
		Output()
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Ingress []map[string]any `json:"ingress_http_filters"`
		Egress  []map[string]any `json:"egress_http_filters"`
	}
	if err := yaml.Unmarshal(output, &made); err != nil {
		t.Fatal(err)
	}
	found := gatewaysPatches(t)
	for name, filters := range map[string][]map[string]any{"bellhop-ingress": made.Ingress, "bellhop-egress": made.Egress} {
		if len(found[name]) < 2 || len(filters) != 2 {
			t.Fatalf("%s: %d patches for %d filters", name, len(found[name]), len(filters))
		}
		cluster := "envoyextensionpolicy/tools/" + name + "/extproc/0" // as Envoy Gateway calls it
		wantPatch(
			t, name, found[name][0], "replace", "..http_filters[?(@.name=='envoy.filters.http.ext_proc/"+cluster+
				"')].typed_config",
			[]byte(strings.Replace(string(asJSON(t, filters[0]["typed_config"])), `"cluster_name":"bellhop"`,
				`"cluster_name":"`+cluster+`"`, 1)),
		)
		// Added at the router's place, it stands next to it.
		wantPatch(
			t, name, found[name][1], "add", "..http_filters[?(@.name=='envoy.filters.http.router')]", asJSON(t, filters[1]),
		)
	}
	wantRoutes(t, found["bellhop-egress"][2:])
}

// wantRoutes wants that each backend's route says what its server calls itself, and what stands before its paths.
func wantRoutes(t *testing.T, patches []jsonPatch) {
	t.Helper()
	routes := 0
	for document := range strings.SplitSeq(string(kustomize(t, "deploy/envoy-gateway")), "\n---\n") {
		var route struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct {
				ParentRefs []struct{ Name string } `json:"parentRefs"`
				Rules      []struct {
					Matches []struct{ Path struct{ Value string } }
					Filters []struct {
						URLRewrite struct {
							Hostname string
							Path     struct {
								Becomes string `json:"replacePrefixMatch"`
							}
						} `json:"urlRewrite"`
					}
					BackendRefs []struct{ Port int } `json:"backendRefs"`
				}
			}
		}
		if err := yaml.Unmarshal([]byte(document), &route); err != nil {
			t.Fatal(err)
		}
		if route.Kind != "HTTPRoute" || route.Spec.ParentRefs[0].Name != "mcp-egress" {
			continue
		}
		rule := route.Spec.Rules[0]
		rewrite := rule.Filters[0].URLRewrite
		host := "http://" + rewrite.Hostname + ":"
		want := map[string]any{
			"hint": "change routes.yaml to have URL there", "server": "backend " + route.Metadata.Name,
			"own":  []any{host + "80", host + strconv.Itoa(rule.BackendRefs[0].Port)},
			"path": rewrite.Path.Becomes, "prefix": strings.TrimSuffix(rule.Matches[0].Path.Value, rewrite.Path.Becomes),
		}
		if len(patches) <= routes {
			t.Fatalf("no patch for the route %s", route.Metadata.Name)
		}
		patch := patches[routes]
		where := "..routes[?(@.name=='httproute/tools/" + route.Metadata.Name + "/rule/0/match/0/*')]"
		if patch.Type != "type.googleapis.com/envoy.config.route.v3.RouteConfiguration" || patch.Operation.JSONPath != where ||
			patch.Operation.Path != "typed_per_filter_config/bellhop.egress_redirect" || patch.Operation.Op != "add" ||
			patch.Name != "tools/mcp-egress/http" || !reflect.DeepEqual(patch.Operation.Value["filter_context"], want) {
			t.Errorf("the patch for the route %s is\n%+v\nwant at %s\n%v", route.Metadata.Name, patch, where, want)
		}
		routes++
	}
	if routes == 0 || routes != len(patches) {
		t.Errorf("%d patches for %d routes", len(patches), routes)
	}
}

// wantPatch compares a patch of a listener with what it should do.
func wantPatch(t *testing.T, name string, patch jsonPatch, op, path string, want []byte) {
	t.Helper()
	var wanted map[string]any
	if err := json.Unmarshal(want, &wanted); err != nil {
		t.Fatal(err)
	}
	gateway := map[string]string{"bellhop-ingress": "mcp", "bellhop-egress": "mcp-egress"}[name]
	where := jsonPatch{
		Type: "type.googleapis.com/envoy.config.listener.v3.Listener", Name: "tools/" + gateway + "/http", gateway: gateway,
	}
	where.Operation.Op, where.Operation.JSONPath = op, path
	value := patch.Operation.Value
	patch.Operation.Value = nil
	if !reflect.DeepEqual(patch, where) {
		t.Errorf("%s changes another thing than the filter that Envoy Gateway makes:\n%+v\nwant\n%+v", name, patch, where)
	}
	if !reflect.DeepEqual(value, wanted) {
		t.Errorf("%s is not what the policy makes:\n%s\nwant\n%s", name, print(t, value), print(t, wanted))
	}
}

func asJSON(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// jsonPatch is what an EnvoyPatchPolicy does to a Gateway's configuration.
type jsonPatch struct {
	Type, Name string
	Operation  struct {
		Op       string
		JSONPath string `json:"jsonPath"`
		Path     string
		Value    map[string]any
	}
	gateway string
}

// gatewaysPatches are those of the EnvoyPatchPolicies, by name.
func gatewaysPatches(t *testing.T) map[string][]jsonPatch {
	t.Helper()
	found := map[string][]jsonPatch{}
	for document := range strings.SplitSeq(string(kustomize(t, "deploy/envoy-gateway")), "\n---\n") {
		var patch struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct {
				TargetRef   struct{ Kind, Name string } `json:"targetRef"`
				JSONPatches []jsonPatch                 `json:"jsonPatches"`
			}
		}
		if err := yaml.Unmarshal([]byte(document), &patch); err != nil {
			t.Fatal(err)
		}
		if patch.Kind == "EnvoyPatchPolicy" {
			if patch.Spec.TargetRef.Kind != "Gateway" {
				t.Errorf("%s is for a %s", patch.Metadata.Name, patch.Spec.TargetRef.Kind)
			}
			for _, one := range patch.Spec.JSONPatches {
				one.gateway = patch.Spec.TargetRef.Name
				found[patch.Metadata.Name] = append(found[patch.Metadata.Name], one)
			}
		}
	}
	return found
}

func print(t *testing.T, value any) string {
	t.Helper()
	text, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
