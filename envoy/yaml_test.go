package envoy

import (
	"encoding/json"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"bellhop/policy"
)

// parse reads what render wrote.
func parse(t *testing.T, text []byte, into proto.Message) {
	t.Helper()
	var document any
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	asJSON, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(asJSON, into); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
}

func everything(t *testing.T) *bootstrapWriter {
	t.Helper()
	text := "version: 1\nfanout: search\nforward: [{name: x-a, as: x-b}]\nbackends:\n  on: {clusters: " +
		"[\"outbound|443||x #:{}\\\"\"]}\n  1e3: {}\n"
	p, findings := policy.Load("", []byte(text))
	if p == nil {
		t.Fatal(findings)
	}
	plan, err := newPlan(p, BootstrapOptions{
		Ingress: "127.0.0.1:1", Egress: "0.0.0.0:2", Admin: "[::1]:3", Fanout: "https://fanout.example.com",
		Backends:     []string{"on=https://192.0.2.1/mcp", "1e3=http://[::1]:80"},
		IngressHosts: []string{"on", "*.example.com"}, IngressOrigins: []string{"https://app.example.com"},
		FanoutHost: HostAuto,
		TrustedCA:  "yes", FilterOptions: FilterOptions{
			Bellhop: []string{
				"localhost:4",
				"10.0.0.1:4",
			}, BellhopCA: "#ca", BellhopCert: "&c: d", BellhopKey: "0x1F", FailOpen: true,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &bootstrapWriter{Writer: NewWriter(plan.Processing), plan: plan}
}

func TestYAMLEqualsTheMessage(t *testing.T) {
	w := everything(t)
	want := w.bootstrap()
	text, err := render(want, "title", w.Notes)
	if err != nil {
		t.Fatal(err)
	}
	got := &bootstrapv3.Bootstrap{}
	parse(t, text, got)
	if !proto.Equal(got, want) {
		t.Errorf("read again it is another message:\n%s", text)
	}
}

// A comment whose path is wrong would be left out without a word.
func TestEveryCommentIsWritten(t *testing.T) {
	w := everything(t)
	text, err := render(w.bootstrap(), "title", w.Notes)
	if err != nil {
		t.Fatal(err)
	}
	for path, comments := range w.Notes {
		for _, line := range comments[0].Texts {
			if !strings.Contains(string(text), "#"+line+"\n") {
				t.Errorf("the comment %q on %s is not written", line, path)
			}
		}
	}
}

func FuzzScalar(f *testing.F) {
	for _, seed := range []string{"", "on", "Y", "1e3", "0x1F", "1_000", ".inf", "-", "~", "null", "0s", "127.0.0.1",
		"a: b", "#", "a #", "'", "\"", "\\", "\u2028", "<&>", "é", "@", "%", "outbound|443||x", "- a", "?", "2001:db8::1",
		"12:30", "2020-01-01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !printable(text) {
			t.Skip("refused before it is written")
		}
		want := &corev3.HeaderValue{Key: text}
		out, err := render(want, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		got := &corev3.HeaderValue{}
		parse(t, out, got)
		if got.Key != text {
			t.Errorf("%q became %q in:\n%s", text, got.Key, out)
		}
	})
}
