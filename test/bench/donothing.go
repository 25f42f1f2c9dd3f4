package main

import (
	"context"
	"flag"
	"net"
	"os"
	"runtime"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
)

// doNothing is the command that serves a do-nothing server.
const doNothing = "donothing"

// nothing answers each request's headers with no change.
type nothing struct {
	extprocv3.UnimplementedExternalProcessorServer
	// returns says that it ends the stream after its answer; else it waits for the client to do so.
	returns bool
}

// Process implements the service.
func (n nothing) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return nil //nolint:nilerr // Envoy ends a stream by a reset
		}
		err := stream.Send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
			RequestHeaders: &extprocv3.HeadersResponse{},
		}})
		if err != nil || n.returns {
			return err
		}
	}
}

// serveNothing serves until ctx is done. The tuned one has the options that are known to help whatever a server does.
func serveNothing(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(doNothing, flag.ContinueOnError)
	socket := flags.String("socket", "", "path of the Unix socket")
	tuned := flags.Bool("tuned", false, "with more stream workers, and an end after the answer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	_ = os.Remove(*socket)
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", *socket)
	if err != nil {
		return err
	}
	var settings []grpc.ServerOption
	if *tuned {
		settings = append(settings, grpc.NumStreamWorkers(uint32(workersPerCPU*runtime.GOMAXPROCS(0))))
	}
	server := grpc.NewServer(settings...)
	extprocv3.RegisterExternalProcessorServer(server, nothing{returns: *tuned})
	defer context.AfterFunc(ctx, server.Stop)()
	return server.Serve(listener)
}

// workersPerCPU are the stream workers of the tuned server: a worker blocks while it waits for a message.
const workersPerCPU = 32
