package envoy

// The defaults of [BootstrapOptions].
const (
	DefaultBellhop   = "unix:///run/bellhop/bellhop.sock"
	DefaultTrustedCA = "/etc/ssl/certs/ca-certificates.crt"
)

// FilterOptions are the flags of "bellhop envoy filters", which the other forms have too.
type FilterOptions struct {
	PolicyFile string   // --policy: where the policy was read from; only for the comment at the top
	Bellhop    []string // --bellhop: unix:///PATH or HOST:PORT, one for each replica; none: DefaultBellhop
	ReadMCP    bool     // --read-mcp: Envoy reads the method and the tool from the body; always where the policy has rules for tools or discovery identities
	FailOpen   bool     // --fail-open: requests pass unprocessed while Bellhop is down

	// Mutual TLS towards Bellhop, files on Envoy's machine: all three or none. Needed beyond loopback.
	BellhopCA   string // --bellhop-ca
	BellhopCert string // --bellhop-cert
	BellhopKey  string // --bellhop-key
}

func (o FilterOptions) withDefaults() FilterOptions {
	if len(o.Bellhop) == 0 {
		o.Bellhop = []string{DefaultBellhop}
	}
	return o
}

func (o FilterOptions) flags() []flag {
	var all flags
	all.add("--policy", o.PolicyFile)
	all.addProcessing(o)
	return all
}

// BootstrapOptions are the flags of "bellhop envoy bootstrap", as they are written on its command line.
type BootstrapOptions struct {
	FilterOptions
	Ingress   string   // --ingress: IP:PORT on which Envoy listens for clients
	Fanout    string   // --fanout: URL of the fan-out, without a path
	Egress    string   // --egress: IP:PORT on which Envoy listens for the fan-out
	Backends  []string // --backend: NAME=URL, one for each MCP server
	Admin     string   // --envoy-admin: IP:PORT of Envoy's own admin page; empty: none
	TrustedCA string   // --trusted-ca: the CA file, on Envoy's machine, for https; empty: DefaultTrustedCA
}

// withDefaults fills in what was left out.
func (o BootstrapOptions) withDefaults() BootstrapOptions {
	o.FilterOptions = o.FilterOptions.withDefaults()
	if o.TrustedCA == "" {
		o.TrustedCA = DefaultTrustedCA
	}
	return o
}

// flag is one flag with its value.
type flag struct{ name, value string }

// flags is what was given, in the order in which the documentation shows it.
type flags []flag

// add adds a flag with each of the values that is there.
func (f *flags) add(name string, values ...string) {
	for _, value := range values {
		if value != "" {
			*f = append(*f, flag{name, value})
		}
	}
}

func (f *flags) addIf(given bool, name string) {
	if given {
		*f = append(*f, flag{name: name})
	}
}

// addProcessing adds the flags that all forms have, but for the policy's.
func (f *flags) addProcessing(o FilterOptions) {
	f.add("--bellhop", o.Bellhop...)
	f.add("--bellhop-ca", o.BellhopCA)
	f.add("--bellhop-cert", o.BellhopCert)
	f.add("--bellhop-key", o.BellhopKey)
	f.addIf(o.ReadMCP, "--read-mcp")
	f.addIf(o.FailOpen, "--fail-open")
}

func (o BootstrapOptions) flags() []flag {
	var all flags
	all.add("--policy", o.PolicyFile)
	all.add("--ingress", o.Ingress)
	all.add("--fanout", o.Fanout)
	all.add("--egress", o.Egress)
	all.add("--backend", o.Backends...)
	all.add("--envoy-admin", o.Admin)
	if o.TrustedCA != DefaultTrustedCA {
		all.add("--trusted-ca", o.TrustedCA)
	}
	all.addProcessing(o.FilterOptions)
	return all
}
