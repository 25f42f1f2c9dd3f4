package extproc_test

import (
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"bellhop/test/envoytest"
)

// most is how many streams of one fan-out may wait for a response, or for a body that has to be read.
const most = 512

// Streams that wait hold memory that no store counts: beyond a bound there are no more of them, and others are served.
func TestStreamsThatWaitAreBounded(t *testing.T) {
	b := start(t, setup{policy: keeping, others: []string{"version: 1\nfanout: other\nforward: [x-a]\nkeep: session\n"}})
	begin := func(fanout string) *extprocv3.ProcessingResponse {
		t.Helper()
		pairs := []string{"bellhop-role", "ingress"}
		if fanout != "" {
			pairs = append(pairs, "bellhop-fanout", fanout)
		}
		stream := b.stream(t, pairs...)
		request := requestHeaders(":method: POST", "authorization: user-1", "x-mcp-api-key: alice", "x-a: 1")
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	for i := range most {
		if !envoytest.AsksForResponse(begin("")) {
			t.Fatalf("stream %d does not wait", i)
		}
	}
	answer := begin("")
	if envoytest.AsksForResponse(answer) || answer.GetRequestHeaders() == nil {
		t.Errorf("one more: %v", answer)
	}
	if !envoytest.AsksForResponse(begin("other")) {
		t.Error("the streams of one fan-out take those of another")
	}
	b.metric(t, "bellhop_streams_not_waited_total", `bellhop_streams_not_waited_total{fanout=""} 1
bellhop_streams_not_waited_total{fanout="other"} 0`)
}

// For a request that is refused a client needs nothing: as many as it opens take no stream of those that are not.
func TestRefusedRequestsTakeNoStreamOfOthers(t *testing.T) {
	b := start(t, setup{
		policy: "version: 1\nforward: [{name: x-mcp-api-key, required: true, tools: [pay_*]}, {name: x-a, required: true}]\n",
	})
	for range 1100 {
		stream := b.stream(t, "bellhop-role", "ingress")
		post := jsonPost("content-length: 100")
		if err := stream.Send(envoytest.Held(requestHeaders(post...))); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	_, minted := b.ingress(t, "x-a: 1", "x-mcp-api-key: k")
	for range most {
		stream := b.stream(t, "bellhop-role", "egress")
		if err := stream.Send(envoytest.Held(requestHeaders(jsonPost("x-bellhop-ticket: " + minted)...))); err != nil {
			t.Fatal(err)
		}
		if answer, err := stream.Recv(); err != nil || answer.GetRequestHeaders() == nil {
			t.Fatalf("a request to a backend is not read: %v, %v", answer, err)
		}
	}
}

func TestStreamsThatWaitForABodyAreBounded(t *testing.T) {
	b := start(t, setup{policy: toolPolicy, identities: identity})
	ask := func(t *testing.T) *extprocv3.ProcessingResponse {
		t.Helper()
		stream := b.stream(t, "bellhop-role", "egress", "bellhop-backend", "github")
		if err := stream.Send(envoytest.Held(requestHeaders(jsonPost()...))); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	t.Run("while they wait", func(t *testing.T) {
		for i := range most {
			if ask(t).GetRequestHeaders() == nil {
				t.Fatalf("stream %d does not wait", i)
			}
		}
		if got := ask(t).GetImmediateResponse().GetStatus().GetCode(); got != 503 {
			t.Errorf("one more gets %d, want a refusal: without its body nothing is known", got)
		}
	})
	deadline := time.Now().Add(10 * time.Second)
	for ask(t).GetRequestHeaders() == nil {
		if time.Now().After(deadline) {
			t.Fatal("streams that have ended still count")
		}
		time.Sleep(20 * time.Millisecond)
	}
}
