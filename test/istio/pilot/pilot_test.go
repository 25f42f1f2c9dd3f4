package pilot_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/google/go-cmp/cmp"
	"istio.io/istio/pilot/pkg/model"

	"bellhop/test/istio/pilot"
)

var update = flag.Bool("update", false, "regenerate the summaries")

// around is the mesh in which the examples of deploy/istio stand: the fan-out, with clients that are authenticated and
// authorised, its backends, and servers that are none of its backends.
func around(t *testing.T) string { return read(t, "testdata/mesh.yaml") }

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	vmcp    = map[string]string{"app": "vmcp"}
	meshed  = map[string]string{"app": "vmcp", "bellhop": "enabled"}
	proxies = map[string]struct {
		example string
		proxy   func() *model.Proxy
		role    string // that its proxies have; empty: both, none: neither
	}{
		"sidecar":        {"sidecar", func() *model.Proxy { return pilot.Sidecar("default", "10.0.0.1", vmcp) }, ""},
		"central":        {"central", func() *model.Proxy { return pilot.Sidecar("default", "10.0.0.1", vmcp) }, ""},
		"mesh":           {"mesh", func() *model.Proxy { return pilot.Sidecar("search", "10.0.0.2", meshed) }, ""},
		"gateway-fanout": {"gateway", func() *model.Proxy { return pilot.Sidecar("default", "10.0.0.1", vmcp) }, "none"},
		"gateway-ingress": {"gateway", func() *model.Proxy {
			return pilot.Gateway("istio-system", "10.0.0.3", map[string]string{"istio": "ingressgateway"})
		}, "ingress"},
		"gateway-egress": {"gateway", func() *model.Proxy {
			return pilot.Gateway("istio-system", "10.0.0.4", map[string]string{"istio": "egressgateway"})
		}, "egress"},
	}
)

func render(t *testing.T, example string, proxy *model.Proxy) pilot.Rendered {
	t.Helper()
	return pilot.Render(t, around(t)+"\n---\n"+read(t, "../../../deploy/istio/"+example+"/istio.yaml"), proxy)
}

// What Istio makes of each example is as it was last looked at.
func TestExamplesAsIstioRendersThem(t *testing.T) {
	for name, test := range proxies {
		t.Run(name, func(t *testing.T) {
			got := render(t, test.example, test.proxy()).Summary()
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(read(t, file), got); diff != "" {
				t.Errorf("run go test ./pilot -update, if this is meant to be (-file +got):\n%s", diff)
			}
		})
	}
}

// A proxy that is not the fan-out's gets nothing of Bellhop, also beside it: Bellhop's own service is all that it
// knows.
func TestOtherProxiesGetNothing(t *testing.T) {
	for name, test := range proxies {
		t.Run(name, func(t *testing.T) {
			proxy := test.proxy()
			proxy.Labels, proxy.Metadata.Labels = map[string]string{"app": "other"}, map[string]string{"app": "other"}
			rendered := render(t, test.example, proxy)
			for _, line := range strings.Split(rendered.Summary(), "\n") {
				if strings.Contains(strings.ReplaceAll(line, "bellhop.bellhop.svc.cluster.local", ""), "bellhop") {
					t.Errorf("%s", strings.TrimSpace(line))
				}
			}
		})
	}
}

// Where a filter of Bellhop's stands, it is the last in front of the router, behind those that authenticate and
// authorise.
func TestFiltersStandInFrontOfTheRouter(t *testing.T) {
	for name, test := range proxies {
		t.Run(name, func(t *testing.T) {
			found := map[string]int{}
			for _, listener := range render(t, test.example, test.proxy()).Listeners {
				for _, chain := range listener.GetFilterChains() {
					for _, role := range order(t, pilot.Manager(chain)) {
						found[role]++
					}
				}
			}
			for _, role := range []string{"ingress", "egress"} {
				if wanted := test.role == "" || test.role == role; (found[role] > 0) != wanted {
					t.Errorf("%d filters for the role %s", found[role], role)
				}
			}
		})
	}
}

// order finds the roles of Bellhop's filters in a manager, and checks where they stand.
func order(t *testing.T, manager *hcmv3.HttpConnectionManager) (roles []string) {
	t.Helper()
	var names []string
	for _, filter := range manager.GetHttpFilters() {
		names = append(names, filter.GetName())
	}
	for i, filter := range manager.GetHttpFilters() {
		role, ours := strings.CutPrefix(filter.GetName(), "bellhop.")
		if !ours {
			continue
		}
		role, of, _ := strings.Cut(role, ".") // at a gateway the fan-out's name follows
		if role, redirect := strings.CutSuffix(role, "_redirect"); redirect {
			if !slices.Contains(roles, role) {
				t.Errorf("it stands in front of the filter of its role: %q", names)
			}
			continue
		}
		roles = append(roles, role)
		behind := strings.TrimSuffix("bellhop."+role+"_redirect."+of, ".")
		if !slices.Equal(names[i+1:], []string{behind, "envoy.filters.http.router"}) {
			t.Errorf("it does not stand in front of the router: %q", names)
		}
		config := &extprocv3.ExternalProcessor{}
		if err := filter.GetTypedConfig().UnmarshalTo(config); err != nil {
			t.Fatal(err)
		}
		if metadata := config.GetGrpcService().GetInitialMetadata()[0]; metadata.GetKey() != "bellhop-role" ||
			metadata.GetValue() != role {
			t.Errorf("%s: metadata %v", role, metadata)
		}
		if config.GetFailureModeAllow() || !config.GetMutationRules().GetDisallowAll().GetValue() ||
			config.GetForwardRules() == nil {
			t.Errorf("%s: it does not fail closed, or is open: %v", role, config)
		}
	}
	return roles
}

// The sidecar of the fan-out authenticates and authorises clients before Bellhop takes their headers.
func TestClientsAreAuthorizedFirst(t *testing.T) {
	for _, listener := range render(t, "sidecar", pilot.Sidecar("default", "10.0.0.1", vmcp)).Listeners {
		for _, chain := range listener.GetFilterChains() {
			var names []string
			for _, filter := range pilot.Manager(chain).GetHttpFilters() {
				names = append(names, filter.GetName())
			}
			ours := slices.Index(names, "bellhop.ingress")
			if ours < 0 {
				continue
			}
			for _, earlier := range []string{"envoy.filters.http.jwt_authn", "envoy.filters.http.rbac"} {
				if i := slices.Index(names, earlier); i < 0 || i > ours {
					t.Errorf("%s does not stand in front of Bellhop: %q", earlier, names)
				}
			}
		}
	}
}
