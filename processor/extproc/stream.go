package extproc

import (
	"context"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
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

// reply is the one legal reply to a message: either a message of its own or, for the usual request, the answer to it.
type reply struct {
	message *extprocv3.ProcessingResponse
	answer  processor.Answer
	last    bool // it ends the stream
}

// process serves one HTTP request. It answers each message with its own kind. A normal end, whichever side makes it, is
// nil: after the request's headers are answered, an error would fail a request that Envoy has already sent on.
func (s *Service) process(from grpc.ServerStream) error {
	ctx := from.Context()
	binding, err := bindingOf(ctx)
	if err != nil {
		return s.refuse(err)
	}
	one := stream{core: s.core, binding: binding}
	for {
		receive := func() (m message, err error) { return m, from.RecvMsg(&m) }
		if one.pending != nil { // a stream that only waits for a response ends when the service drains
			now := receive
			receive = func() (message, error) { return untilDrained(s.draining, now) }
		}
		request, err := receive()
		if err != nil {
			return ended(err)
		}
		reply, err := one.answer(ctx, &request)
		if err != nil {
			return s.refuse(err)
		}
		if err := from.SendMsg(&reply); err != nil {
			return ended(err)
		}
		if reply.last {
			return nil
		}
	}
}

// answer replies to one message. An error is a [processor.Misconfiguration].
func (s *stream) answer(ctx context.Context, request *message) (reply, error) {
	if request.observability {
		return reply{}, misconfigured("observability_mode",
			"the filter is in observability_mode, where Envoy applies no answer: take it out")
	}
	if request.configured {
		s.bodies = request.bodies
	}
	first := !s.begun
	s.begun = true
	switch {
	case request.kind == requestHeaders:
		return s.onRequest(ctx, request)
	case request.kind == responseHeaders && s.pending != nil:
		return s.onResponse(ctx, request), nil
	case first && request.kind == requestRest:
		answer, err := s.core.HeadersNotShown(s.binding)
		if err != nil || answer.Error != nil {
			return reply{message: replyError(answer.Error), last: true}, err
		}
	}
	unchanged := replyUnchanged(request.full, s.bodies)
	if unchanged == nil {
		return reply{}, status.Error(codes.Unimplemented, "bellhop: a message of a kind this version does not know")
	}
	return reply{message: unchanged}, nil
}

func (s *stream) onRequest(ctx context.Context, request *message) (reply, error) {
	answer, err := s.core.Request(ctx, s.binding, request.request)
	if err != nil {
		return reply{}, err
	}
	if answer.Error != nil {
		return reply{message: replyError(answer.Error), last: true}, nil
	}
	s.pending = answer.Pending
	last := s.pending == nil && s.bodies.none
	if answer.Pending != nil {
		return reply{message: replyRequest(answer)}, nil
	}
	return reply{answer: answer, last: last}, nil
}

func (s *stream) onResponse(ctx context.Context, request *message) reply {
	pending := s.pending
	s.pending = nil
	answer := s.core.Response(ctx, pending, readResponse(request.full))
	if answer.Error != nil {
		return reply{message: replyError(answer.Error), last: true}
	}
	return reply{message: replyResponse(answer), last: s.bodies.none}
}
