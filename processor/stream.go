package processor

import (
	"context"
	"errors"
	"io"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"bellhop/policy"
)

// The keys of a filter's grpc_service.initial_metadata. A client cannot set them.
const (
	roleKey    = "bellhop-role"
	backendKey = "bellhop-backend"
	fanoutKey  = "bellhop-fanout"
)

// role is the side of the fan-out on which a filter stands.
type role string

const (
	ingress role = "ingress" // client → fan-out
	egress  role = "egress"  // fan-out → backend
)

// binding is what a filter's configuration says of itself.
type binding struct {
	role    role
	backend string // empty: take the cluster's name
}

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
func (e *engine) serve(stream extprocv3.ExternalProcessor_ProcessServer) error {
	bound, err := e.bind(stream.Context())
	if err != nil {
		return err
	}
	x := exchange{binding: bound}
	for {
		request, err := e.receive(&x, stream)
		if err != nil {
			return ended(err)
		}
		if request.GetObservabilityMode() {
			return e.refuse("observability_mode", errors.New("the filter is in observability_mode, where Envoy applies no answer: take it out"))
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
	made, trouble := serve(ctx, x.binding, incoming)
	switch {
	case e.policy.Mode() == policy.ModeObserve:
		return replyUnchanged(request, false), !moreToCome(request)
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
	type message struct {
		request *extprocv3.ProcessingRequest
		err     error
	}
	next := make(chan message, 1)
	go func() { // ends at the latest with the handler, which cancels the stream
		request, err := stream.Recv()
		next <- message{request, err}
	}()
	select {
	case got := <-next:
		return got.request, got.err
	case <-e.draining:
		return nil, io.EOF
	}
}

// pass lets a message through that is not a request's headers. A request of which the filter shows the body or the
// trailers but not the headers is refused: it would pass with all the headers that Bellhop is there to take off.
func (e *engine) pass(ctx context.Context, x *exchange, request *extprocv3.ProcessingRequest) (reply *extprocv3.ProcessingResponse, last bool) {
	first := !x.begun
	x.begun = true
	if first && (request.GetRequestBody() != nil || request.GetRequestTrailers() != nil) {
		_ = e.refuse("processing_mode", errors.New("the filter shows no request headers: set request_header_mode to SEND in its processing_mode"))
		if e.policy.Mode() != policy.ModeObserve {
			return replyProblem(headersNotShown(), nil), true
		}
	}
	if request.GetResponseHeaders() != nil && x.awaits != nil {
		awaits := x.awaits
		x.awaits = nil
		e.hear(ctx, awaits, readResponse(request))
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

// bind reads who opened the stream. A filter that does not say its role, or says it twice, is misconfigured, and
// guessing could give a client's headers away.
func (e *engine) bind(ctx context.Context) (binding, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	side, err := one(md, roleKey)
	if err != nil {
		return binding{}, e.refuse("role", err)
	}
	switch role(side) {
	case ingress, egress:
	case "":
		return binding{}, e.refuse("role", errors.New("the filter says no role: add {key: bellhop-role, value: ingress} or {…, value: egress} to its grpc_service.initial_metadata"))
	default:
		return binding{}, e.refuse("role", errors.New("the filter's bellhop-role is neither ingress nor egress: correct its grpc_service.initial_metadata"))
	}
	fanout, err := one(md, fanoutKey)
	if err != nil {
		return binding{}, e.refuse("fanout", err)
	}
	if fanout != "" && fanout != e.policy.Fanout() {
		return binding{}, e.refuse("fanout", errors.New("the filter's bellhop-fanout is not the fanout of the policy: make the two the same"))
	}
	backend, err := one(md, backendKey)
	if err != nil {
		return binding{}, e.refuse("backend", err)
	}
	return binding{role: role(side), backend: backend}, nil
}

// one returns the single value of a metadata key, or "" where there is none.
func one(md metadata.MD, key string) (string, error) {
	switch values := md.Get(key); len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	default:
		return "", errors.New("the filter says " + key + " more than once: keep one in its grpc_service.initial_metadata")
	}
}

// refuse ends a stream that must not be served, and says so once a minute in the log.
func (e *engine) refuse(reason string, err error) error {
	e.metrics.refused.WithLabelValues(reason).Inc()
	e.warnings.warn("stream refused, so Envoy fails the request", "reason", err.Error())
	return status.Error(codes.InvalidArgument, "bellhop: "+err.Error())
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
