package envoy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"bellhop/envoy"
)

// redirector answers as the request says: with the status in x-answer and a Location for each x-location.
func redirector(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Location", "Content-Location", "Refresh", "Alt-Svc", "Set-Cookie", "Set-Cookie2"} {
			if values := r.Header.Values("X-" + name); len(values) > 0 {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(statusOf(r))
		_, _ = io.WriteString(w, "the server's own body, which may hold a link")
	}))
	t.Cleanup(server.Close)
	return server
}

// statusOf is the status that a request asks for.
func statusOf(r *http.Request) int {
	if asked, err := strconv.Atoi(r.Header.Get("X-Answer")); err == nil {
		return asked
	}
	return http.StatusTemporaryRedirect
}

// answered sends a request that is answered with these Locations, and follows nothing.
func answered(t *testing.T, method, url string, pairs ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		request.Header.Add(pairs[i], pairs[i+1])
	}
	return send(t, request)
}

// send sends a request and follows nothing.
func send(t *testing.T, request *http.Request) answer {
	t.Helper()
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, string(body), response.Header}
}

// What a backend says of itself leads through Envoy back to it. Whatever else it says leads nowhere, above all not to
// another backend, which would get this client's headers for it.
func TestABackendRedirectsToItselfOnly(t *testing.T) {
	_, address := serve(t, "unix")
	a, b := redirector(t), redirector(t)
	own := strings.TrimPrefix(a.URL, "http://")
	_, port, _ := strings.Cut(own, ":")
	options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
		Fanout: b.URL, Backends: []string{"a=" + a.URL + "/mcp", "b=" + b.URL + "/mcp", "root=" + a.URL},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
	})
	egress := "http://" + options.Egress
	const refused = ""
	for _, test := range []struct{ request, location, want string }{
		{"/a/mcp", "/mcp/", "/a/mcp/"},
		{"/a/mcp/", "/mcp", "/a/mcp"},
		{"/a/mcp/", "/mcp?x=/b/mcp&y=%2F", "/a/mcp?x=/b/mcp&y=%2F"},
		{"/a/mcp", "mcp/", "/a/mcp/"},
		{"/a/mcp/x?q=/..", "y?z", "/a/mcp/y?z"},
		{"/a/mcp/x?q=/..", "./y?z", "/a/mcp/y?z"},
		{"/a/mcp", "?again=1", "/a/mcp?again=1"},
		{"/a/mcp", `/mcp?a=[1]&b={}&c="x"&d=x|y&e=\z`, `/a/mcp?a=[1]&b={}&c="x"&d=x|y&e=\z`},
		{"/a/mcp", a.URL + "/mcp/", "/a/mcp/"},
		{"/a/mcp", "//" + own + "/mcp/", "/a/mcp/"},
		{"/a/mcp", "HTTP://LocalHost:" + port + "/mcp/", "/a/mcp/"},
		{"/a/mcp", "http://localhost:0" + port + "/mcp/", "/a/mcp/"},
		{"/a/mcp", "http://[::1]:" + port + "/mcp/", "/a/mcp/"},
		{"/a/mcp", "/mcp//x", "/a/mcp/x"},
		{"/a/mcp", "/x/../mcp/", "/a/mcp/"},
		{"/a/mcp", "/%6dcp/", "/a/mcp/"},
		{"/a/mcp", "/mcp/%2e%2E/mcp/x", "/a/mcp/x"},
		{"/root", "/b/mcp", "/root/b/mcp"},
		{"/root", "b/mcp", "/root/b/mcp"},
		{"/root/x", "/", "/root/"},
		{"/root/x", a.URL, "/root/"},
		{"/root/x", a.URL + "?y", "/root/?y"},
		{"/root/", "//" + own + "//b/mcp", "/root/b/mcp"},
		{"/root/", "/../../b/mcp", "/root/b/mcp"},

		{"/a/mcp", "/b/mcp", refused},
		{"/a/mcp", "/admin", refused},
		{"/a/mcp", "/mcpx", refused},
		{"/a/mcp", "../b/mcp", refused},
		{"/a/mcp/x/", "..", refused},
		{"/a/mcp", "x/.%2E/.%2e/b/mcp", refused},
		{"/a/mcp", "1:2/x", refused},
		{"/root/x", "../../b/mcp", refused},
		{"/root", "../b/mcp", refused},
		{"/a/mcp", "", refused},
		{"/a/mcp", "/mcp/../b/mcp", refused},
		{"/a/mcp", "/mcp/%2e%2e/b/mcp", refused},
		{"/a/mcp", "/mcp/..%2fb/mcp", refused},
		{"/a/mcp", "/mcp/..%5Cb", refused},
		{"/a/mcp", "/mcp/..;/b", refused},
		{"/a/mcp", "/mcp/.%00./b", refused},
		{"/a/mcp", "/mcp/%", refused},
		{"/a/mcp", `/mcp\..\b`, refused},
		{"/a/mcp", `\\evil.example\mcp`, refused},
		{"/a/mcp", `/\evil.example/mcp`, refused},
		{"/a/mcp", "/\t/evil.example/mcp", refused},
		{"/a/mcp", "/mcp/ x", refused},
		{"/a/mcp", "/mcp/é", refused},
		{"/a/mcp", "/mcp?a=\tb", refused},
		{"/a/mcp", "https://" + own + "/mcp", refused},
		{"/a/mcp", b.URL + "/mcp", refused},
		{"/a/mcp", egress + "/b/mcp", refused},
		{"/a/mcp", "//" + options.Egress + "/b/mcp", refused},
		{"/a/mcp", "https://evil.example/mcp", refused},
		{"/a/mcp", "//evil.example/mcp", refused},
		{"/a/mcp", "///evil.example/mcp", refused},
		{"/a/mcp", "http:" + own + "/mcp", refused},
		{"/a/mcp", "http:/mcp", refused},
		{"/a/mcp", "http://" + own + "@evil.example/mcp", refused},
		{"/a/mcp", "http://" + own + ".evil.example/mcp", refused},
		{"/a/mcp", "http://" + own + "0/mcp", refused},
		{"/a/mcp", "http://127.0.0.1./mcp", refused},
		{"/a/mcp", "http://127.0.0.1/mcp", refused},
		{"/a/mcp", `http://evil.example\@` + own + "/mcp", refused},
		{"/a/mcp", "http://evil.example#@" + own + "/mcp", refused},
		{"/a/mcp", "http:///mcp", refused},
		{"/a/mcp", "javascript:alert(1)", refused},
		{"/a/mcp", "file:///etc/passwd", refused},
		{"/a/mcp", "#top", refused},
	} {
		for _, status := range []int{201, 301, 302, 303, 307, 308, 399} {
			t.Run(strconv.Itoa(status)+" "+test.request+" "+test.location, func(t *testing.T) {
				got := answered(
					t, http.MethodPost, egress+test.request, "x-answer", strconv.Itoa(status), "x-location", test.location,
				)
				if test.want == refused {
					wantRefusedRedirect(t, got)
				} else if got.status != status || followed(t, test.request, got) != test.want {
					t.Errorf("%d with Location %q, want %d with %q", got.status, got.header.Values("Location"), status, test.want)
				}
			})
		}
	}
}

