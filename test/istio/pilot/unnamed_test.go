package pilot_test

import (
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"bellhop/test/istio/pilot"
)

// billing is a Service that does not say what its port speaks; beside it a port of the same number does.
const billing = `
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: billing, namespace: tools}
spec:
  hosts: [mcp-billing.tools.svc.cluster.local]
  addresses: [10.9.9.9]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8080, name: main}]
  endpoints: [{address: 10.0.1.9}]
`

// hosts are the virtual hosts that lead to a cluster, by the names of their tables.
func hosts(rendered pilot.Rendered, cluster string) map[string]*routev3.VirtualHost {
	found := map[string]*routev3.VirtualHost{}
	for _, table := range rendered.Routes {
		for _, host := range table.GetVirtualHosts() {
			if slices.ContainsFunc(
				host.GetRoutes(),
				func(r *routev3.Route) bool { return r.GetRoute().GetCluster() == cluster },
			) {
				found[table.GetName()] = host
			}
		}
	}
	return found
}

// A Service whose port has no protocol is a backend like any other: where Istio finds out that it is HTTP, Bellhop's
// filters run.
func TestPortsWithoutAProtocol(t *testing.T) {
	mesh := strings.NewReplacer("hosts: [mcp-billing.tools.svc.cluster.local, ", "hosts: [", "{number: 4483, name: "+
		"http, protocol: HTTP}", "{number: 4483, name: main}").Replace(around(t))
	rendered := pilot.Render(
		t, mesh+billing+"---\n"+read(t, "../../../deploy/istio/central/istio.yaml"),
		pilot.Sidecar("default", "10.0.0.1", vmcp),
	)
	there := hosts(rendered, "outbound|8080||mcp-billing.tools.svc.cluster.local")
	if there["mcp-billing.tools.svc.cluster.local:8080"] == nil {
		t.Fatalf("the service has no routes of its own: %v", there)
	}
	for table, host := range there {
		if host.GetTypedPerFilterConfig()["bellhop.egress"] == nil {
			t.Errorf("in %s the filter does not run", table)
		}
	}
	captured := 0
	for _, chain := range chains(t, rendered, 4483) {
		for _, one := range order(t, pilot.Manager(chain)) {
			if one == "ingress" {
				captured++
			}
		}
	}
	if captured < 2 { // with TLS, and in the clear
		t.Errorf("the fan-out's port is captured in %d filter chains", captured)
	}
}

// Where a port is said to be TCP, there is nothing that a filter for HTTP could stand in: so the pages ask for another
// name.
func TestPortsOfTCPAreNotCaptured(t *testing.T) {
	mesh := strings.ReplaceAll(around(t), "{number: 4483, name: http, protocol: HTTP}", "{number: 4483, name: tcp, "+
		"protocol: TCP}")
	rendered := pilot.Render(
		t, mesh+"\n---\n"+read(t, "../../../deploy/istio/sidecar/istio.yaml"), pilot.Sidecar("default", "10.0.0.1", vmcp),
	)
	for _, listener := range rendered.Listeners {
		for _, chain := range listener.GetFilterChains() {
			if chain.GetFilterChainMatch().GetDestinationPort().GetValue() == 4483 && pilot.Manager(chain) != nil {
				t.Error("it is HTTP after all: say so on the pages")
			}
		}
	}
	for _, page := range []string{"istio/sidecar", "istio/central", "istio/mesh", "istio/gateway"} {
		if text := read(t, "../../../deploy/"+page+"/README.md"); !strings.Contains(text, "`appProtocol: http`") {
			t.Errorf("the page of %s does not say how ports have to be called", page)
		}
	}
}
