package extproc_test

import (
	"fmt"
	"strings"
	"testing"

	"bellhop/processor/extproc"

	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// message makes one of every kind.
func messages() map[string]func() *extprocv3.ProcessingRequest {
	body := &extprocv3.HttpBody{Body: []byte("piece"), EndOfStream: true}
	return map[string]func() *extprocv3.ProcessingRequest{
		"request_headers": func() *extprocv3.ProcessingRequest {
			message := requestHeaders("x-mcp-api-key: k")
			message.ProtocolConfig = nil // the filter does not say that nothing more comes
			return message
		},
		"request_body": func() *extprocv3.ProcessingRequest {
			return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: body}}
		},
		"request_trailers": func() *extprocv3.ProcessingRequest {
			return &extprocv3.ProcessingRequest{
				Request: &extprocv3.ProcessingRequest_RequestTrailers{RequestTrailers: &extprocv3.HttpTrailers{}},
			}
		},
		"response_headers": func() *extprocv3.ProcessingRequest {
			return &extprocv3.ProcessingRequest{
				Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: &extprocv3.HttpHeaders{}},
			}
		},
		"response_body": func() *extprocv3.ProcessingRequest {
			return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: body}}
		},
		"response_trailers": func() *extprocv3.ProcessingRequest {
			return &extprocv3.ProcessingRequest{
				Request: &extprocv3.ProcessingRequest_ResponseTrailers{ResponseTrailers: &extprocv3.HttpTrailers{}},
			}
		},
	}
}

// kind names what a message or an answer is.
func kind(answer *extprocv3.ProcessingResponse) string {
	name := fmt.Sprintf("%T", answer.GetResponse())
	name = strings.TrimPrefix(name, "*ext_procv3.ProcessingResponse_")
	var snake strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			snake.WriteByte('_')
		}
		snake.WriteRune(r)
	}
	return strings.ToLower(snake.String())
}

// Invariant 7: every message gets exactly one answer, of its own kind, in every phase: as the first of its stream,
// and after any other.
func TestEveryMessageKindIsAnsweredInEveryPhase(t *testing.T) {
	b := start(t, setup{policy: smallest})
	for _, role := range []string{"ingress", "egress"} {
		for first, makeFirst := range messages() {
			for second, makeSecond := range messages() {
				t.Run(role+"/"+first+"/"+second, func(t *testing.T) {
					stream := b.stream(t, "bellhop-role", role)
					for i, want := range []string{first, second} {
						if i == 0 && (want == "request_body" || want == "request_trailers") {
							want = "immediate_response" // the request's headers were not shown: see below
						}
						message := []func() *extprocv3.ProcessingRequest{makeFirst, makeSecond}[i]()
						if err := stream.Send(message); err != nil {
							t.Fatal(err)
						}
						answer, err := stream.Recv()
						if err != nil || kind(answer) != want {
							t.Fatalf("got %s, %v; want %s", kind(answer), err, want)
						}
						if want == "immediate_response" {
							eof(t, stream)
							return
						}
					}
					_ = stream.CloseSend()
					eof(t, stream)
				})
			}
		}
	}
}

func TestTheStreamEndsAfterAnImmediateResponse(t *testing.T) {
	b := start(t, setup{policy: smallest + "limits: {value_bytes: 4}\n"})
	stream := b.stream(t, "bellhop-role", "ingress")
	if err := stream.Send(requestHeaders("x-mcp-api-key: too-long")); err != nil {
		t.Fatal(err)
	}
	if answer, err := stream.Recv(); err != nil || kind(answer) != "immediate_response" {
		t.Fatalf("got %v, %v", answer, err)
	}
	eof(t, stream)
}

