package pilot_test

import (
	"net/http"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"bellhop/test/istio/pilot"
)

// services are the set-ups whose Bellhop is a service.
var services = []string{"central", "mesh", "gateway"}

// bellhops are the filter chains of Bellhop's port at its own proxy.
func bellhops(t *testing.T, rendered pilot.Rendered) []*listenerv3.FilterChain {
	t.Helper()
	return chains(t, rendered, 9000)
}

// chains are the filter chains for what comes in at a port.
func chains(t *testing.T, rendered pilot.Rendered, port uint32) []*listenerv3.FilterChain {
	t.Helper()
	var found []*listenerv3.FilterChain
	for _, listener := range rendered.Listeners {
		for _, chain := range listener.GetFilterChains() {
			if chain.GetFilterChainMatch().GetDestinationPort().GetValue() == port && pilot.Manager(chain) != nil {
				found = append(found, chain)
			}
		}
	}
	if len(found) == 0 {
		t.Fatalf("no filter chain for port %d", port)
	}
	return found
}

func bellhopsProxy(t *testing.T, example string) pilot.Rendered {
	t.Helper()
	return render(t, example, pilot.Sidecar("bellhop", "10.0.2.1", map[string]string{"app": "bellhop"}))
}

// A Bellhop that is a service listens on loopback, behind a proxy that takes nothing but the mesh's mutual TLS.
func TestBellhopIsReachedOnlyThroughItsProxy(t *testing.T) {
	for _, example := range services {
		t.Run(example, func(t *testing.T) {
			rendered := bellhopsProxy(t, example)
			behind := ""
			for _, cluster := range rendered.Clusters {
				if cluster.GetName() == "inbound|9000||" {
					address := cluster.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().
						GetAddress().
						GetSocketAddress()
					behind = address.GetAddress()
				}
			}
			if behind != "127.0.0.1" {
				t.Errorf("the proxy looks for Bellhop at %q", behind)
			}
			for _, chain := range bellhops(t, rendered) {
				if chain.GetTransportSocket() == nil {
					t.Error("it takes what is in the clear")
				}
			}
		})
	}
}

const (
	spiffe = "spiffe://cluster.local/ns/"
	fanout = "bellhop-fanout"
	role   = "bellhop-role"

	ingressGateway = "istio-system/sa/istio-ingressgateway-service-account"
	egressGateway  = "istio-system/sa/istio-egressgateway-service-account"
)

// Whoever asks Bellhop has a fan-out's certificate, and asks in that fan-out's name: the name in the gRPC metadata
// alone could be anybody's.
func TestBellhopServesEachFanoutOnlyInItsOwnName(t *testing.T) {
	for name, test := range map[string]struct {
		example, principal string
		headers            map[string]string
		want               bool
	}{
		"its own, mesh":                {"mesh", spiffe + "search/sa/vmcp", map[string]string{fanout: "search"}, true},
		"the other's own, mesh":        {"mesh", spiffe + "support/sa/any", map[string]string{fanout: "support"}, true},
		"another's, mesh":              {"mesh", spiffe + "support/sa/any", map[string]string{fanout: "search"}, false},
		"nobody's, mesh":               {"mesh", spiffe + "search/sa/vmcp", nil, false},
		"a namespace without a policy": {"mesh", spiffe + "tools/sa/any", map[string]string{fanout: "tools"}, false},
		"a stranger, mesh":             {"mesh", spiffe + "tools/sa/any", map[string]string{fanout: "search"}, false},
		"in the clear, mesh":           {"mesh", "", map[string]string{fanout: "search"}, false},
		"the fan-out, central":         {"central", spiffe + "default/sa/vmcp", map[string]string{fanout: "vmcp"}, true},
		"for another fan-out, central": {"central", spiffe + "default/sa/vmcp", map[string]string{fanout: "search"}, false},
		"another account, central":     {"central", spiffe + "default/sa/other", map[string]string{fanout: "vmcp"}, false},
		"in the clear, central":        {"central", "", map[string]string{fanout: "vmcp"}, false},
		"the ingress gateway": {"gateway", spiffe + ingressGateway,
			map[string]string{role: "ingress", fanout: "vmcp"}, true},
		"the egress gateway": {"gateway", spiffe + egressGateway, map[string]string{role: "egress", fanout: "vmcp"},
			true},
		"redeems at the " +
			"ingress gateway": {"gateway", spiffe + ingressGateway, map[string]string{role: "egress", fanout: "vmcp"}, false},
		"takes at the egress gateway": {"gateway", spiffe + egressGateway,
			map[string]string{role: "ingress", fanout: "vmcp"}, false},
		"others beside the gateways": {"gateway", spiffe + "istio-system/sa/default",
			map[string]string{role: "egress", fanout: "vmcp"}, false},
		"for another fan-out, gateway": {"gateway", spiffe + egressGateway,
			map[string]string{role: "egress", fanout: "search"}, false},
		"another namespace's, gateway": {"gateway", spiffe + "default/sa/vmcp",
			map[string]string{role: "egress", fanout: "vmcp"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, chain := range bellhops(t, bellhopsProxy(t, test.example)) {
				got, err := pilot.Authorised(chain, pilot.Request{Principal: test.principal, Port: 9000, Headers: test.headers})
				if err != nil || got != test.want {
					t.Errorf("authorised: %v, %v", got, err)
				}
			}
		})
	}
}

// What the fan-out itself sends has the certificate that opens Bellhop: its proxy leads none of it there.
func TestTheFanoutItselfDoesNotReachBellhop(t *testing.T) {
	const bellhop = "bellhop.bellhop.svc.cluster.local"
	for _, name := range []string{"central", "mesh"} {
		t.Run(name, func(t *testing.T) {
			rendered := render(t, proxies[name].example, proxies[name].proxy())
			found := 0
			for _, table := range rendered.Routes {
				for _, host := range table.GetVirtualHosts() {
					if !slices.Contains(host.GetDomains(), bellhop) {
						continue
					}
					found++
					if first := host.GetRoutes()[0]; first.GetMatch().GetPrefix() != "/" ||
						first.GetDirectResponse().GetStatus() != http.StatusForbidden {
						t.Errorf("%s, %s: it is led to %v", table.GetName(), host.GetName(), first.GetAction())
					}
				}
			}
			if found == 0 {
				t.Error("no virtual host is Bellhop's")
			}
			if !slices.ContainsFunc(
				rendered.Clusters,
				func(c *clusterv3.Cluster) bool { return c.GetName() == "outbound|9000||"+bellhop },
			) {
				t.Error("the filters' own cluster is gone")
			}
		})
	}
}
