package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// decoder decodes a document node by node, so that it reports every error with its position and not only the first.
// Values that it cannot decode keep their defaults.
type decoder struct {
	*recorder
	places map[string]Position // of each value read, by its path: "forward[0].as"
}

// field is one key of a mapping and the function that decodes its value.
type field struct {
	name string
	read func(node ast.Node, path string)
}

// root parses source into the mapping of its one document. It returns nil if there is none.
func (d *decoder) root(source []byte, what, smallest string) ast.Node {
	if !d.simple(source) {
		return nil
	}
	// The decoder below reports duplicate keys itself, among the other errors.
	file, err := parser.ParseBytes(source, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(err)
		return nil
	}
	docs := file.Docs
	if len(docs) == 0 || docs[0].Body == nil || docs[0].Body.Type() == ast.NullType {
		d.errorAt(Position{}, smallest, "%s is empty", what)
		return nil
	}
	if len(docs) > 1 {
		at := Position{}
		if docs[1].Start != nil {
			at = Position{Line: docs[1].Start.Position.Line, Column: docs[1].Start.Position.Column}
		} else if docs[1].Body != nil {
			at = place(docs[1].Body)
		}
		d.errorAt(at, "put each document into a file of its own", "a second document starts here")
	}
	switch body := docs[0].Body.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return body
	default:
		d.wrongType(body, what, "a mapping of fields")
		return nil
	}
}

func (d *decoder) syntax(err error) {
	var syntaxError *yaml.SyntaxError
	if errors.As(err, &syntaxError) && syntaxError.Token != nil && syntaxError.Token.Position != nil {
		at := Position{Line: syntaxError.Token.Position.Line, Column: syntaxError.Token.Position.Column}
		d.errorAt(at, "correct the YAML here; nothing beyond it was checked", "not valid YAML: %s", syntaxError.Message)
		return
	}
	d.errorAt(Position{}, "correct the YAML", "not valid YAML: %s", strings.SplitN(err.Error(), "\n", 2)[0])
}

func (d *decoder) document(node ast.Node) *Document {
	doc := &Document{
		Keep: KeepRequest, Mode: ModeEnforce, Limits: defaultLimits(),
		Ticket: Ticket{
			Mode:     TicketStored,
			Carriers: []Carrier{CarrierHeader},
			Lifetime: defaultLifetime,
			MaxAge:   defaultMaxAge,
			Grace:    defaultGrace,
		},
		Session: Session{Bind: []string{"authorization"}, Idle: defaultIdle},
	}
	d.mapping(node, "", "the policy", []field{
		{"version", func(n ast.Node, p string) { d.integer(n, p, &doc.Version) }},
		{"fanout", func(n ast.Node, p string) { d.text(n, p, &doc.Fanout) }},
		{"keep", func(n ast.Node, p string) { oneOf(d, n, p, &doc.Keep, KeepRequest, KeepSession) }},
		{"mode", func(n ast.Node, p string) { oneOf(d, n, p, &doc.Mode, ModeEnforce, ModeObserve) }},
		{"explain", func(n ast.Node, p string) { d.boolean(n, p, &doc.Explain) }},
		{"forward", func(n ast.Node, p string) { doc.Forward = list(d, n, p, d.rule) }},
		{"backends", func(n ast.Node, p string) { doc.Backends = d.backends(n, p) }},
		{"strip", func(n ast.Node, p string) { doc.Strip = list(d, n, p, d.word) }},
		{"limits", func(n ast.Node, p string) { d.limits(n, p, &doc.Limits) }},
		{"ticket", func(n ast.Node, p string) { d.ticket(n, p, &doc.Ticket) }},
		{"session", func(n ast.Node, p string) { d.session(n, p, &doc.Session) }},
	})
	for i, name := range doc.Strip {
		doc.Strip[i] = strings.ToLower(name)
	}
	for i := range doc.Forward {
		doc.Forward[i].Number = i + 1
		if doc.Forward[i].Keep == "" {
			doc.Forward[i].Keep = doc.Keep
		}
	}
	return doc
}

// rule decodes the short form, a bare name, or a mapping.
func (d *decoder) rule(node ast.Node, path string) Rule {
	rule := Rule{Repeat: RepeatAll, Conflict: ConflictReplace, Hide: true, Line: place(node).Line}
	if scalar, ok := node.(ast.ScalarNode); ok {
		d.text(scalar, path+".name", &rule.Name)
	} else {
		d.mapping(node, path, "a forward rule", []field{
			{"name", func(n ast.Node, p string) { d.text(n, p, &rule.Name) }},
			{"to", func(n ast.Node, p string) { rule.To = list(d, n, p, d.word) }},
			{"required", func(n ast.Node, p string) { d.boolean(n, p, &rule.Required) }},
			{"as", func(n ast.Node, p string) { d.text(n, p, &rule.As) }},
			{"prefix", func(n ast.Node, p string) { d.text(n, p, &rule.Prefix) }},
			{"tools", func(n ast.Node, p string) { rule.Tools = list(d, n, p, d.word) }},
			{"keep", func(n ast.Node, p string) { oneOf(d, n, p, &rule.Keep, KeepRequest, KeepSession) }},
			{"repeat", func(n ast.Node, p string) { oneOf(d, n, p, &rule.Repeat, RepeatAll, RepeatFirst, RepeatReject) }},
			{"conflict", func(n ast.Node, p string) {
				oneOf(d, n, p, &rule.Conflict, ConflictReplace, ConflictKeep, ConflictReject)
			}},
			{"hide", func(n ast.Node, p string) { d.boolean(n, p, &rule.Hide) }},
			{"max_bytes", func(n ast.Node, p string) { d.integer(n, p, &rule.MaxBytes) }},
		})
	}
	rule.Name = strings.ToLower(rule.Name)
	rule.As = strings.ToLower(rule.As)
	if rule.As == "" && !d.has(path+".as") {
		rule.As = rule.Name
	}
	return rule
}

