// Render prints a configuration for Envoy that has the shape of a sidecar's in an Istio mesh: Istio's own pilot makes it
// of what "bellhop envoy istio sidecar" prints. It takes the flags of "bellhop envoy bootstrap", so that whatever is
// tested on that configuration can be tested on this one.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test"

	"bellhop/envoy"
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
	policy, ingress, fanout, egress, bellhop, admin string
	readMCP                                         bool
	backends                                        []backend
}

// backend is an MCP server, and the service that it is in the mesh.
type backend struct {
	name, service string
	url           *url.URL
}

// servicePort is the port of the backends' services.
const servicePort = 8080

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
		rendered := pilot.Render(t, p.mesh()+manifests, pilot.Sidecar("default", "127.0.0.1", map[string]string{"app": "vmcp"}))
		text, err = p.bootstrap(rendered)
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

func parse(args []string) (path, error) {
	var p path
	var backends many
	flags := flag.NewFlagSet("render", flag.ContinueOnError)
	flags.StringVar(&p.policy, "policy", "", "")
	flags.StringVar(&p.ingress, "ingress", "", "")
	flags.StringVar(&p.fanout, "fanout", "", "")
	flags.StringVar(&p.egress, "egress", "", "")
	flags.StringVar(&p.bellhop, "bellhop", "", "")
	flags.StringVar(&p.admin, "envoy-admin", "", "")
	flags.BoolVar(&p.readMCP, "read-mcp", false, "")
	flags.Var(&backends, "backend", "")
	if err := flags.Parse(args); err != nil {
		return p, err
	}
	for _, text := range backends {
		name, target, _ := strings.Cut(text, "=")
		read, err := url.Parse(target)
		if err != nil {
			return p, err
		}
		p.backends = append(p.backends, backend{name: name, service: name + ".default.svc.cluster.local", url: read})
	}
	return p, nil
}

// manifests are what a person would apply.
func (p path) manifests() (string, error) {
	text, err := os.ReadFile(p.policy)
	if err != nil {
		return "", err
	}
	loaded, findings := policy.Load(p.policy, text)
	if loaded == nil {
		return "", findings
	}
	options := envoy.IstioOptions{SetUp: envoy.SetUpSidecar, Bellhop: p.bellhop, Port: portOf(p.ingress), ReadMCP: p.readMCP}
	for _, b := range p.backends {
		options.Backends = append(options.Backends, fmt.Sprintf("%s=http://%s:%d%s", b.name, b.service, servicePort, b.url.Path))
	}
	manifests, err := envoy.Istio([]*policy.Policy{loaded}, options)
	return string(manifests), err
}

// mesh is what there is without Bellhop: the fan-out's service and those of the backends.
func (p path) mesh() string {
	text := service("vmcp", portOf(p.ingress), "{address: 127.0.0.1, labels: {app: vmcp}}")
	for _, b := range p.backends {
		text += service(b.name, strconv.Itoa(servicePort), "{address: 127.0.0.1}")
	}
	return text
}

func service(name, port, endpoint string) string {
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s, namespace: default}
spec:
  hosts: [%[1]s.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: %[2]s, name: http, protocol: HTTP}]
  endpoints: [%[3]s]
---
`, name, port, endpoint)
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
