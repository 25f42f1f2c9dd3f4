package pilot_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bellhop/envoy/istio"
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
