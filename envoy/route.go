package envoy

import (
	"fmt"
	"net/http"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"bellhop/policy"
)

func (w *bootstrapWriter) ingressRoutes(path string) *routev3.RouteConfiguration {
	hosts := []*routev3.VirtualHost{w.ingressHost(path+".virtual_hosts[0]", "loopback", true, loopbackNames())}
	if len(w.ingressNames) > 0 {
		at := fmt.Sprintf("%s.virtual_hosts[%d]", path, len(hosts))
		hosts = append(hosts, w.ingressHost(at, "named", false, w.ingressNames))
	}
	other := w.otherHosts(fmt.Sprintf("%s.virtual_hosts[%d]", path, len(hosts)), Ingress)
	return routeTable(Ingress, append(hosts, other)...)
}

// ingressHost leads clients that call the ingress by these names to the fan-out.
func (w *bootstrapWriter) ingressHost(path, name string, loopback bool, domains []string) *routev3.VirtualHost {
	w.Note(
		path+".request_headers_to_remove",
		"What browsers add. The egress refuses it, and some fan-outs pass everything on.",
	)
	w.Note(path+".routes[1]", "Pages of another origin than the listener's own. Bellhop is not called.")
	w.Note(path+".routes[2]", "The path and the query pass unchanged.")
	route := forward(fanoutCluster, w.fanout)
	if w.keepsHost(loopback) {
		route.HostRewriteSpecifier = nil
		w.Note(
			path+".routes[2].route",
			"The fan-out gets the client's Host, which it knows as its own: its redirects and its OAuth metadata are right.",
		)
	} else {
		w.Note(
			path+".routes[2].route.host_rewrite_literal",
			"A fan-out may refuse a Host that it does not know. With --fanout-host keep it gets the client's, and its",
			"OAuth metadata is right.",
		)
	}
	w.Note(path+".routes[2].route.timeout", "The default would end event streams and long calls after 15 s.")
	host := &routev3.VirtualHost{
		Name:    name,
		Domains: domains,
		Routes: []*routev3.Route{w.oddHost(Ingress), w.foreignPage(), {
			Name:   fanoutCluster,
			Match:  anyPath(),
			Action: &routev3.Route_Route{Route: route},
			TypedPerFilterConfig: map[string]*anypb.Any{
				Ingress.RedirectFilterName(): w.RedirectRoute(w.ofFanout()),
			},
		}},
		RequestHeadersToRemove: browserMarks()[1:],
	}
	if len(w.origins) > 0 {
		host.RequestHeadersToRemove = browserMarks()
		host.TypedPerFilterConfig = map[string]*anypb.Any{corsFilterName: w.Pack(w.corsPolicy())}
	}
	host.RequestBodyBufferLimit = w.BodyLimit(path, Ingress)
	return host
}

func (w *bootstrapWriter) egressRoutes(path string) *routev3.RouteConfiguration {
	other := w.otherHosts(path+".virtual_hosts[1]", Egress)
	path += ".virtual_hosts[0]"
	w.Note(
		path+".request_headers_to_remove",
		"They say where a client is, and the Envoy at the ingress adds some of them. Bellhop removes them too; this holds",
		"without it.",
	)
	host := &routev3.VirtualHost{
		Name: "own", Domains: append(loopbackNames(), w.egressNames...), RequestHeadersToRemove: OriginHeaders(),
		RequestBodyBufferLimit: w.BodyLimit(path, Egress),
	}
	add := func(note string, routes ...*routev3.Route) {
		if len(routes) > 0 && note != "" {
			w.Note(fmt.Sprintf("%s.routes[%d]", path, len(host.Routes)), note)
		}
		host.Routes = append(host.Routes, routes...)
	}
	add("", w.oddHost(Egress))
	add("Web pages. Only the fan-out has business here.", w.browsers()...)
	add("Some servers read /..;x/ as /../, which Envoy does not.", w.refuse(Egress, parameterDots(), refusal{
		"path", http.StatusBadRequest, "path", "some servers read a segment of the path as another; write it without ..;",
	}))
	add("Below a backend, but another one.", w.otherBackends()...)
	for _, b := range w.backends {
		add("Backend "+b.Name+", for GET: no event of a stream may tell the fan-out where to send requests.", w.streams(b)...)
		at := fmt.Sprintf("%s.routes[%d]", path, len(host.Routes))
		w.noteRoute(at, fmt.Sprintf(
			"Backend %s: /%s%s and what is below it, without /%s. The query stays.", b.Name, b.Name, b.Base(), b.Name,
		))
		w.Note(at+".typed_per_filter_config", "Gives Bellhop the backend. A client cannot set it: it is not a header.")
		add("", w.backendRoutes(b)...)
	}
	add("No such backend. Bellhop is not called, so no ticket is redeemed.", w.noBackend())
	return routeTable(Egress, host, other)
}

