package pilot_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bellhop/envoy/istio"
	"bellhop/policy"
	"bellhop/test/istio/pilot"
)

// Where Bellhop stands at the gateways, no one can bypass them: not with a certificate of the mesh, not
// without.
func TestTheIngressGatewayCannotBeBypassed(t *testing.T) {
	rendered := render(t, "gateway", pilot.Sidecar("default", "10.0.0.1", vmcp))
	for principal, want := range map[string]bool{
		spiffe + ingressGateway:    true,
		spiffe + egressGateway:     false,
		spiffe + "tools/sa/client": false,
		"":                         false,
	} {
		for _, chain := range chains(t, rendered, 4483) {
			got, err := pilot.Authorised(chain, pilot.Request{Principal: principal, Port: 4483, Token: true})
			if err != nil || got != want {
				t.Errorf("%q is authorised: %v, %v", principal, got, err)
			}
		}
		for _, chain := range chains(t, rendered, 9090) {
			if got, err := pilot.Authorised(chain, pilot.Request{Principal: principal, Port: 9090, Token: true}); !got ||
				err != nil {
				t.Errorf("%q may not read the fan-out's metrics, which are no business of Bellhop's: %v", principal, err)
			}
		}
	}
}

// The ingress gateway may have the fan-out's host on several ports, and routes for more hosts than one: clients nowhere
// get past Bellhop.
func TestTheHostIsCapturedInEveryForm(t *testing.T) {
	const gateway, virtualService = "hosts: [another.example.com, gateway.example.com, " +
		"other.example.com]", "hosts: [another.example.com, gateway.example.com]"
	wild := `hosts: ["*.example.com"]`
	for name, test := range map[string]struct{ gateway, virtualService, flag, domain string }{
		"as it is":                 {gateway, virtualService, "gateway.example.com", "gateway.example.com"},
		"a route for all hosts":    {gateway, `hosts: ["*"]`, "gateway.example.com", "gateway.example.com"},
		"a gateway for many hosts": {wild, virtualService, "gateway.example.com", "gateway.example.com"},
		"a wildcard everywhere":    {wild, wild, "*.example.com", "*.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			mesh := strings.NewReplacer(virtualService+" #", test.virtualService+" #", gateway, test.gateway,
				"hosts: [gateway.example.com]", fmt.Sprintf("hosts: [%q]", test.flag)).Replace(around(t))
			made := run(t, istio.Gateway, "vmcp", "mcp.example.com", test.flag)
			tables := 0
			for _, table := range pilot.Render(t, mesh+"\n---\n"+made, proxies["gateway-ingress"].proxy()).Routes {
				for _, host := range table.GetVirtualHosts() {
					if !slices.Contains(host.GetDomains(), test.domain) {
						continue
					}
					tables++
					if host.GetTypedPerFilterConfig()["bellhop.ingress.default-vmcp-2bf2a5a9"] == nil {
						t.Errorf("in %s the filter does not run", table.GetName())
					}
				}
			}
			if tables != 2 {
				t.Errorf("%d ports have the host, want 2", tables)
			}
		})
	}
}

// Nobody but the fan-out uses the backends' hosts at the egress gateway.
func TestOnlyTheFanoutPassesTheEgressGateway(t *testing.T) {
	at := proxies["gateway-egress"]
	for _, listener := range render(t, at.example, at.proxy()).Listeners {
		for _, chain := range listener.GetFilterChains() {
			for _, test := range []struct {
				principal, host string
				want            bool
			}{
				{spiffe + "default/sa/vmcp", "mcp.example.com", true},
				{spiffe + "default/sa/other", "mcp.example.com", false},
				{spiffe + "default/sa/other", "Wiki.example.com:80", false},
				{"", "mcp.example.com", false},
				{spiffe + "default/sa/other", "another.example.com", true},
			} {
				got, err := pilot.Authorised(
					chain,
					pilot.Request{Principal: test.principal, Port: 80, Headers: map[string]string{":authority": test.host}},
				)
				if err != nil || got != test.want {
					t.Errorf("%s: %q asks for %s: %v, %v", listener.GetName(), test.principal, test.host, got, err)
				}
			}
		}
	}
}

// Gateways have other labels, accounts and names after an installation with Helm: the filters go where the rules say.
func TestGatewaysByOtherNames(t *testing.T) {
	for _, ingress := range []string{"istio=ingress", "gateway/mcp"} {
		t.Run(ingress, func(t *testing.T) { gatewaysByOtherNames(t, ingress) })
	}
}

func gatewaysByOtherNames(t *testing.T, ingress string) {
	t.Helper()
	loaded, findings := policy.Load("policy.yaml", []byte("version: 1\nfanout: vmcp\nforward: [x-mcp-api-key]\n"))
	if loaded == nil {
		t.Fatal(findings)
	}
	made, err := istio.Manifests([]*policy.Policy{loaded}, istio.Options{
		SetUp: istio.Gateway, Accounts: []string{"default/vmcp"}, Hosts: []string{"gateway.example.com"},
		Backends:       []string{"server=https://server.example.net"},
		IngressAccount: "ingress/gateway", IngressGateway: []string{ingress},
		EgressAccount: "egress/gateway", EgressGateway: []string{"istio=egress"},
		EgressService: "istio-egress.egress.svc.cluster.local",
	})
	if err != nil {
		t.Fatal(err)
	}
	mesh := strings.NewReplacer(
		"istio: ingressgateway", "istio: ingress", "istio: egressgateway", "istio: egress",
		"istio-egressgateway.istio-system", "istio-egress.egress", "name: egress, namespace: istio-system",
		"name: egress, namespace: egress", "name: clients, namespace: istio-system", "name: clients, namespace: ingress",
	).Replace(around(t)) + "\n---\n" + string(made)
	in := pilot.Render(t, mesh, pilot.Gateway("ingress", "10.0.0.3", map[string]string{
		"istio": "ingress", "gateway.networking.k8s.io/gateway-name": "mcp",
	})).Summary()
	if !strings.Contains(in, "enables bellhop.ingress.default-vmcp-2bf2a5a9") {
		t.Errorf("the ingress gateway has no filter:\n%s", in)
	}
	out := pilot.Render(t, mesh, pilot.Gateway("egress", "10.0.0.4", map[string]string{"istio": "egress"})).Summary()
	if !strings.Contains(out, "enables bellhop.egress.default-vmcp-2bf2a5a9 ") ||
		!strings.Contains(out, "cluster outbound|443||server.example.net, TLS to server.example.net") {
		t.Errorf("the egress gateway has no filter, or no server:\n%s", out)
	}
	for _, chain := range chains(t, pilot.Render(t, mesh, pilot.Sidecar("default", "10.0.0.1", vmcp)), 4483) {
		for principal, want := range map[string]bool{spiffe + "ingress/sa/gateway": true, spiffe + ingressGateway: false} {
			got, err := pilot.Authorised(chain, pilot.Request{Principal: principal, Port: 4483, Token: true})
			if err != nil || got != want {
				t.Errorf("%s reaches the fan-out: %v, %v", principal, got, err)
			}
		}
	}
}
