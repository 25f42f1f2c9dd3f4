// Package processor is Bellhop's core: one HTTP request in, one answer out.
//
// On the client's side of a fan-out (ingress) it captures the headers that the policy lists and sets a ticket in their
// place. On the backends' side (egress) it removes the ticket and sets the headers that this backend may get.
//
// The core does not depend on a proxy's protocol: a transport such as package extproc converts the proxy's messages
// into a [Request] and an [Answer] into the proxy's. Package policy decides; packages ticket and session know what
// tickets and MCP sessions are.
package processor
