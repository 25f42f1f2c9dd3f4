package istio

import (
	"strings"
	"testing"

	"bellhop/envoy"
	"bellhop/policy"
)

func TestEveryCommentOfAManifestIsWritten(t *testing.T) {
	p, findings := policy.Load("", []byte("version: 1\nforward: [{name: x-a, tools: [a]}]\n"))
	if p == nil {
		t.Fatal(findings)
	}
	for _, setUp := range SetUps() {
		options := Options{
			SetUp:    setUp,
			Backends: []string{"a=https://a.example.com", "b=https://b.example.com"},
			FailOpen: true,
		}
		switch setUp {
		case Gateway:
			options.Hosts, options.Accounts = []string{"fanout.example.com"}, []string{"default/vmcp"}
		case Central:
			options.Accounts = []string{"default/vmcp"}
		case Mesh:
			if p, findings = policy.Load("", []byte("version: 1\nfanout: search\nforward: [x-a]\n")); p == nil {
				t.Fatal(findings)
			}
		case Sidecar:
		}
		plan, err := newPlan([]*policy.Policy{p}, options.withDefaults())
		if err != nil {
			t.Fatal(err)
		}
		w := &writer{plan: plan}
		for _, m := range w.manifests() {
			text, err := envoy.Write(m.document(), m.notes)
			if err != nil {
				t.Fatal(err)
			}
			for path, comments := range m.notes {
				for _, line := range comments[0].Texts {
					if !strings.Contains(string(text), "#"+line+"\n") {
						t.Errorf("%s %s: the comment %q on %s is not written", setUp, m.kind, line, path)
					}
				}
			}
		}
		if err := w.errs.Join(); err != nil {
			t.Error(err)
		}
	}
}
