package envoy

import (
	"slices"
	"strings"

	"bellhop/policy"
)

// Processing is what the filters of both roles have in common: where Bellhop is, and what they have to allow it.
type Processing struct {
	Cluster   string // of Bellhop
	Authority string // of the requests to Bellhop
	Bellhop   []Endpoint
	identity  *identity // nil: no TLS, or TLS is handled elsewhere (Istio)

	FanoutName string // empty: the filters name none
	atIngress  policy.Footprint
	atEgress   policy.Footprint
	sessions   bool // Bellhop keeps headers for sessions
	responses  bool // Bellhop may ask for the headers of a response
	FailOpen   bool
	policies   []*policy.Policy
	// ReadsAtIngress says that Bellhop reads the body of a request that it refuses, for the ID in the error. That needs a
	// virtual host with a body limit of its own.
	ReadsAtIngress bool
	readsAtEgress  bool // Bellhop may have to read bodies to know what requests to a backend ask for
}

// identity is the files with which Envoy and Bellhop know one another.
type identity struct{ ca, cert, key string }

// NewProcessing reads what all forms have in common. The filters allow what any of the policies needs.
func NewProcessing(f *OptionErrors, options FilterOptions, policies ...*policy.Policy) Processing {
	made := Processing{
		Cluster:   bellhopCluster,
		Authority: bellhopCluster,
		FailOpen:  options.FailOpen,
	}
	made.readBellhop(f, options)
	for _, p := range policies {
		made.allow(p)
		made.openWithIdentity(f, p)
	}
	if len(policies) == 1 {
		made.FanoutName = policies[0].Fanout()
	}
	return made
}

// allow adds what a policy needs.
func (p *Processing) allow(one *policy.Policy) {
	p.atIngress = union(p.atIngress, one.IngressFootprint())
	p.atEgress = union(p.atEgress, one.EgressFootprint())
	p.sessions = p.sessions || one.TracksSessions()
	p.responses = p.responses || one.TracksSessions() || one.Explains()
	p.policies = append(p.policies, one)
	p.readsAtEgress = p.readsAtEgress || one.ReadsBodies()
}

func union(a, b policy.Footprint) policy.Footprint {
	return policy.Footprint{
		Reads:    appendNew(a.Reads, b.Reads),
		ReadsAll: a.ReadsAll || b.ReadsAll,
		Writes:   appendNew(a.Writes, b.Writes),
	}
}

func appendNew(names, more []string) []string {
	for _, name := range more {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (p *Processing) readBellhop(f *OptionErrors, options FilterOptions) {
	p.readIdentity(f, options)
	for i, value := range options.Bellhop {
		read, problem := ParseEndpoint(value)
		if f.AddProblem("--bellhop", value, problem) {
			continue
		}
		switch {
		case slices.Contains(options.Bellhop[:i], value):
			f.Add("--bellhop", value, "is listed twice", "keep one of the two")
		case read.pipe != "" && p.identity != nil:
			f.Add(
				"--bellhop", value, "is a Unix socket, which has no TLS",
				"take out the --bellhop-ca, --bellhop-cert and --bellhop-key, or give HOST:PORT",
			)
		case read.pipe == "" && !read.loopback() && p.identity == nil:
			f.Add("--bellhop", value, "is beyond this machine, where Bellhop demands mutual TLS",
				"add --bellhop-ca, --bellhop-cert and --bellhop-key, or use a Unix socket")
		}
		p.Bellhop = append(p.Bellhop, read)
	}
	if slices.ContainsFunc(p.Bellhop, Endpoint.IsPipe) && slices.ContainsFunc(p.Bellhop, Endpoint.IsName) {
		f.Add(
			"--bellhop", strings.Join(options.Bellhop, " "),
			"mixes a Unix socket and a DNS name, which no Envoy cluster can", "use only one kind, or write the IP address",
		)
	}
}

// IsPipe reports whether it is a Unix socket.
func (e Endpoint) IsPipe() bool { return e.pipe != "" }

// IsName reports whether it is a DNS name, which can stand for several addresses.
func (e Endpoint) IsName() bool { return e.pipe == "" && !e.IP.IsValid() }

// replicated reports whether there may be more than one Bellhop: one name can stand for many addresses.
func (p *Processing) replicated() bool {
	return len(p.Bellhop) > 1 || slices.ContainsFunc(p.Bellhop, Endpoint.IsName)
}

func (p *Processing) readIdentity(f *OptionErrors, options FilterOptions) {
	files := identity{ca: options.BellhopCA, cert: options.BellhopCert, key: options.BellhopKey}
	if files == (identity{}) {
		return
	}
	p.identity = &files
	for _, file := range []Flag{{"--bellhop-ca", files.ca}, {"--bellhop-cert", files.cert}, {"--bellhop-key", files.key}} {
		if file.Value == "" {
			f.Add(file.Name, "", "is missing", "mutual TLS needs all three of --bellhop-ca, --bellhop-cert and --bellhop-key")
		}
	}
}

// openWithIdentity refuses to fail open where a backend has a discovery identity: a client's request that passes the
// ingress unprocessed has no ticket, and at the egress would be taken for one that no client caused.
func (p *Processing) openWithIdentity(f *OptionErrors, one *policy.Policy) {
	for _, declared := range one.Backends() {
		if p.FailOpen && len(declared.Discovery) > 0 {
			f.Add(
				"--fail-open",
				"",
				"backend "+declared.Name+" has a discovery identity, which clients' requests would be given while Bellhop is "+
					"slow or down",
				"leave --fail-open out, or take the discovery identity out of the policy",
			)
		}
	}
}
