package processor

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"bellhop/policy"
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
