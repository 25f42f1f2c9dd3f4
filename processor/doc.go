// Package processor is Bellhop's core: one HTTP request in, one answer out.
//
// On the client's side of a fan-out (ingress) it takes the headers that the policy carries off the request and puts a
// ticket in their place. On the backends' side (egress) it takes the ticket off and puts back what this backend may
// have.
//
// The core does not depend on a proxy's protocol: a transport such as package extproc converts the proxy's messages
// into a [Request] and an [Answer] into the proxy's. Package policy decides; packages ticket and session know what
// tickets and MCP sessions are.
package processor
