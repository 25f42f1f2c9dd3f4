package main

import (
	"errors"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// kind is a kind of request, in the steady state: nothing about it changes.
type kind struct {
	name   string
	policy string // that Bellhop serves
	role   string
	// lines are the request's headers as Envoy shows them behind the generated forward_rules. The ticket of an egress
	// request is added.
	lines []string
	want  string // the header that a right answer sets
}

const (
	key     = "0123456789012345678901234567890123456789"
	plain   = "version: 1\nforward: [x-mcp-api-key]\n"
	keeping = "version: 1\nkeep: session\nforward: [x-mcp-api-key]\n"
)

func kinds() []kind {
	return []kind{
		{"egress", plain, "egress", nil, "x-mcp-api-key"},
		{"ingress", plain, "ingress", []string{":method: POST", "x-mcp-api-key: " + key}, "x-bellhop-ticket"},
		{"session", keeping, "ingress", []string{
			":method: POST", "x-mcp-api-key: " + key, "authorization: Bearer 01234567890123456789",
			"mcp-session-id: 6f1b1f0e-3a53-4b1d-9d6e-1c0e1b1f0e3a",
		}, "x-bellhop-ticket"},
	}
}

// message is what Envoy 1.40 sends: names in lower case, values raw, protocol_config in the first message of a stream.
func message(role string, lines []string) *extprocv3.ProcessingRequest {
	headers := &corev3.HeaderMap{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
	request := &extprocv3.ProcessingRequest{
		Request: &extprocv3.ProcessingRequest_RequestHeaders{
			RequestHeaders: &extprocv3.HttpHeaders{Headers: headers},
		},
		ProtocolConfig: &extprocv3.ProtocolConfiguration{},
	}
	if role == "egress" {
		cluster := map[string]*structpb.Value{"xds.cluster_name": structpb.NewStringValue("mcp-billing")}
		request.Attributes = map[string]*structpb.Struct{"envoy.filters.http.ext_proc": {Fields: cluster}}
	}
	return request
}

// sets returns the value that an answer sets a header to. A server that answers wrongly must not look fast.
func sets(answer *extprocv3.ProcessingResponse, header string) (string, error) {
	mutation := answer.GetRequestHeaders().GetResponse().GetHeaderMutation()
	for _, option := range mutation.GetSetHeaders() {
		if option.GetHeader().GetKey() == header {
			return string(option.GetHeader().GetRawValue()), nil
		}
	}
	if answer.GetRequestHeaders() == nil {
		return "", fmt.Errorf("the answer is a %T", answer.GetResponse())
	}
	return "", errors.New("the answer does not set " + header)
}
