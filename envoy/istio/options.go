package istio

import (
	"slices"
	"strconv"
	"strings"

	"bellhop/envoy"
)

// SetUp is one way to run Bellhop in an Istio mesh.
type SetUp string

// The set-ups of [Manifests].
const (
	Sidecar SetUp = "sidecar" // one Bellhop in each pod of the fan-out, on a Unix socket
	Central SetUp = "central" // one Bellhop service, used by the proxies of one fan-out
	Mesh    SetUp = "mesh"    // one Bellhop service and one configuration for all fan-outs of the mesh
	Gateway SetUp = "gateway" // Bellhop at the ingress gateway and the egress gateway
)

// SetUps are all set-ups.
func SetUps() []SetUp { return []SetUp{Sidecar, Central, Mesh, Gateway} }

// The defaults of [Options].
const (
	DefaultNamespace      = "default"
	DefaultWorkload       = "app=vmcp"
	DefaultBellhopService = "bellhop.bellhop.svc.cluster.local:9000"
	DefaultRootNamespace  = "istio-system"
	DefaultIngressAccount = "istio-ingressgateway-service-account" // in the root namespace
	DefaultEgressAccount  = "istio-egressgateway-service-account"  // the same
	DefaultIngressGateway = "istio=ingressgateway"
	DefaultEgressGateway  = "istio=egressgateway"
	DefaultEgressService  = "istio-egressgateway" // in the root namespace
	// The newest that is supported: older ones skip the filters while Bellhop's service does not exist.
	DefaultProxyVersion = "1.31"
	DefaultTrustDomain  = "cluster.local"
)

// MeshLabel marks the pods that the configuration of [Mesh] is for.
const MeshLabel = "bellhop=enabled"

// Options are the flags of "bellhop envoy istio", as they are written on its command line.
type Options struct {
	SetUp       SetUp    // the argument
	PolicyFiles []string // --policy: where the policies were read from; only for the comment at the top
	CeilingFile string   // --ceiling: the same
	Backends    []string // --backend: NAME=URL, one for each MCP server
	Namespace   string   // --namespace: that of the fan-out; empty: DefaultNamespace
	Workload    []string // --workload: KEY=VALUE, labels of the fan-out's pods; none: DefaultWorkload, or MeshLabel
	Port        string   // --port: the fan-out's port; empty: every port of its pods
	Hosts       []string // --host: all by which clients reach the fan-out through the ingress gateway
	Accounts    []string // --account: NAMESPACE/NAME, service accounts of the fan-out's pods
	Bellhop     string   // --bellhop: unix:///PATH beside the fan-out, else HOST:PORT of the service

	RootNamespace string // --root-namespace: that of Istio; empty: DefaultRootNamespace
	TrustDomain   string // --trust-domain: of the mesh; empty: DefaultTrustDomain
	ProxyVersion  string // --proxy-version: the oldest Istio of the proxies; empty: DefaultProxyVersion
	FailOpen      bool   // --fail-open: as in BootstrapOptions

	// The gateways, each with all of its flags, or as istioctl calls it with none of them.
	IngressAccount string   // --ingress-account: NAMESPACE/NAME, its service account
	IngressGateway []string // --ingress-gateway: KEY=VALUE, labels of its pods, or gateway/NAME, of the Gateway API
	EgressAccount  string   // --egress-account: as for the ingress gateway
	EgressGateway  []string // --egress-gateway: KEY=VALUE, labels of its pods
	EgressService  string   // --egress-service: its service, by its whole name
}

func (o Options) withDefaults() Options {
	or := func(value *string, other string) {
		if *value == "" {
			*value = other
		}
	}
	or(&o.Namespace, DefaultNamespace)
	or(&o.RootNamespace, DefaultRootNamespace)
	if o.SetUp == Gateway {
		o.gatewayDefaults()
	}
	or(&o.TrustDomain, DefaultTrustDomain)
	or(&o.ProxyVersion, DefaultProxyVersion)
	or(&o.Bellhop, map[bool]string{true: envoy.DefaultBellhop, false: DefaultBellhopService}[o.SetUp == Sidecar])
	if len(o.Workload) == 0 {
		o.Workload = []string{DefaultWorkload}
		if o.SetUp == Mesh {
			o.Workload = []string{MeshLabel}
		}
	}
	return o
}

