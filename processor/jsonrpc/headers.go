package jsonrpc

import (
	"encoding/base64"
	"mime"
	"strings"

	"bellhop/policy"
)

// IsJSON reports whether the headers of a request say that its body is plain JSON in UTF-8, so that its receiver reads
// the bytes that Bellhop reads.
func IsJSON(headers []policy.Header) bool {
	types := 0
	for _, header := range headers {
		switch header.Name {
		case "content_type", "content_encoding": // many servers read _ as -
			return false
		case policy.TypeHeader:
			types++
			if !isJSON(header.Value.Reveal()) {
				return false
			}
		case policy.EncodingHeader:
			if !strings.EqualFold(strings.TrimSpace(header.Value.Reveal()), "identity") {
				return false
			}
		}
	}
	return types == 1
}

func isJSON(contentType string) bool {
	media, parameters, err := mime.ParseMediaType(contentType)
	charset, given := parameters["charset"]
	return err == nil && media == "application/json" && (!given || strings.EqualFold(charset, "utf-8"))
}

// contradicted reports whether the headers in which a modern request (MCP 2026-07-28) repeats what its body asks for
// say anything else.
func contradicted(headers []policy.Header, messages []message) bool {
	var methods, names int
	for _, header := range headers {
		switch header.Name {
		case policy.MethodHeader:
			methods++
			if header.Value.Reveal() != messages[0].method {
				return true
			}
		case policy.NameHeader:
			names++
			if decoded(header.Value.Reveal()) != messages[0].target() {
				return true
			}
		case "mcp_method", "mcp_name": // many servers read _ as -
			return true
		}
	}
	return methods > 1 || names > 1 || methods+names > 0 && len(messages) != 1
}

// target is what Mcp-Name repeats.
func (m message) target() string {
	if m.method == "resources/read" {
		return m.uri
	}
	return m.name
}

// decoded decodes a value that cannot stand in a header as it is, which MCP 2026-07-28 writes as =?base64?…?=.
func decoded(value string) string {
	const begin, end = "=?base64?", "?="
	text, began := strings.CutPrefix(value, begin)
	text, ended := strings.CutSuffix(text, end)
	if !began || !ended {
		return value
	}
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return value
	}
	return string(plain)
}
