package extproc

import (
	"errors"
	"io"
	"runtime/debug"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bellhop/policy"
	"bellhop/processor"
)

// ServiceName is the gRPC name of the external processing service, for health checks.
const ServiceName = "envoy.service.ext_proc.v3.ExternalProcessor"

// Service is Envoy's external processing service, and its access log service.
type Service struct {
	accesslogv3.UnimplementedAccessLogServiceServer

	core        *processor.Processor
	draining    chan struct{} // closed by Drain
	bodyTimeout time.Duration
	allowed     Allowed
}

// Settings are what can be set of a [Service].
type Settings struct {
	BodyTimeout time.Duration // how long a request waits for its body, where that has to be read; 0: 30 s
	// Allowed says which fan-outs the filters of a certificate may name; nil: all.
	Allowed Allowed
}

// New makes a service that drives core.
func New(core *processor.Processor, settings Settings) *Service {
	if settings.BodyTimeout == 0 {
		settings.BodyTimeout = 30 * time.Second
	}
	return &Service{
		core:        core,
		draining:    make(chan struct{}),
		bodyTimeout: settings.BodyTimeout,
		allowed:     settings.Allowed,
	}
}

// maxMessage bounds one message in bytes: a whole body, or the headers of a request, with what stands around them. With
// less, Envoy would answer 503 to a request with a longer body that the policy allows.
const maxMessage = policy.MaxBodyBytes + 1<<20

// Options are the options that a gRPC server needs for the service.
func Options() []grpc.ServerOption {
	return []grpc.ServerOption{newCodec(), keepMetadata(), grpc.MaxRecvMsgSize(maxMessage)}
}

// Register adds the services to a gRPC server with [Options].
func (s *Service) Register(server grpc.ServiceRegistrar) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: ServiceName, HandlerType: (*any)(nil), Metadata: extprocv3.ExternalProcessor_ServiceDesc.Metadata,
		Streams: []grpc.StreamDesc{{
			StreamName: "Process", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, from grpc.ServerStream) error { return s.process(from) },
		}},
	}, s)
	accesslogv3.RegisterAccessLogServiceServer(server, s)
}

// Drain ends the streams that only wait for a response, so that a stop fails no call; what the response would have said
// of its session is lost. It ends access logs too: Envoy continues with another Bellhop. It is called once.
func (s *Service) Drain() { close(s.draining) }

// refuse turns an error into the status of the stream, and counts misconfigured filters.
func (s *Service) refuse(err error) error {
	why, ok := errors.AsType[*processor.Misconfiguration](err)
	if !ok {
		return err
	}
	s.core.Refused(why)
	return status.Error(codes.InvalidArgument, "bellhop: "+why.Message)
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

// Panic is what a panic in another goroutine of a handler is passed on as.
type Panic struct {
	Value any
	Stack []byte // of that goroutine
}

// untilDrained waits for a message of a stream, and ends when the service drains.
func untilDrained[M any](draining <-chan struct{}, receive func() (M, error)) (M, error) {
	return unless(draining, receive, func() (none M, err error) { return none, io.EOF })
}

// unless waits for a message of a stream, or for what is to end the wait, and then returns what instead does. It panics
// with a [*Panic] if receive panics, because nothing else would recover that.
func unless[T, M any](end <-chan T, receive, instead func() (M, error)) (M, error) {
	type result struct {
		message M
		err     error
		panic   *Panic
	}
	next := make(chan result, 1)
	go func() { // ends at the latest with the handler, which cancels the stream
		var got result
		defer func() {
			if value := recover(); value != nil {
				got.panic = &Panic{Value: value, Stack: debug.Stack()}
			}
			next <- got
		}()
		got.message, got.err = receive()
	}()
	select {
	case got := <-next:
		if got.panic != nil {
			panic(got.panic)
		}
		return got.message, got.err
	case <-end:
		return instead()
	}
}
