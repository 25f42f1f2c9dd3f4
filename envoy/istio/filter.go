package istio

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"bellhop/envoy"
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
	*envoy.Writer
	all     []any
	baggage bool   // tickets are in baggage
	fanout  string // part of the filters' names where fan-outs share a proxy; else empty
}

// own is the name of a filter of Bellhop's, in a proxy that may have those of several fan-outs.
func (p *patches) own(name string) string {
	if p.fanout == "" {
		return name
	}
	return name + "." + p.fanout
}

// route is what the filters have to know of a virtual host.
type route struct {
	overrides *extprocv3.ExtProcOverrides
	server    envoy.Server
}

// backendRoute is what the filters have to know of a backend where the proxy asks for it at a place. A route of
// somebody else's could lead its virtual host elsewhere, so the filter says which clusters are the backend's.
func (w *writer) backendRoute(b envoy.Backend, at envoy.Place) route {
	return route{
		overrides: w.EgressOverrides(b.Name, anySubset(at), b.Path),
		server: envoy.Server{
			Name: "backend " + b.Name, Hint: "write --backend " + b.Name + "=URL", Own: []string{b.Origin()}, Host: true,
			Path: b.Base(),
		},
	}
}

// judge says what the redirect filter knows: in a mesh, each server has its own host and its own paths.
func judge(r envoy.Role) envoy.Judge {
	if r == envoy.Ingress {
		return envoy.Judge{Server: "the fan-out", Host: true}
	}
	return envoy.Judge{Host: true, Guard: true}
}

// workloadFilter is the EnvoyFilter for the proxies of fan-outs.
func (w *writer) workloadFilter(namespace string) manifest {
	p := w.newPatches()
	if w.Bellhop != nil {
		p.addCluster()
	}
	p.addFilters(inbound, envoy.Ingress, w.port, false)
	p.limitBodies(inbound, envoy.Ingress, w.port)
	p.onlyHTTP(w.port)
	p.addFilters(outboundSide, envoy.Egress, 0, true)
	for _, b := range w.backends {
		p.enable(
			outboundSide, envoy.Egress, domain(origin(b)), w.backendRoute(b, origin(b)),
			"Backend "+b.Name+". The filters run only here.",
		)
		if !b.Secure {
			p.enable(
				outboundSide, envoy.Egress, unnamed(b.Place), w.backendRoute(b, b.Place),
				"The same for a Service that does not say what its port speaks, whose routes Istio calls by its name.",
			)
		}
	}
	p.stripTicket(outboundSide)
	if w.Bellhop == nil {
		p.shut(w.service)
	}
	name := "bellhop-" + w.workload()
	if w.options.SetUp == Mesh {
		name = "bellhop"
	}
	return w.envoyFilter(p, name, namespace, workloadSelector(w.labels))
}

// workloadSelector selects pods by their labels.
func workloadSelector(labels []label) yaml.MapSlice {
	return fields("workloadSelector", fields("labels", labelsOf(labels)))
}

// selector selects the pods of a gateway.
func (g gateway) selector() yaml.MapSlice {
	if g.target == "" {
		return workloadSelector(g.labels)
	}
	return fields("targetRefs", list(
		fields("group", "gateway.networking.k8s.io", "kind", "Gateway", "name", envoy.Scalar(g.target)),
	))
}

