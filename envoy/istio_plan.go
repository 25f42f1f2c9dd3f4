package envoy

import (
	"slices"
	"strconv"
	"strings"

	"bellhop/policy"
)

// meshPlan is the options of [Istio], read and found to be sound.
type meshPlan struct {
	processing
	options  IstioOptions
	labels   []label
	port     uint16  // 0: every port
	hosts    []place // gateway: by which clients reach the fan-out, without a port
	backends []backend
	service  place     // Bellhop's, but for a sidecar
	accounts []account // the fan-out's
	ingress  account   // gateway: the ingress gateway's
	egress   account   // gateway: the egress gateway's
	fanouts  []string  // mesh: the namespaces of the fan-outs
	release  release
	baggage  bool // a policy has its tickets in baggage
}

// The longest names that Kubernetes takes: of most resources, and of what has to be a label (RFC 1123).
const (
	longestName  = 253
	longestLabel = 63
)

// account is a service account of Kubernetes.
type account struct{ namespace, name string }

// principal is the account as the mesh's certificates name it.
func (p *meshPlan) principal(a account) string {
	return p.options.TrustDomain + "/ns/" + a.namespace + "/sa/" + a.name
}

// newMeshPlan reads the options, or returns all that is wrong with them.
func newMeshPlan(policies []*policy.Policy, options IstioOptions) (*meshPlan, error) {
	var f optionErrors
	f.unprintable(options.flags())
	made := &meshPlan{options: options}
	if !options.SetUp.known() {
		f.add(string(options.SetUp), "", "is no set-up", "write sidecar, central, mesh or gateway")
		return nil, f.join()
	}
	made.readPlaces(&f, options)
	made.readBackends(&f, options.Backends)
	made.readService(&f, policies)
	made.declared(&f, policies)
	made.readProcessing(&f, policies)
	return made, f.join()
}

func (p *meshPlan) readPlaces(f *optionErrors, options IstioOptions) {
	for _, one := range []flag{{"--namespace", options.Namespace}, {"--root-namespace", options.RootNamespace}} {
		if !validName(one.value) {
			f.add(one.name, one.value, "is no name of a namespace", "use lower case letters, digits and -")
		}
	}
	for _, text := range options.Workload {
		read, problem := parseLabel(text)
		if !f.addProblem("--workload", text, problem) {
			p.labels = append(p.labels, read)
		}
	}
	if options.Port != "" {
		number, err := strconv.ParseUint(options.Port, 10, 16)
		if err != nil || number == 0 {
			f.add("--port", options.Port, "is no port", "write a port from 1 to 65535")
		}
		p.port = uint16(number)
	}
	p.readHosts(f, options.Hosts)
}

// readHosts reads the hosts of the fan-out at the ingress gateway, which may be those of a wildcard.
func (p *meshPlan) readHosts(f *optionErrors, hosts []string) {
	gateway := p.options.SetUp == SetUpGateway
	if gateway && len(hosts) == 0 {
		f.add("--host", "", "is missing", "add --host mcp.example.com for each host that leads to the fan-out at the ingress gateway")
	}
	for _, host := range hosts {
		switch {
		case !gateway:
			f.add("--host", host, "is for the gateway set-up", "take it out")
		case host != "*" && !validHost(strings.TrimPrefix(host, "*.")):
			f.add("--host", host, "is not a DNS name", "write it as in the VirtualService, like mcp.example.com or *.example.com; a port has no place there")
		}
		p.hosts = append(p.hosts, place{host: host})
	}
}

// hostPort reads HOST:PORT where HOST has to be a name.
func hostPort(f *optionErrors, name, value, example string) place {
	if value == "" {
		f.add(name, "", "is missing", "add "+name+" "+example)
		return place{}
	}
	read, problem := parseEndpoint(value)
	switch {
	case f.addProblem(name, value, problem):
		return place{}
	case !read.isName():
		f.add(name, value, "is not a DNS name and a port", "write it like "+example)
		return place{}
	default:
		return read.place
	}
}

