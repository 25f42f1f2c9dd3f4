package envoy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Notes are comments by the YAML path of the field that they stand above.
type Notes yaml.CommentMap

// Note puts a comment above a field. What was said of one field is not said again of the next of its kind.
func (n Notes) Note(path string, lines ...string) {
	comment := yaml.HeadComment(indent(lines)...)
	for _, earlier := range n {
		if slices.Equal(earlier[0].Texts, comment.Texts) {
			return
		}
	}
	n[path] = []*yaml.Comment{comment}
}

func indent(lines []string) []string {
	indented := make([]string, len(lines))
	for i, line := range lines {
		indented[i] = " " + line
	}
	return indented
}

// render writes a message as YAML with a title and comments. The fields keep the order of Envoy's API.
func render(m proto.Message, title string, comments Notes) ([]byte, error) {
	document, err := Tree(m)
	if err != nil {
		return nil, err
	}
	body, err := Write(document, comments)
	if err != nil {
		return nil, err
	}
	return append(Headed(title), body...), nil
}

// Write writes a document with its comments.
func Write(document any, comments Notes) ([]byte, error) {
	return yaml.MarshalWithOptions(
		document, yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true),
		yaml.WithComment(yaml.CommentMap(comments)),
	)
}

// Tree is a message as the values that YAML knows, in the order of Envoy's API.
func Tree(m proto.Message) (any, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	// protojson puts spaces in at random, so that no one relies on its bytes; decoding removes them.
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return ordered(decoder)
}

// Headed writes the title as a comment.
func Headed(title string) []byte {
	var out bytes.Buffer
	for line := range strings.Lines(title) {
		out.WriteString(strings.TrimRight("# "+line, " \n") + "\n")
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// ordered decodes one JSON value, keeping the order of objects.
func ordered(decoder *json.Decoder) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch value := token.(type) {
	case json.Delim:
		if value == '{' {
			return object(decoder)
		}
		return array(decoder)
	case json.Number:
		return value.Int64()
	case string:
		return Scalar(value), nil
	default:
		return value, nil
	}
}

func object(decoder *json.Decoder) (any, error) {
	fields := yaml.MapSlice{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		value, err := ordered(decoder)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", key, err)
		}
		fields = append(fields, yaml.MapItem{Key: key, Value: value})
	}
	_, err := decoder.Token()
	return fields, err
}

func array(decoder *json.Decoder) (any, error) {
	items := []any{}
	for decoder.More() {
		item, err := ordered(decoder)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	_, err := decoder.Token()
	return items, err
}

// Scalar is a text as it can be written. The library quotes what YAML 1.1 and 1.2 take for a number or a truth
// value, as Envoy does with a backend that is called "on" or "1e3"; it overlooks ".inf".
func Scalar(text string) any {
	lines := strings.TrimSuffix(text, "\n")
	if strings.Contains(lines, "\n") && printable(strings.ReplaceAll(lines, "\n", "")) {
		return text // a script, which people may read
	}
	const word = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-"
	if strings.Trim(text, word) != "" || strings.HasPrefix(text, ".") {
		return Quoted(text)
	}
	return text
}

// Quoted is a text that has to stand in quotation marks.
type Quoted string

// MarshalYAML writes the text as a JSON string, which is a double-quoted scalar in YAML too.
func (q Quoted) MarshalYAML() ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(string(q))
	return bytes.TrimRight(out.Bytes(), "\n"), err
}
