package policy

import "strings"

// Operation is what a request asks for: the JSON-RPC messages of its body, all of them, or that they are not known. The
// zero value is not known, because then nothing that depends on it is given.
type Operation struct {
	known    bool
	messages []Message
	session  bool
	why      Unreadable
}

// Message is one JSON-RPC message of a request's body.
type Message struct {
	Method string // such as tools/call; empty: the answer to a request of the server's
	Tool   string // of a tools/call, as the receiver of the request names it
}

// Unreadable says why it is not known what a request asks for. Its text is stable: metrics and clients may rely on it.
type Unreadable string

const (
	// UnreadableHidden is a body that the proxy does not show to Bellhop.
	UnreadableHidden Unreadable = "body_not_shown"
	// UnreadableMethod is a body under an HTTP method that MCP does not send one with.
	UnreadableMethod Unreadable = "http_method"
	// UnreadableType is a body that is not said to be plain JSON: another content-type, a charset, a content-encoding.
	UnreadableType Unreadable = "content_type"
	// UnreadableJSON is a body that is not one JSON document, or not one that all readers read alike.
	UnreadableJSON Unreadable = "not_json"
	// UnreadableKey is a key that occurs twice, or in another case than it is defined in.
	UnreadableKey Unreadable = "ambiguous_key"
	// UnreadableRPC is a JSON document that is no JSON-RPC 2.0.
	UnreadableRPC Unreadable = "not_json_rpc"
	// UnreadableTool is a tool call that does not name its tool as MCP does: as a text under params.name.
	UnreadableTool Unreadable = "no_tool"
	// UnreadableHeader is a body that the request's own Mcp-Method or Mcp-Name contradicts.
	UnreadableHeader Unreadable = "contradicting_header"
)

// Text is the reason for people, to stand after a colon.
func (u Unreadable) Text() string {
	switch u {
	case UnreadableHidden:
		return "the proxy does not show its body to Bellhop"
	case UnreadableMethod:
		return "it has a body, and its HTTP method is not POST"
	case UnreadableType:
		return "its body is not plain application/json in UTF-8"
	case UnreadableJSON:
		return "its body is not one JSON document"
	case UnreadableKey:
		return "a key of its JSON-RPC message occurs twice, or in another case"
	case UnreadableRPC:
		return "its body is not JSON-RPC 2.0"
	case UnreadableTool:
		return "it is a tools/call that does not say under params.name which"
	case UnreadableHeader:
		return "its " + MethodHeader + " or " + NameHeader + " header contradicts the body"
	default:
		return "nothing says it"
	}
}

// MethodHeader and NameHeader are where a modern MCP request (2026-07-28) names its JSON-RPC method, and the tool,
// resource or prompt it is for.
const (
	MethodHeader = "mcp-method"
	NameHeader   = "mcp-name"
)

// The headers that say of what kind and how long a body is.
const (
	LengthHeader   = "content-length"
	TypeHeader     = "content-type"
	EncodingHeader = "content-encoding"
)

// SessionHeader is where a legacy MCP request or response names its session.
const SessionHeader = "mcp-session-id"

// CallTool is the JSON-RPC method of a tool call.
const CallTool = "tools/call"

// Asks is the operation of a request whose body holds these messages.
func Asks(messages ...Message) Operation { return Operation{known: true, messages: messages} }

// AsksNothing is the operation of a request without a body. With ofSession it is the GET or DELETE of an MCP session.
func AsksNothing(ofSession bool) Operation { return Operation{known: true, session: ofSession} }

// NotKnown is the operation of a request of which it is not known what it asks for.
func NotKnown(why Unreadable) Operation { return Operation{why: why} }

// Known reports whether it is known what the request asks for.
func (o Operation) Known() bool { return o.known }

// Why says why the operation is not known; empty if it is known, or if nothing was read.
func (o Operation) Why() Unreadable { return o.why }

// isDiscovery reports whether no client is needed to cause the request: a fan-out makes such requests at its start, and
// to see whether a backend is well.
func (o Operation) isDiscovery() bool {
	return o.known && (o.session || o.all(Message.isDiscovery))
}

func (m Message) isDiscovery() bool {
	switch m.Method {
	case "initialize", "notifications/initialized", "ping", "server/discover", "logging/setLevel":
		return true
	default:
		of, isList := strings.CutSuffix(m.Method, "/list")
		return isList && of != "" && !strings.Contains(of, "/")
	}
}

func (m Message) isCall() bool { return m.Method == CallTool }

// all reports whether there are messages, and all of them are so.
func (o Operation) all(is func(Message) bool) bool {
	for _, message := range o.messages {
		if !is(message) {
			return false
		}
	}
	return len(o.messages) > 0
}

// some reports whether a message is so.
func (o Operation) some(is func(Message) bool) bool {
	for _, message := range o.messages {
		if is(message) {
			return true
		}
	}
	return false
}

// appliesTo reports whether a rule applies to an operation. A rule with tools applies only to requests that are known
// to call these tools and to ask for nothing else.
func (r *Rule) appliesTo(operation Operation) bool {
	return len(r.Tools) == 0 || operation.known && operation.all(r.isFor)
}

// mayApplyTo reports whether a rule applies to an operation or to a part of it, or whether it is not known if it does.
func (r *Rule) mayApplyTo(operation Operation) bool {
	return len(r.Tools) == 0 || !operation.known || operation.some(r.isFor)
}

// isFor reports whether a message calls a tool of a rule.
func (r *Rule) isFor(message Message) bool {
	return message.isCall() && message.Tool != "" && matchTool(r.Tools, message.Tool)
}
