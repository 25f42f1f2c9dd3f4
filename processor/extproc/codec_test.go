package extproc

import (
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"bellhop/policy"
	"bellhop/processor"
)

// usual is the message that Envoy sends for most requests.
func usual() *extprocv3.ProcessingRequest {
	attributes, _ := structpb.NewStruct(map[string]any{"xds.cluster_name": "mcp-a", "xds.route_name": ""})
	return &extprocv3.ProcessingRequest{
		Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{
			Headers: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
				{
					Key:      ":method",
					RawValue: []byte("POST"),
				}, {Key: "X-Key", RawValue: []byte("\xff k")}, {Key: "x-old", Value: "v"}, {Key: "x-none"},
			}},
			EndOfStream: true,
		}},
		Attributes: map[string]*structpb.Struct{"envoy.filters.http.ext_proc": attributes},
		ProtocolConfig: &extprocv3.ProtocolConfiguration{
			RequestBodyMode: extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED,
		},
	}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// agree wants what was decoded without protobuf to be what protobuf decodes.
func agree(t *testing.T, raw []byte) (fast bool) {
	t.Helper()
	var got message
	if fast = got.decode(slices.Clone(raw)); !fast {
		return false
	}
	full := &extprocv3.ProcessingRequest{}
	if err := proto.Unmarshal(raw, full); err != nil {
		t.Fatalf("decoded what protobuf does not: %v", err)
	}
	want := readMessage(full)
	same := slices.EqualFunc(got.request.Headers, want.request.Headers, func(a, b policy.Header) bool {
		return a.Name == b.Name && a.Value.Equal(b.Value)
	})
	if !same || got.kind != want.kind || got.request.Cluster != want.request.Cluster ||
		got.request.Body != want.request.Body ||
		got.configured != want.configured ||
		got.bodies != want.bodies ||
		got.observability != want.observability {
		t.Fatalf("%+v, want %+v; headers agree: %v", got, want, same)
	}
	return true
}

func TestTheUsualMessageIsDecodedWithoutProtobuf(t *testing.T) {
	if !agree(t, marshal(t, usual())) {
		t.Error("left to protobuf")
	}
	for name, change := range map[string]func(*extprocv3.ProcessingRequest){
		"metadata":      func(m *extprocv3.ProcessingRequest) { m.MetadataContext = &corev3.Metadata{} },
		"observability": func(m *extprocv3.ProcessingRequest) { m.ObservabilityMode = true },
		"another kind":  func(m *extprocv3.ProcessingRequest) { m.Request = nil },
		"a number": func(m *extprocv3.ProcessingRequest) {
			m.Attributes["f"], _ = structpb.NewStruct(map[string]any{"xds.cluster_name": 1})
		},
		"a body's modes": func(m *extprocv3.ProcessingRequest) {
			m.ProtocolConfig.SendBodyWithoutWaitingForHeaderResponse = true
		},
	} {
		m := usual()
		change(m)
		if agree(t, marshal(t, m)) {
			t.Errorf("%s: not left to protobuf", name)
		}
	}
}

// FuzzDecode decodes whatever bytes: either protobuf reads the same, or they are left to protobuf.
func FuzzDecode(f *testing.F) {
	f.Add(marshal(f, usual()))
	f.Add([]byte{})
	twice := marshal(f, usual())
	f.Add(append(twice, twice...))
	f.Fuzz(func(t *testing.T, raw []byte) { agree(t, raw) })
}

func TestAnswersAreEncodedAsProtobufDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringN(0, 300, 600)
		answer := processor.Answer{Remove: rapid.SliceOfN(rapid.StringMatching(`[a-z-]{0,20}`), 0, 5).Draw(rt, "remove")}
		answer.Session = text.Draw(rt, "session")
		for range rapid.IntRange(0, 5).Draw(rt, "set") {
			name := rapid.SampledFrom([]string{"", "x-a", "x-a", "x-b"}).Draw(rt, "name")
			answer.Set = append(answer.Set, policy.Header{Name: name, Value: policy.NewValue(text.Draw(rt, "value"))})
		}
		got := &extprocv3.ProcessingResponse{}
		skip := rapid.Bool().Draw(rt, "skip")
		if err := proto.Unmarshal(encodeAnswer(answer, skip), got); err != nil {
			rt.Fatal(err)
		}
		want := replyRequest(answer)
		if skip {
			want.ModeOverride = &extprocfilterv3.ProcessingMode{ResponseHeaderMode: extprocfilterv3.ProcessingMode_SKIP}
		}
		if !proto.Equal(got, want) {
			rt.Fatalf("%v, want %v", got, want)
		}
	})
}
