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

func (o FilterOptions) flags() []Flag {
	var all Flags
	all.Add("--policy", o.PolicyFile)
	all.addProcessing(o)
	return all
}

// BootstrapOptions are the flags of "bellhop envoy bootstrap", as they are written on its command line.
type BootstrapOptions struct {
	FilterOptions
	Ingress  string   // --ingress: IP:PORT on which Envoy listens for clients
	Fanout   string   // --fanout: URL of the fan-out, without a path
	Egress   string   // --egress: IP:PORT on which Envoy listens for the fan-out
	Backends []string // --backend: NAME=URL, one for each MCP server
	Admin    string   // --envoy-admin: IP:PORT of Envoy's own admin page; empty: none

	IngressHosts    []string // --ingress-host: names by which clients call the ingress, beside those of loopback
	EgressHosts     []string // --egress-host: names by which the fan-out calls the egress, beside those of loopback
	IngressOrigins  []string // --ingress-origin: origins of web pages that may use the ingress
	IngressRedirect []string // --ingress-redirect: origins to which the fan-out may send clients
	FanoutHost      string   // --fanout-host: which Host the fan-out gets: HostAuto, HostKeep or HostRewrite
	TrustedCA       string   // --trusted-ca: the CA file, on Envoy's machine, for https; empty: DefaultTrustedCA
}

// The values of --fanout-host.
const (
	HostAuto    = "auto"    // the client's where both the client's and the fan-out's are names of loopback
	HostKeep    = "keep"    // the client's
	HostRewrite = "rewrite" // that of --fanout
)

// withDefaults fills in what was left out.
func (o BootstrapOptions) withDefaults() BootstrapOptions {
	o.FilterOptions = o.FilterOptions.withDefaults()
	if o.FanoutHost == "" {
		o.FanoutHost = HostAuto
	}
	if o.TrustedCA == "" {
		o.TrustedCA = DefaultTrustedCA
	}
	return o
}

// Flag is one flag with its value.
type Flag struct{ Name, Value string }

// Flags is what was given, in the order in which the documentation shows it.
type Flags []Flag

// Add adds a flag with each of the values that is there.
func (f *Flags) Add(name string, values ...string) {
	for _, value := range values {
		if value != "" {
			*f = append(*f, Flag{name, value})
		}
	}
}

// AddIf adds a flag without a value, if it was given.
func (f *Flags) AddIf(given bool, name string) {
	if given {
		*f = append(*f, Flag{Name: name})
	}
}

// addProcessing adds the flags that all forms have, but for the policy's.
func (f *Flags) addProcessing(o FilterOptions) {
	f.Add("--bellhop", o.Bellhop...)
	f.Add("--bellhop-ca", o.BellhopCA)
	f.Add("--bellhop-cert", o.BellhopCert)
	f.Add("--bellhop-key", o.BellhopKey)
	f.AddIf(o.FailOpen, "--fail-open")
}

func (o BootstrapOptions) flags() []Flag {
	var all Flags
	all.Add("--policy", o.PolicyFile)
	all.Add("--ingress", o.Ingress)
	all.Add("--ingress-host", o.IngressHosts...)
	all.Add("--ingress-origin", o.IngressOrigins...)
	all.Add("--ingress-redirect", o.IngressRedirect...)
	all.Add("--fanout", o.Fanout)
	if o.FanoutHost != HostAuto {
		all.Add("--fanout-host", o.FanoutHost)
	}
	all.Add("--egress", o.Egress)
	all.Add("--egress-host", o.EgressHosts...)
	all.Add("--backend", o.Backends...)
	all.Add("--envoy-admin", o.Admin)
	if o.TrustedCA != DefaultTrustedCA {
		all.Add("--trusted-ca", o.TrustedCA)
	}
	all.addProcessing(o.FilterOptions)
	return all
}
