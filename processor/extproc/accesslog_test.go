package extproc_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// accessLog opens an access log as Envoy does.
func (b *bench) accessLog(t *testing.T, pairs ...string) accesslogservicev3.AccessLogService_StreamAccessLogsClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), pairs...), 10*time.Second)
	t.Cleanup(cancel)
	stream, err := b.logs.StreamAccessLogs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// entry is that of a request for which Bellhop gave Envoy some metadata.
func entry(
	metadata *structpb.Struct,
	method string,
	status uint32,
	details string,
) *accesslogservicev3.StreamAccessLogsMessage {
	all := map[string]*structpb.Struct{"envoy.filters.http.mcp": {}}
	for namespace, value := range metadata.GetFields() {
		all[namespace] = value.GetStructValue()
	}
	return &accesslogservicev3.StreamAccessLogsMessage{LogEntries: &accesslogservicev3.StreamAccessLogsMessage_HttpLogs{
		HttpLogs: &accesslogservicev3.StreamAccessLogsMessage_HTTPAccessLogEntries{
			LogEntry: []*accesslogv3.HTTPAccessLogEntry{{
				CommonProperties: &accesslogv3.AccessLogCommon{Metadata: &corev3.Metadata{FilterMetadata: all}},
				Request: &accesslogv3.HTTPRequestProperties{
					RequestMethod: corev3.RequestMethod(corev3.RequestMethod_value[strings.TrimPrefix(method, ":method: ")]),
				},
				Response: &accesslogv3.HTTPResponseProperties{
					ResponseCode:        wrapperspb.UInt32(status),
					ResponseCodeDetails: details,
				},
			}},
		},
	}}
}

func TestASessionUnknownToTheFanoutIsDeleted(t *testing.T) {
	session := []string{":method: POST", "mcp-session-id: S1", "authorization: user-1"}
	tests := []struct {
		name    string
		request []string
		status  uint32
		details string // Envoy's, of the response; empty: it is the fan-out's
		ended   bool
	}{
		{"a 404", session, 404, "", true},
		{"a 404 to a GET, of which there may be none", append([]string{":method: GET"}, session[1:]...), 404, "", false},
		{"a 404 of Envoy itself", session, 404, "route_not_found", false},
		{
			"a 404 to a request with the header itself",
			append(session[:len(session):len(session)], "x-mcp-api-key: alice"),
			404,
			"",
			true,
		},
		{"another error", session, 500, "", false},
		{"another principal's 404", []string{":method: POST", "mcp-session-id: S1", "authorization: user-2"}, 404, "", false},
		{"a 404 without a session", []string{":method: POST", "mcp-session-id: S1"}, 404, "", false},
		{"another session's 404", []string{":method: POST", "mcp-session-id: S2", "authorization: user-1"}, 404, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := start(t, setup{policy: keeping})
			b.converse(t, start1, ":status: 200", "mcp-session-id: S1")
			log := b.accessLog(t, "bellhop-role", "ingress")
			answer := b.ask(t, requestHeaders(test.request...), "bellhop-role", "ingress")
			// A renewed token, and the first request of a session, change what only the fan-out can say is the client's.
			first := test.name == "another principal's 404" || test.name == "another session's 404"
			if answer.GetModeOverride() != nil && !first {
				t.Error("the response is waited for: a call would depend on Bellhop for as long as it takes")
			}
			if err := log.Send(entry(answer.GetDynamicMetadata(), test.request[0], test.status,
				cmp.Or(test.details, "via_upstream"))); err != nil {
				t.Fatal(err)
			}
			if _, err := log.CloseAndRecv(); err == nil ||
				status.Code(err) == codes.InvalidArgument { // all is read when it ends
				t.Fatal(err)
			}
			if got := b.reaches(t, session...); (len(got) == 0) != test.ended {
				t.Errorf("afterwards %q", got)
			}
		})
	}
}

// Envoy is given no name of a session that a policy does not use.
func TestEnvoyLogsSessionsOnlyIfTheyKeepSomething(t *testing.T) {
	b := start(t, setup{policy: smallest + "ticket: {mode: sealed}\n"})
	if got := b.ask(t, requestHeaders(":method: POST", "mcp-session-id: S1", "authorization: user-1"), "bellhop-role",
		"ingress"); got.GetDynamicMetadata() != nil {
		t.Errorf("got %v", got)
	}
}

