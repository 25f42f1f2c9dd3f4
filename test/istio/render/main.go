// Render prints a configuration for Envoy that has the shape of those in an Istio mesh: Istio's own pilot makes it of
// what "bellhop envoy istio" prints for the set-up that its first argument names. It takes the flags of "bellhop envoy
// bootstrap", so that whatever is tested on that configuration can be tested on this one.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test"

	"bellhop/envoy/istio"
	"bellhop/policy"
	"bellhop/test/istio/pilot"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

// many is a flag that is given several times.
type many []string

func (m *many) String() string         { return strings.Join(*m, " ") }
func (m *many) Set(value string) error { *m = append(*m, value); return nil }

// path is the flags: where everything is.
type path struct {
	setUp                                           istio.SetUp
	policy, ingress, fanout, egress, bellhop, admin string
	name                                            string // of the fan-out, as the policy has it
	backends                                        []backend
}

// backend is an MCP server, and the host that it is in the mesh.
type backend struct {
	name, host string
	url        *url.URL
}

const (
	namespace   = "default" // of the fan-out
	servicePort = 8080      // of the backends, inside the mesh
	bellhopHost = "bellhop.bellhop.svc.cluster.local"
	bellhopPort = 9000
	fanoutHost  = "fanout.example.com" // at the ingress gateway, port 80
)

func run(args []string) error {
	p, err := parse(args)
	if err != nil {
		return err
	}
	manifests, err := p.manifests()
	if err != nil {
		return err
	}
	for _, scope := range log.Scopes() {
		scope.SetOutputLevel(log.NoneLevel)
	}
	var text []byte
	err = test.Wrap(func(t test.Failer) {
		in, out := p.proxies()
		text, err = p.bootstrap(pilot.Render(t, p.mesh()+manifests, in), pilot.Render(t, p.mesh()+manifests, out))
		if err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

// proxies are those on both sides of the fan-out, which may be one and the same.
func (p path) proxies() (in, out *model.Proxy) {
	if p.setUp == istio.Gateway {
		return pilot.Gateway("istio-system", "10.0.0.3", map[string]string{"istio": "ingressgateway"}),
			pilot.Gateway("istio-system", "10.0.0.4", map[string]string{"istio": "egressgateway"})
	}
	sidecar := func() *model.Proxy {
		return pilot.Sidecar(namespace, "127.0.0.1", map[string]string{"app": "vmcp", "bellhop": "enabled"})
	}
	return sidecar(), sidecar()
}

func parse(args []string) (path, error) {
	if len(args) == 0 {
		return path{}, errors.New("name a set-up: sidecar, central, mesh or gateway")
	}
	p := path{setUp: istio.SetUp(args[0])}
	var backends many
	flags := flag.NewFlagSet("render", flag.ContinueOnError)
	flags.StringVar(&p.policy, "policy", "", "")
	flags.StringVar(&p.ingress, "ingress", "", "")
	flags.StringVar(&p.fanout, "fanout", "", "")
	flags.StringVar(&p.egress, "egress", "", "")
	flags.StringVar(&p.bellhop, "bellhop", "", "")
	flags.StringVar(&p.admin, "envoy-admin", "", "")
	flags.Var(&backends, "backend", "")
	if err := flags.Parse(args[1:]); err != nil {
		return p, err
	}
	for _, text := range backends {
		name, target, _ := strings.Cut(text, "=")
		read, err := url.Parse(target)
		if err != nil {
			return p, err
		}
		host := name + ".default.svc.cluster.local"
		if p.setUp == istio.Gateway {
			host = name + ".example.com"
		}
		p.backends = append(p.backends, backend{name: name, host: host, url: read})
	}
	return p, nil
}

// read reads the policy, and its fan-out, which in the mesh set-up has to be a namespace.
func (p *path) read() (*policy.Policy, error) {
	text, err := os.ReadFile(p.policy)
	if err != nil {
		return nil, err
	}
	loaded, findings := policy.Load(p.policy, text)
	if loaded == nil {
		return nil, findings
	}
	p.name = loaded.Fanout()
	if p.setUp != istio.Mesh {
		return loaded, nil
	}
	text = regexp.MustCompile(`(?m)^fanout:.*$`).ReplaceAll(text, nil)
	if loaded, findings = policy.Load(p.policy, append(text, "\nfanout: "+namespace+"\n"...)); loaded == nil {
		return nil, findings
	}
	return loaded, nil
}

// manifests are what a person would apply.
func (p *path) manifests() (string, error) {
	loaded, err := p.read()
	if err != nil {
		return "", err
	}
	options := istio.Options{SetUp: p.setUp, ProxyVersion: "1.31"}
	target := fmt.Sprintf("http://%%s:%d%%s", servicePort)
	switch p.setUp {
	case istio.Sidecar:
		options.Bellhop, options.Port = p.bellhop, portOf(p.ingress)
	case istio.Central:
		options.Accounts, options.Port = []string{"default/vmcp"}, portOf(p.ingress)
	case istio.Mesh: // all ports of all pods with the label
	case istio.Gateway:
		options.Accounts, options.Hosts = []string{"default/vmcp"}, []string{fanoutHost}
		target = "https://%s%s"
	default:
		return "", fmt.Errorf("the set-up %q cannot be rendered: write sidecar, central, mesh or gateway", p.setUp)
	}
	for _, b := range p.backends {
		options.Backends = append(options.Backends, b.name+"="+fmt.Sprintf(target, b.host, b.url.Path))
	}
	manifests, err := istio.Manifests([]*policy.Policy{loaded}, options)
	return string(manifests), err
}

// mesh is what there is without Bellhop: the services of the fan-out, of the backends and of Bellhop, and the fan-out's
// host at the ingress gateway.
func (p path) mesh() string {
	text := service("vmcp.default.svc.cluster.local", "HTTP", portOf(p.ingress), "{address: 127.0.0.1, labels: "+
		"{app: vmcp}}") +
		service(bellhopHost, "GRPC", strconv.Itoa(bellhopPort), "{address: 127.0.0.1}")
	if p.setUp == istio.Gateway {
		return text + service("istio-egressgateway.istio-system.svc.cluster.local", "HTTP", "80", "{address: 10.0.0.4, "+
			"labels: {istio: egressgateway}}") +
			service("istio-ingressgateway.istio-system.svc.cluster.local", "HTTP", "80", "{address: 10.0.0.3, labels: {istio: "+
				"ingressgateway}}") +
			fmt.Sprintf(clients, fanoutHost, portOf(p.ingress))
	}
	for _, b := range p.backends {
		text += service(b.host, "HTTP", strconv.Itoa(servicePort), "{address: 127.0.0.1}")
	}
	return text
}

func service(host, protocol, port, endpoint string) string {
	name, rest, _ := strings.Cut(host, ".")
	namespace, _, _ := strings.Cut(rest, ".")
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s, namespace: %s}
spec:
  hosts: [%s]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: %s, name: main, protocol: %s}]
  endpoints: [%s]
---
`, name, namespace, host, port, protocol, endpoint)
}

// clients is what somebody has who gives a fan-out to clients at the ingress gateway.
const clients = `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: clients, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [%[1]s]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: clients, namespace: istio-system}
spec:
  hosts: [%[1]s]
  gateways: [clients]
  http: [{route: [{destination: {host: vmcp.default.svc.cluster.local, port: {number: %[2]s}}}]}]
---
`

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
