package envoy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"bellhop/envoy"
)

// The longest list of headers that a policy can have: Envoy's own limit for the expression would refuse it.
func TestEnvoyAcceptsTheLongestPolicy(t *testing.T) {
	var text strings.Builder
	text.WriteString("version: 1\nforward:\n")
	for i := range 48 {
		fmt.Fprintf(
			&text,
			"  - {name: x-header-that-clients-send-with-a-long-name-%02d, as: "+
				"x-header-that-the-backend-reads-with-a-long-name-%02d}\n",
			i,
			i,
		)
	}
	bellhop, address := serve(t, "unix")
	upstream := newUpstream(t, nil)
	options := start(
		t,
		load(t, text.String()),
		envoy.BootstrapOptions{
			Fanout:        upstream.URL,
			Backends:      []string{"a=" + upstream.URL + "/mcp"},
			FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
		},
	)
	bellhop.tell(set("x-header-that-the-backend-reads-with-a-long-name-47", "v"))
	if got := get(t, "http://"+options.Egress+"/a/mcp"); got.status != http.StatusOK {
		t.Fatalf("got %d", got.status)
	}
}

// What Envoy itself and the fan-out send beside Bellhop's headers must not be the reason to refuse a request.
func TestEnvoyHasRoomForAFullRequest(t *testing.T) {
	bellhop, address := serve(t, "unix")
	upstream := newUpstream(t, nil)
	options := start(
		t,
		load(t, "version: 1\nforward: [x-k]\n"),
		envoy.BootstrapOptions{
			Fanout:        upstream.URL,
			Backends:      []string{"a=" + upstream.URL + "/mcp"},
			FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
		},
	)
	var pairs []string
	for i := range 80 {
		pairs = append(pairs, fmt.Sprintf("x-filler-%d", i), strings.Repeat("f", 600))
	}
	var lines []string
	for range 80 {
		lines = append(lines, "x-k", strings.Repeat("k", 600))
	}
	full := set(lines...)
	for _, option := range full.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders()[1:] {
		option.Append = wrapperspb.Bool(true) //nolint:staticcheck // the field that Envoy's ext_proc reads
	}
	bellhop.tell(full)
	if got := get(t, "http://"+options.Egress+"/a/mcp", pairs...); got.status != http.StatusOK {
		t.Errorf("egress: got %d", got.status)
	}
	bellhop.tell(set("x-bellhop-ticket", "t"))
	for range 30 {
		pairs = append(pairs, "x-more", "m")
	}
	if got := get(t, "http://"+options.Ingress+"/mcp", pairs...); got.status != http.StatusOK {
		t.Errorf("ingress: got %d", got.status)
	}
}
