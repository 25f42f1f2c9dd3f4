package pilot_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3" // types of filters
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	"sigs.k8s.io/yaml"

	"bellhop/test/istio/pilot"
)

// manifest is a resource of Istio's.
type manifest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name, Namespace string
		Annotations     map[string]string
	}
	Spec json.RawMessage
}

// kinds are the types of what is printed.
var kinds = map[string]func() proto.Message{
	"networking.istio.io/v1alpha3 EnvoyFilter": func() proto.Message { return &networking.EnvoyFilter{} },
	"networking.istio.io/v1 Sidecar":           func() proto.Message { return &networking.Sidecar{} },
	"networking.istio.io/v1 ServiceEntry":      func() proto.Message { return &networking.ServiceEntry{} },
	"networking.istio.io/v1 DestinationRule":   func() proto.Message { return &networking.DestinationRule{} },
	"networking.istio.io/v1 Gateway":           func() proto.Message { return &networking.Gateway{} },
	"networking.istio.io/v1 VirtualService":    func() proto.Message { return &networking.VirtualService{} },
	"security.istio.io/v1 PeerAuthentication":  func() proto.Message { return &security.PeerAuthentication{} },
	"security.istio.io/v1 AuthorizationPolicy": func() proto.Message { return &security.AuthorizationPolicy{} },
}

// manifests reads those of an example, as strictly as Istio's types can.
func manifests(t *testing.T, example string) map[string][]proto.Message {
	t.Helper()
	found := map[string][]proto.Message{}
	for document := range strings.SplitSeq(read(t, "../../../deploy/istio/"+example+"/istio.yaml"), "\n---\n") {
		var one manifest
		if err := yaml.UnmarshalStrict([]byte(document), &one); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		newSpec, ok := kinds[one.APIVersion+" "+one.Kind]
		if !ok {
			t.Fatalf("%s %s is no kind of Istio's", one.APIVersion, one.Kind)
		}
		spec := newSpec()
		if err := protojson.Unmarshal(durations(one.Spec), spec); err != nil {
			t.Errorf("%s %s: %v", one.Kind, one.Metadata.Name, err)
		}
		found[one.Kind] = append(found[one.Kind], spec)
	}
	return found
}

// durations writes milliseconds as protobuf's JSON has them: Istio itself reads them as Go does.
func durations(spec json.RawMessage) []byte {
	return []byte(strings.ReplaceAll(string(spec), `"250ms"`, `"0.250s"`))
}

// Every field of the manifests is one that Istio has.
func TestManifestsAreOfIstiosTypes(t *testing.T) {
	seen := map[string]bool{}
	for _, example := range []string{"sidecar", "central", "mesh", "gateway"} {
		for kind := range manifests(t, example) {
			seen[kind] = true
		}
	}
	if len(seen) != len(kinds) {
		t.Errorf("only %v are looked at", slices.Collect(maps.Keys(seen)))
	}
}

// What a filter is in the manifest it is in the proxy's configuration: Istio, whose types are others, has lost none of
// it.
func TestIstioLosesNoFieldOfAFilter(t *testing.T) {
	for name, test := range proxies {
		t.Run(name, func(t *testing.T) {
			wanted := map[string]proto.Message{}
			for _, one := range manifests(t, test.example)["EnvoyFilter"] {
				for _, patch := range one.(*networking.EnvoyFilter).GetConfigPatches() { //nolint:forcetypeassert // by its kind
					if patch.GetApplyTo() == networking.EnvoyFilter_HTTP_FILTER {
						value := patch.GetPatch().GetValue().GetFields()
						wanted[value["name"].GetStringValue()] = config(t, value["typed_config"])
					}
				}
			}
			for _, listener := range render(t, test.example, test.proxy()).Listeners {
				for _, chain := range listener.GetFilterChains() {
					for _, filter := range pilot.Manager(chain).GetHttpFilters() {
						if want := wanted[filter.GetName()]; want != nil {
							got := want.ProtoReflect().New().Interface()
							if err := filter.GetTypedConfig().UnmarshalTo(got); err != nil {
								t.Fatal(err)
							}
							if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
								t.Errorf("%s (-manifest +rendered):\n%s", filter.GetName(), diff)
							}
						}
					}
				}
			}
		})
	}
}

// config reads what stands in a manifest, by its own type.
func config(t *testing.T, value proto.Message) proto.Message {
	t.Helper()
	text, err := protojson.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := &anypb.Any{}
	if err := protojson.Unmarshal(text, wrapped); err != nil {
		t.Fatal(err)
	}
	made, err := wrapped.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	return made
}
