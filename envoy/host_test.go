package envoy_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"bellhop/envoy"
)

// A listener answers to its own names only: a web page whose own name leads here is not let in.
func TestAListenerAnswersToItsOwnNamesOnly(t *testing.T) {
	bellhop, address := serve(t, "unix")
	fanout, a := newUpstream(t, nil), newUpstream(t, nil)
	options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
		Fanout: fanout.URL, Backends: []string{"a=" + a.URL + "/mcp"},
		IngressHosts: []string{"MCP.example.com", "*.wild.example", "192.0.2.1"}, EgressHosts: []string{"envoy.internal"},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
	})
	type door struct{ listener, target string }
	ingress, egress := door{options.Ingress, "/mcp"}, door{options.Egress, "/a/mcp"}
	const none = 0
	for _, test := range []struct {
		host            string
		ingress, egress int // none: served
	}{
		{"localhost", none, none},
		{"LOCALHOST:1", none, none},
		{"127.0.0.1", none, none},
		{"127.0.0.1:65535", none, none},
		{"[::1]", none, none},
		{"[::1]:8080", none, none},
		{"mcp.example.com", none, 421},
		{"Mcp.Example.Com:8443", none, 421},
		{"x.wild.example:1", none, 421},
		{"192.0.2.1:8080", none, 421},
		{"envoy.internal:8081", 421, none},

		{"evil.example", 421, 421},
		{"evil.example:8080", 421, 421},
		{"localhost.evil.example", 421, 421},
		{"127.0.0.1.evil.example", 421, 421},
		{"mcp.example.com.evil.example", 421, 421},
		{"evil-mcp.example.com", 421, 421},
		{"wild.example", 421, 421},
		{"localhost.", 421, 421},
		{"127.0.0.2", 421, 421},
		{"127.1", 421, 421},
		{"0.0.0.0", 421, 421},
		{"localhost:8080@evil.example", 421, 421},
		{"evil.example:8080:localhost", 421, 421},
	} {
		for at, want := range map[door]int{ingress: test.ingress, egress: test.egress} {
			bellhop.tell(set())
			got := rawGet(t, at.listener, at.target, "Host: "+test.host)
			reached := fanout.take() != nil || a.take() != nil
			if want == none && (got != http.StatusOK || !reached) {
				t.Errorf("%s of %q: %d, want it served", at.target, test.host, got)
			}
			if want != none && (got < 400 || got > 499 || reached || bellhop.count() != 0) {
				t.Errorf("%s of %q: %d, reached %v, Bellhop asked %d times; want %d", at.target, test.host, got, reached,
					bellhop.count(), want)
			}
		}
	}
	t.Run("an absolute target names the host too", func(t *testing.T) {
		if got := rawGet(t, options.Ingress, "http://evil.example/mcp", "Host: localhost"); got != 421 {
			t.Errorf("%d, want 421", got)
		}
	})
	t.Run("the error says what to do", func(t *testing.T) {
		for listener, flag := range map[string]string{options.Ingress: "--ingress-host", options.Egress: "--egress-host"} {
			got := hosted(t, "http://"+listener+"/a/mcp", "evil.example")
			if got.status != 421 || got.header.Get("Content-Type") != "application/json" || !strings.Contains(got.body, flag) {
				t.Errorf("%d %v %s", got.status, got.header, got.body)
			}
		}
	})
}

// hosted sends a request with another Host.
func hosted(t *testing.T, url, host string, pairs ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	for i := 0; i+1 < len(pairs); i += 2 {
		request.Header.Add(pairs[i], pairs[i+1])
	}
	return send(t, request)
}