// OriginHeaders say where a client is, and no backend gets them.
func OriginHeaders() []string {
	return []string{
		"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto",
		"x-forwarded-client-cert", "x-real-ip", policy.ExternalAddressHeader,
	}
}

// noteRoute explains a route to a server.
func (w *bootstrapWriter) noteRoute(path string, what string) {
	w.Note(path, what)
	w.Note(
		path+".route.host_rewrite_literal",
		"MCP servers refuse a foreign Host, so that no web page can reach them by DNS rebinding.",
	)
	w.Note(path+".route.timeout", "The default would end event streams and long calls after 15 s.")
}

// otherBackends keeps a backend from what is below it on the same server but another backend.
func (w *bootstrapWriter) otherBackends() []*routev3.Route {
	var routes []*routev3.Route
	for _, b := range w.backends {
		for _, other := range w.backends {
			if b.contains(other) {
				routes = append(routes, w.refuse(Egress, below("/"+b.Name+other.Base()), refusal{
					"none", http.StatusNotFound, "other_backend",
					"this path is that of backend " + other.Name + "; ask for it at /" + other.Name + other.Base(),
				}))
			}
		}
	}
	return routes
}

// backendRoutes strips the backend's name off its own path and what is below it.
func (w *bootstrapWriter) backendRoutes(b Backend) []*routev3.Route {
	if base := b.Base(); base != "" {
		return []*routev3.Route{w.backendRoute(b, below("/"+b.Name+base), base)}
	}
	// The match ends in a slash and is replaced by a slash, or /a/x would become //x.
	return []*routev3.Route{
		w.backendRoute(b, &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/" + b.Name + "/"}}, "/"),
		w.backendRoute(b, &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/" + b.Name}}, "/"),
	}
}

// below matches a path and what is below it.
func below(path string) *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: path}}
}

// streams is the same route for GET alone, whose answer may be a stream of MCP's old transport. It asks for plain text.
func (w *bootstrapWriter) streams(b Backend) []*routev3.Route {
	routes := w.backendRoutes(b)
	for _, route := range routes {
		route.Match.Headers = []*routev3.HeaderMatcher{{
			Name:                 ":method",
			HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: exactly(http.MethodGet)},
		}}
		route.RequestHeadersToRemove = []string{"accept-encoding"}
		server := ofBackend(b)
		server.Exact, server.Events = route.Match.GetPath() != "", true
		route.TypedPerFilterConfig[Egress.RedirectFilterName()] = w.RedirectRoute(server)
	}
	return routes
}

func (w *bootstrapWriter) backendRoute(b Backend, match *routev3.RouteMatch, becomes string) *routev3.Route {
	server := ofBackend(b)
	server.Exact = match.GetPath() != ""
	route := forward(b.cluster, b.Target)
	route.PrefixRewrite = becomes
	return &routev3.Route{
		Name:   b.Name,
		Match:  match,
		Action: &routev3.Route_Route{Route: route},
		TypedPerFilterConfig: map[string]*anypb.Any{
			Egress.FilterName(): w.Pack(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Overrides{
				Overrides: w.Writer.EgressOverrides(b.Name, b.cluster, w.pathAt(b)),
			}}),
			Egress.RedirectFilterName(): w.RedirectRoute(server),
		},
	}
}

// pathAt is where the path of a backend's own URL stands at the egress listener.
func (w *bootstrapWriter) pathAt(b Backend) string {
	if b.Path == "" {
		return ""
	}
	return "/" + b.Name + b.Path
}

func (w *bootstrapWriter) noBackend() *routev3.Route {
	return w.refuse(Egress, anyPath(), refusal{
		"none", http.StatusNotFound, "no_backend",
		"no backend here; the path must be /NAME and the path of the backend's URL or one below it, where NAME and the URL " +
			"are those of one of Envoy's --backend flags",
	})
}

// parameterDots matches segments that some servers read as .. although Envoy does not.
func parameterDots() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: `.*/\.\.?;.*`},
	}}
}

// forward sends requests to a server for as long as they last.
func forward(cluster string, t Target) *routev3.RouteAction {
	return &routev3.RouteAction{
		ClusterSpecifier:     &routev3.RouteAction_Cluster{Cluster: cluster},
		HostRewriteSpecifier: &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: t.Authority()},
		Timeout:              durationpb.New(0),
		IdleTimeout:          durationpb.New(0),
	}
}
