package envoy

import (
	"net/http"
	"strings"

	"github.com/goccy/go-yaml"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	mcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/mcp/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"bellhop/policy"
)

// side is where patches apply: Istio's patch context.
type side string

const (
	inbound         side = "SIDECAR_INBOUND"
	outboundSide    side = "SIDECAR_OUTBOUND"
	gatewaySide     side = "GATEWAY"
	filterVersion        = "networking.istio.io/v1alpha3"
	trafficVersion       = "networking.istio.io/v1"
	securityVersion      = "security.istio.io/v1"
)

// lastPriority lets Istio apply our patches after those of others, whose priority is 0 if they name none.
const lastPriority = 100

// patches collects the patches of one EnvoyFilter, with the comments on them.
type patches struct {
	*writer
	all     []any
	baggage bool   // tickets are in baggage
	fanout  string // part of the filters' names where fan-outs share a proxy; else empty
}

// filterName is that of the filter of a role.
func (p *patches) filterName(r role) string {
	if p.fanout == "" {
		return r.filterName()
	}
	return r.filterName() + "." + p.fanout
}

// workloadFilter is the EnvoyFilter for the proxies of fan-outs.
func (w *meshWriter) workloadFilter(namespace string) manifest {
	p := w.newPatches()
	if w.bellhop != nil {
		p.addCluster()
	}
	p.addFilters(inbound, ingress, w.port, false)
	p.addFilters(outboundSide, egress, 0, true)
	for _, b := range w.backends {
		p.enable(outboundSide, egress, domain(origin(b)), metadata(backendKey, b.name), "Backend "+b.name+". Only here does the filter run.")
		if !b.secure {
			p.enable(outboundSide, egress, unnamed(b.place), metadata(backendKey, b.name),
				"The same for a Service that does not say what its port speaks, whose routes Istio calls by its name.")
		}
	}
	p.stripTicket(outboundSide)
	if w.bellhop == nil {
		p.shut(w.service)
	}
	name := "bellhop-" + w.workload()
	if w.options.SetUp == SetUpMesh {
		name = "bellhop"
	}
	return w.envoyFilter(p, name, namespace, w.labels)
}

// gatewayFilters are the EnvoyFilters of the ingress gateway and the egress gateway.
func (w *meshWriter) gatewayFilters() []manifest {
	in := w.newPatches()
	in.addFilters(gatewaySide, ingress, 0, true)
	for _, host := range w.hosts {
		in.enable(gatewaySide, ingress, domain(host), nil, "The fan-out, as clients know it, on every port. Only here does the filter run.")
	}
	out := w.newPatches()
	out.addFilters(gatewaySide, egress, 0, true)
	for _, b := range w.backends {
		out.enable(gatewaySide, egress, domain(origin(b)), metadata(backendKey, b.name), "Backend "+b.name+". Only here does the filter run.")
	}
	out.stripTicket(gatewaySide)
	return []manifest{
		w.envoyFilter(in, "bellhop-ingress-"+w.fanout(), w.options.RootNamespace, []label{{"istio", "ingressgateway"}}),
		w.envoyFilter(out, "bellhop-egress-"+w.fanout(), w.options.RootNamespace, []label{{"istio", "egressgateway"}}),
	}
}

func (w *meshWriter) newPatches() *patches {
	p := &patches{writer: newWriter(w.processing), baggage: w.baggage}
	if w.options.SetUp == SetUpGateway {
		p.fanout = w.fanout() // else a second fan-out's filters would run for the hosts of the first
	}
	return p
}

// workload tells the fan-outs of one namespace apart.
func (w *meshWriter) workload() string {
	values := make([]string, len(w.labels))
	for i, one := range w.labels {
		values[i] = dashed(one.value)
	}
	return strings.Join(values, "-")
}

// fanout tells all fan-outs of the mesh apart: what each needs for itself has a name of its own, so that the manifests of one
// take nothing from those of another.
func (w *meshWriter) fanout() string { return w.options.Namespace + "-" + w.workload() }

