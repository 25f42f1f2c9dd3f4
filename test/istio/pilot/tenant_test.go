package pilot_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"bellhop/test/istio/pilot"
)

// What a tenant can make who may write Istio's resources in a namespace of his own, before Bellhop came.
const (
	older    = `creationTimestamp: "2020-01-01T00:00:00Z"`
	diverted = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mine, namespace: evil, ` + older + `}
spec:
  hosts: [%[1]s]
  http:
    - mirror: {host: mallory.evil.svc.cluster.local, port: {number: 80}}
      route: [{destination: {host: mallory.evil.svc.cluster.local, port: {number: 80}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mallory, namespace: evil}
spec:
  hosts: [mallory.evil.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.6.6.6}]
`
	mallory = "outbound|80||mallory.evil.svc.cluster.local"
)

// documents are the manifests of an example without those of a kind; nothing is left out for "".
func documents(t *testing.T, example, without string) string {
	t.Helper()
	var kept []string
	for document := range strings.SplitSeq(read(t, "../../../deploy/istio/"+example+"/istio.yaml"), "\n---\n") {
		if without == "" || !regexp.MustCompile(`(?m)^kind: `+without+`$`).MatchString(document) {
			kept = append(kept, document)
		}
	}
	return strings.Join(kept, "\n---\n")
}

// routesTo are the routes of the virtual hosts that Bellhop's filter at egress is told are a backend.
func routesTo(rendered pilot.Rendered, backend string) []*routev3.Route {
	var all []*routev3.Route
	for _, table := range rendered.Routes {
		for _, host := range table.GetVirtualHosts() {
			for _, domain := range host.GetDomains() {
				if domain == backend {
					all = append(all, host.GetRoutes()...)
				}
			}
		}
	}
	return all
}

// A VirtualService of any namespace is exported to all by default. It does not lead requests for a backend to another
// server, and mirrors none there, whatever its age.
func TestATenantDivertsNoBackend(t *testing.T) {
	const outside = "mcp.example.com"
	for name, backends := range map[string][]string{
		"sidecar": {"mcp-search.tools.svc.cluster.local", outside},
		"central": {"mcp-search.tools.svc.cluster.local", outside},
		"mesh":    {"mcp-docs.tools.svc.cluster.local", outside},
	} {
		for _, backend := range backends {
			test := proxies[name]
			t.Run(name+" "+backend, func(t *testing.T) {
				tenant := "\n---\n" + fmt.Sprintf(diverted, backend) + "\n---\n"
				rendered := func(without string) string {
					var text strings.Builder
					for _, route := range routesTo(
						pilot.Render(t, around(t)+tenant+documents(t, test.example, without), test.proxy()), backend,
					) {
						text.WriteString(route.String() + "\n")
					}
					return text.String()
				}
				if got := rendered(""); got == "" || strings.Contains(got, mallory) {
					t.Errorf("requests for %s go to\n%s", backend, got)
				}
				if got := rendered("VirtualService"); !strings.Contains(got, mallory) {
					t.Errorf("without Bellhop's VirtualServices the tenant's does not count: this test proves nothing\n%s", got)
				}
			})
		}
	}
}
