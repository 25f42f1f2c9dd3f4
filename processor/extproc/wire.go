package extproc

import (
	"math"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"bellhop/policy"
	"bellhop/processor"
)

const (
	// mcpNamespace is the dynamic metadata of Envoy's envoy.filters.http.mcp: what it read from the body.
	mcpNamespace = "envoy.filters.http.mcp"
	// clusterAttribute is the request attribute in which Envoy names the cluster that a request goes to.
	clusterAttribute = "xds.cluster_name"
)

// readHeaders converts Envoy's header lines, in their order. Envoy sends names in lower case and values as raw
// bytes. Both are enforced here, because other proxies speak this protocol too.
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

// message is one message of a stream, in the core's types.
type message struct {
	kind          messageKind
	request       processor.Request            // of requestHeaders
	full          *extprocv3.ProcessingRequest // of every other kind
	observability bool
	configured    bool // it says what bodies Envoy will send: the first message of a stream does
	bodies        bodies
}

// messageKind is the kind of a message.
type messageKind int

const (
	otherMessage    messageKind = iota
	requestHeaders              // the head of the request
	requestRest                 // its body or trailers
	responseHeaders             // the head of the response
)

// readMessage converts a message of Envoy's.
func readMessage(full *extprocv3.ProcessingRequest) message {
	m := message{full: full, observability: full.GetObservabilityMode()}
	if config := full.GetProtocolConfig(); config != nil {
		m.configured, m.bodies = true, bodiesOf(config.GetRequestBodyMode(), config.GetResponseBodyMode())
	}
	switch {
	case full.GetRequestHeaders() != nil:
		m.kind, m.full, m.request = requestHeaders, nil, readRequest(full)
	case full.GetRequestBody() != nil || full.GetRequestTrailers() != nil:
		m.kind = requestRest
	case full.GetResponseHeaders() != nil:
		m.kind = responseHeaders
	}
	return m
}

// readRequest converts Envoy's message of a request's headers.
func readRequest(message *extprocv3.ProcessingRequest) processor.Request {
	return processor.Request{
		Headers: readHeaders(message.GetRequestHeaders().GetHeaders()),
		Cluster: readCluster(message),
		Body:    readBody(message),
	}
}

// readResponse converts Envoy's message of a response's headers.
func readResponse(message *extprocv3.ProcessingRequest) processor.Response {
	return processor.Response{Headers: readHeaders(message.GetResponseHeaders().GetHeaders())}
}

// readBody converts what Envoy's mcp filter has read in the body.
func readBody(message *extprocv3.ProcessingRequest) processor.Body {
	fields := message.GetMetadataContext().GetFilterMetadata()[mcpNamespace].GetFields()
	if fields == nil {
		return processor.Body{}
	}
	return processor.Body{
		Seen: true,
		Operation: policy.Operation{
			Method: fields["method"].GetStringValue(),
			Tool:   fields["params"].GetStructValue().GetFields()["name"].GetStringValue(),
		},
		ID: readID(fields["id"]),
	}
}

// readID returns a JSON-RPC id, which is text or a number. A number that Envoy's metadata may have rounded, or that
// JSON would write in another way, is not known: the client would not find its request by it.
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

// bodies is what the first message of a stream says of the bodies that Envoy will send.
type bodies struct {
	// none says that no message is needed after the headers. Then the service ends the stream, and Envoy continues without
	// it: a stream left open would fail the call when Bellhop stops.
	none           bool
	requestDuplex  bool // the request's body is the service's to give back
	responseDuplex bool
}

func bodiesOf(request, response extprocfilterv3.ProcessingMode_BodySendMode) bodies {
	const duplex = extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED
	return bodies{
		none:          request == extprocfilterv3.ProcessingMode_NONE && response == extprocfilterv3.ProcessingMode_NONE,
		requestDuplex: request == duplex, responseDuplex: response == duplex,
	}
}
