package extproc

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"bellhop/policy"
	"bellhop/processor"
)

// clusterAttribute is the request attribute in which Envoy names the cluster that a request goes to.
const clusterAttribute = "xds.cluster_name"

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
	bodiless      bool                         // of requestHeaders: the request has no body
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
	requestBody                 // its body
	requestTrailers             // its trailers
	responseHeaders             // the head of the response
	noBody                      // none of Envoy's: the request's body does not come in time
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
		m.bodiless = full.GetRequestHeaders().GetEndOfStream()
	case full.GetRequestBody() != nil:
		m.kind = requestBody
	case full.GetRequestTrailers() != nil:
		m.kind = requestTrailers
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
	}
}

// readResponse converts Envoy's message of a response's headers.
func readResponse(message *extprocv3.ProcessingRequest) processor.Response {
	return processor.Response{Headers: readHeaders(message.GetResponseHeaders().GetHeaders())}
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
	requestHeld    bool // Envoy holds the request's body until it is answered: the whole of it comes in one message
	requestDuplex  bool // the request's body is the service's to give back
	responseDuplex bool
}

func bodiesOf(request, response extprocfilterv3.ProcessingMode_BodySendMode) bodies {
	const duplex = extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED
	return bodies{
		none:          request == extprocfilterv3.ProcessingMode_NONE && response == extprocfilterv3.ProcessingMode_NONE,
		requestHeld:   request == extprocfilterv3.ProcessingMode_BUFFERED && response == extprocfilterv3.ProcessingMode_NONE,
		requestDuplex: request == duplex, responseDuplex: response == duplex,
	}
}
