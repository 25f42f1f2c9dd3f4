package kubernetes_test

import (
	"encoding/json"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
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
	type filter struct {
		TypedConfig map[string]any `json:"typed_config"`
	}
	var made struct {
		Ingress []filter `json:"ingress_http_filters"`
		Egress  []filter `json:"egress_http_filters"`
	}
	if err := yaml.Unmarshal(output, &made); err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]any{
		"bellhop-ingress": made.Ingress[0].TypedConfig,
		"bellhop-egress":  made.Egress[0].TypedConfig,
	}
	for name, patch := range gatewaysPatches(t) {
		value := patch.Operation.Value
		text, err := json.Marshal(want[name])
		if err != nil {
			t.Fatal(err)
		}
		cluster := "envoyextensionpolicy/tools/" + name + "/extproc/0" // as Envoy Gateway calls it
		text = []byte(strings.Replace(string(text), `"cluster_name":"bellhop"`, `"cluster_name":"`+cluster+`"`, 1))
		var wanted map[string]any
		if err := json.Unmarshal(text, &wanted); err != nil {
			t.Fatal(err)
		}
		gateway := map[string]string{"bellhop-ingress": "mcp", "bellhop-egress": "mcp-egress"}[name]
		where := jsonPatch{
			Type:    "type.googleapis.com/envoy.config.listener.v3.Listener",
			Name:    "tools/" + gateway + "/http",
			gateway: gateway,
		}
		where.Operation.Op = "replace"
		where.Operation.JSONPath = "..http_filters[?(@.name=='envoy.filters.http.ext_proc/" + cluster + "')].typed_config"
		patch.Operation.Value = nil
		if !reflect.DeepEqual(patch, where) {
			t.Errorf("%s replaces another thing than the filter that Envoy Gateway makes:\n%+v\nwant\n%+v", name, patch, where)
		}
		if !reflect.DeepEqual(value, wanted) {
			t.Errorf("%s is not what the policy makes:\n%s\nwant\n%s", name, print(t, value), print(t, wanted))
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("no patch for %v", maps.Keys(want))
	}
}

// jsonPatch is what an EnvoyPatchPolicy does to a Gateway's configuration.
type jsonPatch struct {
	Type, Name string
	Operation  struct {
		Op       string
		JSONPath string `json:"jsonPath"`
		Value    map[string]any
	}
	gateway string
}

// gatewaysPatches are those of the EnvoyPatchPolicies, by name.
func gatewaysPatches(t *testing.T) map[string]jsonPatch {
	t.Helper()
	found := map[string]jsonPatch{}
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
			if len(patch.Spec.JSONPatches) != 1 || patch.Spec.TargetRef.Kind != "Gateway" {
				t.Errorf("%s has %d patches for a %s", patch.Metadata.Name, len(patch.Spec.JSONPatches), patch.Spec.TargetRef.Kind)
			}
			patch.Spec.JSONPatches[0].gateway = patch.Spec.TargetRef.Name
			found[patch.Metadata.Name] = patch.Spec.JSONPatches[0]
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
