package pilot_test

import (
	"slices"
	"strings"
	"testing"

	"istio.io/istio/pilot/pkg/model"

	"bellhop/test/istio/pilot"
)

// without is what pilot makes for a proxy without Bellhop's resources.
func without(t *testing.T, proxy *model.Proxy) string {
	t.Helper()
	return pilot.Render(t, around(t), proxy).Summary()
}

// Proxies that are not the fan-out's, in other namespaces, are as if there were no Bellhop: no filter and no patch, and
// no server, TLS or route of what is made for the fan-out.
func TestOtherProxiesAreUnchanged(t *testing.T) {
	others := map[string]func() *model.Proxy{
		"a pod elsewhere": func() *model.Proxy {
			return pilot.Sidecar("tools", "10.0.1.1",
				map[string]string{"app": "vmcp"})
		},
		"another gateway": func() *model.Proxy {
			return pilot.Gateway("tools", "10.0.1.2",
				map[string]string{"istio": "another"})
		},
		"an unlabelled pod": func() *model.Proxy {
			return pilot.Sidecar("tools", "10.0.1.1",
				map[string]string{"app": "other"})
		},
	}
	for _, example := range []string{"sidecar", "central", "mesh", "gateway"} {
		for name, proxy := range others {
			t.Run(example+", "+name, func(t *testing.T) {
				was := strings.Split(without(t, proxy()), "\n")
				is := strings.Split(render(t, example, proxy()).Summary(), "\n")
				for _, line := range is {
					// Every proxy may know Bellhop's own service: its DestinationRule is for its own host.
					if !slices.Contains(was, line) && !strings.Contains(line, "outbound|9000||bellhop.bellhop.svc") {
						t.Errorf("%s", line)
					}
				}
				if len(was) != len(is) {
					t.Errorf("it has %d lines and had %d", len(is), len(was))
				}
			})
		}
	}
}

// What is beyond the mesh is asked by TLS, and has to prove its name.
func TestExternalServersAreReachedByTLS(t *testing.T) {
	for name, cluster := range map[string]string{
		"sidecar": "outbound|80||mcp.example.com", "central": "outbound|80||mcp.example.com",
		"mesh":           "outbound|80||mcp.example.com",
		"gateway-egress": "outbound|443||mcp.example.com",
	} {
		t.Run(name, func(t *testing.T) {
			summary := render(t, proxies[name].example, proxies[name].proxy()).Summary()
			if !strings.Contains(summary, "\ncluster "+cluster+", TLS to mcp.example.com as mcp.example.com\n") {
				t.Errorf("%s is spoken to in the clear, or anybody may be it", cluster)
			}
		})
	}
	fanout := proxies["gateway-fanout"]
	if !strings.Contains(
		render(t, fanout.example, fanout.proxy()).Summary(),
		"\ncluster outbound|80|mcp-example-com-5140e404|istio-egressgateway.istio-system.svc.cluster.local, TLS to mcp.example.com\n",
	) {
		t.Error("on the way to the egress gateway there is no TLS for the server's host")
	}
}
