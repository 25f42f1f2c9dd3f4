package extproc

import (
	"context"
	"time"

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
	// At most one of the two is not nil: what the stream waits for.
	pending *processor.Pending // the response
	reading *processor.Reading // the request's body
	done    func()             // says that it waits no longer
}

// reply is the one legal reply to a message: either a message of its own or, for the usual request, the answer to it.
type reply struct {
	message *extprocv3.ProcessingResponse
	answer  processor.Answer
	skip    bool // with answer: Envoy need not hold the request's body
	last    bool // it ends the stream
}

// process serves one HTTP request. It answers each message with its own kind. A normal end, whichever side makes it, is
// nil: after the request's headers are answered, an error would fail a request that Envoy has already sent on.
func (s *Service) process(from grpc.ServerStream) error {
	ctx := from.Context()
	binding, err := s.admit(ctx)
	if err != nil {
		return s.refuse(err)
	}
	one := stream{core: s.core, binding: binding, done: func() {}}
	defer func() { one.done() }()
	for {
		request, err := s.receive(from, &one)
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

// receive waits for the next message of a stream. A stream that only waits for a response ends when the service drains.
// One that waits for a body does not, because its request would go on without its headers: it ends in time by itself.
func (s *Service) receive(from grpc.ServerStream, one *stream) (message, error) {
	next := func() (m message, err error) { return m, from.RecvMsg(&m) }
	switch {
	case one.pending != nil:
		return untilDrained(s.draining, next)
	case one.reading != nil:
		timer := time.NewTimer(s.bodyTimeout)
		defer timer.Stop()
		return unless(timer.C, next, func() (message, error) { return message{kind: noBody}, nil })
	default:
		return next()
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
	case s.reading != nil:
		return s.onBody(request), nil
	case request.kind == responseHeaders && s.pending != nil:
		return s.onResponse(ctx, request), nil
	case first && (request.kind == requestBody || request.kind == requestTrailers):
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
	switch {
	case request.bodiless:
		request.request.Body = processor.BodyNone
	case s.bodies.requestHeld:
		request.request.Body = processor.BodyOffered
	}
	answer, err := s.core.Request(ctx, s.binding, request.request)
	if err != nil {
		return reply{}, err
	}
	if answer.Error != nil {
		return reply{message: replyError(answer.Error), last: true}, nil
	}
	s.pending, s.reading = answer.Pending, answer.Reading
	if s.reading != nil {
		s.done = s.reading.Done
	}
	if s.pending != nil {
		s.done = s.pending.Done
		return reply{message: replyRequest(answer)}, nil // asking for the response, it declines the body
	}
	held := s.bodies.requestHeld
	return reply{
		answer: answer, skip: held && s.reading == nil && !request.bodiless,
		last: s.reading == nil && (held || s.bodies.none),
	}, nil
}

// onBody answers the body of a request that was held for it. Nothing of the request is needed after it, and a stream
// left open would end with Envoy's response, which may take hours.
func (s *stream) onBody(request *message) reply {
	reading := s.reading
	s.reading = nil
	if request.kind != requestBody {
		return reply{message: replyError(s.core.Unread(reading).Error), last: true}
	}
	answer := s.core.Body(reading, request.full.GetRequestBody().GetBody())
	if answer.Error != nil {
		return reply{message: replyError(answer.Error), last: true}
	}
	return reply{message: replyRequestBody(answer), last: true}
}

func (s *stream) onResponse(ctx context.Context, request *message) reply {
	pending := s.pending
	s.pending = nil
	answer := s.core.Response(ctx, pending, readResponse(request.full))
	if answer.Error != nil {
		return reply{message: replyError(answer.Error), last: true}
	}
	return reply{message: replyResponse(answer), last: s.bodies.none || s.bodies.requestHeld}
}
