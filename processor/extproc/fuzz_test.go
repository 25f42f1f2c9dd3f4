package extproc_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

const fuzzPolicy = `
version: 1
explain: true
forward:
  - {name: x-mcp-api-key, keep: session}
  - {name: x-f*, conflict: reject}
  - {name: x-once, repeat: reject, as: x-renamed, prefix: "p "}
ticket: {carriers: [header, baggage]}
`

// FuzzHeaders sends any header lines in Envoy's wire form in both roles: the answer is always one that Envoy takes, and
// no ticket that was sent survives.
func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{
		"x-mcp-api-key: k", "x-bellhop-ticket: T\nbaggage: " +
			"bellhop=T,a=1", "X-F: 1\nx-forwarded-for: 2", "x-once: 1\nx-once: 2",
		":method: DELETE\nmcp-session-id: S", "x-mcp-api-key: \x00\x7f\xff", "x-bellhop-explain: 1\n: empty",
		"connection: x-f1\nx-f1: v",
		"baggage: \u00a0bellhop=T", "mcp-method: tools/call\nmcp-method: ping", "x-f1: " + strings.Repeat("v", 9000),
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	b := start(f, setup{policy: fuzzPolicy})
	f.Fuzz(func(t *testing.T, text string, client bool) {
		lines := strings.Split(text, "\n")
		headers := &corev3.HeaderMap{}
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			headers.Headers = append(
				headers.Headers,
				&corev3.HeaderValue{Key: strings.ToValidUTF8(name, "?"), RawValue: []byte(value)},
			)
		}
		role := "egress"
		if client {
			role = "ingress"
		}
		answer := b.ask(t, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
			RequestHeaders: &extprocv3.HttpHeaders{Headers: headers},
		}, ProtocolConfig: &extprocv3.ProtocolConfiguration{}}, "bellhop-role", role)
		if answer.GetImmediateResponse() != nil {
			if code := answer.GetImmediateResponse().GetStatus().GetCode(); code < 400 || code > 599 {
				t.Fatalf("status %d", code)
			}
			return
		}
		var result policy.Capture
		for _, line := range apply(t, nil, answer) {
			name, value, _ := strings.Cut(line, ": ")
			result = append(result, policy.Header{Name: name, Value: policy.NewValue(value)})
		}
		carried := ticket.Read(result)
		tickets := slices.Concat(carried.Header, carried.Member)
		if client != (len(tickets) == 2) || (client && (tickets[0] != tickets[1] || !ticket.WellFormed(tickets[0]))) {
			t.Fatalf("tickets after %s: %q", role, tickets)
		}
	})
}

// FuzzMessages sends any sequence of messages: each gets its one answer, or the stream ends well.
func FuzzMessages(f *testing.F) {
	kinds := []string{
		"request_headers",
		"request_body",
		"request_trailers",
		"response_headers",
		"response_body",
		"response_trailers",
	}
	f.Add([]byte{0, 3}, true)
	f.Add([]byte{3}, true)
	f.Add([]byte{1, 0}, false)
	f.Add([]byte{0, 0, 3, 3, 4, 5}, true)
	b := start(f, setup{policy: fuzzPolicy})
	makers := messages()
	f.Fuzz(func(t *testing.T, sequence []byte, client bool) {
		role := "egress"
		if client {
			role = "ingress"
		}
		stream := b.stream(t, "bellhop-role", role)
		for _, step := range sequence[:min(len(sequence), 20)] {
			want := kinds[int(step)%len(kinds)]
			_ = stream.Send(makers[want]()) // fails once the stream has ended, which Recv tells
			answer, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", want, status.Code(err) == codes.OK)
			}
			if got := kind(answer); got != want && got != "immediate_response" {
				t.Fatalf("got %s for %s", got, want)
			}
		}
		_ = stream.CloseSend()
	})
}
