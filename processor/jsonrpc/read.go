package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"bellhop/policy"
)

// Body is what a request's body says.
type Body struct {
	Operation policy.Operation
	// ID is that of the one request in the body, as JSON: a string or a number. It is nil if there is none, or if it is
	// not known.
	ID json.RawMessage
}

// maxID bounds an ID that is repeated in an error, in bytes.
const maxID = 256

// message is one JSON-RPC message.
type message struct {
	version, method string
	isRequest       bool // it has a method
	isResponse      bool // it has a result or an error
	name, uri       string
	id              json.RawMessage
}

// Read reads the body of a request with these headers, whose names are in lower case.
func Read(headers []policy.Header, body []byte) Body {
	if !IsJSON(headers) {
		return unreadable(policy.UnreadableType)
	}
	messages, err := read(body)
	if err != nil {
		why, ok := errors.AsType[unread](err)
		if !ok {
			return unreadable(policy.UnreadableJSON)
		}
		return unreadable(policy.Unreadable(why))
	}
	var all Body
	if len(messages) == 1 {
		all.ID = messages[0].id
	}
	if contradicted(headers, messages) {
		all.Operation = policy.NotKnown(policy.UnreadableHeader)
		return all
	}
	asked := make([]policy.Message, len(messages))
	for i, one := range messages {
		asked[i].Method = one.method
		if one.method != policy.CallTool {
			continue
		}
		if asked[i].Tool = one.name; one.name == "" {
			all.Operation = policy.NotKnown(policy.UnreadableTool)
			return all
		}
	}
	all.Operation = policy.Asks(asked...)
	return all
}

func unreadable(why policy.Unreadable) Body { return Body{Operation: policy.NotKnown(why)} }

// unread is the reason for which a document of sound JSON is not read.
type unread policy.Unreadable

// Error implements error.
func (u unread) Error() string { return string(u) }

// read reads the one message of a body, or each of a batch.
func read(body []byte) ([]message, error) {
	// Keys that occur twice in a tool's own arguments decide nothing here, and the check of them would cost as much as
	// the rest. The keys that do decide are checked below.
	decoder := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true))
	var messages []message
	switch decoder.PeekKind() {
	case jsontext.KindBeginObject:
		one, err := readMessage(decoder)
		if err != nil {
			return nil, err
		}
		messages = append(messages, one)
	case jsontext.KindBeginArray:
		if err := eachElement(decoder, func() error {
			one, err := readMessage(decoder)
			messages = append(messages, one)
			return err
		}); err != nil {
			return nil, err
		}
	default:
		if err := decoder.SkipValue(); err != nil {
			return nil, err
		}
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, unread(policy.UnreadableJSON) // a second document
	}
	if len(messages) == 0 {
		return nil, unread(policy.UnreadableRPC)
	}
	return messages, nil
}

// readMessage reads one message.
func readMessage(decoder *jsontext.Decoder) (message, error) {
	var m message
	if decoder.PeekKind() != jsontext.KindBeginObject {
		return m, unread(policy.UnreadableRPC)
	}
	keys := newKeys("jsonrpc", "id", "method", "params", "result", "error")
	err := eachMember(decoder, keys, func(key string) (err error) {
		switch key {
		case "jsonrpc":
			m.version, err = readText(decoder)
		case "method":
			m.isRequest = true
			m.method, err = readText(decoder)
		case "id":
			m.id, err = readID(decoder)
		case "params":
			err = m.readParams(decoder)
		case "result", "error":
			m.isResponse = true
			err = decoder.SkipValue()
		default:
			err = decoder.SkipValue()
		}
		return err
	})
	if err != nil {
		return m, err
	}
	if m.version != "2.0" || m.isRequest == m.isResponse || m.isRequest && !isMethod(m.method) {
		return m, unread(policy.UnreadableRPC)
	}
	return m, nil
}

// isMethod reports whether a text is a method, and does not only look like that of a tool call.
func isMethod(text string) bool {
	printable := strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
	return text != "" && printable && (text == policy.CallTool || !strings.EqualFold(text, policy.CallTool))
}

// readParams reads what the request is for. Parameters by position are none of MCP's.
func (m *message) readParams(decoder *jsontext.Decoder) error {
	if decoder.PeekKind() != jsontext.KindBeginObject {
		return decoder.SkipValue()
	}
	keys := newKeys("name", "uri", "arguments", "_meta")
	return eachMember(decoder, keys, func(key string) (err error) {
		switch key {
		case "name":
			m.name, err = readTextOrSkip(decoder)
		case "uri":
			m.uri, err = readTextOrSkip(decoder)
		default:
			err = decoder.SkipValue()
		}
		return err
	})
}

// readText reads a text, which is what has to stand there.
func readText(decoder *jsontext.Decoder) (string, error) {
	if decoder.PeekKind() != jsontext.KindString {
		return "", unread(policy.UnreadableRPC)
	}
	return readTextOrSkip(decoder)
}

// readTextOrSkip reads a text, or returns "" for a value of another kind.
func readTextOrSkip(decoder *jsontext.Decoder) (string, error) {
	if decoder.PeekKind() != jsontext.KindString {
		return "", decoder.SkipValue()
	}
	token, err := decoder.ReadToken()
	if err != nil {
		return "", err
	}
	return token.String(), nil
}

func readID(decoder *jsontext.Decoder) (json.RawMessage, error) {
	kind := decoder.PeekKind()
	value, err := decoder.ReadValue()
	if err != nil || kind != jsontext.KindString && kind != jsontext.KindNumber || len(value) > maxID {
		return nil, err
	}
	return bytes.Clone(value), nil
}

// eachMember calls visit with each key of an object; visit has to read the key's value.
func eachMember(decoder *jsontext.Decoder, known *keys, visit func(key string) error) error {
	if _, err := decoder.ReadToken(); err != nil {
		return err
	}
	for decoder.PeekKind() != jsontext.KindEndObject {
		token, err := decoder.ReadToken()
		if err != nil {
			return err
		}
		key := token.String()
		if !known.add(key) {
			return unread(policy.UnreadableKey)
		}
		if err := visit(key); err != nil {
			return err
		}
	}
	_, err := decoder.ReadToken()
	return err
}

// eachElement calls visit for each element of an array; visit has to read it.
func eachElement(decoder *jsontext.Decoder, visit func() error) error {
	if _, err := decoder.ReadToken(); err != nil {
		return err
	}
	for decoder.PeekKind() != jsontext.KindEndArray {
		if err := visit(); err != nil {
			return err
		}
	}
	_, err := decoder.ReadToken()
	return err
}