func TestNoWebPageGetsIn(t *testing.T) {
	bellhop, address := serve(t, "unix")
	fanout, a := newUpstream(t, nil), newUpstream(t, nil)
	options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
		Fanout: fanout.URL, Backends: []string{"a=" + a.URL},
		IngressHosts:  []string{"mcp.example.com", "*.wild.example"},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
	})
	for _, test := range []struct {
		host, origin string
		ok           bool
	}{
		{"localhost:8080", "http://localhost:8080", true},
		{"localhost:8080", "https://127.0.0.1", true},
		{"localhost:8080", "http://[::1]:3000", true},
		{"mcp.example.com", "https://mcp.example.com", true},
		{"mcp.example.com", "https://x.y.wild.example:8443", true},

		{"localhost:8080", "http://evil.example", false},
		{"localhost:8080", "null", false},
		{"localhost:8080", "", false},
		{"localhost:8080", "http://localhost.evil.example", false},
		{"localhost:8080", "http://evil.example/localhost", false},
		{"localhost:8080", "http://localhost:8080@evil.example", false},
		{"localhost:8080", "http://localhost:8080, http://evil.example", false},
		{"localhost:8080", "chrome-extension://localhost", false},
		{"localhost:8080", "https://mcpxexample.com", false},
		{"localhost:8080", "https://wild.example", false},
		{"evil.example", "http://evil.example", false},
		{"evil.example", "http://localhost:8080", false},
	} {
		bellhop.tell(set())
		got := hosted(t, "http://"+options.Ingress+"/mcp", test.host, "Origin", test.origin)
		if reached := fanout.take() != nil; reached != test.ok || test.ok != (got.status == http.StatusOK) ||
			!test.ok && (got.status != http.StatusForbidden || bellhop.count() != 0) {
			t.Errorf("Host %s, Origin %q: %d, served %v", test.host, test.origin, got.status, reached)
		}
	}
	t.Run("egress takes nothing that a browser marks", func(t *testing.T) {
		for _, mark := range [][2]string{
			{"Origin", "http://localhost:8081"}, {"Origin", "null"}, {"Origin", ""}, {"Sec-Fetch-Site", "same-origin"},
			{"Sec-Fetch-Site", "none"}, {"Sec-Fetch-Dest", "image"}, {"Sec-Fetch-User", "?1"},
			{"Sec-Fetch-Storage-Access", "none"},
		} {
			bellhop.tell(set())
			got := get(t, "http://"+options.Egress+"/a/admin", mark[0], mark[1])
			if got.status != http.StatusForbidden || a.take() != nil || bellhop.count() != 0 {
				t.Errorf("%v: %d", mark, got.status)
			}
			if !strings.Contains(got.body, strings.ToLower(mark[0])) {
				t.Errorf("%v: the error does not say why: %s", mark, got.body)
			}
		}
	})
	t.Run("egress takes what Node's fetch sends", func(t *testing.T) {
		if got := get(t, "http://"+options.Egress+"/a/mcp", "Sec-Fetch-Mode", "cors"); got.status != http.StatusOK {
			t.Errorf("%d", got.status)
		}
	})
	t.Run("ingress takes a browser's marks off", func(t *testing.T) {
		get(
			t, "http://"+options.Ingress+"/mcp", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Dest", "empty", "Sec-Fetch-User",
			"?1",
		)
		for name := range fanout.take().Header {
			if strings.HasPrefix(name, "Sec-") {
				t.Errorf("the fan-out got %s", name)
			}
		}
	})
}

// The fan-out gets the client's Host where it can be expected to accept it.
func TestTheFanoutGetsTheHost(t *testing.T) {
	_, address := serve(t, "unix")
	fanout := newUpstream(t, nil)
	for mode, want := range map[string]map[string]bool{ // whether it is kept
		"":                {"localhost:1": true, "mcp.example.com": false},
		envoy.HostKeep:    {"localhost:1": true, "mcp.example.com": true},
		envoy.HostRewrite: {"localhost:1": false, "mcp.example.com": false},
	} {
		options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
			Fanout: fanout.URL, Backends: []string{"a=http://127.0.0.1:1"}, FanoutHost: mode,
			IngressHosts: []string{"mcp.example.com"}, FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
		})
		for host, kept := range want {
			wanted := fanout.host()
			if kept {
				wanted = host
			}
			hosted(t, "http://"+options.Ingress+"/x", host)
			wantRequest(t, fanout.take(), wanted, "/x")
		}
	}
}

