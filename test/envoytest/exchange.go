package envoytest

import (
	"context"
	"errors"
	"fmt"
	"io"

	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Exchange is one HTTP request of a filter, whose processing_mode shows request headers, and allows the overrides that
// show response headers and that decline the body of a request.
type Exchange struct {
	Metadata []string // the filter's initial_metadata: keys and values in turn
	Request  *extprocv3.ProcessingRequest
	Body     []byte   // of the request, should it be [Held] and the processor not decline it
	Response []string // header lines of the response, should the processor ask for them
}

// Outcome is what an exchange came to.
type Outcome struct {
	Request  *extprocv3.ProcessingResponse
	Body     *extprocv3.ProcessingResponse // nil: the body was not shown
	Response *extprocv3.ProcessingResponse // nil: it was not asked for
}

// Do plays Envoy: one stream for the request, one answer to each message, and no word to the processor that it may end.
// It is an error if the processor does not end the stream by itself once nothing more can come: a stream that waits
// would fail the call when the processor stops.
func Do(ctx context.Context, client extprocv3.ExternalProcessorClient, x Exchange) (Outcome, error) {
	ctx, reset := context.WithCancel(metadata.AppendToOutgoingContext(ctx, x.Metadata...))
	defer reset()
	stream, err := client.Process(ctx)
	if err != nil {
		return Outcome{}, err
	}
	var out Outcome
	if out.Request, err = turn(stream, x.Request); err != nil {
		return out, err
	}
	if TakesBody(x.Request, out.Request) {
		if out.Body, err = turn(stream, RequestBody(x.Body)); err != nil {
			return out, err
		}
	}
	if AsksForResponse(out.Request) {
		if out.Response, err = turn(stream, ResponseHeaders(x.Response...)); err != nil {
			return out, err
		}
	}
	if extra, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return out, fmt.Errorf("the processor does not end the stream, though nothing more can come: %v, %w", extra, err)
	}
	return out, nil
}

func turn(
	stream extprocv3.ExternalProcessor_ProcessClient, message *extprocv3.ProcessingRequest,
) (*extprocv3.ProcessingResponse, error) {
	if err := stream.Send(message); err != nil && !errors.Is(err, io.EOF) { // of a stream that has ended Recv says why
		return nil, err
	}
	return stream.Recv()
}

// AsksForResponse reports whether Envoy will show the response to a processor that gave this answer. It compares the
// override as a whole with allowed_override_modes, and ignores silently what differs.
func AsksForResponse(answer *extprocv3.ProcessingResponse) bool {
	allowed := &extprocfilterv3.ProcessingMode{ResponseHeaderMode: extprocfilterv3.ProcessingMode_SEND}
	return answer.GetImmediateResponse() == nil && proto.Equal(answer.GetModeOverride(), allowed)
}

// TakesBody reports whether Envoy will show the body of a request after this answer to its headers.
func TakesBody(request *extprocv3.ProcessingRequest, answer *extprocv3.ProcessingResponse) bool {
	held := request.GetProtocolConfig().GetRequestBodyMode() == extprocfilterv3.ProcessingMode_BUFFERED
	declined := &extprocfilterv3.ProcessingMode{ResponseHeaderMode: extprocfilterv3.ProcessingMode_SKIP}
	return held && !request.GetRequestHeaders().GetEndOfStream() && answer.GetImmediateResponse() == nil &&
		!AsksForResponse(answer) && !proto.Equal(answer.GetModeOverride(), declined)
}
