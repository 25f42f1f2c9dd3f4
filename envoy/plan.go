package envoy

import (
	"net/netip"
	"slices"
	"strings"

	"bellhop/policy"
)

// The names of the clusters that are not backends.
const (
	bellhopCluster = "bellhop"
	fanoutCluster  = "fanout"
)

// plan is the options, read and found to be sound.
type plan struct {
	Processing
	policy    *policy.Policy
	ingress   netip.AddrPort
	egress    netip.AddrPort
	admin     netip.AddrPort // not valid: none
	fanout    Target
	backends  []Backend
	trustedCA string

	ingressNames []string // beside those of loopback
	egressNames  []string
	origins      []Target // of web pages that may use the ingress
	elsewhere    []Target // origins to which the fan-out may send clients
	fanoutHost   string
}

// Backend is one MCP server behind the fan-out.
type Backend struct {
	Target
	Name    string
	cluster string
}

// Base is the path of the backend's own, without a slash at its end: it and what is below it are the backend.
func (b Backend) Base() string { return strings.TrimSuffix(b.Path, "/") }

// sameServer reports whether two backends are on one host and port.
func (b Backend) sameServer(other Backend) bool {
	return b.Port == other.Port && (b.Place == other.Place || b.loopback() && other.loopback())
}

// contains reports whether another backend is below this one on the same server.
func (b Backend) contains(other Backend) bool {
	return b.sameServer(other) && strings.HasPrefix(other.Base(), b.Base()+"/")
}

// newPlan reads the options, or returns all that is wrong with them.
func newPlan(p *policy.Policy, options BootstrapOptions) (*plan, error) {
	var f OptionErrors
	f.Unprintable(options.flags())
	made := &plan{policy: p, trustedCA: options.TrustedCA, Processing: NewProcessing(&f, options.FilterOptions, p)}
	made.ReadsAtIngress = true
	made.listeners(&f, options)
	made.readFanout(&f, options.Fanout)
	made.readBackends(&f, options.Backends)
	made.distinctClusters(&f)
	made.distinctServers(&f)
	made.loops(&f, options)
	made.doors(&f, options)
	return made, f.Join()
}

// Unprintable reports the flags whose values cannot stand in a message or a comment.
func (f *OptionErrors) Unprintable(flags []Flag) {
	for _, flag := range flags {
		if !printable(flag.Value) {
			f.Add(flag.Name, "", "contains a control character, or is not UTF-8", "write it again, by hand")
		}
	}
}

func (p *plan) listeners(f *OptionErrors, options BootstrapOptions) {
	p.ingress = f.listen("--ingress", options.Ingress, "127.0.0.1:8080")
	p.egress = f.listen("--egress", options.Egress, "127.0.0.1:8081")
	if options.Admin != "" {
		p.admin = f.listen("--envoy-admin", options.Admin, "")
	}
	const hint = "give it another port"
	if p.ingress.IsValid() && overlap(p.ingress, p.egress) {
		f.Add("--egress", options.Egress, "is taken by --ingress "+options.Ingress, hint)
	}
	for _, other := range []netip.AddrPort{p.ingress, p.egress} {
		if p.admin.IsValid() && overlap(p.admin, other) {
			f.Add("--envoy-admin", options.Admin, "is taken by another listener, "+other.String(), hint)
		}
	}
}

func (f *OptionErrors) listen(name, value, example string) netip.AddrPort {
	if value == "" {
		f.Add(name, "", "is missing", "add "+name+" "+example)
		return netip.AddrPort{}
	}
	address, problem := parseListen(value)
	f.AddProblem(name, value, problem)
	return address
}

func (p *plan) readFanout(f *OptionErrors, value string) {
	if value == "" {
		f.Add("--fanout", "", "is missing", "add --fanout http://127.0.0.1:4483")
		return
	}
	read, problem := ParseTarget(value)
	if f.AddProblem("--fanout", value, problem) {
		return
	}
	if read.Path != "" {
		f.Add("--fanout", value, "has a path", "take the path out; a client's own path goes through as it is")
	}
	p.fanout = read
}

func (p *plan) readBackends(f *OptionErrors, values []string) {
	if len(values) == 0 {
		f.Add("--backend", "", "is missing", "add --backend NAME=URL for each MCP server behind the fan-out")
	}
	for _, value := range values {
		name, text, ok := strings.Cut(value, "=")
		if !ok {
			f.Add("--backend", value, "has no =", "write it like a=http://127.0.0.1:9001/mcp")
			continue
		}
		read, problem := ParseTarget(text)
		if problem == nil {
			problem = read.OddPath()
		}
		if f.AddProblem("--backend", value, problem) || p.badName(f, value, name) {
			continue
		}
		p.backends = append(p.backends, Backend{Target: read, Name: name, cluster: p.clusterOf(name)})
	}
}

