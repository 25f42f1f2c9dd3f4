package processor

import (
	"context"
	"errors"
	"io"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bellhop/policy"
)

// exchange is the state of one stream, which is one HTTP request.
type exchange struct {
	binding
	begun          bool // a message has come
	awaits         *awaited
	requestDuplex  bool // the request's body is ours to give back
	responseDuplex bool
}

// serve serves one HTTP request. It answers each message with its own kind. A normal end, whoever makes it, is
// nil: after the request's headers are answered, an error would fail a request that Envoy has already let go.
func (e *engine) serve(stream extprocv3.ExternalProcessor_ProcessServer, bound binding) error {
	x := exchange{binding: bound}
	for {
		request, err := e.receive(&x, stream)
		if err != nil {
			return ended(err)
		}
		if request.GetObservabilityMode() {
			return e.refuse(misconfigured("observability_mode", "the filter is in observability_mode, where Envoy applies no answer: take it out"))
		}
		reply, last := e.answer(stream.Context(), &x, request)
		if reply == nil {
			return status.Error(codes.Unimplemented, "bellhop: a message of a kind this version does not know")
		}
		if err := stream.Send(reply); err != nil {
			return ended(err)
		}
		if last {
			return nil
		}
	}
}

// storeTime is what one message may wait for stores, whatever it asks of them: half of the message_timeout that "bellhop
// envoy" writes, so that a store that is slow gives an error that says so.
const storeTime = 250 * time.Millisecond

// answer returns the one legal answer to a message, and whether it ends the request and with it the stream.
func (e *engine) answer(ctx context.Context, x *exchange, request *extprocv3.ProcessingRequest) (reply *extprocv3.ProcessingResponse, last bool) {
	if config := request.GetProtocolConfig(); config != nil {
		x.requestDuplex = fullDuplex(config.GetRequestBodyMode())
		x.responseDuplex = fullDuplex(config.GetResponseBodyMode())
	}
	if request.GetRequestHeaders() == nil {
		return e.pass(ctx, x, request)
	}
	x.begun = true
	timer := e.metrics.timer(x.role)
	defer timer.ObserveDuration()

	incoming := readRequest(request)
	serve := e.egress
	if x.role == ingress {
		serve = e.ingress
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	made, trouble := serve(ctx, x.binding, incoming)
	switch {
	case e.policy.Mode() == policy.ModeObserve:
		observed := carriersOff(incoming.headers)
		observed.session = made.session
		if observed.await = made.await; made.await != nil {
			observed.await.view = nil
		}
		x.awaits = observed.await
		return replyHeaders(observed), x.awaits == nil && !moreToCome(request)
	case trouble != nil:
		return replyProblem(trouble, incoming.id), true
	default:
		x.awaits = made.await
		return replyHeaders(made), x.awaits == nil && !moreToCome(request)
	}
}

// receive waits for the next message. A stream that only waits for a response lets go when Bellhop drains.
func (e *engine) receive(x *exchange, stream extprocv3.ExternalProcessor_ProcessServer) (*extprocv3.ProcessingRequest, error) {
	if x.awaits == nil {
		return stream.Recv()
	}
	return untilDrained(e.draining, stream.Recv)
}

// untilDrained waits for a message of a stream, which ends when Bellhop drains.
func untilDrained[M any](draining <-chan struct{}, receive func() (M, error)) (M, error) {
	type message struct {
		content M
		err     error
	}
	next := make(chan message, 1)
	go func() { // ends at the latest with the handler, which cancels the stream
		content, err := receive()
		next <- message{content, err}
	}()
	select {
	case got := <-next:
		return got.content, got.err
	case <-draining:
		var none M
		return none, io.EOF
	}
}

// pass lets a message through that is not a request's headers. A request of which the filter shows the body or the
// trailers but not the headers is refused: it would pass with all the headers that Bellhop is there to take off.
func (e *engine) pass(ctx context.Context, x *exchange, request *extprocv3.ProcessingRequest) (reply *extprocv3.ProcessingResponse, last bool) {
	first := !x.begun
	x.begun = true
	if first && (request.GetRequestBody() != nil || request.GetRequestTrailers() != nil) {
		_ = e.refuse(misconfigured("processing_mode", "the filter shows no request headers: set request_header_mode to SEND in its processing_mode"))
		if e.policy.Mode() != policy.ModeObserve {
			return replyProblem(headersNotShown(), nil), true
		}
	}
	if request.GetResponseHeaders() != nil && x.awaits != nil {
		awaits := x.awaits
		x.awaits = nil
		ctx, cancel := context.WithTimeout(ctx, storeTime)
		defer cancel()
		if trouble := e.hear(ctx, awaits, readResponse(request)); trouble != nil && e.policy.Mode() != policy.ModeObserve {
			return replyProblem(trouble, awaits.id), true
		}
		return replyResponse(awaits.view), !moreToCome(request)
	}
	return replyUnchanged(request, x.duplex(request)), false
}

func (x *exchange) duplex(request *extprocv3.ProcessingRequest) bool {
	if request.GetRequestBody() != nil {
		return x.requestDuplex
	}
	return x.responseDuplex
}

// ended turns the end of a stream into the handler's result. Envoy resets the stream when it has no more to ask.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return nil
	default:
		return err
	}
}
