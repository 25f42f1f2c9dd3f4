package istio

import (
	"slices"
	"strconv"
	"strings"

	"bellhop/envoy"
	"bellhop/policy"
)

// plan is the options of [Manifests], read and found to be sound.
type plan struct {
	envoy.
		Processing
	options  Options
	labels   []label
	port     uint16        // 0: every port
	hosts    []envoy.Place // gateway: by which clients reach the fan-out, without a port
	backends []envoy.Backend
	service  envoy.Place // Bellhop's, but for a sidecar
	accounts []account   // the fan-out's
	ingress  gateway     // gateway: between clients and the fan-out
	egress   gateway     // gateway: between the fan-out and its backends
	fanouts  []string    // mesh: the namespaces of the fan-outs
	release  release
	baggage  bool // a policy has its tickets in baggage
}

// longestLabel is the longest name that Kubernetes takes of what has to be a label (RFC 1123).
const longestLabel = 63

// account is a service account of Kubernetes.
type account struct{ namespace, name string }

// gateway is one of Istio's gateways: whom the mesh's certificates name, and where its filters go.
type gateway struct {
	account
	labels  []label // of its pods
	target  string  // the name of a Gateway of the Gateway API, in place of labels; empty: none
	service string  // egress: its whole name
}

// principal is the account as the mesh's certificates name it.
func (p *plan) principal(a account) string {
	return p.options.TrustDomain + "/ns/" + a.namespace + "/sa/" + a.name
}

// newPlan reads the options, or returns all that is wrong with them.
func newPlan(policies []*policy.Policy, options Options) (*plan, error) {
	var f envoy.OptionErrors
	f.Unprintable(options.flags())
	made := &plan{options: options}
	if !options.SetUp.known() {
		f.Add(string(options.SetUp), "", "is no set-up", "write sidecar, central, mesh or gateway")
		return nil, f.Join()
	}
	made.readPlaces(&f, options)
	made.readBackends(&f, options.Backends)
	made.readService(&f, policies)
	made.declared(&f, policies)
	made.readProcessing(&f, policies)
	return made, f.Join()
}

func (p *plan) readPlaces(f *envoy.OptionErrors, options Options) {
	for _, one := range []envoy.Flag{
		{Name: "--namespace", Value: options.Namespace}, {Name: "--root-namespace", Value: options.RootNamespace},
	} {
		if !validName(one.Value) {
			f.Add(one.Name, one.Value, "is no name of a namespace", "use lower case letters, digits and -")
		}
	}
	p.labels = readLabels(f, "--workload", options.Workload)
	if options.Port != "" {
		number, err := strconv.ParseUint(options.Port, 10, 16)
		if err != nil || number == 0 {
			f.Add("--port", options.Port, "is no port", "write a port from 1 to 65535")
		}
		p.port = uint16(number)
	}
	p.readHosts(f, options.Hosts)
}

// readHosts reads the hosts of the fan-out at the ingress gateway, which may be those of a wildcard.
func (p *plan) readHosts(f *envoy.OptionErrors, hosts []string) {
	gateway := p.options.SetUp == Gateway
	if gateway && len(hosts) == 0 {
		f.Add(
			"--host", "", "is missing",
			"add --host mcp.example.com for each host that leads to the fan-out at the ingress gateway",
		)
	}
	for _, host := range hosts {
		switch {
		case !gateway:
			f.Add("--host", host, "is for the gateway set-up", "take it out")
		case host != "*" && !envoy.ValidHost(strings.TrimPrefix(host, "*.")):
			f.Add(
				"--host", host, "is not a DNS name",
				"write it as in the VirtualService, like mcp.example.com or *.example.com; a port has no place there",
			)
		}
		p.hosts = append(p.hosts, envoy.Place{Host: host})
	}
}

// hostPort reads HOST:PORT where HOST has to be a name.
func hostPort(f *envoy.OptionErrors, name, value, example string) envoy.Place {
	if value == "" {
		f.Add(name, "", "is missing", "add "+name+" "+example)
		return envoy.Place{}
	}
	read, problem := envoy.ParseEndpoint(value)
	switch {
	case f.AddProblem(name, value, problem):
		return envoy.Place{}
	case !read.IsName():
		f.Add(name, value, "is not a DNS name and a port", "write it like "+example)
		return envoy.Place{}
	default:
		return read.Place
	}
}

// readBackends reads the servers. Istio knows them by their whole names.
func (p *plan) readBackends(f *envoy.OptionErrors, values []string) {
	if len(values) == 0 {
		f.Add("--backend", "", "is missing", "add --backend NAME=URL for each MCP server behind the fan-out")
	}
	for _, value := range values {
		name, text, ok := strings.Cut(value, "=")
		if !ok {
			f.Add("--backend", value, "has no =", "write it like github=https://mcp.example.com/mcp")
			continue
		}
		read, problem := envoy.ParseTarget(text)
		if problem == nil {
			problem = read.OddPath()
		}
		if f.AddProblem("--backend", value, problem) {
			continue
		}
		if !read.IP.IsValid() && !strings.Contains(read.Host, ".") {
			read.Host += "." + p.options.Namespace + ".svc.cluster.local"
		}
		one := envoy.Backend{Target: read, Name: name}
		p.checkBackend(f, value, one)
		p.backends = append(p.backends, one)
	}
}