// badName reports a name that cannot be a backend's, or that the policy does not know.
func (p *plan) badName(f *OptionErrors, value, name string) bool {
	declared := p.policy.Backends()
	known := slices.ContainsFunc(declared, func(b policy.Backend) bool { return b.Name == name })
	switch {
	case !policy.ValidLabel(name):
		f.Add(
			"--backend", value, "has a name that cannot be used",
			"begin with a letter or digit; use at most 63 letters, digits, '.', '_' and '-'",
		)
	case slices.ContainsFunc(p.backends, func(b Backend) bool { return b.Name == name }):
		f.Add("--backend", value, "names "+name+" a second time", "keep one of the two, or give one another name")
	case !p.policy.Open() && !known:
		f.Add(
			"--backend", value, "is not declared in the policy",
			"declare it under backends:, or use a declared name ("+names(declared)+")",
		)
	default:
		return false
	}
	return true
}

func names(backends []policy.Backend) string {
	all := make([]string, len(backends))
	for i, b := range backends {
		all[i] = b.Name
	}
	return strings.Join(all, ", ")
}

// clusterOf names the cluster of a backend so that the policy knows it too: xds.cluster_name, from which Bellhop
// would read the backend where a route does not name it, then says the same as the route.
func (p *plan) clusterOf(name string) string {
	for _, declared := range p.policy.Backends() {
		if declared.Name == name && len(declared.Clusters) > 0 {
			return declared.Clusters[0]
		}
	}
	return "backend_" + name
}

// distinctClusters finds a cluster name from the policy that cannot be used here.
func (p *plan) distinctClusters(f *OptionErrors) {
	taken := map[string]string{bellhopCluster: "Bellhop itself", fanoutCluster: "the fan-out"}
	for _, b := range p.backends {
		flag := "--backend " + b.Name
		hint := "put another name first in backends." + b.Name + ".clusters of the policy"
		if !printable(b.cluster) {
			f.Add(flag, "", "the policy's name for its cluster contains a control character, or is not UTF-8", hint)
		} else if owner, ok := taken[b.cluster]; ok {
			f.Add(flag, "", "its cluster would be called "+b.cluster+", as that of "+owner, hint)
		}
		taken[b.cluster] = "backend " + b.Name
	}
}

// distinctServers finds two names for one backend: a request for it could have the headers of either.
func (p *plan) distinctServers(f *OptionErrors) {
	for i, b := range p.backends {
		for _, other := range p.backends[:i] {
			if b.sameServer(other) && b.Base() == other.Base() {
				f.Add(
					"--backend "+b.Name, "", "is the same server and path as backend "+other.Name,
					"keep one of the two, or give each its own path",
				)
			}
		}
	}
}

// doors reads who may speak to the listeners, and by which names.
func (p *plan) doors(f *OptionErrors, options BootstrapOptions) {
	p.ingressNames = f.names("--ingress-host", p.ingress, options.IngressHosts)
	p.egressNames = f.names("--egress-host", p.egress, options.EgressHosts)
	p.origins = f.readOrigins("--ingress-origin", options.IngressOrigins)
	p.elsewhere = f.readOrigins("--ingress-redirect", options.IngressRedirect)
	p.fanoutHost = options.FanoutHost
	switch p.fanoutHost {
	case HostAuto, HostKeep, HostRewrite:
	default:
		f.Add("--fanout-host", options.FanoutHost, "is not known", "write auto, keep or rewrite")
	}
}

// keepsHost reports whether the fan-out gets the Host that the client sent to one of the loopback names, or to another.
func (p *plan) keepsHost(loopback bool) bool {
	return p.fanoutHost == HostKeep || p.fanoutHost == HostAuto && loopback && p.fanout.loopback() && !p.fanout.Secure
}

// loops finds a server that is one of Envoy's own listeners: each request would come back for ever.
func (p *plan) loops(f *OptionErrors, options BootstrapOptions) {
	check := func(flag, value string, t Target) {
		for _, own := range []netip.AddrPort{p.ingress, p.egress} {
			here := own.Addr() == t.IP || (own.Addr().IsUnspecified() || own.Addr().IsLoopback()) && t.loopback()
			if own.IsValid() && own.Port() == t.Port && here {
				f.Add(flag, value, "is a listener of this Envoy", "write the address of the server itself")
			}
		}
	}
	check("--fanout", options.Fanout, p.fanout)
	for _, b := range p.backends {
		check("--backend", b.Name, b.Target)
	}
}
