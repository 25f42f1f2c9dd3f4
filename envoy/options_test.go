package envoy_test

import (
	"strings"
	"testing"

	"bellhop/envoy"
	"bellhop/policy"
)

const (
	openPolicy     = "version: 1\nforward: [x-mcp-api-key]\n"
	declaredPolicy = "version: 1\nforward: [x-mcp-api-key]\nbackends:\n  a: {clusters: [mcp-a]}\n  b: {}\n  c: " +
		"{clusters: [\"fanout\"]}\n"
)

func load(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, findings := policy.Load("policy.yaml", []byte(text))
	if p == nil {
		t.Fatal(findings)
	}
	return p
}

// sound are options without an error.
func sound() envoy.BootstrapOptions {
	return envoy.BootstrapOptions{
		FilterOptions: envoy.FilterOptions{PolicyFile: "policy.yaml"},
		Ingress:       "127.0.0.1:8080",
		Fanout:        "http://127.0.0.1:4483",
		Egress:        "127.0.0.1:8081",
		Backends:      []string{"a=http://127.0.0.1:9001/mcp"},
	}
}

func TestErrors(t *testing.T) {
	tests := map[string]struct {
		policy string
		change func(*envoy.BootstrapOptions)
		want   []string // one for each fault, in their order
	}{
		"nothing given": {change: func(o *envoy.BootstrapOptions) { *o = envoy.BootstrapOptions{} },
			want: []string{"--ingress: is missing", "--egress: is missing", "--fanout: is missing", "--backend: is missing"}},
		"all at once": {change: func(o *envoy.BootstrapOptions) { o.Ingress, o.Fanout, o.Admin = "8080", "ftp://x", "x" },
			want: []string{
				"--ingress 8080: is not an IP address and a port",
				"--envoy-admin x:",
				"--fanout ftp://x: has no scheme",
			}},
		"control character": {
			change: func(o *envoy.BootstrapOptions) { o.PolicyFile = "a\nb" },
			want:   []string{"--policy: contains a control character"},
		},
		"not UTF-8": {
			change: func(o *envoy.BootstrapOptions) { o.TrustedCA = "\xff" },
			want:   []string{"--trusted-ca: contains a control character, or is not UTF-8"},
		},

		"listen on a name": {
			change: func(o *envoy.BootstrapOptions) { o.Ingress = "localhost:8080" },
			want:   []string{"--ingress localhost:8080: is not an IP"},
		},
		"listen on port 0": {
			change: func(o *envoy.BootstrapOptions) { o.Egress = "127.0.0.1:0" },
			want:   []string{"--egress 127.0.0.1:0: is not an IP"},
		},
		"listen on a zone": {
			change: func(o *envoy.BootstrapOptions) { o.Egress = "[fe80::1%eth0]:8081" },
			want:   []string{"--egress [fe80::1%eth0]:8081: is not an IP"},
		},
		"same port": {
			change: func(o *envoy.BootstrapOptions) { o.Egress = o.Ingress },
			want:   []string{"--egress 127.0.0.1:8080: is taken by --ingress"},
		},
		"same port on all": {
			change: func(o *envoy.BootstrapOptions) { o.Egress = "0.0.0.0:8080" },
			want:   []string{"--egress 0.0.0.0:8080: is taken"},
		},
		"admin on the same port": {
			change: func(o *envoy.BootstrapOptions) { o.Admin = "127.0.0.1:8081" },
			want:   []string{"--envoy-admin 127.0.0.1:8081: is taken"},
		},

		"fan-out with a path": {
			change: func(o *envoy.BootstrapOptions) { o.Fanout += "/mcp" },
			want:   []string{"--fanout http://127.0.0.1:4483/mcp: has a path"},
		},
		"fan-out is the ingress": {
			change: func(o *envoy.BootstrapOptions) { o.Fanout = "http://127.0.0.1:8080" },
			want:   []string{"is a listener of this Envoy"},
		},
		"fan-out is on all": {
			change: func(o *envoy.BootstrapOptions) { o.Egress, o.Fanout = "0.0.0.0:8081", "http://localhost:8081" },
			want:   []string{"is a listener of this Envoy"},
		},
		"backend is the egress": {
			change: func(o *envoy.BootstrapOptions) { o.Backends = []string{"a=http://127.0.0.1:8081"} },
			want:   []string{"--backend a: is a listener"},
		},
		"same port, other server": {
			change: func(o *envoy.BootstrapOptions) { o.Egress, o.Fanout = "0.0.0.0:8081", "http://10.0.0.1:8081" },
		},

		"backend without a name": {change: backends("http://127.0.0.1:9001"), want: []string{"has no ="}},
		"backend name empty": {
			change: backends("=http://127.0.0.1:9001"),
			want:   []string{"has a name that cannot be used"},
		},
		"backend name slash": {
			change: backends("a/b=http://127.0.0.1:9001"),
			want:   []string{"has a name that cannot be used"},
		},
		"backend name dots": {
			change: backends("..=http://127.0.0.1:9001"),
			want:   []string{"has a name that cannot be used"},
		},
		"backend name long": {
			change: backends(strings.Repeat("a", 64) + "=http://127.0.0.1:9001"),
			want:   []string{"has a name that cannot be used"},
		},
		"backend twice": {
			change: backends("a=http://127.0.0.1:1", "a=http://127.0.0.1:2"),
			want:   []string{"--backend a=http://127.0.0.1:2: names a a second time"},
		},
		"backend not declared": {
			policy: declaredPolicy,
			change: backends("z=http://127.0.0.1:1"),
			want:   []string{"is not declared in the policy; declare it under backends:, or use a declared name (a, b, c)"},
		},
		"URL with a user": {
			change: backends("a=http://me:secret@h/"),
			want:   []string{"--backend a=http://…@h/: holds a user or a password"},
		},
		"URL with a bad password": {
			change: backends("a=http://me:sec/ret@h/"),
			want:   []string{"--backend a=http://…@h/: is not a URL"},
		},
		"URL with a query": {
			change: backends("a=http://h/?x=1"),
			want:   []string{"--backend a=http://h/?…: has a query"},
		},
		"URL with a lone ?":    {change: backends("a=http://h/?"), want: []string{"has a query"}},
		"URL with a fragment":  {change: backends("a=http://h/#x"), want: []string{"has a fragment"}},
		"URL with a lone #":    {change: backends("a=http://h/#"), want: []string{"has a fragment"}},
		"URL without a scheme": {change: backends("a=127.0.0.1:9001"), want: []string{"is not a URL"}},
		"URL without slashes":  {change: backends("a=http:h"), want: []string{"is not a URL"}},
		"URL without a host":   {change: backends("a=http:///mcp"), want: []string{"has no usable host"}},
		"URL with a bad host":  {change: backends("a=http://-h/"), want: []string{"has no usable host"}},
		"URL with a final dot": {change: backends("a=https://mcp.example.com./"), want: []string{"without a final dot"}},
		"URL with half an IP":  {change: backends("a=http://127.0.1/"), want: []string{"has no usable host"}},
		"URL with any IP": {
			change: backends("a=http://0.0.0.0:1/"),
			want:   []string{"is not an address that can be connected to"},
		},
		"URL with a zone": {
			change: backends("a=http://[fe80::1%25eth0]:1/"),
			want:   []string{"is not an address that can be connected to"},
		},
		"URL with port 0":      {change: backends("a=http://h:0/"), want: []string{"has no usable port"}},
		"URL with no port":     {change: backends("a=http://h:/"), want: []string{"has no usable port"}},
		"URL with a high port": {change: backends("a=http://h:65536/"), want: []string{"has no usable port"}},
		"URL with dots":        {change: backends("a=http://h/x/../mcp"), want: []string{"is not in its plain form"}},
		"URL with ..;":         {change: backends("a=http://h/..;x"), want: []string{"is not in its plain form"}},
		"URL with //":          {change: backends("a=http://h//mcp"), want: []string{"is not in its plain form"}},
		"URL with %2f":         {change: backends("a=http://h/a%2Fmcp"), want: []string{"is not in its plain form"}},
		"URL with %2e":         {change: backends("a=http://h/%2e%2e/mcp"), want: []string{"is not in its plain form"}},
		"URL with a space":     {change: backends("a=http://h/a%20b;c=d/mcp")},
		"one server twice": {
			change: backends("a=http://h/mcp", "b=http://h:80/mcp/"),
			want:   []string{"--backend b: is the same server and path as backend a"},
		},
		"one server twice, by two names": {
			change: backends("a=http://localhost:1/mcp", "b=http://127.0.0.1:1/mcp"),
			want:   []string{"--backend b: is the same server and path as backend a"},
		},
		"one server, two paths": {change: backends("a=https://h/", "b=https://h/mcp", "c=https://h/mcp/x", "d=https://h/m")},

		"cluster is the fan-out's": {
			policy: declaredPolicy,
			change: backends("c=http://127.0.0.1:1"),
			want:   []string{"--backend c: its cluster would be called fanout, as that of the fan-out"},
		},

		"socket relative": {
			change: bellhop("unix:bellhop.sock"),
			want:   []string{"--bellhop unix:bellhop.sock: is not an absolute path"},
		},
		"socket two slashes": {change: bellhop("unix://run/bellhop.sock"), want: []string{"is not an absolute path"}},
		"socket abstract":    {change: bellhop("unix:@bellhop"), want: []string{"is not an absolute path"}},
		"socket long": {
			change: bellhop("unix:///" + strings.Repeat("a", 107)),
			want:   []string{"is too long for a Unix socket"},
		},
		"Bellhop without port": {
			change: bellhop("127.0.0.1"),
			want:   []string{"is neither a Unix socket nor a host and a port"},
		},
		"Bellhop as a URL": {
			change: bellhop("http://127.0.0.1:4484"),
			want:   []string{"is neither a Unix socket nor a host and a port"},
		},
		"Bellhop beyond": {
			change: bellhop("10.0.0.1:4484"),
			want:   []string{"is beyond this machine, where Bellhop demands mutual TLS; add --bellhop-ca"},
		},
		"Bellhop name beyond": {change: bellhop("tcp://bellhop.svc:4484"), want: []string{"is beyond this machine"}},
		"Bellhop twice": {
			change: bellhop("127.0.0.1:1", "127.0.0.1:1"),
			want:   []string{"--bellhop 127.0.0.1:1: is listed twice"},
		},
		"Bellhop mixed": {
			change: bellhop("unix:///a", "localhost:1"),
			want:   []string{"mixes a Unix socket and a DNS name"},
		},
		"Bellhop socket, TLS": {
			change: func(o *envoy.BootstrapOptions) { mutual(o) },
			want:   []string{"--bellhop unix:///run/bellhop/bellhop.sock: is a Unix socket, which has no TLS"},
		},
		"Bellhop TLS, half": {
			change: func(o *envoy.BootstrapOptions) { o.Bellhop, o.BellhopCA = []string{"10.0.0.1:1"}, "ca.pem" },
			want:   []string{"--bellhop-cert: is missing", "--bellhop-key: is missing"},
		},
		"Bellhop beyond, TLS": {
			change: func(o *envoy.BootstrapOptions) { o.Bellhop = []string{"bellhop.svc:1", "10.0.0.1:1"}; mutual(o) },
		},
		"Bellhop on loopback": {change: bellhop("127.0.0.1:1", "[::1]:1", "unix:///a b")},
		"IPv6 everywhere": {
			change: func(o *envoy.BootstrapOptions) { o.Ingress, o.Egress, o.Fanout = "[::1]:1", "[::1]:2", "http://[::1]/" },
		},
		"host with a port": {
			change: func(o *envoy.BootstrapOptions) { o.IngressHosts = []string{"mcp.example.com:8080"} },
			want:   []string{"--ingress-host mcp.example.com:8080: is not a host name"},
		},
		"host is a URL": {
			change: func(o *envoy.BootstrapOptions) { o.EgressHosts = []string{"http://envoy"} },
			want:   []string{"--egress-host http://envoy: is not a host name"},
		},
		"any host": {
			change: func(o *envoy.BootstrapOptions) { o.IngressHosts = []string{"*", "*.", "a.*", ""} },
			want: []string{
				"--ingress-host *: is not a host name", "--ingress-host *.: ", "--ingress-host a.*: ", "--ingress-host: ",
			},
		},
		"hosts": {
			change: func(o *envoy.BootstrapOptions) {
				o.IngressHosts = []string{"mcp", "MCP", "localhost", "::1", "[2001:db8::1]", "192.0.2.1", "*.example.com"}
			},
		},
		"origin with a path": {
			change: func(o *envoy.BootstrapOptions) { o.IngressOrigins = []string{"https://app.example.com/x"} },
			want:   []string{"--ingress-origin https://app.example.com/x: has a path"},
		},
		"any origin": {
			change: func(o *envoy.BootstrapOptions) { o.IngressOrigins = []string{"*"} },
			want:   []string{"--ingress-origin *: has no scheme"},
		},
		"redirect with a path": {
			change: func(o *envoy.BootstrapOptions) { o.IngressRedirect = []string{"https://login.example.com/x"} },
			want:   []string{"--ingress-redirect https://login.example.com/x: has a path"},
		},
		"fan-out's host": {
			change: func(o *envoy.BootstrapOptions) { o.FanoutHost = "yes" },
			want:   []string{"--fanout-host yes: is not known"},
		},
		"open with identity": {
			policy: "version: 1\nforward: [x-k]\nbackends: {a: {discovery: [{name: x-k, file: f}]}}\n",
			change: func(o *envoy.BootstrapOptions) { o.FailOpen, o.Backends = true, []string{"a=http://127.0.0.1:1"} },
			want:   []string{"--fail-open: backend a has a discovery identity"},
		},
		"loops by name": {
			change: func(o *envoy.BootstrapOptions) { o.Fanout = "http://localhost:8080" },
			want:   []string{"--fanout http://localhost:8080: is a listener of this Envoy"},
		},
		"two loopbacks, a port": {change: func(o *envoy.BootstrapOptions) { o.Egress = "127.0.0.2:8080" }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text := openPolicy
			if test.policy != "" {
				text = test.policy
			}
			options := sound()
			test.change(&options)
			yaml, err := envoy.Bootstrap(load(t, text), options)
			if (err == nil) != (yaml != nil) {
				t.Errorf("both or neither of YAML and error: %v", err)
			}
			requireFaults(t, err, test.want)
		})
	}
}

