package envoy

// The defaults of [BootstrapOptions].
const (
	DefaultBellhop   = "unix:///run/bellhop/bellhop.sock"
	DefaultTrustedCA = "/etc/ssl/certs/ca-certificates.crt"
)

// BootstrapOptions are the flags of "bellhop envoy bootstrap", as they are written on its command line.
type BootstrapOptions struct {
	PolicyFile string   // --policy: where the policy was read from; only for the comment at the top
	Ingress    string   // --ingress: IP:PORT on which Envoy listens for clients
	Fanout     string   // --fanout: URL of the fan-out, without a path
	Egress     string   // --egress: IP:PORT on which Envoy listens for the fan-out
	Backends   []string // --backend: NAME=URL, one for each MCP server
	Bellhop    []string // --bellhop: unix:///PATH or HOST:PORT, one for each replica; none: DefaultBellhop
	Admin      string   // --envoy-admin: IP:PORT of Envoy's own admin page; empty: none
	ReadMCP    bool     // --read-mcp: Envoy reads the method and the tool from the body; always where the policy has rules for tools
	FailOpen   bool     // --fail-open: requests pass unprocessed while Bellhop is down
	TrustedCA  string   // --trusted-ca: the CA file, on Envoy's machine, for https; empty: DefaultTrustedCA

	// Mutual TLS towards Bellhop, files on Envoy's machine: all three or none. Needed beyond loopback.
	BellhopCA   string // --bellhop-ca
	BellhopCert string // --bellhop-cert
	BellhopKey  string // --bellhop-key
}

// withDefaults fills in what was left out.
func (o BootstrapOptions) withDefaults() BootstrapOptions {
	if len(o.Bellhop) == 0 {
		o.Bellhop = []string{DefaultBellhop}
	}
	if o.TrustedCA == "" {
		o.TrustedCA = DefaultTrustedCA
	}
	return o
}

// flag is one flag with its value.
type flag struct{ name, value string }

// flags lists what was given, in the order in which the documentation shows it.
func (o BootstrapOptions) flags() []flag {
	var all []flag
	add := func(name string, values ...string) {
		for _, value := range values {
			if value != "" {
				all = append(all, flag{name, value})
			}
		}
	}
	add("--policy", o.PolicyFile)
	add("--ingress", o.Ingress)
	add("--fanout", o.Fanout)
	add("--egress", o.Egress)
	add("--backend", o.Backends...)
	add("--bellhop", o.Bellhop...)
	add("--bellhop-ca", o.BellhopCA)
	add("--bellhop-cert", o.BellhopCert)
	add("--bellhop-key", o.BellhopKey)
	add("--envoy-admin", o.Admin)
	if o.TrustedCA != DefaultTrustedCA {
		add("--trusted-ca", o.TrustedCA)
	}
	if o.ReadMCP {
		all = append(all, flag{name: "--read-mcp"})
	}
	if o.FailOpen {
		all = append(all, flag{name: "--fail-open"})
	}
	return all
}