func (p *plan) checkBackend(f *envoy.OptionErrors, value string, one envoy.Backend) {
	switch {
	case !policy.ValidLabel(one.Name):
		f.Add(
			"--backend", value, "has a name that cannot be used",
			"begin with a letter or digit; use at most 63 letters, digits, '.', '_' and '-'",
		)
	case one.IP.IsValid():
		f.Add("--backend", value, "is an IP address", "write the server's name: Istio finds routes by name")
	case strings.HasSuffix(one.Host, ".svc"):
		f.Add("--backend", value, "is not the whole name of a service", "write it like mcp-billing.tools.svc.cluster.local")
	case slices.ContainsFunc(p.backends, func(other envoy.Backend) bool { return other.Name == one.Name }):
		f.Add("--backend", value, "names "+one.Name+" a second time", "keep one of the two, or give one another name")
	case slices.ContainsFunc(p.backends, func(other envoy.Backend) bool {
		return other.Host == one.Host && (other.Port == one.Port || other.Secure || one.Secure)
	}):
		f.Add(
			"--backend", value, "is on the host and port of another backend",
			"Istio distinguishes backends by host and port; give one of them another host name",
		)
	case p.options.SetUp == Gateway && !one.Secure:
		f.Add(
			"--backend", value, "is not https",
			"the egress gateway is for servers outside the mesh; use the sidecar or the central set-up for those inside",
		)
	}
}

// declared finds backends that no policy knows.
func (p *plan) declared(f *envoy.OptionErrors, policies []*policy.Policy) {
	for _, b := range p.backends {
		knows := func(one *policy.Policy) bool {
			return one.Open() || slices.ContainsFunc(one.Backends(), func(d policy.Backend) bool { return d.Name == b.Name })
		}
		if !slices.ContainsFunc(policies, knows) {
			f.Add("--backend", b.Name, "is not declared in the policy", "declare it under backends:, or use a declared name")
		}
	}
}

// readService reads where Bellhop is, and whom it is for.
func (p *plan) readService(f *envoy.OptionErrors, policies []*policy.Policy) {
	p.readAccounts(f)
	if p.options.SetUp == Sidecar {
		return
	}
	p.service = hostPort(f, "--bellhop", p.options.Bellhop, DefaultBellhopService)
	if labels := strings.Split(p.service.Host, "."); p.service.Host != "" && (len(labels) < 3 || labels[2] != "svc") {
		f.Add("--bellhop", p.options.Bellhop, "is not the whole name of a service", "write it like "+DefaultBellhopService)
	}
	if p.options.SetUp == Mesh {
		p.namespaces(f, policies)
	}
}

func (p *plan) readAccounts(f *envoy.OptionErrors) {
	switch wanted := p.options.SetUp == Central || p.options.SetUp == Gateway; {
	case wanted && len(p.options.Accounts) == 0:
		f.Add(
			"--account", "", "is missing",
			"add --account NAMESPACE/NAME, the service account of the fan-out's pods: others could redeem tickets",
		)
	case !wanted && len(p.options.Accounts) > 0:
		f.Add("--account", strings.Join(p.options.Accounts, " "), "has no use in this set-up", "take it out")
	}
	for _, text := range p.options.Accounts {
		p.accounts = append(p.accounts, readAccount(f, "--account", text, "default/vmcp"))
	}
	p.readGateways(f)
}