func backends(values ...string) func(*envoy.BootstrapOptions) {
	return func(o *envoy.BootstrapOptions) { o.Backends = values }
}

func bellhop(values ...string) func(*envoy.BootstrapOptions) {
	return func(o *envoy.BootstrapOptions) { o.Bellhop = values }
}

func mutual(o *envoy.BootstrapOptions) {
	o.BellhopCA, o.BellhopCert, o.BellhopKey = "ca.pem", "cert.pem", "key.pem"
}

// requireFaults wants exactly these errors, each with a way to fix it.
func requireFaults(t *testing.T, err error, want []string) {
	t.Helper()
	var got []string
	if err != nil {
		got = strings.Split(err.Error(), "\n")
	}
	if len(got) != len(want) {
		t.Fatalf("got %d faults, want %d:\n%v", len(got), len(want), err)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) || !strings.Contains(got[i], "; ") {
			t.Errorf("fault %q, want one with %q and a way to fix it", got[i], want[i])
		}
	}
}

func TestClusterNamesAreDistinct(t *testing.T) {
	text := "version: 1\nforward: [x-k]\nbackends:\n  a: {}\n  b: {clusters: [backend_a]}\n"
	options := sound()
	options.Backends = []string{"a=http://127.0.0.1:1", "b=http://127.0.0.1:2"}
	_, err := envoy.Bootstrap(load(t, text), options)
	requireFaults(
		t,
		err,
		[]string{
			"--backend b: its cluster would be called backend_a, as that of backend a; put another name first in " +
				"backends.b.clusters",
		},
	)
}

