package envoy

import (
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// loopbackNames are the names by which a listener on this machine is called.
func loopbackNames() []string { return []string{"localhost", "127.0.0.1", "[::1]"} }

// browserMarks are headers that browsers put on requests and programs do not. Sec-Fetch-Mode is not among them: Node's
// fetch sends it too.
func browserMarks() []string {
	return []string{"origin", "sec-fetch-site", "sec-fetch-dest", "sec-fetch-user", "sec-fetch-storage-access"}
}

// names are what a listener is called, beyond the names of loopback.
func (f *OptionErrors) names(flag string, listener netip.AddrPort, values []string) []string {
	var all []string
	if address := listener.Addr(); address.IsValid() && !address.IsUnspecified() {
		all = append(all, bracketed(address))
	}
	for _, value := range values {
		name := strings.ToLower(value)
		if address, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil && address.Zone() == "" {
			name = bracketed(address)
		} else if !ValidHost(strings.TrimPrefix(name, "*.")) {
			f.Add(flag, value, "is not a host name", "write it like mcp.example.com or *.example.com, without scheme or port")
			continue
		}
		all = append(all, name)
	}
	known := loopbackNames()
	var others []string
	for _, name := range all {
		if !slices.Contains(known, name) {
			known, others = append(known, name), append(others, name)
		}
	}
	return others
}

// bracketed is an address as it stands in a Host header.
func bracketed(address netip.Addr) string {
	if address = address.Unmap(); address.Is6() {
		return "[" + address.String() + "]"
	}
	return address.String()
}

// readOrigins reads URLs that are nothing but a scheme, a host and a port.
func (f *OptionErrors) readOrigins(flag string, values []string) []Target {
	var all []Target
	for _, value := range values {
		read, problem := ParseTarget(value)
		if f.AddProblem(flag, value, problem) {
			continue
		}
		if read.Path != "" {
			f.Add(flag, value, "has a path", "write scheme, host and port only, like https://app.example.com")
			continue
		}
		all = append(all, read)
	}
	return all
}

// browserOrigin is the target as a browser writes it: without the port that is the scheme's own.
func (t Target) browserOrigin() string {
	scheme := "http"
	if t.Secure {
		scheme = "https"
	}
	return (&url.URL{Scheme: scheme, Host: t.Authority()}).String()
}

// ownOrigins matches pages that a listener's own names stand for, and those that may use it.
func ownOrigins(names []string, origins []Target) *matcherv3.StringMatcher {
	hosts := make([]string, len(names))
	for i, name := range names {
		parent, isFamily := strings.CutPrefix(name, "*.")
		hosts[i] = regexp.QuoteMeta(parent)
		if isFamily {
			hosts[i] = `[a-z0-9._-]+\.` + hosts[i]
		}
	}
	patterns := []string{"https?://(" + strings.Join(hosts, "|") + ")(:[0-9]+)?"}
	for _, origin := range origins {
		patterns = append(patterns, regexp.QuoteMeta(origin.browserOrigin()))
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(patterns, "|")},
	}}
}

// with matches requests that have a header.
func with(name string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name:                 name,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
	}
}

// foreignPage matches requests of web pages that have no business here.
func (w *bootstrapWriter) foreignPage() *routev3.Route {
	match := anyPath()
	match.Headers = []*routev3.HeaderMatcher{with("origin"), {
		Name: "origin",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
			StringMatch: ownOrigins(append(loopbackNames(), w.ingressNames...), w.origins),
		},
		InvertMatch: true,
	}}
	return w.refuse(Ingress, match, refusal{
		"foreign_page", http.StatusForbidden, "origin",
		"a web page of this Origin may not use this server; its operator can allow it with --ingress-origin URL",
	})
}

// browsers are the routes that refuse what a browser marks, whatever the page.
func (w *bootstrapWriter) browsers() []*routev3.Route {
	var routes []*routev3.Route
	for _, name := range browserMarks() {
		match := anyPath()
		match.Headers = []*routev3.HeaderMatcher{with(name)}
		routes = append(routes, w.refuse(Egress, match, refusal{
			"browser", http.StatusForbidden, "browser",
			"only the fan-out may use this address, and this request has " + name + ", as those of web pages have; a fan-out " +
				"that passes it on has to leave it out",
		}))
	}
	return routes
}

func hostFlag(r Role) string { return "--" + string(r) + "-host NAME" }

func (w *bootstrapWriter) wrongHost(r Role, match *routev3.RouteMatch) *routev3.Route {
	return w.refuse(r, match, refusal{
		"other_host", http.StatusMisdirectedRequest, "host",
		"this server does not have the name in the Host header; its operator can add it with " + hostFlag(r),
	})
}

// oddHost refuses what Envoy takes for a name and a port, and others for another name: localhost:1@evil.example.
func (w *bootstrapWriter) oddHost(r Role) *routev3.Route {
	match := anyPath()
	match.Headers = []*routev3.HeaderMatcher{{
		Name: ":authority",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{
				SafeRegex: &matcherv3.RegexMatcher{Regex: `(\[[0-9a-fA-F:.]+\]|[^:@\[\]]+)(:[0-9]{1,5})?`},
			},
		}},
		InvertMatch: true,
	}}
	return w.wrongHost(r, match)
}

// otherHosts answers requests for names that are not the listener's: those of a web page whose own name leads here.
func (w *bootstrapWriter) otherHosts(path string, r Role) *routev3.VirtualHost {
	w.Note(
		path,
		"Any other name. A web page can let its own name lead here (DNS rebinding), and would be let in by a listener that",
		"takes every name and tells the server another one. "+hostFlag(r)+" adds a name.",
	)
	wrong := w.wrongHost(r, anyPath())
	host := &routev3.VirtualHost{Name: "other_hosts", Domains: []string{"*"}, Routes: []*routev3.Route{wrong}}
	if r == Ingress {
		page := anyPath()
		page.Headers = []*routev3.HeaderMatcher{with("origin")}
		forbidden := w.refuse(r, page, refusal{
			"other_host", http.StatusForbidden, "host",
			"this server does not have the name in the Host header, and a web page of this Origin may not use it",
		})
		host.Routes = []*routev3.Route{forbidden, wrong}
	}
	return host
}
