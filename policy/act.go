package policy

// Act is what a request asks for, as far as it is known.
type Act struct {
	Method string // JSON-RPC, such as tools/call; empty: not known
	Tool   string // of a tools/call, by the name that the receiver of the request gives it; empty: not known
	// Disputed says that two sources contradict each other, so that neither is to be believed.
	Disputed bool
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

// ReadAct reads what a request says of itself in its headers. Contradicting lines are a dispute.
func ReadAct(request []Header) Act {
	var act Act
	for _, header := range request {
		switch header.Name {
		case MethodHeader:
			act = act.Merge(Act{Method: header.Value.Reveal()})
		case NameHeader:
			act = act.Merge(Act{Tool: header.Value.Reveal()})
		}
	}
	return act
}

// Merge joins what two sources say of one request.
func (a Act) Merge(other Act) Act {
	merged := Act{Method: a.Method, Tool: a.Tool, Disputed: a.Disputed || other.Disputed}
	if merged.Method == "" {
		merged.Method = other.Method
	}
	if merged.Tool == "" {
		merged.Tool = other.Tool
	}
	differ := func(x, y string) bool { return x != "" && y != "" && x != y }
	merged.Disputed = merged.Disputed || differ(a.Method, other.Method) || differ(a.Tool, other.Tool)
	return merged
}

// ofClient reports whether the act is one that only a client can cause, or may be one.
func (a Act) ofClient() bool {
	switch a.Method {
	case callTool, "resources/read", "prompts/get", "completion/complete":
		return true
	default:
		return a.Disputed
	}
}

// concerns reports whether a rule is for such a request. A rule for certain tools is for nothing else than calls that
// are known to be of these.
func (r Rule) concerns(act Act) bool {
	if len(r.Tools) == 0 {
		return true
	}
	return !act.Disputed && act.Method == callTool && act.Tool != "" && matchTool(r.Tools, act.Tool)
}
