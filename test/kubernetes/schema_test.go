package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	structuralcel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// envoyGateway is the version whose resources deploy/envoy-gateway is for. ToolHive's stands in
// test/tools/versions.env.
const envoyGateway = "github.com/envoyproxy/gateway@v1.9.1"

// schemas are the custom resources that the examples use, by what they call themselves.
type schemas map[schema.GroupVersionKind]*custom

// custom does with an object what the API server does when it is created.
type custom struct {
	shape  *structural.Structural
	values validation.SchemaValidator
	rules  *structuralcel.Validator
}

// newSchemas reads the definitions out of the modules that declare them.
func newSchemas(t *testing.T) schemas {
	t.Helper()
	_, version, _ := strings.Cut(read(t, "test/tools/versions.env"), "VMCP_VERSION=")
	version, _, _ = strings.Cut(version, "\n")
	all := schemas{}
	all.read(
		t, "github.com/stacklok/toolhive@"+version, "deploy/charts/operator-crds/files/crds/*.yaml",
		"MCPGroup|MCPServerEntry|VirtualMCPServer",
	)
	all.read(
		t, envoyGateway, "charts/gateway-helm/charts/crds/crds/generated/*.yaml",
		"Backend|BackendTrafficPolicy|EnvoyExtensionPolicy|EnvoyPatchPolicy|EnvoyProxy|ClientTrafficPolicy",
	)
	all.read(
		t, envoyGateway, "charts/gateway-helm/charts/crds/crds/gatewayapi-crds.yaml",
		"Gateway|GatewayClass|HTTPRoute|ReferenceGrant",
	)
	return all
}

// read takes the kinds that match out of the files of a module.
func (s schemas) read(t *testing.T, module, pattern, kinds string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go mod download %s: %v\n%s", module, err, output)
	}
	var downloaded struct{ Dir string }
	if err := json.Unmarshal(output, &downloaded); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(downloaded.Dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no %s: %v", module, pattern, err)
	}
	wanted := regexp.MustCompile("^(" + kinds + ")$")
	before := len(s)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			var definition apiextensionsv1.CustomResourceDefinition
			if err := yaml.Unmarshal(document, &definition); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if definition.Kind == "CustomResourceDefinition" && wanted.MatchString(definition.Spec.Names.Kind) {
				s.add(t, &definition)
			}
		}
	}
	if len(s) == before {
		t.Fatalf("%s in %s declares none of %s", pattern, module, kinds)
	}
}

func (s schemas) add(t *testing.T, definition *apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	for _, version := range definition.Spec.Versions {
		var internal apiextensions.JSONSchemaProps
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema,
			&internal, nil); err != nil {
			t.Fatal(err)
		}
		shape, err := structural.NewStructural(&internal)
		if err != nil {
			t.Fatal(err)
		}
		values, _, err := validation.NewSchemaValidator(&internal)
		if err != nil {
			t.Fatal(err)
		}
		kind := schema.GroupVersionKind{Group: definition.Spec.Group, Version: version.Name, Kind: definition.Spec.Names.Kind}
		s[kind] = &custom{
			shape:  shape,
			values: values,
			rules:  structuralcel.NewValidator(shape, true, celconfig.PerCallLimit),
		}
	}
}

// errors says what the API server would refuse or drop.
func (r *custom) errs(t *testing.T, object map[string]any) []string {
	t.Helper()
	defaulting.Default(object, r.shape)
	var found []string
	options := structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(object, r.shape, true, options) {
		found = append(found, fmt.Sprintf("unknown field %q", path))
	}
	wrong := validation.ValidateCustomResource(nil, object, r.values)
	if len(wrong) == 0 {
		broken, _ := r.rules.Validate(t.Context(), field.NewPath(""), r.shape, object, nil, celconfig.RuntimeCELCostBudget)
		wrong = append(wrong, broken...)
	}
	for _, one := range wrong {
		found = append(found, one.Error())
	}
	return found
}