// gatewayFilters are the EnvoyFilters of the ingress gateway and the egress gateway.
func (w *writer) gatewayFilters() []manifest {
	in := w.newPatches()
	in.addFilters(gatewaySide, envoy.Ingress, 0, true)
	for _, host := range w.hosts {
		in.enable(
			gatewaySide, envoy.Ingress, domain(host), route{overrides: &extprocv3.ExtProcOverrides{}},
			"The fan-out, as clients know it, on every port. The filters run only here.",
		)
	}
	out := w.newPatches()
	out.addFilters(gatewaySide, envoy.Egress, 0, true)
	for _, b := range w.backends {
		out.enable(
			gatewaySide, envoy.Egress, domain(origin(b)), w.backendRoute(b, b.Place),
			"Backend "+b.Name+". The filters run only here.",
		)
	}
	out.stripTicket(gatewaySide)
	return []manifest{
		w.envoyFilter(in, "bellhop-ingress-"+w.fanout(), w.ingress.namespace, w.ingress.selector()),
		w.envoyFilter(out, "bellhop-egress-"+w.fanout(), w.egress.namespace, w.egress.selector()),
	}
}

func (w *writer) newPatches() *patches {
	p := &patches{Writer: envoy.NewWriter(w.Processing), baggage: w.baggage}
	if w.options.SetUp == Gateway {
		p.fanout = w.fanout() // else a second fan-out's filters would run for the hosts of the first
	}
	return p
}

// workload distinguishes the fan-outs of the mesh: by the labels of the pods, for people, and by a digest, because what
// labels and namespaces make together is not distinct: namespace team-a and app=mcp, team and app=a-mcp.
func (w *writer) workload() string {
	values, identity := make([]string, len(w.labels)), []string{w.options.Namespace}
	for i, one := range w.labels {
		values[i] = dashed(one.value)
		identity = append(identity, one.key+"="+one.value)
	}
	slices.Sort(identity[1:])
	return distinct(strings.Join(values, "-"), identity...)
}

// fanout distinguishes all fan-outs of the mesh: what each needs for itself has a name of its own, so that the
// manifests of one take nothing from those of another.
func (w *writer) fanout() string { return w.options.Namespace + "-" + w.workload() }

func (w *writer) envoyFilter(p *patches, name, namespace string, selector yaml.MapSlice) manifest {
	w.errs = append(w.errs, p.Errs...)
	made := manifest{
		kind: "EnvoyFilter", version: filterVersion, name: name, namespace: namespace, notes: p.Notes,
		spec: append(append(fields("priority", lastPriority), selector...), fields("configPatches", p.all)...),
	}
	made.note(
		"$.spec.priority",
		"After the EnvoyFilters of others: filters that they insert before the router run before Bellhop too.",
	)
	if w.Bellhop == nil {
		// A gateway that gets only the services it routes to would not know Bellhop's cluster.
		namespace := strings.Split(w.service.Host, ".")[1]
		made.annotations = fields(
			"envoyfilter.istio.io/referenced-services",
			envoy.Quoted(namespace+"/"+w.service.Host),
		)
	}
	return made
}

func labelsOf(labels []label) yaml.MapSlice {
	var all yaml.MapSlice
	for _, one := range labels {
		all = append(all, yaml.MapItem{Key: envoy.Scalar(one.key), Value: envoy.Scalar(one.value)})
	}
	return all
}

// path is where the next patch will stand.
func (p *patches) path() string { return p.pathOf(0) }

// pathOf is where the patch after the next i will stand.
func (p *patches) pathOf(i int) string { return envoy.Within("$.spec.configPatches")(len(p.all) + i) }

// add adds a patch.
func (p *patches) add(applyTo string, match any, operation string, value any) {
	p.all = append(
		p.all,
		fields("applyTo", applyTo, "match", match, "patch", fields("operation", operation, "value", value)),
	)
}

// addCluster adds Bellhop's cluster.
func (p *patches) addCluster() {
	value := p.path() + ".patch.value"
	p.add("CLUSTER", fields("context", string(outboundSide)), "ADD", p.Tree(p.BellhopCluster(value)))
}

