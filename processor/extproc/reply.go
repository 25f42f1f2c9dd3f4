package extproc

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"bellhop/policy"
	"bellhop/processor"
)

// Every ProcessingResponse that Bellhop sends is built in this file.

// replyRequest answers a request's headers with the changes of an answer.
func replyRequest(answer processor.Answer) *extprocv3.ProcessingResponse {
	reply := &headersReply{}
	reply.mutation.RemoveHeaders = answer.Remove
	reply.mutation.SetHeaders = setHeaders(answer.Set)
	reply.common.HeaderMutation = &reply.mutation
	reply.headers.Response = &reply.common
	reply.kind.RequestHeaders = &reply.headers
	reply.response.Response = &reply.kind
	if answer.Pending != nil {
		// Exactly this: Envoy compares it with allowed_override_modes as a whole, and ignores silently what differs.
		reply.response.ModeOverride = &extprocfilterv3.ProcessingMode{ResponseHeaderMode: extprocfilterv3.ProcessingMode_SEND}
	}
	if answer.Session != "" {
		reply.response.DynamicMetadata = sessionMetadata(answer.Session)
	}
	return &reply.response
}

// headersReply is all of a reply to request headers in one allocation, because every request needs one.
type headersReply struct {
	response extprocv3.ProcessingResponse
	kind     extprocv3.ProcessingResponse_RequestHeaders
	headers  extprocv3.HeadersResponse
	common   extprocv3.CommonResponse
	mutation extprocv3.HeaderMutation
}

// replyRequestBody answers a request's body with further changes of the request's headers. The body stays as it is.
func replyRequestBody(answer processor.Answer) *extprocv3.ProcessingResponse {
	body := &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{HeaderMutation: &extprocv3.HeaderMutation{
		RemoveHeaders: answer.Remove, SetHeaders: setHeaders(answer.Set),
	}}}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: body}}
}

// replyResponse answers a response's headers and adds lines to them.
func replyResponse(answer processor.Answer) *extprocv3.ProcessingResponse {
	reply := &extprocv3.HeadersResponse{}
	if len(answer.Set) > 0 {
		mutation := &extprocv3.HeaderMutation{SetHeaders: setHeaders(answer.Set)}
		reply.Response = &extprocv3.CommonResponse{HeaderMutation: mutation}
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: reply}}
}

// setHeaders writes lines, of which those of one name stand together.
func setHeaders(lines []policy.Header) []*corev3.HeaderValueOption {
	if len(lines) == 0 {
		return nil
	}
	written := make([]headerLine, len(lines))
	options := make([]*corev3.HeaderValueOption, len(lines))
	previous := ""
	for i, header := range lines {
		options[i] = written[i].set(header, header.Name == previous)
		previous = header.Name
	}
	return options
}

// headerLine is one line of a mutation.
type headerLine struct {
	option corev3.HeaderValueOption
	value  corev3.HeaderValue
}

// set fills in a line. Envoy reads only raw_value and append: append unset replaces the header, append true adds a
// line; append_action it ignores (measured with Envoy 1.40).
func (l *headerLine) set(header policy.Header, another bool) *corev3.HeaderValueOption {
	l.value.Key, l.value.RawValue = header.Name, []byte(header.Value.Reveal())
	l.option.Header = &l.value
	if another {
		l.option.Append = wrapperspb.Bool(true) //nolint:staticcheck // the field that Envoy's ext_proc reads
	}
	return &l.option
}

// replyError ends the request with an HTTP response of Bellhop's own.
func replyError(e *processor.Error) *extprocv3.ProcessingResponse {
	if e == nil {
		return nil
	}
	headers := append([]policy.Header{{Name: "content-type", Value: policy.NewValue("application/json")}}, e.Headers...)
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ImmediateResponse{
		ImmediateResponse: &extprocv3.ImmediateResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(e.Status)}, //nolint:gosec // an HTTP status
			Headers: &extprocv3.HeaderMutation{SetHeaders: setHeaders(headers)},
			Body:    e.Body(),
			Details: "bellhop_" + e.Reason,
		},
	}}
}

// replyUnchanged lets a message pass. It is nil for a kind of message that this version of the protocol does not have.
func replyUnchanged(request *extprocv3.ProcessingRequest, b bodies) *extprocv3.ProcessingResponse {
	switch message := request.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return replyRequest(processor.Answer{})
	case *extprocv3.ProcessingRequest_RequestBody:
		body := replyBody(message.RequestBody, b.requestDuplex)
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: body}}
	case *extprocv3.ProcessingRequest_RequestTrailers:
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestTrailers{
			RequestTrailers: &extprocv3.TrailersResponse{},
		}}
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		return replyResponse(processor.Answer{})
	case *extprocv3.ProcessingRequest_ResponseBody:
		body := replyBody(message.ResponseBody, b.responseDuplex)
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: body}}
	case *extprocv3.ProcessingRequest_ResponseTrailers:
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseTrailers{
			ResponseTrailers: &extprocv3.TrailersResponse{},
		}}
	default:
		return nil
	}
}

// replyBody lets a piece of a body pass. In full duplex the processor owns the body and has to give each piece back;
// in every other mode an empty answer means unchanged.
func replyBody(body *extprocv3.HttpBody, duplex bool) *extprocv3.BodyResponse {
	if !duplex {
		return &extprocv3.BodyResponse{}
	}
	return &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{
		Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{
			Body: body.GetBody(), EndOfStream: body.GetEndOfStream(),
		}},
	}}}
}
