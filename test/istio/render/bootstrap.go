package main

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"bellhop/envoy/istio"
	"bellhop/test/istio/pilot"
)

// What stands in for what there is not on one machine without a mesh:
//
//   - the capture of connections and DNS: the listeners are opened at sockets, and ones in front of them lead clients to the
//     fan-out's host, and the fan-out's /NAME/… to the host of the backend NAME;
//   - addresses and certificates: the endpoints of the services are sockets, behind which a listener gives the request the
//     Host that the server on loopback wants. There is no mutual TLS: its filter chains are left out at a sidecar, and at a
//     gateway the transport, with the authorisation that rests on it;
//   - the namespace in the proxy's environment, by which the mesh set-up names the fan-out: the name is the policy's own;
//   - Istio's own extensions, which only Istio's build of Envoy has, are left out.
//
// The rest is as pilot made it: the order and the configuration of the other filters, the routes, the clusters.

// bootstrap makes a static configuration of what pilot has rendered for the proxies on both sides.
func (p path) bootstrap(in, out pilot.Rendered) ([]byte, error) {
	inbound, err := p.inbound(in)
	if err != nil {
		return nil, err
	}
	outbound, err := p.outbound(out)
	if err != nil {
		return nil, err
	}
	resources := &bootstrapv3.Bootstrap_StaticResources{Listeners: []*listenerv3.Listener{inbound, outbound, p.capture()}}
	if p.setUp == istio.Gateway {
		resources.Listeners = append(resources.Listeners, p.clients())
		resources.Clusters = append(resources.Clusters, static("clients", p.socket("inbound")))
	}
	named := map[string]bool{}
	for _, cluster := range slices.Concat(in.Clusters, out.Clusters) {
		if kept := p.cluster(cluster); kept != nil && !named[kept.GetName()] {
			named[kept.GetName()] = true
			resources.Clusters = append(resources.Clusters, kept)
		}
	}
	resources.Clusters = append(resources.Clusters, static("capture", p.socket("outbound")))
	for name, server := range p.servers() {
		resources.Listeners = append(resources.Listeners, p.behind(name, server))
		resources.Clusters = append(resources.Clusters, static("server-"+name, tcp(server.Host)))
	}
	return protojson.Marshal(&bootstrapv3.Bootstrap{
		StaticResources: resources,
		Admin:           &bootstrapv3.Admin{Address: tcp(p.admin)},
		// As in the bootstrap of Istio's proxies.
		LayeredRuntime: &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
			Name: "global config", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
				"re2.max_program_size.error_level": structpb.NewNumberValue(32768),
			}}},
		}}},
	})
}

// servers are the programs on this machine, by their names in the mesh.
func (p path) servers() map[string]*url.URL {
	fanout, err := url.Parse(p.fanout)
	if err != nil {
		panic(err) // the caller has made it
	}
	all := map[string]*url.URL{"vmcp": fanout}
	for _, b := range p.backends {
		all[b.name] = b.url
	}
	return all
}

// inbound is the listener by which the fan-out is reached.
func (p path) inbound(rendered pilot.Rendered) (*listenerv3.Listener, error) {
	if p.setUp == istio.Gateway {
		return p.find(rendered, "inbound", p.socket("inbound"), "0.0.0.0_80")
	}
	for _, listener := range rendered.Listeners {
		for _, chain := range listener.GetFilterChains() {
			port := chain.GetFilterChainMatch().GetDestinationPort().GetValue()
			if listener.GetName() == "virtualInbound" && strconv.Itoa(int(port)) == portOf(p.ingress) &&
				chain.GetTransportSocket() == nil {
				return p.opened("inbound", tcp(p.ingress), chain, nil), nil
			}
		}
	}
	return nil, fmt.Errorf("pilot has rendered no inbound listener for port %s", portOf(p.ingress))
}

