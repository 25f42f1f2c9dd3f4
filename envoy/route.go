package envoy

import (
	"fmt"
	"net/http"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

func (w *bootstrapWriter) ingressRoutes(path string) *routev3.RouteConfiguration {
	route := forward(fanoutCluster, w.fanout)
	w.noteRoute(path+".virtual_hosts[0].routes[0]", "The path and the query pass unchanged.")
	return routeTable(Ingress, &routev3.VirtualHost{Routes: []*routev3.Route{{
		Name:   fanoutCluster,
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Route{Route: route},
		TypedPerFilterConfig: map[string]*anypb.Any{
			Ingress.redirectFilterName(): w.Pack(w.redirectRoute(server{
				name: "the fan-out", hint: "write --fanout URL", own: []string{w.fanout.origin()}, host: true,
			})),
		},
	}}})
}

func (w *bootstrapWriter) egressRoutes(path string) *routev3.RouteConfiguration {
	path += ".virtual_hosts[0]"
	// Envoy sets it on every request that has none: "http", also towards an https backend, which may then redirect.
	const invented = "x-forwarded-proto"
	w.Note(
		path+".request_headers_to_remove",
		"Envoy adds it by itself; a backend would take it for the scheme that clients use.",
	)
	host := &routev3.VirtualHost{RequestHeadersToRemove: []string{invented}}
	for _, b := range w.backends {
		at := fmt.Sprintf("%s.routes[%d]", path, len(host.Routes))
		w.noteRoute(at, fmt.Sprintf("Backend %s: /%s/… becomes /…, the query stays.", b.Name, b.Name))
		w.Note(at+".typed_per_filter_config", "Gives Bellhop the backend. A client cannot set it: it is not a header.")
		host.Routes = append(host.Routes, w.backendRoutes(b)...)
	}
	w.Note(
		fmt.Sprintf("%s.routes[%d]", path, len(host.Routes)),
		"No such backend. Bellhop is not called, so no ticket is redeemed.",
	)
	host.Routes = append(host.Routes, w.noBackend())
	return routeTable(Egress, host)
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

// backendRoutes strips the backend's name off the path. The match ends in a slash and is replaced by a slash: without
// it /a would match /ab too, and /a/mcp would become //mcp.
func (w *bootstrapWriter) backendRoutes(b Backend) []*routev3.Route {
	routes := []*routev3.Route{
		w.backendRoute(b, &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/" + b.Name + "/"}}),
	}
	if b.Path == "" {
		routes = append(
			routes,
			w.backendRoute(b, &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/" + b.Name}}),
		)
	}
	return routes
}

func (w *bootstrapWriter) backendRoute(b Backend, match *routev3.RouteMatch) *routev3.Route {
	route := forward(b.cluster, b.Target)
	route.PrefixRewrite = "/"
	return &routev3.Route{
		Name:   b.Name,
		Match:  match,
		Action: &routev3.Route_Route{Route: route},
		TypedPerFilterConfig: map[string]*anypb.Any{
			Egress.FilterName(): w.Pack(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Overrides{
				Overrides: &extprocv3.ExtProcOverrides{GrpcInitialMetadata: Metadata(BackendKey, b.Name)},
			}}),
			Egress.redirectFilterName(): w.Pack(w.redirectRoute(server{
				name:   "backend " + b.Name,
				hint:   "write --backend " + b.Name + "=URL",
				own:    []string{b.origin()},
				prefix: "/" + b.Name,
				path:   b.base(),
			})),
		},
	}
}

func (w *bootstrapWriter) noBackend() *routev3.Route {
	const body = "No backend here. The path must begin with /NAME/, where NAME is one of Envoy's --backend flags.\n"
	return &routev3.Route{
		Name:  "none",
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: http.StatusNotFound,
			Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: body}},
		}},
		TypedPerFilterConfig: w.perRoute(
			&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Disabled{Disabled: true}},
		),
	}
}

func (w *Writer) perRoute(config *extprocv3.ExtProcPerRoute) map[string]*anypb.Any {
	return map[string]*anypb.Any{Egress.FilterName(): w.Pack(config)}
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
