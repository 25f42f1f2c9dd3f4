package processor

import (
	"encoding/json"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"bellhop/policy"
)

// Every ProcessingResponse that Bellhop sends is built in this file.

// replyHeaders answers a request's headers with a change.
func replyHeaders(c change) *extprocv3.ProcessingResponse {
	mutation := &extprocv3.HeaderMutation{RemoveHeaders: c.remove, SetHeaders: setHeaders(c.set)}
	reply := &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
		RequestHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{HeaderMutation: mutation}},
	}}
	if c.await != nil {
		// Exactly this: Envoy compares it with allowed_override_modes as a whole, and ignores silently what differs.
		reply.ModeOverride = &extprocfilterv3.ProcessingMode{ResponseHeaderMode: extprocfilterv3.ProcessingMode_SEND}
	}
	if c.session != "" {
		reply.DynamicMetadata = sessionMetadata(c.session)
	}
	return reply
}

// replyResponse answers a response's headers and adds lines to them.
func replyResponse(set []policy.Header) *extprocv3.ProcessingResponse {
	reply := &extprocv3.HeadersResponse{}
	if len(set) > 0 {
		reply.Response = &extprocv3.CommonResponse{HeaderMutation: &extprocv3.HeaderMutation{SetHeaders: setHeaders(set)}}
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: reply}}
}

// setHeaders writes lines, of which those of one name stand together.
func setHeaders(lines []policy.Header) []*corev3.HeaderValueOption {
	var options []*corev3.HeaderValueOption
	previous := ""
	for _, header := range lines {
		options = append(options, setHeader(header.Name, header.Value.Reveal(), header.Name == previous))
		previous = header.Name
	}
	return options
}

// setHeader writes one line. Envoy reads only raw_value and append: append unset replaces the header, append true
// adds a line; append_action it ignores (measured with Envoy 1.40).
func setHeader(name, value string, another bool) *corev3.HeaderValueOption {
	option := &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, RawValue: []byte(value)}}
	if another {
		option.Append = wrapperspb.Bool(true) //nolint:staticcheck // the field that Envoy's ext_proc reads
	}
	return option
}

// replyProblem ends the request with a JSON-RPC error for the client, with the request's own id where it is known.
func replyProblem(p *problem, id any) *extprocv3.ProcessingResponse {
	body, _ := json.Marshal(p.body(id)) // strings and numbers: cannot fail
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ImmediateResponse{
		ImmediateResponse: &extprocv3.ImmediateResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode(p.status)}, //nolint:gosec // an HTTP status
			Headers: &extprocv3.HeaderMutation{SetHeaders: append(
				[]*corev3.HeaderValueOption{setHeader("content-type", "application/json", false)}, setHeaders(p.view)...)},
			Body:    body,
			Details: "bellhop_" + p.reason,
		},
	}}
}

// replyUnchanged answers any message with its own kind and no change, or returns nil for a kind that is not known.
func replyUnchanged(request *extprocv3.ProcessingRequest, fullDuplex bool) *extprocv3.ProcessingResponse {
	switch message := request.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return replyHeaders(change{})
	case *extprocv3.ProcessingRequest_RequestBody:
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: replyBody(message.RequestBody, fullDuplex)}}
	case *extprocv3.ProcessingRequest_RequestTrailers:
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestTrailers{RequestTrailers: &extprocv3.TrailersResponse{}}}
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{}}}
	case *extprocv3.ProcessingRequest_ResponseBody:
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: replyBody(message.ResponseBody, fullDuplex)}}
	case *extprocv3.ProcessingRequest_ResponseTrailers:
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}}}
	default:
		return nil
	}
}

// replyBody lets a piece of a body pass. In full duplex the processor owns the body and has to give each piece back;
// in every other mode silence means unchanged.
func replyBody(body *extprocv3.HttpBody, fullDuplex bool) *extprocv3.BodyResponse {
	if !fullDuplex {
		return &extprocv3.BodyResponse{}
	}
	return &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{
		Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{
			Body: body.GetBody(), EndOfStream: body.GetEndOfStream(),
		}},
	}}}
}

// fullDuplex reports whether a direction's bodies are the processor's to give back.
func fullDuplex(mode extprocfilterv3.ProcessingMode_BodySendMode) bool {
	return mode == extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED
}