func (d *decoder) backends(node ast.Node, path string) []Backend {
	backends := []Backend{}
	for _, entry := range d.entries(node, path, "backends") {
		at := path + "." + entry.key
		d.places[at] = entry.at
		backend := Backend{Name: entry.key}
		if entry.value.Type() != ast.NullType {
			d.mapping(entry.value, at, "a backend", []field{
				{"clusters", func(n ast.Node, p string) { backend.Clusters = list(d, n, p, d.word) }},
				{"discovery", func(n ast.Node, p string) { backend.Discovery = list(d, n, p, d.identity) }},
			})
		}
		backends = append(backends, backend)
	}
	return backends
}

func (d *decoder) identity(node ast.Node, path string) Identity {
	identity := Identity{Line: place(node).Line}
	d.mapping(node, path, "a discovery header", []field{
		{"name", func(n ast.Node, p string) { d.text(n, p, &identity.Name) }},
		{"prefix", func(n ast.Node, p string) { d.text(n, p, &identity.Prefix) }},
		{"file", func(n ast.Node, p string) { d.text(n, p, &identity.File) }},
	})
	identity.Name = strings.ToLower(identity.Name)
	return identity
}

func (d *decoder) limits(node ast.Node, path string, limits *Limits) {
	d.mapping(node, path, "limits", []field{
		{"headers", func(n ast.Node, p string) { d.integer(n, p, &limits.Headers) }},
		{"value_bytes", func(n ast.Node, p string) { d.integer(n, p, &limits.ValueBytes) }},
		{"total_bytes", func(n ast.Node, p string) { d.integer(n, p, &limits.TotalBytes) }},
		{"body_bytes", func(n ast.Node, p string) { d.integer(n, p, &limits.BodyBytes) }},
	})
}

func (d *decoder) ticket(node ast.Node, path string, ticket *Ticket) {
	d.mapping(node, path, "ticket", []field{
		{"mode", func(n ast.Node, p string) { oneOf(d, n, p, &ticket.Mode, TicketStored, TicketSealed) }},
		{"carriers", func(n ast.Node, p string) { ticket.Carriers = list(d, n, p, d.carrier) }},
		{"lifetime", func(n ast.Node, p string) { d.duration(n, p, &ticket.Lifetime) }},
		{"max_age", func(n ast.Node, p string) { d.duration(n, p, &ticket.MaxAge) }},
		{"rotate", func(n ast.Node, p string) { d.duration(n, p, &ticket.Rotate) }},
		{"grace", func(n ast.Node, p string) { d.duration(n, p, &ticket.Grace) }},
	})
}

func (d *decoder) session(node ast.Node, path string, session *Session) {
	d.mapping(node, path, "session", []field{
		{"bind", func(n ast.Node, p string) { session.Bind = list(d, n, p, d.word) }},
		{"idle", func(n ast.Node, p string) { d.duration(n, p, &session.Idle) }},
	})
	for i, name := range session.Bind {
		session.Bind[i] = strings.ToLower(name)
	}
}

func (d *decoder) carrier(node ast.Node, path string) Carrier { return Carrier(d.word(node, path)) }

func (d *decoder) word(node ast.Node, path string) string {
	var word string
	d.text(node, path, &word)
	return word
}

// mapping decodes a node's fields and reports unknown, repeated and null ones.
func (d *decoder) mapping(node ast.Node, path, what string, fields []field) {
	for _, entry := range d.entries(node, path, what) {
		at := entry.key
		if path != "" {
			at = path + "." + entry.key
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == entry.key })
		switch {
		case i < 0:
			hint := "the fields of " + what + " are " + names(fields)
			if at == "ceiling" {
				hint = "a ceiling is a document of its own: bellhop check --ceiling FILE"
			}
			d.errorAt(entry.at, hint, "unknown field %q in %s", entry.key, what)
		case entry.value.Type() == ast.NullType:
			d.places[at] = place(entry.value)
			d.unread[place(entry.value)] = true
			d.errorAt(entry.at, "give it a value, or remove the line", "%q has no value", entry.key)
		default:
			d.places[at] = place(entry.value)
			fields[i].read(entry.value, at)
		}
	}
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	at    Position // of the key
	value ast.Node
}