// readBackends reads the servers. Istio knows them by their whole names.
func (p *meshPlan) readBackends(f *optionErrors, values []string) {
	if len(values) == 0 {
		f.add("--backend", "", "is missing", "add --backend NAME=URL for each MCP server behind the fan-out")
	}
	for _, value := range values {
		name, text, ok := strings.Cut(value, "=")
		if !ok {
			f.add("--backend", value, "has no =", "write it like github=https://mcp.example.com/mcp")
			continue
		}
		read, problem := parseTarget(text)
		if f.addProblem("--backend", value, problem) {
			continue
		}
		if !read.ip.IsValid() && !strings.Contains(read.host, ".") {
			read.host += "." + p.options.Namespace + ".svc.cluster.local"
		}
		one := backend{target: read, name: name}
		p.checkBackend(f, value, one)
		p.backends = append(p.backends, one)
	}
}

func (p *meshPlan) checkBackend(f *optionErrors, value string, one backend) {
	switch {
	case !policy.ValidLabel(one.name):
		f.add("--backend", value, "has a name that cannot be used", "begin with a letter or digit; use at most 63 letters, digits, '.', '_' and '-'")
	case one.ip.IsValid():
		f.add("--backend", value, "is an IP address", "write the server's name: Istio finds routes by name")
	case strings.HasSuffix(one.host, ".svc"):
		f.add("--backend", value, "is not the whole name of a service", "write it like mcp-billing.tools.svc.cluster.local")
	case slices.ContainsFunc(p.backends, func(other backend) bool { return other.name == one.name }):
		f.add("--backend", value, "names "+one.name+" a second time", "keep one of the two, or give one another name")
	case slices.ContainsFunc(p.backends, func(other backend) bool {
		return other.host == one.host && (other.port == one.port || other.secure || one.secure)
	}):
		f.add("--backend", value, "is on the host and port of another backend", "Istio tells backends apart by host and port; give one of them a name of its own")
	case one.secure && slices.ContainsFunc(p.backends, func(other backend) bool { return other.secure && resourceName(other) == resourceName(one) }):
		f.add("--backend", value, "has the host of another backend, but for dots and dashes", "Kubernetes' names cannot tell them apart; put one of them behind another fan-out")
	case one.secure && len(resourceName(one)) > longestName:
		f.add("--backend", value, "has a host too long for a name in Kubernetes", "use a shorter one")
	case p.options.SetUp == SetUpGateway && len(subsetName(one)) > longestLabel:
		f.add("--backend", value, "has a host of more than 63 letters", "Istio leads nothing through a gateway by a name that long; use the sidecar or the central set-up")
	case p.options.SetUp == SetUpGateway && !one.secure:
		f.add("--backend", value, "is not https", "the egress gateway is for servers outside the mesh; use the sidecar or the central set-up for those inside")
	}
}

// declared finds backends that no policy knows.
func (p *meshPlan) declared(f *optionErrors, policies []*policy.Policy) {
	for _, b := range p.backends {
		knows := func(one *policy.Policy) bool {
			return one.Open() || slices.ContainsFunc(one.Backends(), func(d policy.Backend) bool { return d.Name == b.name })
		}
		if !slices.ContainsFunc(policies, knows) {
			f.add("--backend", b.name, "is not declared in the policy", "declare it under backends:, or use a declared name")
		}
	}
}

// readService reads where Bellhop is, and whom it is for.
func (p *meshPlan) readService(f *optionErrors, policies []*policy.Policy) {
	p.readAccounts(f)
	if p.options.SetUp == SetUpSidecar {
		return
	}
	p.service = hostPort(f, "--bellhop", p.options.Bellhop, DefaultBellhopService)
	if labels := strings.Split(p.service.host, "."); p.service.host != "" && (len(labels) < 3 || labels[2] != "svc") {
		f.add("--bellhop", p.options.Bellhop, "is not the whole name of a service", "write it like "+DefaultBellhopService)
	}
	if p.options.SetUp == SetUpMesh {
		p.namespaces(f, policies)
	}
}

