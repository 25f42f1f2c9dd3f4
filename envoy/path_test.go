package envoy_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"bellhop/envoy"
)

// rawGet sends a target as it is, which Go's client would clean, and returns the status.
func rawGet(t *testing.T, address, target string, lines ...string) int {
	t.Helper()
	connection, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
	head := append([]string{"GET " + target + " HTTP/1.1", "Connection: close"}, lines...)
	if !strings.Contains(strings.ToLower(strings.Join(lines, "\n")), "host:") {
		head = append(head, "Host: "+address)
	}
	if _, err := fmt.Fprint(connection, strings.Join(head, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// A backend is a URL: what is not below its path is not the backend, whatever else is on that host.
func TestARouteEndsWhereTheBackendEnds(t *testing.T) {
	bellhop, address := serve(t, "unix")
	shared, root := newUpstream(t, nil), newUpstream(t, nil)
	options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
		Fanout: root.URL,
		Backends: []string{
			"a=" + shared.URL + "/team-a/mcp", "b=" + shared.URL + "/team-b/mcp/", "sub=" + shared.URL + "/team-a/mcp/sub",
			"root=" + root.URL,
		},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
	})
	for _, test := range []struct {
		target, backend, want string // no backend: not found, or refused
	}{
		{"/a/team-a/mcp", "a", "/team-a/mcp"},
		{"/a/team-a/mcp?x=/../b", "a", "/team-a/mcp?x=/../b"},
		{"/a/team-a/mcp/", "a", "/team-a/mcp/"},
		{"/a/team-a/mcp/x/y", "a", "/team-a/mcp/x/y"},
		{"/a//team-a///mcp//x", "a", "/team-a/mcp/x"},
		{"/a/./team-a/x/../mcp", "a", "/team-a/mcp"},
		{"/b/../a/team-a/mcp", "a", "/team-a/mcp"},
		{"/b/team-b/mcp", "b", "/team-b/mcp"},
		{"/b/team-b/mcp/", "b", "/team-b/mcp/"},
		{"/sub/team-a/mcp/sub/x", "sub", "/team-a/mcp/sub/x"},
		{"/root", "root", "/"},
		{"/root/", "root", "/"},
		{"/root/x?y", "root", "/x?y"},

		{"/a", "", ""},
		{"/a/", "", ""},
		{"/a/admin/export", "", ""},
		{"/a/team-a", "", ""},
		{"/a/team-a/mcpx", "", ""},
		{"/a/team-a/mcp;x", "", ""},
		{"/a/team-b/mcp", "", ""},
		{"/a/team-a/../team-b/mcp", "", ""},
		{"/a/team-a/mcp/../../team-b/mcp", "", ""},
		{"/a/team-a/mcp/%2e%2e/%2E%2e/team-b/mcp", "", ""},
		{"/a/team-a/mcp/..%2f..%2fteam-b/mcp", "", ""},
		{"/a/team-a/mcp/..%5c..%5cteam-b/mcp", "", ""},
		{`/a/team-a/mcp/..\..\team-b/mcp`, "", ""},
		{"/a/team-a/mcp/..;/..;/team-b/mcp", "", ""},
		{"/a/team-a/mcp/.%2e;x/team-b/mcp", "", ""},
		{"/a/team-a/mcp/sub", "", ""},
		{"/a/team-a/mcp/sub/x", "", ""},
		{"/a/team-a/mcp//sub/x", "", ""},
		{"/a/../b/mcp", "", ""},
		{"/A/team-a/mcp", "", ""},
		{"/", "", ""},
		{"//root", "root", "/"},
	} {
		t.Run(test.target, func(t *testing.T) {
			bellhop.tell(set())
			status := rawGet(t, options.Egress, test.target)
			request, other := shared.take(), root.take()
			if request == nil {
				request = other
			}
			if test.backend == "" {
				if request != nil || bellhop.count() != 0 || status < 400 || status > 499 {
					t.Fatalf("%d, and the server got %v", status, request)
				}
				return
			}
			if request == nil || request.RequestURI != test.want {
				t.Fatalf("%d, and the server got %v, want %s", status, request, test.want)
			}
			if got := bellhop.last(t).metadata.Get("bellhop-backend"); len(got) != 1 || got[0] != test.backend {
				t.Errorf("as backend %q, want %s", got, test.backend)
			}
		})
	}
}
