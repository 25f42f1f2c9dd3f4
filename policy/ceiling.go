package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// CeilingDocument is a ceiling as written.
type CeilingDocument struct {
	Version int    `json:"version" jsonschema:"required,enum=1" jsonschema_description:"The version of the policy language"`
	Ceiling Bounds `json:"ceiling" jsonschema:"required" jsonschema_description:"The most that policies below it may allow"`
}

// Bounds are the most that policies below a ceiling may allow.
type Bounds struct {
	Allow     []string      `json:"allow" jsonschema_description:"The names and families that policies may carry; by default all that are not restricted"` // nil: all
	Deny      []string      `json:"deny" jsonschema_description:"The names and families that no policy may carry or write, whatever allow says"`
	Sensitive []Grant       `json:"sensitive" jsonschema_description:"The backends that may get authorization and cookie; no others may"`
	Discovery []string      `json:"discovery" jsonschema_description:"The folders from which discovery identities may be read; {fanout} stands for the policy's fanout; by default none"`
	Lifetime  time.Duration `json:"lifetime" jsonschema_description:"The longest ticket.lifetime that a policy may set; it also lowers the default"` // 0: any
	MaxAge    time.Duration `json:"max_age" jsonschema_description:"The longest ticket.max_age; it also lowers the default"`
	Rotate    time.Duration `json:"rotate" jsonschema_description:"The longest ticket.rotate; it also lowers the default"`
	Idle      time.Duration `json:"idle" jsonschema_description:"The longest session.idle; it also lowers the default"`
	Limits    Limits        `json:"limits" jsonschema_description:"The highest limits that a policy may set; they also lower the defaults"` // 0: none
}

// Grant allows backends to get a sensitive header.
type Grant struct {
	Name     string   `json:"name" jsonschema:"required,enum=authorization,enum=cookie" jsonschema_description:"The sensitive header"`
	To       []string `json:"to" jsonschema:"required,minItems=1,uniqueItems=true" jsonschema_description:"The backends that may get it, as policies name them"`
	Clusters []string `json:"clusters" jsonschema:"minItems=1,uniqueItems=true" jsonschema_description:"The Envoy clusters that such a backend may have; by default any"`
	Fanouts  []string `json:"fanouts" jsonschema:"minItems=1,uniqueItems=true" jsonschema_description:"The fan-outs to which this applies; by default all"`
}

// fanoutWord is replaced by the name of a policy's fan-out in the path of a folder.
const fanoutWord = "{fanout}"

// Ceiling is a checked [CeilingDocument]. The operator of a mesh writes it, and the policies of teams must stay below
// it.
type Ceiling struct {
	bounds Bounds
	file   string
	places map[string]Position
	digest string
}

// LoadCeiling decodes and checks one ceiling document. The file's name is used in findings only. If there is an error
// among the findings, the ceiling is nil.
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

// digest identifies the content of documents: 64 bits of SHA-256 in hexadecimal.
func digest(texts ...[]byte) string {
	sum := sha256.New()
	for _, text := range texts {
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

func (d *decoder) ceiling(node ast.Node) CeilingDocument {
	var doc CeilingDocument
	d.mapping(node, "", "the ceiling document", []field{
		{"version", func(n ast.Node, p string) { d.integer(n, p, &doc.Version) }},
		{"ceiling", func(n ast.Node, p string) { d.bounds(n, p, &doc.Ceiling) }},
	})
	return doc
}

func (d *decoder) bounds(node ast.Node, path string, bounds *Bounds) {
	d.mapping(node, path, "the ceiling", []field{
		{"allow", func(n ast.Node, p string) { bounds.Allow = list(d, n, p, d.lowerCased) }},
		{"deny", func(n ast.Node, p string) { bounds.Deny = list(d, n, p, d.lowerCased) }},
		{"sensitive", func(n ast.Node, p string) { bounds.Sensitive = list(d, n, p, d.grant) }},
		{"discovery", func(n ast.Node, p string) { bounds.Discovery = list(d, n, p, d.word) }},
		{"lifetime", func(n ast.Node, p string) { d.duration(n, p, &bounds.Lifetime) }},
		{"max_age", func(n ast.Node, p string) { d.duration(n, p, &bounds.MaxAge) }},
		{"rotate", func(n ast.Node, p string) { d.duration(n, p, &bounds.Rotate) }},
		{"idle", func(n ast.Node, p string) { d.duration(n, p, &bounds.Idle) }},
		{"limits", func(n ast.Node, p string) { d.limits(n, p, &bounds.Limits) }},
	})
}

func (d *decoder) grant(node ast.Node, path string) Grant {
	var grant Grant
	d.mapping(node, path, "a grant", []field{
		{"name", func(n ast.Node, p string) { grant.Name = d.lowerCased(n, p) }},
		{"to", func(n ast.Node, p string) { grant.To = list(d, n, p, d.word) }},
		{"clusters", func(n ast.Node, p string) { grant.Clusters = list(d, n, p, d.word) }},
		{"fanouts", func(n ast.Node, p string) { grant.Fanouts = list(d, n, p, d.word) }},
	})
	return grant
}

func (d *decoder) lowerCased(node ast.Node, path string) string {
	return strings.ToLower(d.word(node, path))
}
