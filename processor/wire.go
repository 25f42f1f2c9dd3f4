package processor

import (
	"math"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"google.golang.org/protobuf/types/known/structpb"

	"bellhop/policy"
)

// incoming is one HTTP request as far as Envoy shows it.
type incoming struct {
	headers   []policy.Header
	method    string           // of HTTP; empty where Envoy shows no pseudo-headers
	session   string           // the MCP session's ID, as the client sends it; empty: none
	modern    bool             // of MCP 2026-07-28, which has no sessions
	cluster   string           // to which Envoy sends the request; empty: not known
	operation policy.Operation // what it asks for, where that is known
	read      bool             // Envoy has read that in the body
	id        any              // of its JSON-RPC request: text or number; nil: not known
}

// The names of what incoming holds, beside those of the policy.
const (
	httpMethodHeader = ":method"
	statusHeader     = ":status"
	// mcpNamespace is where Envoy's envoy.filters.http.mcp files what it read in the body.
	mcpNamespace = "envoy.filters.http.mcp"
)

// clusterAttribute is the request attribute in which Envoy names the cluster that a request goes to.
const clusterAttribute = "xds.cluster_name"

// readHeaders converts Envoy's header lines, in their order. Envoy sends names in lower case and values as raw
// bytes; both are made sure of, because other proxies speak this protocol too.
func readHeaders(headers *corev3.HeaderMap) []policy.Header {
	lines := headers.GetHeaders()
	read := make([]policy.Header, 0, len(lines))
	for _, line := range lines {
		value := line.GetValue()
		if raw := line.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		read = append(read, policy.Header{Name: strings.ToLower(line.GetKey()), Value: policy.NewValue(value)})
	}
	return read
}

// readRequest converts Envoy's message of a request's headers.
func readRequest(message *extprocv3.ProcessingRequest) incoming {
	request := incoming{headers: readHeaders(message.GetRequestHeaders().GetHeaders()), cluster: readCluster(message)}
	for _, header := range request.headers {
		switch header.Name {
		case httpMethodHeader:
			request.method = header.Value.Reveal()
		case policy.SessionHeader:
			request.session = header.Value.Reveal()
		case policy.MethodHeader:
			request.modern = true
		}
	}
	if request.modern {
		request.session = ""
	}
	request.operation = policy.OperationFromHeaders(request.headers)
	if fields := message.GetMetadataContext().GetFilterMetadata()[mcpNamespace].GetFields(); fields != nil {
		method := fields["method"].GetStringValue()
		request.read = method != ""
		if !request.read && request.operation != (policy.Operation{}) {
			request.operation.Ambiguous = true // what the headers say, a body that cannot be read may contradict
		}
		request.operation = request.operation.Merge(policy.Operation{
			Method: method,
			Tool:   fields["params"].GetStructValue().GetFields()["name"].GetStringValue(),
		})
		request.id = readID(fields["id"])
	}
	return request
}

// outgoing is one HTTP response as far as Envoy shows it.
type outgoing struct {
	status  int    // 0: not shown
	session string // the MCP session's ID; empty: none
}

// readResponse converts Envoy's message of a response's headers.
func readResponse(message *extprocv3.ProcessingRequest) outgoing {
	var response outgoing
	for _, header := range readHeaders(message.GetResponseHeaders().GetHeaders()) {
		switch header.Name {
		case statusHeader:
			response.status, _ = strconv.Atoi(header.Value.Reveal())
		case policy.SessionHeader:
			response.session = header.Value.Reveal()
		}
	}
	return response
}

// readID returns a JSON-RPC id, which is text or a number. A number that Envoy's metadata may have rounded, or that JSON would write
// in another way, is not known: the client would not find its request by it.
func readID(value *structpb.Value) any {
	switch kind := value.GetKind().(type) {
	case *structpb.Value_StringValue:
		return kind.StringValue
	case *structpb.Value_NumberValue:
		const exact = 1 << 53
		if number := kind.NumberValue; number == math.Trunc(number) && math.Abs(number) < exact {
			return int64(number)
		}
		return nil
	default:
		return nil
	}
}

// readCluster finds the cluster's name among the attributes, whatever filter they are filed under, or returns "".
func readCluster(request *extprocv3.ProcessingRequest) string {
	for _, attributes := range request.GetAttributes() {
		if name, ok := attributes.GetFields()[clusterAttribute]; ok {
			return name.GetStringValue()
		}
	}
	return ""
}

// moreToCome reports whether Envoy may have use for the stream after the request's headers are answered. Its first
// message says which bodies it will send. Where it sends none, the service ends the stream, and Envoy goes on without
// it: a stream that waits for a response that nobody needs would fail the call when Bellhop stops.
func moreToCome(request *extprocv3.ProcessingRequest) bool {
	config := request.GetProtocolConfig()
	return config == nil || config.GetRequestBodyMode() != 0 || config.GetResponseBodyMode() != 0
}