// addFilters puts the filters of a role in front of the router, which is behind authentication and authorisation.
// Disabled ones wait for a virtual host that enables them.
func (p *patches) addFilters(where side, r envoy.Role, port uint16, disabled bool) {
	p.addAccessLogs(where, r, listenerOf(port, managerOf()))
	listener := listenerOf(port, routerOf())
	at := func(i int) string { return p.pathOf(i) + ".patch.value" }
	filters := p.Filters(at, r)
	filters = append(filters, p.RedirectFilter(at(len(filters)), r, judge(r)))
	for i, filter := range filters {
		if i == 0 {
			p.noteFilters(r, disabled)
		}
		if name := filter.GetName(); name == r.FilterName() || name == r.RedirectFilterName() {
			filter.Name = p.own(name)
		}
		filter.Disabled = disabled
		p.add("HTTP_FILTER", fields("context", string(where), "listener", listener), "INSERT_BEFORE", p.Tree(filter))
	}
}

// addAccessLogs adds to the access logs of listeners.
func (p *patches) addAccessLogs(where side, r envoy.Role, listener any) {
	logs := p.AccessLogs(envoy.Within(p.path()+".patch.value.typed_config.access_log"), r)
	if logs == nil {
		return
	}
	manager, err := anypb.New(&hcmv3.HttpConnectionManager{AccessLog: logs}) // a part, which its own rules would refuse
	if err != nil {
		p.Errs = append(p.Errs, err)
	}
	partial, err := envoy.Tree(manager)
	if err != nil {
		p.Errs = append(p.Errs, err)
	}
	p.add(
		"NETWORK_FILTER", fields("context", string(where), "listener", listener), "MERGE",
		fields("typed_config", partial),
	)
}

func (p *patches) noteFilters(r envoy.Role, disabled bool) {
	what := "Clients → fan-out. Bellhop replaces the clients' headers by a ticket."
	if r == envoy.Egress {
		what = "Fan-out → backends. Bellhop replaces the ticket by the headers that this backend may get."
	}
	lines := []string{what}
	if disabled {
		lines = append(lines, "Disabled here, and enabled below for its hosts.")
	}
	p.Note(p.path(), lines...)
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

// enable enables the disabled filters for one virtual host, with what they have to know of it.
func (p *patches) enable(where side, r envoy.Role, routes yaml.MapSlice, of route, why string) {
	p.Note(p.path(), why)
	p.noteBackend(r)
	enabled := map[string]*anypb.Any{
		p.own(r.FilterName()): p.Pack(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Overrides{
			Overrides: of.overrides,
		}}),
		p.own(r.RedirectFilterName()): p.RedirectRoute(of.server),
	}
	p.mergeHost(where, routes, &routev3.VirtualHost{
		TypedPerFilterConfig: enabled, RequestBodyBufferLimit: p.BodyLimit(p.path()+".patch.value", r),
	})
}

func (p *patches) noteBackend(r envoy.Role) {
	if r == envoy.Egress {
		p.Note(
			p.path()+".patch.value.typed_per_filter_config",
			"Gives Bellhop the backend. A client cannot set it: it is not a header.",
		)
	}
}

// mergeHost adds to a virtual host.
func (p *patches) mergeHost(where side, routes yaml.MapSlice, value proto.Message) {
	partial, err := envoy.Tree(value) // it is a part, which its own rules would refuse
	if err != nil {
		p.Errs = append(p.Errs, err)
	}
	p.add("VIRTUAL_HOST", fields("context", string(where), "routeConfiguration", routes), "MERGE", partial)
}

// domain matches a virtual host by its domain: hosts with the same routes have one virtual host in Istio, which has the
// name of one of them.
func domain(host envoy.Place) yaml.MapSlice {
	routes := fields("vhost", fields("domainName", envoy.Scalar(host.Host)))
	if host.Port != 0 {
		routes = append(fields("portNumber", int(host.Port)), routes...)
	}
	return routes
}

// unnamed matches that of a service whose port's protocol Istio has to find out: all domains lead there.
func unnamed(service envoy.Place) yaml.MapSlice {
	return fields("name", envoy.Quoted(service.String()), "vhost", fields("name", envoy.Quoted(service.String())))
}

