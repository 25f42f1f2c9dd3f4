package istio_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/envoy/istio"
	"bellhop/policy"
)

const istioExamples = "../../deploy/istio/"

// setUps are the examples in deploy/istio.
func setUps() map[istio.SetUp]istio.Options {
	billing := "billing=http://mcp-billing.tools.svc.cluster.local:8080/mcp"
	search := "search=http://mcp-search.tools.svc.cluster.local:8080/mcp"
	github := "github=https://mcp.example.com/mcp"
	all := map[istio.SetUp]istio.Options{
		istio.Sidecar: {PolicyFiles: []string{"policy.yaml"}, Port: "4483", Backends: []string{billing, search, github}},
		istio.Central: {
			PolicyFiles: []string{"policy.yaml"},
			Port:        "4483",
			Backends:    []string{billing, search, github},
			Accounts:    []string{"default/vmcp"},
		},
		istio.Mesh: {
			PolicyFiles: []string{"search.policy.yaml", "support.policy.yaml"}, CeilingFile: "ceiling.yaml",
			Backends: []string{billing, "docs=http://mcp-docs.tools.svc.cluster.local:8080/mcp", github},
		},
		istio.Gateway: {
			PolicyFiles: []string{
				"policy.yaml",
			}, Port: "4483", Hosts: []string{"gateway.example.com"}, Accounts: []string{"default/vmcp"},
			Backends: []string{github, "wiki=https://wiki.example.com/mcp"},
		},
	}
	for name, options := range all {
		options.SetUp, options.ProxyVersion = name, "1.31"
		// commands are run at the top of the repository
		below := func(file string) string { return "deploy/istio/" + string(name) + "/" + file }
		for i, file := range options.PolicyFiles {
			options.PolicyFiles[i] = below(file)
		}
		if options.CeilingFile != "" {
			options.CeilingFile = below(options.CeilingFile)
		}
		all[name] = options
	}
	return all
}

func policiesOf(t *testing.T, options istio.Options) []*policy.Policy {
	t.Helper()
	var ceiling *policy.Ceiling
	if file := options.CeilingFile; file != "" {
		loaded, findings := policy.LoadCeiling(file, []byte(read(t, "../../"+file)))
		if loaded == nil {
			t.Fatal(findings)
		}
		ceiling = loaded
	}
	var all []*policy.Policy
	for _, file := range options.PolicyFiles {
		loaded, findings := policy.LoadUnder(ceiling, file, []byte(read(t, "../../"+file)))
		if loaded == nil {
			t.Fatal(findings)
		}
		if len(findings) > 0 { // an example is not warned of
			t.Error(findings)
		}
		all = append(all, loaded)
	}
	return all
}

func TestIstioExamples(t *testing.T) {
	for name, options := range setUps() {
		t.Run(string(name), func(t *testing.T) {
			got, err := istio.Manifests(policiesOf(t, options), options)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(istioExamples, string(name), "istio.yaml"), got)
			if warnings := istio.Warnings(policiesOf(t, options), options); len(warnings) > 0 {
				t.Errorf("warnings: %q", warnings)
			}
		})
	}
}

