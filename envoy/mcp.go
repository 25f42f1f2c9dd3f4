package envoy

import (
	mcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/mcp/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// McpFilterName is the filter's name, and the namespace in which it files what it reads.
const McpFilterName = "envoy.filters.http.mcp"

// MaxParsedBody bounds what Envoy holds of a body to find the method and the tool in it, in bytes. Some clients write
// the tool's name after its arguments.
const MaxParsedBody = 64 << 10

// mcpFilter lets Envoy read what a request asks for, so that Bellhop knows it without ever seeing a body.
func (w *Writer) mcpFilter(path string) *hcmv3.HttpFilter {
	w.Note(
		path,
		"Envoy reads the MCP method and the tool's name from the body, and sends only these to Bellhop. The body itself",
		"never reaches Bellhop. In a body of more than 64 KiB they may not be found: rules for tools then do not apply, "+
			"nor does a discovery identity.",
	)
	return &hcmv3.HttpFilter{Name: McpFilterName, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: w.Pack(&mcpv3.Mcp{
		TrafficMode:        mcpv3.Mcp_PASS_THROUGH,
		MaxRequestBodySize: wrapperspb.UInt32(MaxParsedBody),
	})}}
}
