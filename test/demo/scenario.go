package main

import (
	"bellhop/test/mcptest"
)

// The cast of the demo. The keys are test values, made to be shown.
const (
	keyHeader    = "x-mcp-api-key"
	discoveryKey = "discovery-key"

	notes   = "notes"
	billing = "billing"
)

// player is one MCP client with its key.
type player struct {
	name string
	key  string
	era  mcptest.Era
}

func players() []player {
	return []player{
		{name: "alice", key: "alice-key", era: mcptest.Legacy},
		{name: "bob", key: "bob-key", era: mcptest.Modern},
	}
}

// server is one MCP backend.
type server struct {
	name   string
	era    mcptest.Era
	strict bool // answers 401 to any request without a key
}

func servers() []server {
	return []server{
		{name: notes, era: mcptest.Modern},
		{name: billing, era: mcptest.Legacy, strict: true},
	}
}

// The policy of the demo, and the file that it names.
const (
	discoveryFile = "billing-discovery"
	policyText    = `# The policy of "make demo".
version: 1
forward:
  - x-mcp-api-key           # carried from each client to both backends, and never shown to vMCP
backends:
  notes:
    clusters: [mcp-notes]
  billing:
    clusters: [mcp-billing]
    discovery:              # for requests that no client caused, such as vMCP's health checks
      - {name: x-mcp-api-key, file: billing-discovery}
`
)

// call is one tool call that each player makes.
type call struct {
	tool    string // as vMCP calls it
	backend string
	echo    bool // says the player's greeting; otherwise whoami, which answers with the request's header
}

func calls() []call {
	var all []call
	for _, s := range servers() {
		all = append(all,
			call{tool: s.name + "_" + mcptest.WhoAmI, backend: s.name},
			call{tool: s.name + "_" + mcptest.Echo, backend: s.name, echo: true},
		)
	}
	return all
}

// greeting is what a player lets the echo tools say. It stands in the body of the
// request at the backend, and so tells who caused it.
func (p player) greeting() string { return "hello from " + p.name }