// followed is the target that a client asks for next, on the host that it asked before.
func followed(t *testing.T, request string, got answer) string {
	t.Helper()
	base, err := url.Parse(request)
	if err != nil {
		t.Fatal(err)
	}
	next, err := base.Parse(got.header.Get("Location"))
	if err != nil || next.Host != "" || next.Scheme != "" {
		t.Errorf("Location %q leads to another host (%v)", got.header.Get("Location"), err)
		return ""
	}
	return next.RequestURI()
}

func wantRefusedRedirect(t *testing.T, got answer) {
	t.Helper()
	if got.status != http.StatusBadGateway || got.header.Values("Location") != nil {
		t.Fatalf("%d with Location %q, want 502 without", got.status, got.header.Values("Location"))
	}
	if got.header.Get("Content-Type") != "application/json" || !strings.Contains(got.body, `"reason":"redirect_`) ||
		!strings.HasPrefix(got.body, `{"jsonrpc":"2.0","id":"bellhop","error":`) {
		t.Errorf("the body has no reason: %s %s", got.header.Get("Content-Type"), got.body)
	}
}

// All backends share Envoy's host, and a client sends a cookie to all paths of its own.
func TestACookieGoesToItsOwnBackendOnly(t *testing.T) {
	_, address := serve(t, "unix")
	server := redirector(t)
	options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
		Fanout:        server.URL,
		Backends:      []string{"a=" + server.URL + "/team/mcp", "b=" + server.URL + "/mcp", "root=" + server.URL},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
	})
	for _, test := range []struct{ request, cookie, want string }{
		{"/a/team/mcp", "sid=1", "sid=1; Path=/a"},
		{"/a/team/mcp", "sid=1; Path=/", "sid=1; Path=/a"},
		{"/a/team/mcp", "sid=1; path=/team; Secure; HttpOnly", "sid=1; Secure; HttpOnly; Path=/a/team"},
		{"/a/team/mcp", "sid=1; Path = /b; Path=/b/mcp", "sid=1; Path=/a/b/mcp"},
		{"/a/team/mcp", "sid=1; Path=/../b/mcp", "sid=1; Path=/a/b/mcp"},
		{"/a/team/mcp", "sid=1; Path=b", "sid=1; Path=/a"},
		{"/a/team/mcp", "sid=1; Path=/%2e%2e/..%2fb", "sid=1; Path=/a"},
		{"/a/team/mcp", "sid=1; Domain=localhost; DOMAIN=.localhost; Max-Age=5", "sid=1; Max-Age=5; Path=/a"},
		{"/a/team/mcp", "path=1; Path=/b", "path=1; Path=/a/b"},
		{"/root", "sid=1", "sid=1; Path=/root"},
		{"/a/team/mcp", "sid=1;\u00a0Path=/b", ""},
		{"/a/team/mcp", "sid=1;\xa0Path=/b", ""},
		{"/a/team/mcp", "sid=1;\tPath=/b", ""},
	} {
		got := answered(t, http.MethodPost, "http://"+options.Egress+test.request, "x-answer", "200",
			"x-set-cookie", test.cookie, "x-set-cookie", "second=2", "x-set-cookie2", "third=3; Path=/")
		cookies := got.header.Values("Set-Cookie")
		if second := len(cookies) - 1; test.want == "" && second != 0 ||
			test.want != "" && (second != 1 || cookies[0] != test.want) {
			t.Errorf("%s: %q became %q, want %q and the second", test.request, test.cookie, cookies, test.want)
		}
		if got.header.Get("Set-Cookie2") != "" {
			t.Error("Set-Cookie2 passes")
		}
	}
}