func TestWarnings(t *testing.T) {
	tests := map[string]struct {
		policy string
		change func(*envoy.BootstrapOptions)
		want   []string
	}{
		"none":           {change: func(*envoy.BootstrapOptions) {}},
		"faulty options": {change: func(o *envoy.BootstrapOptions) { o.FailOpen, o.Egress = true, "" }},
		"backend left out": {
			policy: declaredPolicy,
			change: func(*envoy.BootstrapOptions) {},
			want:   []string{"backend b: declared in the policy", "add --backend c=URL"},
		},
		"fail open": {change: func(o *envoy.BootstrapOptions) { o.FailOpen = true }, want: []string{"--fail-open: "}},
		"egress beyond": {
			change: func(o *envoy.BootstrapOptions) { o.Egress = "0.0.0.0:8081" },
			want: []string{
				"--egress 0.0.0.0:8081: every process that reaches it can redeem tickets",
				"--egress 0.0.0.0:8081: it answers to localhost, 127.0.0.1 and [::1] only",
			},
		},
		"beyond, with names": {
			change: func(o *envoy.BootstrapOptions) {
				o.Ingress, o.IngressHosts = "[::]:8080", []string{"mcp.example.com"}
			},
		},
		"admin beyond": {
			change: func(o *envoy.BootstrapOptions) { o.Admin = "0.0.0.0:9901" },
			want:   []string{"--envoy-admin 0.0.0.0:9901: "},
		},
		"in the clear": {
			change: backends("a=http://10.0.0.1:9001/mcp", "b=https://10.0.0.1/mcp"),
			want:   []string{"--backend a: the clients' headers go to 10.0.0.1:9001 unencrypted"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text := openPolicy
			if test.policy != "" {
				text = test.policy
			}
			options := sound()
			test.change(&options)
			got := envoy.Warnings(load(t, text), options)
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %d", got, len(test.want))
			}
			for i := range got {
				if !strings.Contains(got[i], test.want[i]) {
					t.Errorf("got %q, want one with %q", got[i], test.want[i])
				}
			}
		})
	}
}