func TestIstioErrors(t *testing.T) {
	sound := func(name istio.SetUp, change func(*istio.Options)) istio.Options {
		options := setUps()[name]
		change(&options)
		return options
	}
	tests := map[string]struct {
		options istio.Options
		want    []string // one for each fault, in their order
	}{
		"no set-up": {istio.Options{SetUp: "ambient"}, []string{"ambient: is no set-up"}},
		"nothing given": {
			istio.Options{SetUp: istio.Gateway},
			[]string{"--host: is missing", "--backend: is missing", "--account: is missing"},
		},
		"no account": {sound("central", func(o *istio.Options) { o.Accounts = nil }), []string{"--account: is missing"}},
		"account": {
			sound("central", func(o *istio.Options) { o.Accounts = []string{"vmcp"} }),
			[]string{"--account vmcp: is not a namespace"},
		},
		"useless": {sound("sidecar", func(o *istio.Options) {
			o.Accounts, o.Hosts, o.EgressAccount = []string{"a/b"}, []string{"x"}, "a/c"
		}), []string{"--host x: is for the gateway", "--account a/b: has no use", "--egress-account a/c: is " +
			"for the gateway"}},
		"not a socket": {
			sound("sidecar", func(o *istio.Options) { o.Bellhop = "localhost:1" }),
			[]string{"--bellhop localhost:1: is not a Unix socket"},
		},
		"not a service": {
			sound("central", func(o *istio.Options) { o.Bellhop = "bellhop:9000" }),
			[]string{"--bellhop bellhop:9000: is not the whole name"},
		},
		"an address": {
			sound("central", func(o *istio.Options) { o.Bellhop = "10.0.0.1:9000" }),
			[]string{"--bellhop 10.0.0.1:9000: is not a DNS name"},
		},
		"release": {
			sound("sidecar", func(o *istio.Options) { o.ProxyVersion = "1.28" }),
			[]string{"--proxy-version 1.28: is not supported"},
		},
		"no release": {
			sound("sidecar", func(o *istio.Options) { o.ProxyVersion = "v2" }),
			[]string{"--proxy-version v2: is no release"},
		},
		"labels": {
			sound("sidecar", func(o *istio.Options) { o.Workload = []string{"vmcp"} }),
			[]string{"--workload vmcp: is no label"},
		},
		"port": {sound("sidecar", func(o *istio.Options) { o.Port = "http" }), []string{"--port http: is no port"}},
		"namespace": {
			sound("sidecar", func(o *istio.Options) { o.Namespace = "A_b" }),
			[]string{"--namespace A_b: is no name"},
		},
		"backend's IP": {
			sound("sidecar", func(o *istio.Options) { o.Backends = []string{"billing=http://10.0.0.1:80"} }),
			[]string{"--backend billing=http://10.0.0.1:80: is an IP address"},
		},
		"backend's name": {
			sound("sidecar", func(o *istio.Options) { o.Backends = []string{"other=http://a.example:80"} }),
			[]string{"--backend other: is not declared"},
		},
		"short service": {
			sound("sidecar", func(o *istio.Options) { o.Backends = []string{"billing=http://mcp.tools.svc:80"} }),
			[]string{"--backend billing=http://mcp.tools.svc:80: is not the whole name"},
		},
		"one host": {sound("sidecar", func(o *istio.Options) {
			o.Backends = []string{"billing=http://mcp.example.com/a", "search=http://mcp.example.com/b"}
		}), []string{"--backend search=http://mcp.example.com/b: is on the host and port of another"}},
		"label's value": {
			sound("sidecar", func(o *istio.Options) { o.Workload = []string{"app=-"} }),
			[]string{"--workload app=-: is no label"},
		},
		"host with a port": {
			sound("gateway", func(o *istio.Options) { o.Hosts = []string{"*", "*.a.example", "a.example:443"} }),
			[]string{"--host a.example:443: is not a DNS name"},
		},
		"gateway's account": {
			sound("gateway", func(o *istio.Options) {
				o.IngressAccount, o.IngressGateway = "ingress", []string{"gateway/mcp"}
			}),
			[]string{"--ingress-account ingress: is not a namespace"},
		},
		"half an ingress gateway": {
			sound("gateway", func(o *istio.Options) { o.IngressAccount = "istio-ingress/istio-ingress" }),
			[]string{"--ingress-gateway: is missing beside --ingress-account"},
		},
		"the other half": {
			sound("gateway", func(o *istio.Options) { o.IngressGateway = []string{"istio=ingress"} }),
			[]string{"--ingress-account: is missing beside --ingress-gateway"},
		},
		"a part of an egress gateway": {
			sound("gateway", func(o *istio.Options) { o.EgressGateway = []string{"istio=egress"} }),
			[]string{"--egress-account, --egress-gateway and --egress-service: are needed together"},
		},
		"no whole service": {
			sound("gateway", func(o *istio.Options) {
				o.EgressAccount, o.EgressGateway, o.EgressService = "istio-egress/e", []string{"istio=egress"}, "istio-egress"
			}),
			[]string{"--egress-service istio-egress: is not the whole name of a service"},
		},
		"inside, at the gateway": {
			sound("gateway", func(o *istio.Options) { o.Backends = []string{"github=http://mcp.tools.svc.cluster.local"} }),
			[]string{"--backend github=http://mcp.tools.svc.cluster.local: is not https"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var policies []*policy.Policy
			if len(test.options.PolicyFiles) > 0 {
				policies = policiesOf(t, test.options)
			}
			_, err := istio.Manifests(policies, test.options)
			if err == nil {
				t.Fatal("no error")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("got %q", lines)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("got %q, want %q", lines[i], want)
				}
			}
		})
	}
}

// A mesh-wide policy names its namespace.
func TestMeshNeedsFanouts(t *testing.T) {
	options := setUps()[istio.Mesh]
	_, err := istio.Manifests([]*policy.Policy{load(t, openPolicy)}, options)
	if err == nil || !strings.Contains(err.Error(), "has no fanout") {
		t.Errorf("got %v", err)
	}
}

func TestIstioWarnings(t *testing.T) {
	options := istio.Options{SetUp: istio.Sidecar, FailOpen: true, Backends: []string{"a=http://mcp.example.com"}}
	p := load(t, "version: 1\nforward:\n  - {name: x-request-id, tools: [search_*]}\n")
	got := strings.Join(istio.Warnings([]*policy.Policy{p}, options), "\n")
	for _, want := range []string{"--fail-open: ", "x-request-id: ", "--backend a: "} {
		if !strings.Contains("\n"+got, "\n"+want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	baggage := load(t, "version: 1\nforward: [x-a]\nticket: {carriers: [baggage], rotate: 5m}\n")
	if got := istio.Warnings([]*policy.Policy{baggage}, options); !slices.ContainsFunc(
		got,
		func(one string) bool { return strings.HasPrefix(one, "ticket.carriers: baggage: ") },
	) {
		t.Errorf("got %q", got)
	}
	if manifests, err := istio.Manifests([]*policy.Policy{baggage}, options); err != nil ||
		strings.Contains(string(manifests), "No server ever sees a ticket") {
		t.Errorf("what is not so is said (%v)", err)
	}
	central := setUps()[istio.Central]
	central.ProxyVersion = "1.30"
	if got := istio.Warnings(policiesOf(t, central), central); len(got) != 1 ||
		!strings.Contains(got[0], "skip the filters") {
		t.Errorf("got %q", got)
	}
}
