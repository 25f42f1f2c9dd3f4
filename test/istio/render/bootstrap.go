package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"bellhop/test/istio/pilot"
)

// What stands in for what there is not on one machine without a mesh:
//
//   - the capture of connections: the listeners are opened at addresses of their own, and one more in front leads the
//     fan-out's /NAME/… to the host of the service NAME;
//   - names and certificates: the endpoints of the services are sockets, behind which a listener gives the request the
//     Host that the server on loopback wants; filter chains for mutual TLS are left out;
//   - Istio's own extensions, which only Istio's build of Envoy has, are left out.
//
// The rest is as pilot made it: the order and the configuration of the other filters, the routes, the clusters.

// bootstrap makes a static configuration of what pilot has rendered.
func (p path) bootstrap(rendered pilot.Rendered) ([]byte, error) {
	inbound, err := p.inbound(rendered)
	if err != nil {
		return nil, err
	}
	outbound, err := p.outbound(rendered)
	if err != nil {
		return nil, err
	}
	resources := &bootstrapv3.Bootstrap_StaticResources{Listeners: []*listenerv3.Listener{inbound, outbound, p.capture()}}
	for _, cluster := range rendered.Clusters {
		if kept := p.cluster(cluster); kept != nil {
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
		panic(err) // whoever calls has made it
	}
	all := map[string]*url.URL{"vmcp": fanout}
	for _, b := range p.backends {
		all[b.name] = b.url
	}
	return all
}

// inbound is the listener by which the fan-out is reached.
func (p path) inbound(rendered pilot.Rendered) (*listenerv3.Listener, error) {
	for _, listener := range rendered.Listeners {
		for _, chain := range listener.GetFilterChains() {
			port := chain.GetFilterChainMatch().GetDestinationPort().GetValue()
			if listener.GetName() == "virtualInbound" && strconv.Itoa(int(port)) == portOf(p.ingress) && chain.GetTransportSocket() == nil {
				return opened("inbound", tcp(p.ingress), chain, nil), nil
			}
		}
	}
	return nil, fmt.Errorf("pilot has rendered no inbound listener for port %s", portOf(p.ingress))
}

// outbound is the listener by which the fan-out reaches the backends' services.
func (p path) outbound(rendered pilot.Rendered) (*listenerv3.Listener, error) {
	port := strconv.Itoa(servicePort)
	var table *routev3.RouteConfiguration
	for _, one := range rendered.Routes {
		if one.GetName() == port {
			table = one
		}
	}
	for _, listener := range rendered.Listeners {
		if strings.HasSuffix(listener.GetName(), "_"+port) && pilot.Manager(listener.GetDefaultFilterChain()) != nil && table != nil {
			return opened("outbound", p.socket("outbound"), listener.GetDefaultFilterChain(), table), nil
		}
		for _, chain := range listener.GetFilterChains() {
			if strings.HasSuffix(listener.GetName(), "_"+port) && pilot.Manager(chain) != nil && table != nil {
				return opened("outbound", p.socket("outbound"), chain, table), nil
			}
		}
	}
	return nil, fmt.Errorf("pilot has rendered no outbound listener and routes for port %s", port)
}

// opened is a listener with one filter chain of pilot's, and the routes that it would ask for.
func opened(name string, at *corev3.Address, chain *listenerv3.FilterChain, table *routev3.RouteConfiguration) *listenerv3.Listener {
	manager := proto.Clone(pilot.Manager(chain)).(*hcmv3.HttpConnectionManager)
	if table != nil {
		table.ValidateClusters = nil
		manager.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: table}
	}
	var filters []*hcmv3.HttpFilter
	for _, filter := range manager.GetHttpFilters() {
		if !strings.HasPrefix(filter.GetName(), "istio.") {
			filters = append(filters, filter)
		}
	}
	manager.HttpFilters, manager.Tracing, manager.AccessLog = filters, nil, nil
	return listen(name, at, manager)
}

func listen(name string, at *corev3.Address, manager *hcmv3.HttpConnectionManager) *listenerv3.Listener {
	return &listenerv3.Listener{Name: name, Address: at, FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
		Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)},
	}}}}}
}

// cluster is one of pilot's, with the endpoint that it has here; nil for those of which no use is made.
func (p path) cluster(cluster *clusterv3.Cluster) *clusterv3.Cluster {
	switch cluster.GetName() {
	case "bellhop":
		return cluster
	case "PassthroughCluster", "BlackHoleCluster": // of which no use is made, but routes name them
		cluster.Filters = nil
		return cluster
	}
	for name := range p.servers() {
		if cluster.GetName() != "inbound|"+portOf(p.ingress)+"||" && cluster.GetName() != fmt.Sprintf("outbound|%d||%s.default.svc.cluster.local", servicePort, name) {
			continue
		}
		if strings.HasPrefix(cluster.GetName(), "inbound|") {
			name = "vmcp"
		}
		kept := static(cluster.GetName(), p.socket(name))
		kept.CircuitBreakers, kept.TypedExtensionProtocolOptions, kept.CommonLbConfig = cluster.GetCircuitBreakers(), cluster.GetTypedExtensionProtocolOptions(), cluster.GetCommonLbConfig()
		return kept
	}
	return nil
}

// capture leads what the fan-out asks of a backend to the outbound listener, as if it had asked for the service.
func (p path) capture() *listenerv3.Listener {
	host := &routev3.VirtualHost{Name: "capture", Domains: []string{"*"}}
	for _, b := range p.backends {
		route := forward("capture", b.service+":"+strconv.Itoa(servicePort))
		route.PrefixRewrite = "/"
		host.Routes = append(host.Routes, &routev3.Route{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/" + b.name + "/"}},
			Action: &routev3.Route_Route{Route: route},
		})
	}
	return listen("capture", tcp(p.egress), plain("capture", host))
}

// behind gives a request the Host that a server on loopback wants.
func (p path) behind(name string, server *url.URL) *listenerv3.Listener {
	return listen("behind-"+name, p.socket(name), plain("behind-"+name, &routev3.VirtualHost{Name: name, Domains: []string{"*"}, Routes: []*routev3.Route{{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Route{Route: forward("server-"+name, server.Host)},
	}}}))
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
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{VirtualHosts: []*routev3.VirtualHost{host}}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})},
		}},
	}
}

func static(name string, at *corev3.Address) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: name, ConnectTimeout: durationpb.New(5e9), ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: at}},
		}}}}},
	}
}

// socket is a Unix socket of this path alone: abstract, so that nobody has to take it away, and named by a port that is.
func (p path) socket(name string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "@bellhop-" + portOf(p.ingress) + "-" + name}}}
}

func tcp(address string) *corev3.Address {
	port, err := strconv.ParseUint(portOf(address), 10, 16)
	if err != nil {
		panic(err) // whoever calls has made it
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: strings.Trim(address[:strings.LastIndexByte(address, ':')], "[]"), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func pack(m proto.Message) *anypb.Any {
	wrapped, err := anypb.New(m)
	if err != nil {
		panic(err) // a message of Envoy's API can be written
	}
	return wrapped
}