// gatewayDefaults completes a gateway of which nothing is given. Of one that is given in part the rest would be wrong:
// a filter for the pods of one gateway, and rules for the account of another.
func (o *Options) gatewayDefaults() {
	if o.IngressAccount == "" && o.IngressGateway == nil {
		o.IngressAccount = o.RootNamespace + "/" + DefaultIngressAccount
		o.IngressGateway = []string{DefaultIngressGateway}
	}
	if o.EgressAccount == "" && o.EgressGateway == nil && o.EgressService == "" {
		o.EgressAccount = o.RootNamespace + "/" + DefaultEgressAccount
		o.EgressGateway = []string{DefaultEgressGateway}
		o.EgressService = DefaultEgressService + "." + o.RootNamespace + ".svc.cluster.local"
	}
}

// flags lists what was given and, of the rest, what the set-up uses.
func (o Options) flags() []envoy.Flag {
	var all envoy.Flags
	all.Add("--policy", o.PolicyFiles...)
	all.Add("--ceiling", o.CeilingFile)
	if o.SetUp != Mesh {
		all.Add("--namespace", o.Namespace)
	}
	all.Add("--workload", o.Workload...)
	all.Add("--port", o.Port)
	all.Add("--host", o.Hosts...)
	all.Add("--backend", o.Backends...)
	all.Add("--account", o.Accounts...)
	all.Add("--ingress-account", o.IngressAccount)
	all.Add("--ingress-gateway", o.IngressGateway...)
	all.Add("--egress-account", o.EgressAccount)
	all.Add("--egress-gateway", o.EgressGateway...)
	all.Add("--egress-service", o.EgressService)
	all.Add("--bellhop", o.Bellhop)
	if o.RootNamespace != DefaultRootNamespace {
		all.Add("--root-namespace", o.RootNamespace)
	}
	if o.TrustDomain != DefaultTrustDomain {
		all.Add("--trust-domain", o.TrustDomain)
	}
	all.Add("--proxy-version", o.ProxyVersion)
	all.AddIf(o.FailOpen, "--fail-open")
	return all
}

// release is a release of Istio, by its second number: 31 is 1.31.
type release int

// The releases whose proxies are supported, and the first whose Envoy (1.39) fails closed where Bellhop's cluster is
// missing. All else that is written is known to the oldest (Envoy 1.37) too.
const (
	oldestRelease  release = 29
	newestRelease  release = 31
	closingRelease release = 31
)

func parseRelease(text string) (release, *envoy.Problem) {
	minor, ok := strings.CutPrefix(text, "1.")
	minor, _, _ = strings.Cut(minor, ".")
	number, err := strconv.Atoi(minor)
	if !ok || err != nil {
		return 0, &envoy.Problem{Wrong: "is no release of Istio", Hint: "write it like 1.31"}
	}
	if r := release(number); r >= oldestRelease && r <= newestRelease {
		return r, nil
	}
	return 0, &envoy.Problem{
		Wrong: "is not supported",
		Hint:  "Bellhop knows the proxies of Istio 1.29 to 1.31; name the oldest that you have",
	}
}

// label is a label of a pod.
type label struct{ key, value string }

func parseLabel(text string) (label, *envoy.Problem) {
	key, value, ok := strings.Cut(text, "=")
	plain := strings.Trim(strings.ToLower(key+value), "abcdefghijklmnopqrstuvwxyz0123456789./_-") == ""
	if !ok || key == "" || value == "" || len(value) > longestLabel || !plain || strings.Trim(value, "._-") != value {
		return label{}, &envoy.Problem{Wrong: "is no label", Hint: "write it like " + DefaultWorkload}
	}
	return label{key, value}, nil
}

// validName reports whether Kubernetes takes a name for a namespace or an account (RFC 1123, a label).
func validName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	return name != "" && len(name) <= longestLabel && strings.Trim(name, letters+"-") == "" &&
		strings.Trim(name, "-") == name
}

// known reports whether there is such a set-up.
func (s SetUp) known() bool { return slices.Contains(SetUps(), s) }
