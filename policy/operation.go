package policy

// Operation is what a request asks for, as far as known.
type Operation struct {
	Method string // JSON-RPC, such as tools/call; empty: not known
	Tool   string // of a tools/call, as the receiver of the request names it; empty: not known
	// Ambiguous says that two sources disagree, so neither is trusted.
	Ambiguous bool
}

// MethodHeader and NameHeader are where a modern MCP request (2026-07-28) names its JSON-RPC method, and the tool,
// resource or prompt it is for.
const (
	MethodHeader = "mcp-method"
	NameHeader   = "mcp-name"
)

// SessionHeader is where a legacy MCP request or response names its session.
const SessionHeader = "mcp-session-id"

const callTool = "tools/call"

// OperationFromHeaders returns the operation that a request's headers name. It is ambiguous if they contradict each
// other.
func OperationFromHeaders(request []Header) Operation {
	var operation Operation
	for _, header := range request {
		switch header.Name {
		case MethodHeader:
			operation = operation.Merge(Operation{Method: header.Value.Reveal()})
		case NameHeader:
			operation = operation.Merge(Operation{Tool: header.Value.Reveal()})
		}
	}
	return operation
}

// Merge combines the operations that two sources give for one request.
func (a Operation) Merge(other Operation) Operation {
	merged := Operation{Method: a.Method, Tool: a.Tool, Ambiguous: a.Ambiguous || other.Ambiguous}
	if merged.Method == "" {
		merged.Method = other.Method
	}
	if merged.Tool == "" {
		merged.Tool = other.Tool
	}
	differ := func(x, y string) bool { return x != "" && y != "" && x != y }
	merged.Ambiguous = merged.Ambiguous || differ(a.Method, other.Method) || differ(a.Tool, other.Tool)
	return merged
}

// onlyByClients reports whether only a client can cause the operation, or might have.
func (a Operation) onlyByClients() bool {
	switch a.Method {
	case callTool, "resources/read", "prompts/get", "completion/complete":
		return true
	default:
		return a.Ambiguous
	}
}

// appliesTo reports whether a rule applies to an operation. A rule with tools applies only to calls that are known to
// be of those tools.
func (r *Rule) appliesTo(operation Operation) bool {
	if len(r.Tools) == 0 {
		return true
	}
	return !operation.Ambiguous && operation.Method == callTool && operation.Tool != "" &&
		matchTool(r.Tools, operation.Tool)
}
