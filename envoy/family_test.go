package envoy_test

import (
	"testing"

	"bellhop/envoy"
)

// Envoy itself keeps restricted and sensitive names out of a family, in either spelling.
func TestEnvoyKeepsFamiliesWithinBounds(t *testing.T) {
	bellhop, address := serve(t, "unix")
	upstream := newUpstream(t, nil)
	options := start(t, load(t, "version: 1\nforward: [x-*, a*, x_*]\n"), envoy.BootstrapOptions{
		Fanout: upstream.URL, Backends: []string{"a=" + upstream.URL + "/mcp"},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
	})
	bellhop.tell(
		set(
			"x-fine", "v", "app", "v", "x-forwarded-for", "v", "authorization", "v", "x-envoy-x", "v", "x-envoy-e", "v",
			"x-envoy-external-address", "v",
		),
	)
	get(t, "http://"+options.Egress+"/a/mcp")
	upstream.mu.Lock()
	defer upstream.mu.Unlock()
	for name, want := range map[string]string{
		"X-Fine": "v", "App": "v", "X-Forwarded-For": "", "Authorization": "", "X-Envoy-X": "", "X-Envoy-E": "",
		"X-Envoy-External-Address": "",
	} {
		if got := upstream.last.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