func (p *meshPlan) readAccounts(f *optionErrors) {
	switch wanted := p.options.SetUp == SetUpCentral || p.options.SetUp == SetUpGateway; {
	case wanted && len(p.options.Accounts) == 0:
		f.add("--account", "", "is missing", "add --account NAMESPACE/NAME, the service account of the fan-out's pods: others could redeem tickets")
	case !wanted && len(p.options.Accounts) > 0:
		f.add("--account", strings.Join(p.options.Accounts, " "), "has no use in this set-up", "take it out")
	}
	for _, text := range p.options.Accounts {
		p.accounts = append(p.accounts, readAccount(f, "--account", text, "default/vmcp"))
	}
	gateways := []struct {
		flag, text, example string
		into                *account
	}{
		{"--ingress-account", p.options.IngressAccount, DefaultRootNamespace + "/" + DefaultIngressAccount, &p.ingress},
		{"--egress-account", p.options.EgressAccount, DefaultRootNamespace + "/" + DefaultEgressAccount, &p.egress},
	}
	for _, one := range gateways {
		if p.options.SetUp == SetUpGateway {
			*one.into = readAccount(f, one.flag, one.text, one.example)
		} else if one.text != "" {
			f.add(one.flag, one.text, "is for the gateway set-up", "take it out")
		}
	}
}

func readAccount(f *optionErrors, flag, text, example string) account {
	namespace, name, _ := strings.Cut(text, "/")
	if !validName(namespace) || !validName(name) {
		f.add(flag, text, "is not a namespace and a service account", "write it like "+example)
	}
	return account{namespace, name}
}

// namespaces wants a fan-out in each policy: mesh-wide, a fan-out is the namespace that it is in.
func (p *meshPlan) namespaces(f *optionErrors, policies []*policy.Policy) {
	for i, one := range policies {
		switch file := p.file(i); {
		case one.Fanout() == "":
			f.add("--policy", file, "has no fanout", "write fanout: NAMESPACE, the namespace of the fan-out")
		case !validName(one.Fanout()):
			f.add("--policy", file, "has the fanout "+one.Fanout()+", which is no namespace", "write fanout: NAMESPACE, the namespace of the fan-out")
		}
		p.fanouts = append(p.fanouts, one.Fanout())
	}
}

func (p *meshPlan) file(i int) string {
	if i < len(p.options.PolicyFiles) {
		return p.options.PolicyFiles[i]
	}
	return ""
}

func (p *meshPlan) readProcessing(f *optionErrors, policies []*policy.Policy) {
	read, problem := parseRelease(p.options.ProxyVersion)
	f.addProblem("--proxy-version", p.options.ProxyVersion, problem)
	p.release = read
	common := FilterOptions{ReadMCP: p.options.ReadMCP, FailOpen: p.options.FailOpen}
	if p.options.SetUp == SetUpSidecar {
		common.Bellhop = []string{p.options.Bellhop}
	}
	p.processing = newProcessing(f, common, policies...)
	p.baggage = slices.ContainsFunc(policies, func(one *policy.Policy) bool { return one.Uses(policy.CarrierBaggage) })
	switch {
	case p.options.SetUp != SetUpSidecar:
		p.cluster, p.authority = outbound(p.service), p.service.String()
	case len(p.bellhop) == 1 && !p.bellhop[0].isPipe():
		f.add("--bellhop", p.options.Bellhop, "is not a Unix socket", "beside the fan-out, write unix:///PATH")
	}
	if p.options.SetUp == SetUpMesh {
		// The proxy's own environment, which the injection sets and no request can change.
		p.fanoutName = "%ENVIRONMENT(POD_NAMESPACE)%"
	}
	p.reading(f)
}

// reading leaves out what older proxies do not know: the filter that reads MCP.
func (p *meshPlan) reading(f *optionErrors) {
	if p.release >= readingRelease || p.release == 0 {
		return
	}
	if p.options.ReadMCP {
		f.add("--read-mcp", "", "needs proxies of Istio 1.31 or newer", "take it out, or say --proxy-version 1.31 once all proxies are new")
	}
	p.readMCP = false
}

// outbound is Istio's name of the cluster of a service.
func outbound(p place) string { return "outbound|" + strconv.Itoa(int(p.port)) + "||" + p.host }

// origin is how a proxy in the mesh is asked for a server outside: in the clear, on port 80.
func origin(b backend) place {
	if !b.secure {
		return b.place
	}
	return place{host: b.host, port: 80}
}