// entries returns the key-value pairs of a mapping node, each key once.
func (d *decoder) entries(node ast.Node, path, what string) []entry {
	if !d.has(path) {
		d.places[path] = place(node)
	}
	var pairs []*ast.MappingValueNode
	switch node := node.(type) {
	case *ast.MappingNode:
		pairs = node.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{node}
	default:
		d.wrongType(node, what, "a mapping of fields")
		return nil
	}
	first := make(map[string]int)
	var entries []entry
	for _, pair := range pairs {
		at := place(pair.Key)
		text, ok := pair.Key.(*ast.StringNode)
		if !ok {
			d.errorAt(
				at, "write each field out; a name that is not text needs quotes", "%q cannot be a key in a policy",
				pair.Key.String(),
			)
			continue
		}
		if line, twice := first[text.Value]; twice {
			d.errorAt(at, "keep one of the two", "%q is listed twice in %s; first in line %d", text.Value, what, line)
			continue
		}
		first[text.Value] = at.Line
		entries = append(entries, entry{key: text.Value, at: at, value: pair.Value})
	}
	return entries
}

// list decodes each item of a sequence with read; any other node is an error.
func list[T any](d *decoder, node ast.Node, path string, read func(ast.Node, string) T) []T {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		d.wrongType(node, path, "a list")
		return nil
	}
	items := make([]T, 0, len(sequence.Values))
	for i, value := range sequence.Values {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.places[at] = place(value)
		items = append(items, read(value, at))
	}
	return items
}

// oneOf decodes text that must be one of the choices.
func oneOf[T ~string](d *decoder, node ast.Node, path string, into *T, choices ...T) {
	word := T(d.word(node, path))
	if d.unread[place(node)] {
		return
	}
	if !slices.Contains(choices, word) {
		d.unread[place(node)] = true
		d.errorAt(place(node), "write "+either(choices), "%s: %q is not known", path, word)
		return
	}
	*into = word
}

// either joins choices for people: "all, first or reject".
func either[T ~string](choices []T) string {
	words := make([]string, len(choices))
	for i, choice := range choices {
		words[i] = string(choice)
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func (d *decoder) text(node ast.Node, path string, into *string) {
	d.places[path] = place(node)
	switch node := node.(type) {
	case *ast.StringNode:
		*into = node.Value
	case *ast.LiteralNode:
		*into = node.Value.Value
	default:
		d.wrongType(node, path, "text")
	}
}

func (d *decoder) integer(node ast.Node, path string, into *int) {
	d.places[path] = place(node)
	if number, ok := node.(*ast.IntegerNode); ok {
		switch value := number.Value.(type) {
		case uint64:
			if value <= 1<<30 {
				*into = int(value)
				return
			}
		case int64:
			if value >= -1<<30 {
				*into = int(value)
				return
			}
		}
	}
	d.wrongType(node, path, "a whole number")
}

func (d *decoder) boolean(node ast.Node, path string, into *bool) {
	d.places[path] = place(node)
	if value, ok := node.(*ast.BoolNode); ok {
		*into = value.Value
		return
	}
	d.wrongType(node, path, "true or false")
}

func (d *decoder) duration(node ast.Node, path string, into *time.Duration) {
	text, ok := node.(*ast.StringNode)
	if !ok {
		d.wrongType(node, path, "a duration such as 30s, 5m or 24h")
		return
	}
	value, err := time.ParseDuration(text.Value)
	if err != nil {
		d.unread[place(node)] = true
		d.errorAt(place(node), "write a number with a unit: 30s, 5m, 24h", "%s: %q is not a duration", path, text.Value)
		return
	}
	*into = value
}

func (d *decoder) wrongType(node ast.Node, what, want string) {
	d.unread[place(node)] = true
	hint := "write " + want
	switch node.(type) {
	case *ast.AliasNode, *ast.AnchorNode, *ast.TagNode:
		hint = "write the value out; anchors, aliases and tags are not part of the policy language"
	case *ast.NullNode:
		hint = "give it a value, or remove it"
	case ast.ScalarNode:
		if want == "text" {
			hint = "put it in quotes"
		}
	}
	d.errorAt(place(node), hint, "%s: expected %s, found %s", what, want, kind(node))
}

func (d *decoder) has(path string) bool {
	_, ok := d.places[path]
	return ok
}

// kind describes a node's type for the author of a policy.
func kind(node ast.Node) string {
	switch node.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.StringType, ast.LiteralType:
		return "text"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "true or false"
	case ast.NullType:
		return "nothing"
	default:
		return "an anchor, alias or tag"
	}
}

func place(node ast.Node) Position {
	if mapping, ok := node.(*ast.MappingNode); ok && !mapping.IsFlowStyle && len(mapping.Values) > 0 {
		return place(mapping.Values[0].Key)
	}
	if entry, ok := node.(*ast.MappingValueNode); ok {
		return place(entry.Key)
	}
	if token := node.GetToken(); token != nil && token.Position != nil {
		return Position{Line: token.Position.Line, Column: token.Position.Column}
	}
	return Position{}
}

func names(fields []field) string {
	all := make([]string, len(fields))
	for i, field := range fields {
		all[i] = field.name
	}
	return strings.Join(all, ", ")
}
