// Package mcptest provides real MCP backends and clients, built on the official
// Go SDK, and a recording proxy to put between two stations of a request.
//
// Nothing here knows the testing package: a demo program may use it as well.
// Everything listens on the loopback address and speaks to it only.
package mcptest

// Era is one of the two generations of MCP that a gateway has to join.
type Era int

const (
	// Legacy is MCP 2025-11-25: initialize, sessions, GET and DELETE.
	Legacy Era = iota
	// Modern is MCP 2026-07-28: no session, every request stands alone.
	Modern
)

// legacyVersion is what a legacy client asks for.
const legacyVersion = "2025-11-25"

// String names the era, for test names and messages.
func (e Era) String() string {
	if e == Modern {
		return "modern"
	}
	return "legacy"
}
