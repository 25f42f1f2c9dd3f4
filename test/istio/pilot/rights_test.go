package pilot_test

import (
	"fmt"
	"strings"
	"testing"

	"bellhop/test/istio/pilot"
)

// squatted says where the host of a backend is, before Bellhop's ServiceEntry came.
const squatted = `
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: squat, namespace: evil, ` + older + `}
spec:
  hosts: [mcp.example.com]
  exportTo: [%q]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
  endpoints: [{address: mallory.example}]
`

// A ServiceEntry of another namespace does not become the backend, whomever it is exported to: Bellhop's stands in the
// namespace of those who use it. At a gateway Istio prefers what is exported to the gateway by name; there the server
// still has to prove that it is the backend.
func TestATenantSquatsOnNoBackend(t *testing.T) {
	for name, test := range map[string]struct{ example, proxy, namespace string }{
		"sidecar": {"sidecar", "sidecar", "default"}, "central": {"central", "central", "default"},
		"mesh": {"mesh", "mesh", "search"}, "gateway": {"gateway", "gateway-egress", "istio-system"},
	} {
		for _, exported := range []string{"*", test.namespace} {
			t.Run(name+" "+exported, func(t *testing.T) {
				at := func(without string) string {
					var found []string
					rendered := pilot.Render(
						t, around(t)+fmt.Sprintf(squatted, exported)+"---\n"+documents(t, test.example, without),
						proxies[test.proxy].proxy(),
					)
					for _, cluster := range rendered.Clusters {
						if strings.HasSuffix(cluster.GetName(), "||mcp.example.com") {
							found = append(found, cluster.GetLoadAssignment().String())
						}
					}
					return strings.Join(found, "\n")
				}
				got, proves := at(""), strings.Contains(pilot.Render(
					t, around(t)+fmt.Sprintf(squatted, exported)+"---\n"+documents(t, test.example, ""),
					proxies[test.proxy].proxy(),
				).Summary(), "\ncluster outbound|443||mcp.example.com, TLS to mcp.example.com as mcp.example.com\n")
				if got == "" || strings.Contains(got, "mallory") && !(name == "gateway" && proves) {
					t.Errorf("the backend is\n%s", got)
				}
				if got := at("ServiceEntry"); !strings.Contains(got, "mallory") {
					t.Errorf("without Bellhop's ServiceEntry the tenant's does not count: this test proves nothing\n%s", got)
				}
			})
		}
	}
}

// What nobody can prevent from a manifest: these rights are those of the platform's team. deploy/istio/README.md lists
// them, and this is why.
func TestRightsThatATenantMustNotHave(t *testing.T) {
	for name, test := range map[string]struct {
		proxy, tenant string
		holds         func(pilot.Rendered) bool // what Bellhop needs still holds
	}{
		"EnvoyFilter": {"sidecar", `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: mine, namespace: default}
spec:
  priority: 1000
  workloadSelector: {labels: {app: vmcp}}
  configPatches:
    - applyTo: HTTP_FILTER
      match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: bellhop.ingress}}}}}
      patch: {operation: REMOVE}
`, func(r pilot.Rendered) bool { return strings.Contains(r.Summary(), "  bellhop.ingress asks ") }},
		"VirtualService": {"sidecar", strings.NewReplacer(
			"name: mine, namespace: evil", "name: mine, namespace: default", "spec:\n  hosts: [mcp.example.com]",
			"spec:\n  exportTo: [.]\n  hosts: [mcp.example.com]",
		).Replace(fmt.Sprintf(diverted, "mcp.example.com")), func(r pilot.Rendered) bool {
			return !strings.Contains(fmt.Sprint(routesTo(r, "mcp.example.com")), mallory)
		}},
		"Gateway": {"gateway-ingress", `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: a, namespace: evil, ` + older + `}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [gateway.example.com]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: evil, ` + older + `}
spec:
  hosts: [gateway.example.com]
  gateways: [a]
  http: [{match: [{uri: {prefix: /mcp}}], route: [{destination: {host: mallory.evil.svc.cluster.local, port: {number: 80}}}]}]
---` + fmt.Sprintf(diverted, "unrelated.evil.svc.cluster.local"), func(r pilot.Rendered) bool {
			return !strings.Contains(fmt.Sprint(routesTo(r, "gateway.example.com")), mallory)
		}},
		"Sidecar": {"central", `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: mine, namespace: default}
spec:
  egress: [{hosts: ["tools/*"]}]
`, func(r pilot.Rendered) bool {
			return strings.Contains(r.Summary(), "\ncluster outbound|9000||bellhop.bellhop.svc.cluster.local")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			with := proxies[test.proxy]
			manifests := around(t) + "\n---\n" + documents(t, with.example, "")
			if !test.holds(pilot.Render(t, manifests, with.proxy())) {
				t.Fatal("it does not hold without a tenant: this test proves nothing")
			}
			if test.holds(pilot.Render(t, manifests+"\n---\n"+test.tenant, with.proxy())) {
				t.Error("the manifests keep a tenant from it: take it out of the page's table")
			}
			if page := read(t, "../../../deploy/istio/README.md"); !strings.Contains(page, "| `"+name+"` |") {
				t.Error("the page does not list it")
			}
		})
	}
}
