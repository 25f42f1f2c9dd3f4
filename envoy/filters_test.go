package envoy_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"bellhop/envoy"
)

func TestFiltersExample(t *testing.T) {
	got, err := envoy.Filters(
		load(t, read(t, policyFile("filters"))),
		envoy.FilterOptions{PolicyFile: "envoy/" + policyFile("filters")},
	)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, configFile("filters"), got)
}

func TestFiltersErrors(t *testing.T) {
	_, err := envoy.Filters(load(t, openPolicy), envoy.FilterOptions{Bellhop: []string{"10.0.0.1:1"}, BellhopCA: "ca\n"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"--bellhop-ca: contains a control character", "--bellhop-cert: is missing", "--bellhop-key: is missing",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

// existing is an Envoy of somebody's own, with marks where the pieces go.
const existing = `
static_resources:
  listeners:
    - name: mine-in
      address: {socket_address: {address: 127.0.0.1, port_value: INGRESS}}
      filter_chains: [{filters: [{name: hcm, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
        stat_prefix: in, access_log: INGRESS-LOG, route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: my-fanout}}]}]}, http_filters: INGRESS-FILTERS}}]}]
    - name: mine-out
      address: {socket_address: {address: 127.0.0.1, port_value: EGRESS}}
      filter_chains: [{filters: [{name: hcm, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
        stat_prefix: out, route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: mcp-a}}]}]}, http_filters: EGRESS-FILTERS}}]}]
`

// What "envoy filters" prints works in an Envoy that was not made by Bellhop.
func TestFiltersInAnExistingEnvoy(t *testing.T) {
	binary := envoyBinary(t)
	bellhop, address := serve(t, "unix")
	server := newUpstream(t, nil)
	text, err := envoy.Filters(load(t, servedPolicy), envoy.FilterOptions{Bellhop: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	free := freeAddresses(t)
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, paste(t, text, free, server.host()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, binary, file, free[2])

	bellhop.tell(set())
	get(t, "http://"+free[0]+"/mcp", "x-mcp-api-key", "k", "x-other", "o")
	asked := bellhop.last(t)
	wantMetadata(t, asked.metadata, map[string]string{"bellhop-role": "ingress", "bellhop-fanout": "search"})
	if asked.headers["x-mcp-api-key"] != "k" || asked.headers["x-other"] != "" {
		t.Errorf("headers shown: %v", asked.headers)
	}
	bellhop.tell(set("authorization", "Bearer k", "x-evil", "1"))
	if got := get(t, "http://"+free[1]+"/mcp", "x-bellhop-ticket", "t"); got.status != http.StatusOK {
		t.Fatalf("status %d", got.status)
	}
	asked = bellhop.last(t)
	wantMetadata(t, asked.metadata, map[string]string{"bellhop-role": "egress", "bellhop-fanout": "search"})
	if asked.cluster != "mcp-a" || asked.headers["x-bellhop-ticket"] != "t" {
		t.Errorf("cluster %q, headers %v", asked.cluster, asked.headers)
	}
	if header := server.take().Header; header.Get("Authorization") != "Bearer k" || header.Get("X-Evil") != "" {
		t.Errorf("headers at the backend: %v", header)
	}
}

// A route says in its own configuration whose it is. On one that does not, no redirect passes.
func TestRedirectsInAnExistingEnvoy(t *testing.T) {
	binary := envoyBinary(t)
	_, address := serve(t, "unix")
	server := redirector(t)
	own := strings.TrimPrefix(server.URL, "http://")
	text, err := envoy.Filters(load(t, servedPolicy), envoy.FilterOptions{Bellhop: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	free := freeAddresses(t)
	const plain = `routes: [{match: {prefix: /}, route: {cluster: mcp-a}}]`
	const perRoute = `"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute, filter_context: `
	config := strings.Replace(string(paste(t, text, free, own)), plain, `routes: [
          {match: {prefix: /a/}, route: {cluster: mcp-a, prefix_rewrite: /}, typed_per_filter_config: {bellhop.egress_redirect: {`+
		perRoute+`{own: ["`+server.URL+`"], prefix: /a, path: /mcp, server: backend a}}}},
          {match: {prefix: /, headers: [{name: ":authority", string_match: {prefix: b.example}}]},
            route: {cluster: mcp-a},
            typed_per_filter_config: {bellhop.egress_redirect: {`+perRoute+`{host: true}}}},
          {match: {prefix: /}, route: {cluster: mcp-a}}]`, 1)
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, binary, file, free[2])
	for _, test := range []struct{ listener, host, path, location, want string }{
		{free[0], "mcp.example.com", "/mcp/", "/mcp", "/mcp"},
		{free[0], "mcp.example.com:8080", "/mcp/", "http://mcp.example.com:8080/mcp", "/mcp"},
		{free[0], "mcp.example.com:8080", "/mcp/", server.URL + "/mcp", ""},
		{free[1], "", "/a/mcp", "/mcp/", "/a/mcp/"},
		{free[1], "", "/a/mcp", server.URL + "/mcp/", "/a/mcp/"},
		{free[1], "", "/a/mcp", "/b/mcp", ""},
		{free[1], "b.example", "/mcp", "http://b.example/mcp/", "/mcp/"},
		{free[1], "b.example", "/mcp", "http://c.example/mcp/", ""},
		{free[1], "", "/mcp", "/mcp/", ""},
		{free[1], "", "/mcp", "http://" + free[1] + "/a/mcp", ""},
	} {
		got := hosted(t, "http://"+test.listener+test.path, test.host, "X-Location", test.location)
		if test.want == "" {
			wantRefusedRedirect(t, got)
		} else if got.status != http.StatusTemporaryRedirect || got.header.Get("Location") != test.want {
			t.Errorf("%v: %d with Location %q", test, got.status, got.header.Values("Location"))
		}
	}
	// Nothing leaves for what is not the backend's own path, even where the route does not end with it.
	for _, path := range []string{
		"/a/admin", "/a/mcpx", "/a/mcp/../admin", "/a/mcp/..%2fadmin", "/a/mcp/%2e%2e/admin", "/a/",
	} {
		if got := rawGet(t, free[1], path); got != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, got)
		}
	}
}

// The access log that "envoy filters" prints for sessions is one that an Envoy of somebody's own takes, beside its
// filters.
func TestTheAccessLogInAnExistingEnvoy(t *testing.T) {
	binary := envoyBinary(t)
	bellhop, address := serve(t, "unix")
	server := newUpstream(t, nil)
	sessions := strings.Replace(servedPolicy, "- x-mcp-api-key", "- {name: x-mcp-api-key, keep: session}", 1)
	text, err := envoy.Filters(load(t, sessions), envoy.FilterOptions{Bellhop: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\ningress_access_log:\n") {
		t.Fatalf("there is none:\n%s", text)
	}
	free := freeAddresses(t)
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, paste(t, text, free, server.host()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, binary, file, free[2])
	bellhop.tell(set())
	if got := get(t, "http://"+free[0]+"/mcp", "x-mcp-api-key", "k"); got.status != http.StatusOK ||
		bellhop.last(t).headers["x-mcp-api-key"] != "k" {
		t.Errorf("status %d", got.status)
	}
}

// paste puts each piece where its comment says.
func paste(t *testing.T, pieces []byte, free []string, server string) []byte {
	t.Helper()
	var piece struct {
		Ingress  []any          `yaml:"ingress_http_filters"`
		Egress   []any          `yaml:"egress_http_filters"`
		Log      []any          `yaml:"ingress_access_log"`
		Clusters []any          `yaml:"clusters"`
		Runtime  map[string]any `yaml:"layered_runtime"`
	}
	if err := yaml.UnmarshalWithOptions(pieces, &piece, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	router := map[string]any{
		"name":         "router",
		"typed_config": map[string]any{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
	}
	flow := func(value any) string {
		out, err := yaml.MarshalWithOptions(value, yaml.JSON())
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	Endpoint := func(name string) any {
		var cluster any
		host := `{socket_address: {address: 127.0.0.1, port_value: ` + port(server) + `}}`
		text := `{name: ` + name + `, load_assignment: {cluster_name: ` + name + `, endpoints: [{lb_endpoints: [{endpoint: {address: ` + host + `}}]}]}}`
		if err := yaml.Unmarshal([]byte(text), &cluster); err != nil {
			t.Fatal(err)
		}
		return cluster
	}
	text := strings.NewReplacer(
		"INGRESS-LOG", flow(append([]any{}, piece.Log...)), "INGRESS-FILTERS", flow(append(piece.Ingress, router)),
		"EGRESS-FILTERS", flow(append(piece.Egress, router)), "INGRESS", port(free[0]), "EGRESS", port(free[1]),
	).Replace(existing)
	text += "  clusters: " + flow(append(piece.Clusters, Endpoint("my-fanout"), Endpoint("mcp-a"))) + "\n"
	text += `overload_manager: {resource_monitors: [{name: envoy.resource_monitors.global_downstream_max_connections, typed_config: {` +
		`"@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 1000}}]}` + "\n"
	text += "layered_runtime: " + flow(piece.Runtime) + "\n"
	return []byte(text + "admin: {address: {socket_address: {address: 127.0.0.1, port_value: " + port(free[2]) + "}}}\n")
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, file), string(got)); diff != "" {
		t.Errorf("run go test ./envoy -update, if this is meant to be (-file +got):\n%s", diff)
	}
}

// Mesh-wide, a fan-out is named by the namespace of its proxy: Envoy takes it from its own environment, and no header
// of a client's has a say.
func TestTheNamespaceNamesTheFanout(t *testing.T) {
	binary := envoyBinary(t)
	t.Setenv("POD_NAMESPACE", "team-a")
	bellhop, address := serve(t, "unix")
	server := newUpstream(t, nil)
	text, err := envoy.Filters(load(t, servedPolicy), envoy.FilterOptions{Bellhop: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	mesh := read(t, "../deploy/istio/mesh/istio.yaml")
	value := `value: "%ENVIRONMENT(POD_NAMESPACE)%"`
	if !strings.Contains(mesh, "- key: bellhop-fanout\n                  "+value) {
		t.Fatalf("the mesh-wide example names fan-outs in another way")
	}
	free := freeAddresses(t)
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, paste(t, []byte(strings.ReplaceAll(string(text), "value: search", value)), free,
		server.host()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, binary, file, free[2])
	for i, role := range []string{"ingress", "egress"} {
		bellhop.tell(set())
		get(t, "http://"+free[i]+"/mcp", "bellhop-fanout", "team-b", "pod_namespace", "team-b")
		wantMetadata(t, bellhop.last(t).metadata, map[string]string{"bellhop-role": role, "bellhop-fanout": "team-a"})
	}
}
