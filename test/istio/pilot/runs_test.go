package pilot_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"istio.io/istio/pilot/pkg/model"

	"bellhop/envoy/istio"
	"bellhop/policy"
	"bellhop/test/istio/pilot"
)

// run is one run of the command for a fan-out of its own.
func run(t *testing.T, setUp istio.SetUp, name, server string, hosts ...string) string {
	t.Helper()
	loaded, findings := policy.Load("policy.yaml", []byte("version: 1\nfanout: "+name+"\nforward: [x-mcp-api-key]\n"))
	if loaded == nil {
		t.Fatal(findings)
	}
	options := istio.Options{
		SetUp: setUp, Workload: []string{"app=" + name}, Accounts: []string{"default/" + name},
		Backends: []string{"server=https://" + server},
	}
	options.Hosts = hosts
	made, err := istio.Manifests([]*policy.Policy{loaded}, options)
	if err != nil {
		t.Fatal(err)
	}
	return string(made)
}

// apply does what kubectl does with manifests one after the other: what has the kind, the name and the namespace of
// another takes its place.
func apply(manifests ...string) string {
	identity := regexp.MustCompile(`(?m)^kind: .*\n|^  name(space)?: .*\n`)
	var order []string
	applied := map[string]string{}
	for document := range strings.SplitSeq(strings.Join(manifests, "\n---\n"), "\n---\n") {
		id := strings.Join(identity.FindAllString(document, 3), "")
		if !slices.Contains(order, id) {
			order = append(order, id)
		}
		applied[id] = document
	}
	var all []string
	for _, id := range order {
		all = append(all, applied[id])
	}
	return strings.Join(all, "\n---\n")
}

// The command is run once for each fan-out. A later run takes nothing from an earlier one.
func TestASecondRunOverwritesNothingOfTheFirst(t *testing.T) {
	manifests := apply(
		run(t, istio.Central, "one", "one.example.net"), run(t, istio.Central, "two", "two.example.net"),
		run(t, istio.Gateway, "three", "three.example.net", "three.example.com"),
		run(t, istio.Gateway, "four", "four.example.net", "four.example.com"),
	)
	made := func(proxy *model.Proxy) pilot.Rendered { return pilot.Render(t, around(t)+"\n---\n"+manifests, proxy) }

	for _, chain := range bellhops(t, made(pilot.Sidecar("bellhop", "10.0.2.1", map[string]string{"app": "bellhop"}))) {
		for _, name := range []string{"one", "two"} {
			request := pilot.Request{
				Principal: spiffe + "default/sa/" + name,
				Port:      9000,
				Headers:   map[string]string{fanout: name, role: "egress"},
			}
			if is, err := pilot.Authorised(chain, request); !is || err != nil {
				t.Errorf("the fan-out %s may not ask Bellhop: %v", name, err)
			}
		}
	}
	in, out := proxies["gateway-ingress"], proxies["gateway-egress"]
	for _, name := range []string{"three", "four"} {
		for role, at := range map[string]string{"ingress": made(in.proxy()).Summary(),
			"egress": made(out.proxy()).Summary()} {
			filter := regexp.MustCompile(fmt.Sprintf(`  (bellhop\.%s\.default-%s-[0-9a-f]{8}) \(disabled\) `, role, name)).
				FindStringSubmatch(at)
			if filter == nil || strings.Count(at, "enables "+filter[1]) > 1 {
				t.Fatalf("the filter of %s is not there once:\n%s", name, at)
			}
			if role == "egress" && !strings.Contains(at, "host "+name+".example.net:80\n    enables "+filter[1]+" ") {
				t.Errorf("the egress gateway does not know the server of %s:\n%s", name, at)
			}
		}
	}
}
