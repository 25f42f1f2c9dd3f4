package envoy

import (
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The most that a request may have of headers. They bound what ext_proc may add too: with Envoy's defaults, 100 headers
// and 60 KiB, a request that comes close to them on its own would be refused for the headers that Bellhop adds.
const (
	maxRequestHeaders   = 250
	maxRequestHeaderKiB = 120
)

// managerPath is where the HTTP connection manager stands in its listener.
const managerPath = ".filter_chains[0].filters[0].typed_config"

func (w *bootstrapWriter) ingressListener(path string) *listenerv3.Listener {
	w.Note(path, "Clients → fan-out. Bellhop replaces the clients' headers by a ticket.")
	path += managerPath
	manager := w.manager(path, Ingress)
	manager.UseRemoteAddress = wrapperspb.Bool(true)
	manager.PreserveExternalRequestId = true
	w.Note(
		path+".use_remote_address",
		"Clients are not trusted: their headers about their own origin are not passed on unchanged.",
	)
	w.Note(
		path+".preserve_external_request_id",
		"A client's x-request-id stays unchanged, even if you enable generate_request_id for tracing.",
	)
	manager.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: w.ingressRoutes(path + ".route_config")}
	return w.listener(Ingress, w.ingress, manager)
}

func (w *bootstrapWriter) egressListener(path string) *listenerv3.Listener {
	lines := []string{"Fan-out → backends. Bellhop replaces the ticket by the headers that this backend may get."}
	if !w.egress.Addr().IsLoopback() {
		lines = append(
			lines, "WARNING: this listens beyond this machine, and "+egressRisk+".", "Let only the fan-out reach it.",
		)
	}
	w.Note(path, lines...)
	path += managerPath
	manager := w.manager(path, Egress)
	manager.UseRemoteAddress = wrapperspb.Bool(false)
	manager.SkipXffAppend = true
	manager.NormalizePath = wrapperspb.Bool(true)
	manager.MergeSlashes = true
	manager.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
	w.Note(
		path+".normalize_path",
		"A backend is a URL. Its route sees the path as the backend will: without dots, double and encoded slashes.",
	)
	w.Note(
		path+".use_remote_address",
		"Nothing is added on the way: a backend sees the fan-out's request and the headers that Bellhop sets.",
	)
	manager.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: w.egressRoutes(path + ".route_config")}
	return w.listener(Egress, w.egress, manager)
}

// manager is what both sides have in common.
func (w *bootstrapWriter) manager(path string, r Role) *hcmv3.HttpConnectionManager {
	w.Note(
		path+".common_http_protocol_options",
		"Leaves room for the headers that Bellhop adds: by default Envoy refuses more than 100.",
	)
	w.Note(path+".stream_idle_timeout", "An MCP event stream may be silent for hours.")
	w.Note(
		path+".generate_request_id",
		"An ID generated here would look like the client's, and change with every request.",
	)
	w.Note(
		path+".scheme_header_transformation",
		"A server behind https gets the scheme https, although the request to Envoy was http.",
	)
	return &hcmv3.HttpConnectionManager{
		StatPrefix:                 string(r),
		HttpFilters:                w.chain(path+".http_filters", r),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		SchemeHeaderTransformation: &corev3.SchemeHeaderTransformation{MatchUpstream: true},
		CommonHttpProtocolOptions:  &corev3.HttpProtocolOptions{MaxHeadersCount: wrapperspb.UInt32(maxRequestHeaders)},
		MaxRequestHeadersKb:        wrapperspb.UInt32(maxRequestHeaderKiB),
		StreamIdleTimeout:          durationpb.New(0),
		RequestHeadersTimeout:      durationpb.New(10 * time.Second),
		GenerateRequestId:          wrapperspb.Bool(false),
		AccessLog:                  w.AccessLogs(Within(path+".access_log"), r),
		Http2ProtocolOptions:       w.windows(path+".http2_protocol_options", r),
	}
}

// chain is the HTTP filters of a listener, the router last.
func (w *bootstrapWriter) chain(list string, r Role) []*hcmv3.HttpFilter {
	path := Within(list)
	var filters []*hcmv3.HttpFilter
	if r == Ingress && len(w.origins) > 0 {
		filters = append(filters, w.corsFilter(path(0)))
	}
	first := len(filters)
	filters = append(filters, w.Filters(func(i int) string { return path(first + i) }, r)...)
	filters = append(filters, w.RedirectFilter(path(len(filters)), r, Judge{Hosts: r == Ingress}))
	return append(filters, w.router())
}

func (w *bootstrapWriter) router() *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name:       "envoy.filters.http.router",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: w.Pack(&routerv3.Router{SuppressEnvoyHeaders: true})},
	}
}

func (w *bootstrapWriter) listener(
	r Role,
	address netip.AddrPort,
	manager *hcmv3.HttpConnectionManager,
) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:    string(r),
		Address: socketAddress(address.Addr().String(), address.Port()),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: w.Pack(manager)},
		}}}},
	}
}

// routeTable takes names with any port: a listener may be published under another one.
func routeTable(r Role, hosts ...*routev3.VirtualHost) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{Name: string(r), VirtualHosts: hosts, IgnorePortInHostMatching: true}
}