// outbound is the listener by which the fan-out reaches the backends.
func (p path) outbound(rendered pilot.Rendered) (*listenerv3.Listener, error) {
	name := "0.0.0.0_" + strconv.Itoa(servicePort)
	if p.setUp == istio.Gateway {
		name = "0.0.0.0_80"
	}
	return p.find(rendered, "outbound", p.socket("outbound"), name)
}

// find opens a listener of pilot's with the routes that it asks for.
func (p path) find(rendered pilot.Rendered, name string, at *corev3.Address, of string) (*listenerv3.Listener, error) {
	for _, listener := range rendered.Listeners {
		for _, chain := range append(listener.GetFilterChains(), listener.GetDefaultFilterChain()) {
			manager := pilot.Manager(chain)
			if listener.GetName() != of || manager == nil {
				continue
			}
			for _, table := range rendered.Routes {
				if table.GetName() == manager.GetRds().GetRouteConfigName() {
					return p.opened(name, at, chain, table), nil
				}
			}
		}
	}
	return nil, fmt.Errorf("pilot has rendered no listener %s with routes", of)
}

// opened is a listener with one filter chain of pilot's, and the routes that it would ask for.
func (p path) opened(
	name string,
	at *corev3.Address,
	chain *listenerv3.FilterChain,
	table *routev3.RouteConfiguration,
) *listenerv3.Listener {
	manager := proto.Clone(pilot.Manager(chain)).(*hcmv3.HttpConnectionManager)
	if table != nil {
		table.ValidateClusters = nil
		manager.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: table}
	}
	var filters []*hcmv3.HttpFilter
	for _, filter := range manager.GetHttpFilters() {
		unreachable := p.setUp == istio.Gateway &&
			filter.GetName() == "envoy.filters.http.rbac" // it asks for names in certificates
		if !strings.HasPrefix(filter.GetName(), "istio.") && !unreachable {
			filters = append(filters, p.named(filter))
		}
	}
	manager.HttpFilters, manager.Tracing = filters, nil
	manager.AccessLog = slices.DeleteFunc(
		manager.AccessLog,
		func(l *accesslogv3.AccessLog) bool { return !strings.HasPrefix(l.GetName(), "bellhop.") },
	)
	for _, log := range manager.AccessLog {
		config := &grpclogv3.HttpGrpcAccessLogConfig{}
		if log.GetTypedConfig().UnmarshalTo(config) == nil {
			p.rename(config.GetCommonConfig().GetGrpcService())
			log.ConfigType = &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(config)}
		}
	}
	return listen(name, at, manager)
}

// named gives a filter of Bellhop's the fan-out's name.
func (p path) named(filter *hcmv3.HttpFilter) *hcmv3.HttpFilter {
	config := &extprocv3.ExternalProcessor{}
	if filter.GetTypedConfig().MessageIs(config) && filter.GetTypedConfig().UnmarshalTo(config) == nil {
		p.rename(config.GetGrpcService())
		filter.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)}
	}
	return filter
}

// rename takes the name out of the environment's hands.
func (p path) rename(service *corev3.GrpcService) {
	for _, pair := range service.GetInitialMetadata() {
		if pair.GetValue() == "%ENVIRONMENT(POD_NAMESPACE)%" {
			pair.Value = p.name
		}
	}
	service.InitialMetadata = slices.DeleteFunc(
		service.GetInitialMetadata(),
		func(pair *corev3.HeaderValue) bool { return pair.GetValue() == "" },
	)
}

func listen(name string, at *corev3.Address, manager *hcmv3.HttpConnectionManager) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:    name,
		Address: at,
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)},
		}}}},
	}
}

