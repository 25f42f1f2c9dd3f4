package envoy

import (
	"slices"
	"strings"

	"bellhop/policy"
)

// processing is what the filters of both roles have in common: where Bellhop is, and what they have to allow it.
type processing struct {
	cluster   string // of Bellhop
	authority string // by which Bellhop is asked
	bellhop   []endpoint
	identity  *identity // nil: Bellhop is spoken to in the clear, or something else takes care of that

	fanoutName string // empty: the filters name none
	atIngress  policy.Footprint
	atEgress   policy.Footprint
	sessions   bool // Bellhop keeps headers for sessions
	responses  bool // Bellhop may ask for the headers of a response
	failOpen   bool
	readMCP    bool
}

// identity is the files with which Envoy and Bellhop know one another.
type identity struct{ ca, cert, key string }

// newProcessing reads what all forms have in common. The filters allow what any of the policies needs.
func newProcessing(f *optionErrors, options FilterOptions, policies ...*policy.Policy) processing {
	made := processing{cluster: bellhopCluster, authority: bellhopCluster, failOpen: options.FailOpen, readMCP: options.ReadMCP}
	made.readBellhop(f, options)
	for _, p := range policies {
		made.allow(p)
		made.openWithIdentity(f, p)
	}
	if len(policies) == 1 {
		made.fanoutName = policies[0].Fanout()
	}
	return made
}

// allow adds what a policy needs.
func (p *processing) allow(one *policy.Policy) {
	p.atIngress = union(p.atIngress, one.IngressFootprint())
	p.atEgress = union(p.atEgress, one.EgressFootprint())
	p.sessions = p.sessions || one.KeepsSessions()
	p.responses = p.responses || one.KeepsSessions() || one.Explains()
	p.readMCP = p.readMCP || one.NeedsOperation()
}

func union(a, b policy.Footprint) policy.Footprint {
	return policy.Footprint{Reads: appendNew(a.Reads, b.Reads), ReadsAll: a.ReadsAll || b.ReadsAll, Writes: appendNew(a.Writes, b.Writes)}
}

func appendNew(names, more []string) []string {
	for _, name := range more {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (p *processing) readBellhop(f *optionErrors, options FilterOptions) {
	p.readIdentity(f, options)
	for i, value := range options.Bellhop {
		read, problem := parseEndpoint(value)
		if f.addProblem("--bellhop", value, problem) {
			continue
		}
		switch {
		case slices.Contains(options.Bellhop[:i], value):
			f.add("--bellhop", value, "stands twice", "keep one of the two")
		case read.pipe != "" && p.identity != nil:
			f.add("--bellhop", value, "is a Unix socket, which has no TLS", "take out the --bellhop-ca, --bellhop-cert and --bellhop-key, or give HOST:PORT")
		case read.pipe == "" && !read.loopback() && p.identity == nil:
			f.add("--bellhop", value, "is beyond this machine, where Bellhop demands mutual TLS",
				"add --bellhop-ca, --bellhop-cert and --bellhop-key, or use a Unix socket")
		}
		p.bellhop = append(p.bellhop, read)
	}
	if slices.ContainsFunc(p.bellhop, endpoint.isPipe) && slices.ContainsFunc(p.bellhop, endpoint.isName) {
		f.add("--bellhop", strings.Join(options.Bellhop, " "), "mixes a Unix socket and a DNS name, which no Envoy cluster can", "use only one kind, or write the IP address")
	}
}

func (e endpoint) isPipe() bool { return e.pipe != "" }
func (e endpoint) isName() bool { return e.pipe == "" && !e.ip.IsValid() }

// replicated reports whether there may be more than one Bellhop: one name can stand for many addresses.
func (p *processing) replicated() bool {
	return len(p.bellhop) > 1 || slices.ContainsFunc(p.bellhop, endpoint.isName)
}

func (p *processing) readIdentity(f *optionErrors, options FilterOptions) {
	files := identity{ca: options.BellhopCA, cert: options.BellhopCert, key: options.BellhopKey}
	if files == (identity{}) {
		return
	}
	p.identity = &files
	for _, file := range []flag{{"--bellhop-ca", files.ca}, {"--bellhop-cert", files.cert}, {"--bellhop-key", files.key}} {
		if file.value == "" {
			f.add(file.name, "", "is missing", "mutual TLS needs all three of --bellhop-ca, --bellhop-cert and --bellhop-key")
		}
	}
}

// openWithIdentity refuses to fail open where a backend has a discovery identity: a client's request that passes the
// ingress unprocessed has no ticket, and at the egress would be taken for one that no client caused.
func (p *processing) openWithIdentity(f *optionErrors, one *policy.Policy) {
	for _, declared := range one.Backends() {
		if p.failOpen && len(declared.Discovery) > 0 {
			f.add("--fail-open", "", "backend "+declared.Name+" has a discovery identity, which clients' requests would be given while Bellhop is slow or down",
				"leave --fail-open out, or take the discovery identity out of the policy")
		}
	}
}