// shut keeps the fan-out itself from Bellhop: what it sends by its proxy carries the certificate that opens Bellhop.
// The proxy's own filters do not pass the proxy's listeners.
func (p *patches) shut(service envoy.Place) {
	p.Note(
		p.path(),
		"The fan-out itself must not call Bellhop: it would use its proxy's certificate, and could redeem tickets.",
	)
	for _, routes := range []yaml.MapSlice{domain(envoy.Place{Host: service.Host}), unnamed(service)} {
		p.add(
			"HTTP_ROUTE",
			fields("context", string(outboundSide), "routeConfiguration", routes),
			"INSERT_FIRST",
			p.Tree(&routev3.Route{
				Name:  "bellhop.shut",
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_DirectResponse{
					DirectResponse: &routev3.DirectResponseAction{Status: http.StatusForbidden},
				},
			}),
		)
	}
}

// onlyHTTP closes the fan-out to connections in which no filter of Bellhop's reads the headers: where Istio finds out
// what a port speaks, HTTP/1.0 goes to the TCP proxy, and so does all of a port that is declared as TCP; a port that no
// Service declares has filters of its own. Without a port it closes all that is not HTTP.
func (p *patches) onlyHTTP(port uint16) {
	p.Note(
		p.path(),
		"What passes no filter of Bellhop's does not reach the fan-out: TCP, HTTP/1.0 on a port whose Service does not say",
		"what it speaks, and a port that no Service declares. Envoy counts them as bellhop.rbac.denied.",
	)
	permission := &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
	chains := []yaml.MapSlice{fields("filter", fields("name", "envoy.filters.network.tcp_proxy"))}
	if port != 0 {
		permission.Rule = &rbacv3.Permission_DestinationPort{DestinationPort: uint32(port)}
		chains = append(chains, fields("name", "virtualInbound-catchall-http", "filter", managerOf()))
	}
	shut := &listenerv3.Filter{
		Name: "bellhop.only_http",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: p.Pack(&networkrbacv3.RBAC{
			StatPrefix: "bellhop.",
			Rules: &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{"bellhop.only_http": {
				Permissions: []*rbacv3.Permission{permission},
				Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}},
			}}},
		})},
	}
	for _, chain := range chains {
		p.add(
			"NETWORK_FILTER", fields("context", string(inbound), "listener", fields("filterChain", chain)), "INSERT_BEFORE",
			p.Tree(shut),
		)
	}
}

// limitBodies lets the proxy hold bodies until Bellhop has answered the headers: those of a port, or of all where it is
// 0.
func (p *patches) limitBodies(where side, r envoy.Role, port uint16) {
	match := fields("context", string(where))
	if port != 0 {
		name := "inbound|http|" + strconv.Itoa(int(port))
		match = append(match, fields("routeConfiguration", fields("vhost", fields("name", envoy.Quoted(name))))...)
	}
	partial, err := envoy.Tree(&routev3.VirtualHost{RequestBodyBufferLimit: p.BodyLimit(p.path()+".patch.value", r)})
	if err != nil {
		p.Errs = append(p.Errs, err)
	}
	p.add("VIRTUAL_HOST", match, "MERGE", partial)
}

// stripTicket takes the ticket off what goes anywhere, after the filters: also to a server that is no backend, where no
// filter of Bellhop's runs.
func (p *patches) stripTicket(where side) {
	if p.baggage {
		p.Note(
			p.path(),
			"A server that is not a backend gets no ticket in a header. It gets one in baggage, which Envoy cannot edit.",
		)
	} else {
		p.Note(p.path(), "No server gets a ticket, even if it is not a backend. Bellhop does nothing else there.")
	}
	p.add(
		"ROUTE_CONFIGURATION", fields("context", string(where)), "MERGE",
		fields("request_headers_to_remove", list(policy.TicketHeader, policy.ExternalAddressHeader)),
	)
}
