package envoytest

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// AttributesKey is where Envoy files attributes, whatever the name of the filter.
const AttributesKey = "envoy.filters.http.ext_proc"

// RequestHeaders is the message of a request's headers, as the first of its stream: with a protocol_config, which says
// that no bodies come. Lines are "name: value"; Envoy sends names in lower case and values raw.
func RequestHeaders(lines ...string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{
		Request: &extprocv3.ProcessingRequest_RequestHeaders{
			RequestHeaders: &extprocv3.HttpHeaders{Headers: headerMap(lines)},
		},
		ProtocolConfig: &extprocv3.ProtocolConfiguration{},
	}
}

// Held makes of it the message of a filter that holds the request's body until the headers are answered.
func Held(message *extprocv3.ProcessingRequest) *extprocv3.ProcessingRequest {
	message.GetProtocolConfig().RequestBodyMode = extprocfilterv3.ProcessingMode_BUFFERED
	return message
}

// Bodiless makes of it the message of a request without a body.
func Bodiless(message *extprocv3.ProcessingRequest) *extprocv3.ProcessingRequest {
	message.GetRequestHeaders().EndOfStream = true
	return message
}

// RequestBody is the message of a whole body, which was held.
func RequestBody(body []byte) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: body, EndOfStream: true},
	}}
}

// ResponseHeaders is the message of a response's headers. It comes second, so it has no protocol_config.
func ResponseHeaders(lines ...string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extprocv3.HttpHeaders{Headers: headerMap(lines)},
	}}
}

func headerMap(lines []string) *corev3.HeaderMap {
	headers := &corev3.HeaderMap{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
	return headers
}

// WithCluster adds the attribute that names the cluster, under a filter's key.
func WithCluster(message *extprocv3.ProcessingRequest, key, cluster string) *extprocv3.ProcessingRequest {
	fields := map[string]*structpb.Value{"xds.cluster_name": structpb.NewStringValue(cluster)}
	message.Attributes = map[string]*structpb.Struct{key: {Fields: fields}}
	return message
}
