// Package jsonrpc reads what the body of an MCP request asks for, or says that it is not known.
//
// The request's receiver will read the same body with a reader of its own. So this one is strict: it knows only what
// all readers read alike. Some take the last of two equal keys and some the first, some ignore the case of keys, some
// read the first document of several, and some believe a header instead.
package jsonrpc
