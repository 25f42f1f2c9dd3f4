package policy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"bellhop/policy"
)

var update = flag.Bool("update", false, "regenerate schema.json")

func TestSchemaFilesAreFresh(t *testing.T) {
	for file, schema := range map[string]func() ([]byte, error){"schema.json": policy.Schema,
		"ceiling.schema.json": policy.CeilingSchema} {
		got, err := schema()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(string(read(t, file)), string(got)); diff != "" {
			t.Errorf("%s: go test ./policy -update regenerates it: %s", file, diff)
		}
	}
}

func TestCeilingSchemaAgreesWithTheParser(t *testing.T) {
	schema := compileSchema(t, policy.CeilingSchema)
	instance, err := toJSON(read(t, "testdata/ceiling/mesh.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(instance); err != nil {
		t.Error(err)
	}
	for _, file := range fixtures(t, "ceiling/invalid") {
		if instance, err := toJSON(read(t, file)); err == nil && schema.Validate(instance) == nil {
			t.Errorf("%s: the schema takes it", file)
		}
	}
}

// What a policy leaves out is what the schema tells an editor.
func TestSchemaHasTheDefaultsOfThePolicy(t *testing.T) {
	p, findings := policy.Load("p.yaml", []byte("version: 1\nforward: [x-a]\n"))
	if p == nil {
		t.Fatal(findings.Error())
	}
	defaults := map[string]any{
		"Limits.headers": p.Limits().Headers, "Limits.value_bytes": p.Limits().ValueBytes,
		"Limits.total_bytes": p.Limits().TotalBytes,
		"Ticket.lifetime":    "30m", "Ticket.rotate": "24h", "Ticket.grace": "30s", "Session.idle": "30m",
	}
	for path, want := range map[string]time.Duration{"Ticket.lifetime": p.Lifetime(), "Ticket.rotate": p.Rotate(),
		"Ticket.grace": p.Grace(), "Session.idle": p.Session().Idle} {
		if got, err := time.ParseDuration(defaults[path].(string)); err != nil || got != want {
			t.Errorf("%s is %s", path, want)
		}
	}
	var document struct {
		Properties map[string]struct{ Default any }
		Defs       map[string]struct {
			Properties map[string]struct{ Default any }
		} `json:"$defs"`
	}
	text, err := policy.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	for path, want := range defaults {
		of, field, _ := strings.Cut(path, ".")
		if got := document.Defs[of].Properties[field].Default; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: the schema says %v, the policy has %v", path, got, want)
		}
	}
	if got := document.Properties["mode"].Default; got != string(p.Mode()) {
		t.Errorf("mode: the schema says %v, the policy has %s", got, p.Mode())
	}
}

func TestSchemaAcceptsEveryValidPolicy(t *testing.T) {
	schema := compileSchema(t, policy.Schema)
	for _, file := range fixtures(t, "good") {
		if loaded, findings := policy.Load(file, read(t, file)); loaded == nil {
			t.Errorf("%s: %s", file, findings.Error())
		}
		instance, err := toJSON(read(t, file))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := schema.Validate(instance); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// The errors that a schema cannot see, with the reason.
func unseen() map[string]string {
	const (
		restricted = "the table of restricted names is long, and blind to case and to _ for -; its reasons are worth more " +
			"than a pattern"
		relation = "it is a relation of two places of the document"
		reader   = "a YAML reader refuses it, or hides it, before any schema sees it"
		unit     = "a bound of a duration is no pattern of its text"
	)
	return map[string]string{
		"name_restricted": restricted, "name_restricted_underscore": restricted, "as_restricted": restricted,
		"family_restricted": restricted, "own_header": restricted, "discovery_restricted": restricted,
		"cluster_taken": relation, "discovery_twice": relation, "discovery_with_baggage": relation,
		"family_and_member": relation, "family_renamed": relation, "family_required": relation,
		"hide_differs": relation, "keep_differs": relation, "repeat_differs": relation,
		"limit_value_above_total": relation, "max_bytes_above": relation, "one_destination": relation,
		"rotate_with_baggage": relation, "same_name_twice": relation, "sensitive_as_no_to": relation,
		"sensitive_no_hide": relation, "sensitive_short": relation, "session_bind_twice": "header names differ in case only",
		"to_undeclared": relation,
		"alias":         reader, "duplicate_backend": reader, "duplicate_key": reader, "not_yaml": reader,
		"second_document": reader,
		"lifetime_zero":   unit, "session_idle_zero": unit,
	}
}

func TestSchemaRejectsEveryErrorOfShape(t *testing.T) {
	schema, unseen := compileSchema(t, policy.Schema), unseen()
	for _, file := range fixtures(t, "invalid") {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		reason, excused := unseen[name]
		delete(unseen, name)
		instance, err := toJSON(read(t, file))
		refused := err == nil && schema.Validate(instance) != nil
		if refused == excused {
			t.Errorf("%s: refused by the schema %v; excused %q; YAML: %v", name, refused, reason, err)
		}
	}
	for name := range unseen {
		t.Errorf("%s: no such fixture", name)
	}
}

// A field that the parser knows and the schema does not, or the other way round, is an error of one of the two.
func TestSchemaAndParserKnowTheSameFields(t *testing.T) {
	var document struct {
		Properties map[string]any `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]any `json:"properties"`
			OneOf      []struct {
				Properties map[string]any `json:"properties"`
			} `json:"oneOf"`
		} `json:"$defs"`
	}
	text, err := policy.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		document string
		fields   map[string]any
	}{
		"the policy":         {"none: 1\n", document.Properties},
		"a forward rule":     {"forward: [{none: 1}]\n", document.Defs["Rule"].OneOf[1].Properties},
		"a backend":          {"backends: {a: {none: 1}}\n", document.Defs["Backend"].Properties},
		"a discovery header": {"backends: {a: {discovery: [{none: 1}]}}\n", document.Defs["Identity"].Properties},
		"limits":             {"limits: {none: 1}\n", document.Defs["Limits"].Properties},
		"ticket":             {"ticket: {none: 1}\n", document.Defs["Ticket"].Properties},
		"session":            {"session: {none: 1}\n", document.Defs["Session"].Properties},
	} {
		_, findings := policy.Load("p.yaml", []byte(test.document))
		known := fieldsOf(t, findings, what)
		for _, name := range known {
			if _, ok := test.fields[name]; !ok {
				t.Errorf("%s: the schema lacks %s", what, name)
			}
		}
		if len(known) != len(test.fields) {
			t.Errorf("%s: the parser knows %q, the schema %d fields", what, known, len(test.fields))
		}
	}
}

// fieldsOf reads the fields that the parser knows from how it mends an unknown one.
func fieldsOf(t *testing.T, findings policy.Findings, what string) []string {
	t.Helper()
	for _, finding := range findings {
		if list, ok := strings.CutPrefix(finding.Hint, "the fields of "+what+" are "); ok {
			return strings.Split(list, ", ")
		}
	}
	t.Fatalf("no finding of %s: %s", what, findings.Error())
	return nil
}

func compileSchema(t *testing.T, of func() ([]byte, error)) *jsonschema.Schema {
	t.Helper()
	text, err := of()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("policy.json", document); err != nil {
		t.Fatal(err)
	}
	return compiler.MustCompile("policy.json")
}

// toJSON reads YAML as a validator of an editor does.
func toJSON(text []byte) (any, error) {
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
}

func fixtures(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/" + folder + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	return files
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