// cluster is one of pilot's, with the endpoint that it has here; nil for those of which no use is made.
func (p path) cluster(cluster *clusterv3.Cluster) *clusterv3.Cluster {
	endpoints := map[string]*corev3.Address{
		fmt.Sprintf("outbound|%d||%s", bellhopPort, bellhopHost):                      pipe(strings.TrimPrefix(p.bellhop, "unix://")),
		"inbound|" + portOf(p.ingress) + "||":                                         p.socket("vmcp"),
		fmt.Sprintf("outbound|%s||vmcp.default.svc.cluster.local", portOf(p.ingress)): p.socket("vmcp"),
	}
	for _, b := range p.backends {
		endpoints[fmt.Sprintf("outbound|%d||%s", servicePort, b.host)] = p.socket(b.name)
		endpoints["outbound|443||"+b.host] = p.socket(b.name)
	}
	switch name := cluster.GetName(); {
	case name == "bellhop":
		return cluster
	case name == "PassthroughCluster" || name == "BlackHoleCluster": // of which no use is made, but routes name them
		cluster.Filters = nil
		return cluster
	case endpoints[name] != nil:
		kept := static(name, endpoints[name])
		kept.CircuitBreakers, kept.TypedExtensionProtocolOptions, kept.CommonLbConfig = cluster.GetCircuitBreakers(), cluster.GetTypedExtensionProtocolOptions(), cluster.GetCommonLbConfig()
		return kept
	default:
		return nil
	}
}

// capture leads what the fan-out asks of a backend to the outbound listener, as if it had asked for the backend's host.
func (p path) capture() *listenerv3.Listener {
	port := strconv.Itoa(servicePort)
	if p.setUp == istio.Gateway {
		port = "80"
	}
	host := &routev3.VirtualHost{Name: "capture", Domains: []string{"*"}}
	for _, b := range p.backends {
		route := forward("capture", b.host+":"+port)
		route.PrefixRewrite = "/"
		host.Routes = append(host.Routes, &routev3.Route{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/" + b.name + "/"}},
			Action: &routev3.Route_Route{Route: route},
		})
	}
	return listen("capture", tcp(p.egress), plain("capture", host))
}

// clients leads clients to the fan-out's host at the ingress gateway.
func (p path) clients() *listenerv3.Listener {
	return listen("clients", tcp(p.ingress), plain("clients", all("clients", fanoutHost)))
}

// behind gives a request the Host that a server on loopback wants.
func (p path) behind(name string, server *url.URL) *listenerv3.Listener {
	return listen("behind-"+name, p.socket(name), plain("behind-"+name, all("server-"+name, server.Host)))
}

// all leads every request to a cluster, with another Host.
func all(cluster, host string) *routev3.VirtualHost {
	return &routev3.VirtualHost{Name: cluster, Domains: []string{"*"}, Routes: []*routev3.Route{{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Route{Route: forward(cluster, host)},
	}}}
}

func forward(cluster, host string) *routev3.RouteAction {
	return &routev3.RouteAction{
		ClusterSpecifier:     &routev3.RouteAction_Cluster{Cluster: cluster},
		HostRewriteSpecifier: &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: host},
		Timeout:              durationpb.New(0),
	}
}

func plain(name string, host *routev3.VirtualHost) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: name, StreamIdleTimeout: durationpb.New(0),
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{
			RouteConfig: &routev3.RouteConfiguration{VirtualHosts: []*routev3.VirtualHost{host}},
		},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})},
		}},
	}
}

func static(name string, at *corev3.Address) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: name, ConnectTimeout: durationpb.New(5e9),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: at}},
			}}}},
		},
	}
}

// socket is a Unix socket of this path alone: abstract, so that no file has to be removed, and named by a port that
// is.
func (p path) socket(name string) *corev3.Address {
	return pipe("@bellhop-" + portOf(p.ingress) + "-" + name)
}

func pipe(path string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
}

func tcp(address string) *corev3.Address {
	port, err := strconv.ParseUint(portOf(address), 10, 16)
	if err != nil {
		panic(err) // the caller has made it
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: strings.Trim(
			address[:strings.LastIndexByte(address, ':')],
			"[]",
		), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func pack(m proto.Message) *anypb.Any {
	wrapped, err := anypb.New(m)
	if err != nil {
		panic(err) // a message of Envoy's API can be written
	}
	return wrapped
}