func TestAnAccessLogThatIsMisconfiguredIsRefused(t *testing.T) {
	b := start(t, setup{policy: keeping})
	for _, pairs := range [][]string{nil, {"bellhop-role", "other"}, {"bellhop-role", "ingress", "bellhop-fanout",
		"other"}} {
		log := b.accessLog(t, pairs...)
		_ = log.Send(entry(nil, ":method: POST", 404, "via_upstream"))
		if _, err := log.CloseAndRecv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", pairs, err)
		}
	}
}

// A stop waits for no access log: they never end by themselves.
func TestAnAccessLogEndsWithTheDrain(t *testing.T) {
	b := start(t, setup{policy: keeping})
	log := b.accessLog(t, "bellhop-role", "ingress")
	if err := log.Send(entry(nil, ":method: POST", 404, "via_upstream")); err != nil {
		t.Fatal(err)
	}
	b.service.Drain()
	if err := log.RecvMsg(&accesslogservicev3.StreamAccessLogsResponse{}); err != nil && !errors.Is(err, io.EOF) &&
		status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
}

// A session that cannot be saved does not begin: else its later requests would lack their headers silently.
func TestASessionThatCannotBeWrittenDoesNotBegin(t *testing.T) {
	for _, failOpen := range []bool{false, true} {
		b := start(t, setup{policy: keeping, sessions: brokenSessions{}, failOpen: failOpen})
		stream := b.stream(t, "bellhop-role", "ingress")
		_ = stream.Send(requestHeaders(start1...))
		if answer, err := stream.Recv(); err != nil || answer.GetModeOverride() == nil {
			t.Fatalf("got %v, %v", answer, err)
		}
		_ = stream.Send(responseHeaders(":status: 200", "mcp-session-id: S1"))
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.GetImmediateResponse().GetStatus().GetCode(); (got == 503) == failOpen {
			t.Errorf("continue %v: got %v", failOpen, answer)
		}
		_ = stream.CloseSend()
		eof(t, stream)
	}
}

// The access log of one fan-out ends no session of another, whatever it knows of it.
func TestAnAccessLogEndsNoSessionOfAnotherFanout(t *testing.T) {
	other := strings.Replace(keeping, "version: 1\n", "version: 1\nfanout: other\n", 1)
	own := strings.Replace(other, "other", "own", 1)
	b := start(t, setup{policy: own, others: []string{other}})
	lines := []string{":method: POST", "mcp-session-id: S1", "authorization: user-1", "x-mcp-api-key: alice"}
	answer := b.ask(t, requestHeaders(lines...), "bellhop-role", "ingress", "bellhop-fanout", "own")
	log := b.accessLog(t, "bellhop-role", "ingress", "bellhop-fanout", "other")
	if err := log.Send(entry(answer.GetDynamicMetadata(), ":method: POST", 404, "via_upstream")); err != nil {
		t.Fatal(err)
	}
	if _, err := log.CloseAndRecv(); err == nil || status.Code(err) == codes.InvalidArgument { // all is read when it ends
		t.Fatal(err)
	}
	if !strings.Contains(b.log.String(), "not of its fan-out") {
		t.Errorf("the log does not say it: %s", b.log.String())
	}
	later := b.ask(t, requestHeaders(lines[:3]...), "bellhop-role", "ingress", "bellhop-fanout", "own")
	got := apply(t, lines[:3], later)
	for _, line := range got {
		if minted, ok := strings.CutPrefix(line, "x-bellhop-ticket: "); ok {
			sent := []string{"x-bellhop-ticket: " + minted}
			reached := apply(t, sent, b.ask(
				t, requestHeaders(sent...), "bellhop-role", "egress", "bellhop-fanout", "own", "bellhop-backend", "a",
			))
			if !strings.Contains(strings.Join(reached, " "), "alice") {
				t.Errorf("the session is gone: %q", reached)
			}
		}
	}
}
