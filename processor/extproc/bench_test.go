package extproc_test

import (
	"context"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/metadata"
)

// BenchmarkStream measures one HTTP request: a stream with one message, as Envoy opens it, over gRPC in memory,
// the client's half included.
func BenchmarkStream(b *testing.B) {
	bench := start(b, setup{policy: smallest})
	_, minted := bench.ingress(b, "x-mcp-api-key: alice")
	for _, role := range []struct {
		name  string
		lines []string
	}{{"ingress", []string{"x-mcp-api-key: alice"}}, {"egress", []string{"x-bellhop-ticket: " + minted}}} {
		b.Run(role.name, func(b *testing.B) {
			message := requestHeaders(role.lines...)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					request(b, bench, message, role.name)
				}
			})
		})
	}
}

// request does what Envoy does with a stream: one message, one answer, reset.
func request(b *testing.B, bench *bench, message *extprocv3.ProcessingRequest, role string) {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "bellhop-role", role))
	defer cancel()
	stream, err := bench.client.Process(ctx)
	if err != nil {
		b.Error(err)
		return
	}
	if err := stream.Send(message); err != nil {
		b.Error(err)
		return
	}
	if _, err := stream.Recv(); err != nil {
		b.Error(err)
	}
}