// A client is never led past the ingress, whatever the fan-out calls itself.
func TestAFanoutRedirectsToTheIngressOnly(t *testing.T) {
	_, address := serve(t, "unix")
	fanout := redirector(t)
	own := strings.TrimPrefix(fanout.URL, "http://")
	for _, mode := range []string{envoy.HostKeep, envoy.HostRewrite} {
		options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
			Fanout: fanout.URL, Backends: []string{"a=http://127.0.0.1:1"}, FanoutHost: mode,
			IngressHosts: []string{"mcp.example.com"}, IngressRedirect: []string{"https://login.example.com"},
			FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
		})
		for location, want := range map[string]string{
			"/mcp":                                  "/mcp",
			"mcp":                                   "mcp",
			"../mcp":                                "../mcp",
			"http://" + own + "/mcp?a=b":            "/mcp?a=b",
			"http://mcp.example.com/mcp":            "/mcp",
			"https://mcp.example.com/mcp":           "/mcp",
			"https://login.example.com/a?b":         "https://login.example.com/a?b",
			"http://" + own + "//evil.example/mcp":  "/evil.example/mcp",
			"http://login.example.com/a":            "",
			"https://login.example.com.evil/a":      "",
			"http://evil.example/mcp":               "",
			"//evil.example/mcp":                    "",
			"http://" + options.Egress + "/a/mcp":   "",
			"http://mcp.example.com:9/mcp":          "",
			"http://mcp.example.com@evil.example/x": "",
		} {
			got := hosted(t, "http://"+options.Ingress+"/x/", "mcp.example.com", "X-Location", location)
			if want == "" {
				wantRefusedRedirect(t, got)
			} else if got.status != http.StatusTemporaryRedirect || got.header.Get("Location") != want {
				t.Errorf("%s: %d with Location %q, want %q", location, got.status, got.header.Values("Location"), want)
			}
		}
	}
}

// A page of an allowed origin may send what the policy names, and can read every answer, errors too.
func TestAllowedWebPages(t *testing.T) {
	bellhop, address := serve(t, "unix")
	fanout := redirector(t)
	const page = "https://app.example.com"
	options := start(t, load(t, "version: 1\nforward: [x-mcp-api-key, x-acme-*]\nexplain: true\n"), envoy.BootstrapOptions{
		Fanout: fanout.URL, Backends: []string{"a=http://127.0.0.1:1"}, IngressOrigins: []string{page},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
	})
	url := "http://" + options.Ingress + "/mcp"
	t.Run("before a request", func(t *testing.T) {
		got := answered(
			t, http.MethodOptions, url, "Origin", page, "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "x-mcp-api-key,content-type", "Access-Control-Request-Private-Network", "true",
		)
		if got.status != http.StatusOK || got.header.Get("Access-Control-Allow-Origin") != page ||
			got.header.Get("Access-Control-Allow-Private-Network") != "true" {
			t.Errorf("%d %v", got.status, got.header)
		}
		sends := strings.Split(got.header.Get("Access-Control-Allow-Headers"), ", ")
		for _, name := range []string{"x-mcp-api-key", "authorization", "content-type", "mcp-session-id", "mcp-method", "*"} {
			if !slices.Contains(sends, name) {
				t.Errorf("a page cannot send %s: %q", name, sends)
			}
		}
		for _, method := range []string{"GET", "POST", "DELETE"} {
			if !strings.Contains(got.header.Get("Access-Control-Allow-Methods"), method) {
				t.Errorf("a page cannot %s", method)
			}
		}
		if bellhop.count() != 0 {
			t.Error("Bellhop was asked")
		}
	})
	immediate := &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ImmediateResponse{
		ImmediateResponse: &extprocv3.ImmediateResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode_BadRequest}},
	}}
	for name, test := range map[string]struct {
		answer *extprocv3.ProcessingResponse
		pairs  []string
		want   int
	}{
		"an answer":            {set(), []string{"X-Answer", "202"}, 202},
		"an error of Bellhop":  {immediate, nil, 400},
		"a refused redirect":   {set(), []string{"X-Location", "http://evil.example"}, 502},
		"an error of its own":  {set(), []string{"X-Answer", "401"}, 401},
		"a translated request": {set(), []string{"X-Location", "/x"}, 307},
	} {
		t.Run(name, func(t *testing.T) {
			bellhop.tell(test.answer)
			got := answered(t, http.MethodPost, url, append([]string{"Origin", page}, test.pairs...)...)
			if got.status != test.want || got.header.Get("Access-Control-Allow-Origin") != page {
				t.Errorf("%d %v, want %d and readable", got.status, got.header, test.want)
			}
			for _, name := range []string{"mcp-session-id", "x-bellhop-captured", "x-bellhop-not-listed", "www-authenticate"} {
				if !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), name) {
					t.Errorf("a page cannot read %s", name)
				}
			}
		})
	}
	t.Run("other pages", func(t *testing.T) {
		for _, other := range []string{
			"https://evil.example", page + ".evil.example", "http://app.example.com", page + ":444",
		} {
			for _, method := range []string{http.MethodOptions, http.MethodPost} {
				got := answered(t, method, url, "Origin", other, "Access-Control-Request-Method", "POST")
				if got.status != http.StatusForbidden || got.header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s %s: %d %v", method, other, got.status, got.header)
				}
			}
		}
	})
}
