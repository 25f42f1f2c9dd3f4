package pilot_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

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

// documents are the manifests of an example, applied after the tenant's, without those of a kind; nothing is left out
// for "".
func documents(t *testing.T, example, without string) string {
	t.Helper()
	var kept []string
	for document := range strings.SplitSeq(read(t, "../../../deploy/istio/"+example+"/istio.yaml"), "\n---\n") {
		if without == "" || !regexp.MustCompile(`(?m)^kind: `+without+`$`).MatchString(document) {
			kept = append(kept, strings.Replace(
				document, "\nmetadata:\n", "\nmetadata:\n  creationTimestamp: \"2026-01-01T00:00:00Z\"\n", 1,
			))
		}
	}
	return strings.Join(kept, "\n---\n")
}

// routesTo are the routes of the virtual hosts that have a backend's name.
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

// everybody is a policy that somebody else has for all that is in the root namespace, or in Bellhop's.
const everybody = `
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: everybody, namespace: %s}
spec:
  action: ALLOW
  rules: [{from: [{source: {principals: ["*"]}}]}]
`

// Policies that allow add up. Whoever adds one lets nobody speak in a fan-out's name, nor without any.
func TestAnotherPolicyOpensBellhopToNobody(t *testing.T) {
	own := map[string]map[string]string{
		"central": {fanout: "vmcp"}, "mesh": {fanout: "search"}, "gateway": {fanout: "vmcp", role: "egress"},
	}
	for _, namespace := range []string{"istio-system", "bellhop"} {
		for example, named := range own {
			t.Run(example+" "+namespace, func(t *testing.T) {
				rendered := pilot.Render(
					t, around(t)+"\n---\n"+documents(t, example, "")+fmt.Sprintf(everybody, namespace),
					pilot.Sidecar("bellhop", "10.0.2.1", map[string]string{"app": "bellhop"}),
				)
				for _, chain := range bellhops(t, rendered) {
					for name, test := range map[string]struct {
						principal string
						headers   map[string]string
						want      bool
					}{
						"mallory":               {spiffe + "evil/sa/mallory", named, false},
						"of another domain":     {"spiffe://other.domain/ns/search/sa/vmcp", named, false},
						"without a name":        {spiffe + "evil/sa/mallory", map[string]string{role: "egress"}, false},
						"beyond the namespace":  {spiffe + "search-2/sa/vmcp", named, false},
						"as nobody in the mesh": {"", named, false},
						"a fan-out that nobody has": {spiffe + "evil/sa/mallory", map[string]string{fanout: "mine", role: "egress"},
							true}, // Bellhop does not know it
					} {
						got, err := pilot.Authorised(chain, pilot.Request{Principal: test.principal, Port: 9000, Headers: test.headers})
						if err != nil || got != test.want {
							t.Errorf("%s: authorised: %v, %v", name, got, err)
						}
					}
				}
			})
		}
	}
}

// elsewhere leads a host of Bellhop's egress gateway to a tenant's server, by a match that sorts before others.
const elsewhere = `
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bound, namespace: evil, ` + older + `}
spec:
  hosts: [mcp.example.com]
  gateways: [istio-system/bellhop-egress-default-vmcp-2bf2a5a9]
  http:
    - match: [{uri: {prefix: /mcp}}]
      route: [{destination: {host: mallory.evil.svc.cluster.local, port: {number: 80}}}]
`

// Only VirtualServices of the gateway's own namespace lead its hosts anywhere.
func TestATenantBindsNothingToTheEgressGateway(t *testing.T) {
	test := proxies["gateway-egress"]
	to := func(manifests string) string {
		var text strings.Builder
		tenant := fmt.Sprintf(diverted, "unrelated.evil.svc.cluster.local") + elsewhere
		for _, route := range routesTo(pilot.Render(t, around(t)+"\n---\n"+tenant+"\n---\n"+manifests, test.proxy()),
			"mcp.example.com") {
			text.WriteString(route.String() + "\n")
		}
		return text.String()
	}
	if got := to(documents(t, "gateway", "")); got == "" || strings.Contains(got, mallory) {
		t.Errorf("requests go to\n%s", got)
	}
	if got := to(strings.ReplaceAll(documents(t, "gateway", ""), `"./mcp.`, `"mcp.`)); !strings.Contains(got, mallory) {
		t.Errorf("with hosts of all namespaces the tenant's does not count: this test proves nothing\n%s", got)
	}
}

// onlyHTTP reports what stands in front of what leads on in a filter chain: its permissions, by which it shuts.
func onlyHTTP(chain *listenerv3.FilterChain) (port uint32, any bool) {
	config := &networkrbacv3.RBAC{}
	filters := chain.GetFilters()
	if len(filters) < 2 {
		return 0, false
	}
	for _, filter := range filters[:len(filters)-1] {
		if filter.GetName() == "bellhop.only_http" && filter.GetTypedConfig().UnmarshalTo(config) == nil {
			permission := config.GetRules().GetPolicies()["bellhop.only_http"].GetPermissions()[0]
			return permission.GetDestinationPort(), permission.GetAny()
		}
	}
	return 0, false
}

// A connection in which no filter of Bellhop's reads the headers does not reach the fan-out: HTTP/1.0 where Istio finds
// out what a port speaks, what is declared as TCP, and a port that no Service declares.
func TestNothingPassesTheFiltersOfTheFanout(t *testing.T) {
	for name, port := range map[string]string{
		"HTTP": "name: http, protocol: HTTP", "sniffed": "name: main", "TCP": "name: tcp, protocol: TCP",
		"another port": "",
	} {
		for example, wanted := range map[string]uint32{"sidecar": 4483, "mesh": 0} {
			t.Run(example+", "+name, func(t *testing.T) {
				mesh := strings.ReplaceAll(around(t), "number: 4483, name: http, protocol: HTTP", "number: 4483, "+port)
				if port == "" {
					mesh = strings.ReplaceAll(around(t), "number: 4483, name", "number: 9999, name")
				}
				rendered := pilot.Render(t, mesh+"\n---\n"+documents(t, example, ""), proxies[example].proxy())
				found := 0
				for _, listener := range rendered.Listeners {
					if listener.GetName() != "virtualInbound" {
						continue
					}
					for _, chain := range listener.GetFilterChains() {
						if chain.GetName() == "virtualInbound-blackhole" {
							continue // it leads nowhere
						}
						found++
						shut, all := onlyHTTP(chain)
						reads := pilot.Manager(chain) != nil && slices.Contains(order(t, pilot.Manager(chain)), "ingress")
						other := chain.GetFilterChainMatch().GetDestinationPort().GetValue()
						shutsAll := all || wanted != 0 && shut == wanted
						if concerned := wanted == 0 || other == 0 || other == wanted; concerned && !reads && !shutsAll {
							t.Errorf("through %s %v nobody reads the headers", chain.GetName(), chain.GetFilterChainMatch())
						}
					}
				}
				if found < 6 {
					t.Errorf("%d filter chains", found)
				}
			})
		}
	}
}