func TestABodyInFullDuplexIsGivenBack(t *testing.T) {
	b := start(t, setup{policy: smallest})
	stream := b.stream(t, "bellhop-role", "ingress")
	first := requestHeaders("x-mcp-api-key: k")
	first.ProtocolConfig = &extprocv3.ProtocolConfiguration{
		RequestBodyMode:  extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED,
		ResponseBodyMode: extprocfilterv3.ProcessingMode_STREAMED,
	}
	for _, message := range []*extprocv3.ProcessingRequest{first, messages()["request_body"](),
		messages()["response_body"]()} {
		if err := stream.Send(message); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = stream.Recv()
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.GetRequestBody().GetResponse().GetBodyMutation().GetStreamedResponse(); string(
		got.GetBody(),
	) != "piece" ||
		!got.GetEndOfStream() {
		t.Errorf("got %v", answer)
	}
	if answer, err = stream.Recv(); err != nil || answer.GetResponseBody().GetResponse() != nil {
		t.Errorf("a streamed body needs no echo: %v, %v", answer, err)
	}
}

func TestAStreamOfAMisconfiguredFilterIsRefused(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nfanout: search\nforward: [x-a]\n"})
	tests := []struct {
		name  string
		pairs []string
		want  string
	}{
		{"no role", nil, "the filter sets no role"},
		{"unknown role", []string{"bellhop-role", "both"}, "neither ingress nor egress"},
		{"two roles", []string{"bellhop-role", "ingress", "bellhop-role", "egress"}, "more than once"},
		{
			"two backends",
			[]string{"bellhop-role", "egress", "bellhop-backend", "a", "bellhop-backend", "b"},
			"more than once",
		},
		{"another fan-out", []string{"bellhop-role", "egress", "bellhop-fanout", "other"}, "matches no policy's fanout"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stream := b.stream(t, test.pairs...)
			_ = stream.Send(requestHeaders("x-a: 1"))
			_, err := stream.Recv()
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(status.Convert(err).Message(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	b.metric(t, "bellhop_streams_refused_total", `bellhop_streams_refused_total{reason="backend"} 1
bellhop_streams_refused_total{reason="fanout"} 1
bellhop_streams_refused_total{reason="role"} 3`)
	if warnings := strings.Count(b.log.String(), "level=WARN"); warnings != 1 {
		t.Errorf("%d warnings; one a minute is enough", warnings)
	}
}

// A filter that does not show the headers would let them all pass.
func TestARequestWhoseHeadersAreNotShownIsRefused(t *testing.T) {
	b := start(t, setup{policy: smallest})
	for _, first := range []string{"request_body", "request_trailers"} {
		got := b.ask(t, messages()[first](), "bellhop-role", "ingress").GetImmediateResponse()
		if got.GetStatus().GetCode() != 500 || !strings.Contains(string(got.GetBody()), "request_header_mode") {
			t.Errorf("%s: got %v", first, got)
		}
	}
	b.metric(t, "bellhop_streams_refused_total", `bellhop_streams_refused_total{reason="processing_mode"} 2`)
}

func TestAFilterInObservabilityModeIsRefused(t *testing.T) {
	b := start(t, setup{policy: smallest})
	stream := b.stream(t, "bellhop-role", "ingress")
	message := requestHeaders("x-mcp-api-key: k")
	message.ObservabilityMode = true
	_ = stream.Send(message)
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}

// A stream that Envoy would keep for the response must not fail the call when Bellhop stops.
func TestTheStreamEndsAfterTheAnswerIfThereIsNoBody(t *testing.T) {
	b := start(t, setup{policy: smallest})
	stream := b.stream(t, "bellhop-role", "ingress")
	message := requestHeaders("x-mcp-api-key: k")
	message.ProtocolConfig = &extprocv3.ProtocolConfiguration{}
	if err := stream.Send(message); err != nil {
		t.Fatal(err)
	}
	if answer, err := stream.Recv(); err != nil || kind(answer) != "request_headers" {
		t.Fatalf("got %v, %v", answer, err)
	}
	eof(t, stream)
}

func TestAMessageWithoutAKindIsRefused(t *testing.T) {
	b := start(t, setup{policy: smallest})
	stream := b.stream(t, "bellhop-role", "ingress")
	_ = stream.Send(&extprocv3.ProcessingRequest{})
	if _, err := stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}

func TestTheServiceHasTheNameThatHealthChecksUse(t *testing.T) {
	if extproc.ServiceName != extprocv3.ExternalProcessor_ServiceDesc.ServiceName {
		t.Errorf("%s, want %s", extproc.ServiceName, extprocv3.ExternalProcessor_ServiceDesc.ServiceName)
	}
}
