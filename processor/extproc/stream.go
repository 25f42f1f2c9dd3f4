package extproc

import (
	"context"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bellhop/processor"
)

// stream is the state of one stream, which is one HTTP request.
type stream struct {
	core    *processor.Processor
	binding processor.Binding
	begun   bool   // a message has come
	bodies  bodies // what the first message says of bodies
	pending *processor.Pending
}

// reply is the one legal reply to a message.
type reply struct {
	message *extprocv3.ProcessingResponse // nil: there is none for this kind of message
	last    bool                          // it ends the stream
}

// Process serves one HTTP request. It answers each message with its own kind. A normal end, whichever side makes it, is
// nil: after the request's headers are answered, an error would fail a request that Envoy has already let go.
func (s *Service) Process(from extprocv3.ExternalProcessor_ProcessServer) error {
	ctx := from.Context()
	binding, err := bind(ctx)
	if err != nil {
		return s.refuse(err)
	}
	one := stream{core: s.core, binding: binding}
	for {
		receive := from.Recv
		if one.pending != nil { // a stream that only waits for a response ends when the service drains
			receive = func() (*extprocv3.ProcessingRequest, error) { return untilDrained(s.draining, from.Recv) }
		}
		request, err := receive()
		if err != nil {
			return ended(err)
		}
		reply, err := one.answer(ctx, request)
		if err != nil {
			return s.refuse(err)
		}
		if reply.message == nil {
			return status.Error(codes.Unimplemented, "bellhop: a message of a kind this version does not know")
		}
		if err := from.Send(reply.message); err != nil {
			return ended(err)
		}
		if reply.last {
			return nil
		}
	}
}

// answer replies to one message. An error is a [processor.Misconfiguration].
func (s *stream) answer(ctx context.Context, request *extprocv3.ProcessingRequest) (reply, error) {
	if request.GetObservabilityMode() {
		return reply{}, misconfigured("observability_mode",
			"the filter is in observability_mode, where Envoy applies no answer: take it out")
	}
	if config := request.GetProtocolConfig(); config != nil {
		s.bodies = readBodies(config)
	}
	first := !s.begun
	s.begun = true
	switch {
	case request.GetRequestHeaders() != nil:
		return s.onRequest(ctx, request)
	case request.GetResponseHeaders() != nil && s.pending != nil:
		return s.onResponse(ctx, request), nil
	case first && (request.GetRequestBody() != nil || request.GetRequestTrailers() != nil):
		answer, err := s.core.HeadersNotShown(s.binding)
		if err != nil || answer.Error != nil {
			return reply{replyError(answer.Error), true}, err
		}
	}
	return reply{replyUnchanged(request, s.bodies), false}, nil
}

func (s *stream) onRequest(ctx context.Context, request *extprocv3.ProcessingRequest) (reply, error) {
	answer, err := s.core.Request(ctx, s.binding, readRequest(request))
	if err != nil {
		return reply{}, err
	}
	if answer.Error != nil {
		return reply{replyError(answer.Error), true}, nil
	}
	s.pending = answer.Pending
	return reply{replyRequest(answer), s.pending == nil && s.bodies.none}, nil
}

func (s *stream) onResponse(ctx context.Context, request *extprocv3.ProcessingRequest) reply {
	pending := s.pending
	s.pending = nil
	answer := s.core.Response(ctx, pending, readResponse(request))
	if answer.Error != nil {
		return reply{replyError(answer.Error), true}
	}
	return reply{replyResponse(answer), s.bodies.none}
}
