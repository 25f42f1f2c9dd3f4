package policy

import (
	"encoding/json"
	"reflect"
	"strconv"
	"time"

	"github.com/invopop/jsonschema"
)

// The patterns of the strings in a policy. A schema checks their characters only; [Load] reports restricted names and
// undeclared backends.
const (
	nameBytes        = "0-9A-Za-z!#$%&'+.^_\x60|~-" // without *, which makes the name a family
	headerPattern    = "^[" + nameBytes + "]+\\*?$"
	oneHeaderPattern = "^[" + nameBytes + "]+$"
	boundPattern     = "^(\\*|[" + nameBytes + "]+\\*?)$"
	labelPattern     = "^[0-9A-Za-z][0-9A-Za-z._-]{0,62}$"
	toolPattern      = "^[0-9A-Za-z._/*-]+$"
	textPattern      = "^[^\\x00-\\x08\\x0a-\\x1f\\x7f]*$"
	durationPattern  = "^\\+?(0|(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$"
)

// Schema returns the JSON Schema (draft 2020-12) of the policy language, for editors. It is generated from
// [Document]. Every policy that [Load] accepts is valid under it, but not the reverse.
func Schema() ([]byte, error) {
	schema := reflected(Document{})
	schema.Title = "Bellhop policy"
	schema.Description = "Which of a client's headers may be carried through a fan-out, and to which backends"
	refine(schema)
	return rendered(schema)
}

// CeilingSchema is [Schema] for ceilings, generated from [CeilingDocument].
func CeilingSchema() ([]byte, error) {
	schema := reflected(CeilingDocument{})
	schema.Title = "Bellhop ceiling"
	schema.Description = "The most that policies of a mesh may allow"
	refineCeiling(schema)
	return rendered(schema)
}

func reflected(document any) *jsonschema.Schema {
	reflector := jsonschema.Reflector{
		Anonymous:                  true,
		ExpandedStruct:             true,
		RequiredFromJSONSchemaTags: true,
		Mapper:                     durations,
	}
	return reflector.Reflect(document)
}

func rendered(schema *jsonschema.Schema) ([]byte, error) {
	text, err := json.MarshalIndent(schema, "", "  ")
	return append(text, '\n'), err
}

// durations maps a duration to text, as it is in a policy.
func durations(t reflect.Type) *jsonschema.Schema {
	if t != reflect.TypeFor[time.Duration]() {
		return nil
	}
	return &jsonschema.Schema{Type: "string", Pattern: durationPattern, Examples: []any{"30s", "5m", "24h"}}
}

// refine adds what the types cannot express: patterns, bounds and short forms.
func refine(document *jsonschema.Schema) {
	property(document, "fanout").Pattern = labelPattern
	property(document, "forward").MaxItems = count(maxRules)
	refineRule(document)
	refineBackends(document)
	identity := document.Definitions["Identity"]
	refineName(property(identity, "name"), oneHeaderPattern)
	refinePrefix(property(identity, "prefix"))
	refineLimits(document.Definitions["Limits"])
	refineName(property(document.Definitions["Session"], "bind").Items, oneHeaderPattern)
}

func refineLimits(limits *jsonschema.Schema) {
	inRange(property(limits, "headers"), maxHeaders)
	inRange(property(limits, "value_bytes"), maxTotalBytes)
	inRange(property(limits, "total_bytes"), maxTotalBytes)
	inRange(property(limits, "body_bytes"), MaxBodyBytes)
}

func refineCeiling(document *jsonschema.Schema) {
	bounds, grant := document.Definitions["Bounds"], document.Definitions["Grant"]
	allow := property(bounds, "allow")
	allow.MinItems = count(1)
	refineName(allow.Items, boundPattern)
	refineName(property(bounds, "deny").Items, boundPattern)
	property(bounds, "discovery").Items.Pattern = "^/"
	property(grant, "to").Items.Pattern = labelPattern
	property(grant, "fanouts").Items.Pattern = labelPattern
	refineLimits(document.Definitions["Limits"])
	for _, name := range []string{"headers", "value_bytes", "total_bytes", "body_bytes"} {
		property(document.Definitions["Limits"], name).Default = nil // that of a policy
	}
}

// refineRule allows a bare name as a rule.
func refineRule(document *jsonschema.Schema) {
	rule := document.Definitions["Rule"]
	refineName(property(rule, "name"), headerPattern)
	refineName(property(rule, "as"), oneHeaderPattern)
	property(rule, "to").Items.Pattern = labelPattern
	property(rule, "tools").Items.Pattern = toolPattern
	refinePrefix(property(rule, "prefix"))
	inRange(property(rule, "max_bytes"), maxTotalBytes)
	document.Definitions["Rule"] = &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{
			Type:        "string",
			Pattern:     headerPattern,
			MaxLength:   count(maxName),
			Description: "The header that clients send, to every backend, as sent, per request",
		},
		rule,
	}}
}

// refineBackends replaces the list by a mapping by name, in which a backend may be empty.
func refineBackends(document *jsonschema.Schema) {
	backends := property(document, "backends")
	property(document.Definitions["Backend"], "clusters").Items.MinLength = count(1)
	document.Properties.Set("backends", &jsonschema.Schema{
		Type: "object", Description: backends.Description, MinProperties: count(1),
		PropertyNames:        &jsonschema.Schema{Pattern: labelPattern},
		AdditionalProperties: &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "null"}, backends.Items}},
	})
}

func refineName(name *jsonschema.Schema, pattern string) {
	name.Pattern, name.MaxLength = pattern, count(maxName)
}

func refinePrefix(prefix *jsonschema.Schema) {
	prefix.Pattern, prefix.MaxLength = textPattern, count(maxPrefix)
}

func inRange(number *jsonschema.Schema, most int) {
	number.Minimum, number.Maximum = "1", json.Number(strconv.Itoa(most))
}

func property(of *jsonschema.Schema, name string) *jsonschema.Schema {
	schema, _ := of.Properties.Get(name)
	return schema
}

func count(n uint64) *uint64 { return &n }
