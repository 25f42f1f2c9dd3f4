package pilot_test

import (
	"strings"
	"testing"

	"bellhop/test/istio/pilot"
)

// another is an EnvoyFilter of somebody else, younger than ours by its name, that wants to stand in front of the router
// as well.
const another = `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: zz-another, namespace: istio-system}
spec:
  configPatches:
    - applyTo: HTTP_FILTER
      match:
        context: ANY
        listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}
      patch:
        operation: INSERT_BEFORE
        value:
          name: another
          typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 1000}
---
`

// Also where others put filters in front of the router, Bellhop has the last word.
func TestOthersFiltersStandInFrontOfBellhop(t *testing.T) {
	for name, test := range proxies {
		for place, namespace := range map[string]string{"the root namespace": "istio-system",
			"the proxy's own": test.proxy().ConfigNamespace} {
			t.Run(name+", "+place, func(t *testing.T) {
				theirs := another
				if namespace != "istio-system" {
					theirs = strings.ReplaceAll(another, "namespace: istio-system", "namespace: "+namespace)
				}
				rendered := pilot.Render(
					t, around(t)+"\n---"+theirs+read(t, "../../../deploy/istio/"+test.example+"/istio.yaml"), test.proxy(),
				)
				there := false
				for _, listener := range rendered.Listeners {
					for _, chain := range listener.GetFilterChains() {
						order(t, pilot.Manager(chain))
						for _, filter := range pilot.Manager(chain).GetHttpFilters() {
							there = there || filter.GetName() == "another"
						}
					}
				}
				if !there {
					t.Error("theirs is not there")
				}
			})
		}
	}
}