func (w *meshWriter) envoyFilter(p *patches, name, namespace string, labels []label) manifest {
	w.errs = append(w.errs, p.errs...)
	made := manifest{
		kind: "EnvoyFilter", version: filterVersion, name: name, namespace: namespace, notes: p.notes,
		spec: fields("priority", lastPriority, "workloadSelector", fields("labels", labelsOf(labels)), "configPatches", p.all),
	}
	made.note("$.spec.priority", "After the EnvoyFilters of others: what they put in front of the router stands in front of Bellhop too.")
	if w.bellhop == nil {
		// A gateway that is told only of the services it routes to would not know Bellhop's cluster.
		namespace := strings.Split(w.service.host, ".")[1]
		made.annotations = fields("envoyfilter.istio.io/referenced-services", quoted(namespace+"/"+w.service.host))
	}
	return made
}

func labelsOf(labels []label) yaml.MapSlice {
	var all yaml.MapSlice
	for _, one := range labels {
		all = append(all, yaml.MapItem{Key: scalar(one.key), Value: scalar(one.value)})
	}
	return all
}

// path is where the next patch will stand.
func (p *patches) path() string { return p.pathOf(0) }

// pathOf is where the patch after the next i will stand.
func (p *patches) pathOf(i int) string { return within("$.spec.configPatches")(len(p.all) + i) }

// add adds a patch.
func (p *patches) add(applyTo string, match any, operation string, value any) {
	p.all = append(p.all, fields("applyTo", applyTo, "match", match, "patch", fields("operation", operation, "value", value)))
}

// addCluster adds Bellhop's cluster.
func (p *patches) addCluster() {
	value := p.path() + ".patch.value"
	p.add("CLUSTER", fields("context", string(outboundSide)), "ADD", p.tree(p.bellhopCluster(value)))
}

// addFilters puts the filters of a role in front of the router, which is behind authentication and authorisation.
// Disabled ones wait for a virtual host that enables them.
func (p *patches) addFilters(where side, r role, port uint16, disabled bool) {
	p.addAccessLogs(where, r, listenerOf(port, managerOf()))
	listener := listenerOf(port, routerOf())
	for i, filter := range p.filters(func(i int) string { return p.pathOf(i) + ".patch.value" }, r) {
		if i == 0 {
			p.noteFilters(r, disabled)
		}
		if filter.GetName() == r.filterName() {
			filter.Name = p.filterName(r)
		}
		filter.Disabled = disabled
		p.add("HTTP_FILTER", fields("context", string(where), "listener", listener), "INSERT_BEFORE", p.tree(filter))
	}
}

// addAccessLogs adds to the access logs of listeners.
func (p *patches) addAccessLogs(where side, r role, listener any) {
	logs := p.accessLogs(within(p.path()+".patch.value.typed_config.access_log"), r)
	if logs == nil {
		return
	}
	manager, err := anypb.New(&hcmv3.HttpConnectionManager{AccessLog: logs}) // a part, which its own rules would refuse
	if err != nil {
		p.errs = append(p.errs, err)
	}
	partial, err := tree(manager)
	if err != nil {
		p.errs = append(p.errs, err)
	}
	p.add("NETWORK_FILTER", fields("context", string(where), "listener", listener), "MERGE", fields("typed_config", partial))
}

func (p *patches) noteFilters(r role, disabled bool) {
	what := "Clients → fan-out. Bellhop takes the clients' headers off and puts a ticket in their place."
	if r == egress {
		what = "Fan-out → backends. Bellhop redeems the ticket for the headers that this backend may have."
	}
	lines := []string{what}
	if disabled {
		lines = append(lines, "It is disabled here, and enabled below for the hosts that it is for.")
	}
	p.note(p.path(), lines...)
}