// readGateways wants all of a gateway: half of it would put the filters before one gateway and let in another.
func (p *plan) readGateways(f *envoy.OptionErrors) {
	o := p.options
	if p.options.SetUp != Gateway {
		for _, one := range []envoy.Flag{
			{Name: "--ingress-account", Value: o.IngressAccount}, {Name: "--egress-account", Value: o.EgressAccount},
			{Name: "--ingress-gateway", Value: strings.Join(o.IngressGateway, " ")},
			{Name: "--egress-gateway", Value: strings.Join(o.EgressGateway, " ")},
			{Name: "--egress-service", Value: o.EgressService},
		} {
			if one.Value != "" {
				f.Add(one.Name, one.Value, "is for the gateway set-up", "take it out")
			}
		}
		return
	}
	half := func(given, missing, example string) {
		f.Add(missing, "", "is missing beside "+given, "add "+missing+" "+example+", for the same gateway")
	}
	switch {
	case o.IngressAccount == "":
		half("--ingress-gateway", "--ingress-account", DefaultRootNamespace+"/"+DefaultIngressAccount)
	case o.IngressGateway == nil:
		half("--ingress-account", "--ingress-gateway", DefaultIngressGateway+" or gateway/NAME")
	default:
		p.ingress.account = readAccount(
			f, "--ingress-account", o.IngressAccount, DefaultRootNamespace+"/"+DefaultIngressAccount,
		)
	}
	name, isTarget := "", false
	if len(o.IngressGateway) == 1 {
		name, isTarget = strings.CutPrefix(o.IngressGateway[0], "gateway/")
	}
	if isTarget && validName(name) {
		p.ingress.target = name
	} else {
		p.ingress.labels = readLabels(f, "--ingress-gateway", o.IngressGateway)
	}
	if o.EgressAccount == "" || o.EgressGateway == nil || o.EgressService == "" {
		f.Add(
			"--egress-account, --egress-gateway and --egress-service", "", "are needed together",
			"add all three, for the same gateway, or none for the one that istioctl installs",
		)
		return
	}
	p.egress.account = readAccount(
		f, "--egress-account", o.EgressAccount, DefaultRootNamespace+"/"+DefaultEgressAccount,
	)
	p.egress.labels, p.egress.service = readLabels(f, "--egress-gateway", o.EgressGateway), o.EgressService
	if !envoy.ValidHost(o.EgressService) || strings.Count(o.EgressService, ".") < 2 {
		f.Add(
			"--egress-service", o.EgressService, "is not the whole name of a service",
			"write it like "+DefaultEgressService+"."+DefaultRootNamespace+".svc.cluster.local",
		)
	}
}

func readLabels(f *envoy.OptionErrors, name string, texts []string) (all []label) {
	for _, text := range texts {
		read, problem := parseLabel(text)
		if !f.AddProblem(name, text, problem) {
			all = append(all, read)
		}
	}
	return all
}

func readAccount(f *envoy.OptionErrors, flag, text, example string) account {
	namespace, name, _ := strings.Cut(text, "/")
	if !validName(namespace) || !validName(name) {
		f.Add(flag, text, "is not a namespace and a service account", "write it like "+example)
	}
	return account{namespace, name}
}

// namespaces wants a fan-out in each policy: mesh-wide, a fan-out is the namespace that it is in.
func (p *plan) namespaces(f *envoy.OptionErrors, policies []*policy.Policy) {
	for i, one := range policies {
		switch file := p.file(i); {
		case one.Fanout() == "":
			f.Add("--policy", file, "has no fanout", "write fanout: NAMESPACE, the namespace of the fan-out")
		case !validName(one.Fanout()):
			f.Add(
				"--policy", file, "has the fanout "+one.Fanout()+", which is no namespace",
				"write fanout: NAMESPACE, the namespace of the fan-out",
			)
		}
		p.fanouts = append(p.fanouts, one.Fanout())
	}
}

func (p *plan) file(i int) string {
	if i < len(p.options.PolicyFiles) {
		return p.options.PolicyFiles[i]
	}
	return ""
}

func (p *plan) readProcessing(f *envoy.OptionErrors, policies []*policy.Policy) {
	read, problem := parseRelease(p.options.ProxyVersion)
	f.AddProblem("--proxy-version", p.options.ProxyVersion, problem)
	p.release = read
	common := envoy.FilterOptions{FailOpen: p.options.FailOpen}
	if p.options.SetUp == Sidecar {
		common.Bellhop = []string{p.options.Bellhop}
	}
	p.Processing = envoy.NewProcessing(f, common, policies...)
	p.ReadsAtIngress = true
	p.baggage = slices.ContainsFunc(policies, func(one *policy.Policy) bool { return one.Uses(policy.CarrierBaggage) })
	switch {
	case p.options.SetUp != Sidecar:
		p.Cluster, p.Authority = outbound(p.service), p.service.String()
	case len(p.Bellhop) == 1 && !p.Bellhop[0].IsPipe():
		f.Add("--bellhop", p.options.Bellhop, "is not a Unix socket", "beside the fan-out, write unix:///PATH")
	}
	if p.options.SetUp == Mesh {
		// The proxy's own environment, which the injection sets and no request can change.
		p.FanoutName = "%ENVIRONMENT(POD_NAMESPACE)%"
	}
}

// outbound is Istio's name of the cluster of a service.
func outbound(p envoy.Place) string { return "outbound|" + strconv.Itoa(int(p.Port)) + "||" + p.Host }

// anySubset is the same for all subsets of the service, which are of its own endpoints.
func anySubset(p envoy.Place) string { return "outbound|" + strconv.Itoa(int(p.Port)) + "|*|" + p.Host }

// origin is how a proxy in the mesh is asked for a server outside: in the clear, on port 80.
func origin(b envoy.Backend) envoy.Place {
	if !b.Secure {
		return b.Place
	}
	return envoy.Place{Host: b.Host, Port: 80}
}
