package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
)

// CeilingDocument is a ceiling as it is written.
type CeilingDocument struct {
	Version int    `json:"version" jsonschema:"required,enum=1" jsonschema_description:"The version of the policy language"`
	Ceiling Bounds `json:"ceiling" jsonschema:"required" jsonschema_description:"What the policies below it may say at the most"`
}

// Bounds are what the policies below a ceiling may say at the most.
type Bounds struct {
	Allow     []string `json:"allow" jsonschema_description:"The names and families that policies may carry; without it all that are not restricted"` // nil: all
	Deny      []string `json:"deny" jsonschema_description:"The names and families that no policy may carry or write, whatever allow says"`
	Sensitive []Grant  `json:"sensitive" jsonschema_description:"The backends that may get authorization and cookie; no others may"`
	Discovery []string `json:"discovery" jsonschema_description:"The folders from which discovery identities may be read, {fanout} for the policy's own name; without it none may"`
	Limits    Limits   `json:"limits" jsonschema_description:"The highest limits that a policy may set; one that sets none has these, where they are lower than the defaults"` // 0: none
}

// Grant lets backends have a sensitive header of clients.
type Grant struct {
	Name     string   `json:"name" jsonschema:"required,enum=authorization,enum=cookie" jsonschema_description:"The sensitive header"`
	To       []string `json:"to" jsonschema:"required,minItems=1,uniqueItems=true" jsonschema_description:"The backends that may have it, by the name that policies give them"`
	Clusters []string `json:"clusters" jsonschema:"minItems=1,uniqueItems=true" jsonschema_description:"The Envoy clusters that such a backend may be; without it any"`
	Fanouts  []string `json:"fanouts" jsonschema:"minItems=1,uniqueItems=true" jsonschema_description:"The fan-outs behind which this holds; without it all"`
}

// fanoutWord stands for the name of a policy's fan-out in the path of a folder.
const fanoutWord = "{fanout}"

// Ceiling is a checked [CeilingDocument]: whoever runs a mesh writes it, and the policies of teams stay below it.
type Ceiling struct {
	bounds Bounds
	file   string
	places map[string]Position
	digest string
}

// LoadCeiling reads and checks one ceiling document. The file's name is for the findings only. With an error among the
// findings the ceiling is nil.
func LoadCeiling(file string, text []byte) (*Ceiling, Findings) {
	text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	recorder := newRecorder(file, text)
	places := make(map[string]Position)
	decoder := decoder{recorder: recorder, places: places}
	var doc CeilingDocument
	if root := decoder.root(text, "the ceiling", "the smallest ceiling is: version: 1, and ceiling: with deny: and the "+
		"name of a header"); root != nil {
		doc = decoder.ceiling(root)
		checker := checker{recorder: recorder, places: places}
		checker.ceiling(doc)
	}
	findings := recorder.sorted()
	if findings.HasErrors() {
		return nil, findings
	}
	return &Ceiling{bounds: doc.Ceiling, file: file, places: places, digest: digest(text)}, findings
}

// File is the name of the document, as it was loaded.
func (c *Ceiling) File() string { return c.file }

func digest(texts ...[]byte) string {
	sum := sha256.New()
	for _, text := range texts {
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