// listenerOf matches a filter in the listeners of a port, or of all where it is 0.
func listenerOf(port uint16, filter yaml.MapSlice) yaml.MapSlice {
	chain := fields("filter", filter)
	if port != 0 {
		chain = append(fields("destinationPort", int(port)), chain...)
	}
	return fields("filterChain", chain)
}

// managerOf matches what handles HTTP.
func managerOf() yaml.MapSlice {
	return fields("name", "envoy.filters.network.http_connection_manager")
}

// routerOf matches the router in it.
func routerOf() yaml.MapSlice {
	return append(managerOf(), fields("subFilter", fields("name", "envoy.filters.http.router"))...)
}

// enable lets a disabled filter run for one virtual host, and tells it something of that host.
func (p *patches) enable(where side, r role, routes yaml.MapSlice, tell []*corev3.HeaderValue, why string) {
	p.note(p.path(), why)
	p.noteBackend(r)
	enabled := map[string]*anypb.Any{p.filterName(r): p.pack(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Overrides{
		Overrides: &extprocv3.ExtProcOverrides{GrpcInitialMetadata: tell},
	}})}
	if p.readMCP {
		enabled[mcpFilterName] = p.pack(&mcpv3.McpOverride{TrafficMode: mcpv3.Mcp_PASS_THROUGH, MaxRequestBodySize: wrapperspb.UInt32(maxParsedBody)})
	}
	p.mergeHost(where, routes, &routev3.VirtualHost{TypedPerFilterConfig: enabled})
}

func (p *patches) noteBackend(r role) {
	if r == egress {
		p.note(p.path()+".patch.value.typed_per_filter_config", "Tells Bellhop which backend this is. A client cannot set it: it is not a header.")
	}
}

// mergeHost adds to a virtual host.
func (p *patches) mergeHost(where side, routes yaml.MapSlice, value proto.Message) {
	partial, err := tree(value) // it is a part, which its own rules would refuse
	if err != nil {
		p.errs = append(p.errs, err)
	}
	p.add("VIRTUAL_HOST", fields("context", string(where), "routeConfiguration", routes), "MERGE", partial)
}

// domain matches a virtual host by its domain: hosts with the same routes have one virtual host in Istio, which has the name of
// one of them.
func domain(host place) yaml.MapSlice {
	routes := fields("vhost", fields("domainName", scalar(host.host)))
	if host.port != 0 {
		routes = append(fields("portNumber", int(host.port)), routes...)
	}
	return routes
}

// unnamed matches that of a service whose port's protocol Istio has to find out: all domains lead there.
func unnamed(service place) yaml.MapSlice {
	return fields("name", quoted(service.String()), "vhost", fields("name", quoted(service.String())))
}

// shut keeps the fan-out itself from Bellhop: what it sends by its proxy carries the certificate that opens Bellhop. The proxy's
// own filters do not pass the proxy's listeners.
func (p *patches) shut(service place) {
	p.note(p.path(), "The fan-out itself never asks Bellhop: it would do so with its proxy's certificate, and could redeem tickets.")
	for _, routes := range []yaml.MapSlice{domain(place{host: service.host}), unnamed(service)} {
		p.add("HTTP_ROUTE", fields("context", string(outboundSide), "routeConfiguration", routes), "INSERT_FIRST", p.tree(&routev3.Route{
			Name:   "bellhop.shut",
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: http.StatusForbidden}},
		}))
	}
}

// stripTicket takes the ticket off what goes anywhere, after the filters: also to a server that is no backend, where no
// filter of Bellhop's runs.
func (p *patches) stripTicket(where side) {
	if p.baggage {
		p.note(p.path(), "A server that is no backend sees no ticket in a header. It does see one in baggage, which Envoy cannot take apart.")
	} else {
		p.note(p.path(), "No server ever sees a ticket, also none that is no backend: there nothing else of Bellhop's happens.")
	}
	p.add("ROUTE_CONFIGURATION", fields("context", string(where)), "MERGE", fields("request_headers_to_remove", list(policy.TicketHeader)))
}
