package envoy

import (
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The most requests at a time.
const (
	MaxBellhopRequests = 65536 // to Bellhop: each lives for a millisecond
	maxServerRequests  = 16384 // each event stream holds one, and over HTTP/1.1 a connection
)

// BellhopCluster is where the ext_proc filters find Bellhop.
func (w *Writer) BellhopCluster(path string) *clusterv3.Cluster {
	w.Note(path, "Bellhop.")
	w.noteBreakers(path)
	w.Note(path+".health_checks", "A Bellhop that stops reports it here first, and gets no new requests.")
	w.Note(path+".common_lb_config", "The default delays the use of a Bellhop that is back by a second.")
	w.Note(path+".health_checks[0].unhealthy_interval", "Use a Bellhop that is back soon, because another may fail next.")
	cluster := &clusterv3.Cluster{
		Name:            bellhopCluster,
		ConnectTimeout:  durationpb.New(250 * time.Millisecond),
		LoadAssignment:  assign(bellhopCluster, w.Bellhop),
		HealthChecks:    []*corev3.HealthCheck{bellhopHealth()},
		CommonLbConfig:  &clusterv3.Cluster_CommonLbConfig{UpdateMergeWindow: durationpb.New(0)},
		CircuitBreakers: breakers(MaxBellhopRequests),
		TypedExtensionProtocolOptions: w.protocol(&upstreamv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: onlyHTTP2()},
		}),
		TransportSocket: w.bellhopTLS(path + ".transport_socket"),
	}
	resolve(cluster, slices.ContainsFunc(w.Bellhop, Endpoint.IsName), clusterv3.Cluster_STRICT_DNS)
	return cluster
}

func bellhopHealth() *corev3.HealthCheck {
	return &corev3.HealthCheck{
		Timeout:            durationpb.New(500 * time.Millisecond),
		Interval:           durationpb.New(time.Second),
		NoTrafficInterval:  durationpb.New(time.Second),
		UnhealthyInterval:  durationpb.New(200 * time.Millisecond),
		UnhealthyThreshold: wrapperspb.UInt32(1),
		HealthyThreshold:   wrapperspb.UInt32(1),
		HealthChecker:      &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{}},
	}
}

// onlyHTTP2 pings idle connections, so that one dropped by a firewall is detected before a request needs it.
func onlyHTTP2() *upstreamv3.HttpProtocolOptions_ExplicitHttpConfig {
	return &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{ConnectionKeepalive: &corev3.KeepaliveSettings{
				Interval: durationpb.New(30 * time.Second),
				Timeout:  durationpb.New(5 * time.Second),
			}},
		},
	}
}

// serverCluster is the fan-out, or one backend.
func (w *bootstrapWriter) serverCluster(path, name string, t Target) *clusterv3.Cluster {
	w.noteBreakers(path)
	cluster := &clusterv3.Cluster{
		Name:                          name,
		ConnectTimeout:                durationpb.New(5 * time.Second),
		LoadAssignment:                assign(name, []Endpoint{{Place: t.Place}}),
		CircuitBreakers:               breakers(maxServerRequests),
		TypedExtensionProtocolOptions: w.protocol(serverProtocol(t)),
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveTime:     wrapperspb.UInt32(60),
			KeepaliveInterval: wrapperspb.UInt32(10),
			KeepaliveProbes:   wrapperspb.UInt32(3),
		}},
	}
	w.Note(path+".upstream_connection_options", "Detects a dead server while an event stream is silent.")
	if t.Secure {
		cluster.TransportSocket = w.serverTLS(path+".transport_socket", t)
	}
	resolve(cluster, !t.IP.IsValid(), clusterv3.Cluster_LOGICAL_DNS)
	return cluster
}

// serverProtocol lets a TLS server choose HTTP/2. Without TLS there is nothing to choose with.
func serverProtocol(t Target) *upstreamv3.HttpProtocolOptions {
	if t.Secure {
		return &upstreamv3.HttpProtocolOptions{UpstreamProtocolOptions: &upstreamv3.HttpProtocolOptions_AutoConfig{
			AutoConfig: &upstreamv3.HttpProtocolOptions_AutoHttpConfig{
				HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
			},
		}}
	}
	return &upstreamv3.HttpProtocolOptions{UpstreamProtocolOptions: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
				HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
			},
		},
	}}
}

func (w *Writer) protocol(options *upstreamv3.HttpProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": w.Pack(options)}
}

// resolve says how the cluster's addresses are found. IP addresses and Unix sockets are there already.
func resolve(cluster *clusterv3.Cluster, names bool, by clusterv3.Cluster_DiscoveryType) {
	if !names {
		by = clusterv3.Cluster_STATIC
	} else {
		cluster.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
	}
	cluster.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: by}
}

func assign(cluster string, endpoints []Endpoint) *endpointv3.ClusterLoadAssignment {
	var hosts []*endpointv3.LbEndpoint
	for _, e := range endpoints {
		address := socketAddress(e.Host, e.Port)
		if e.IsPipe() {
			address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: e.pipe}}}
		}
		hosts = append(
			hosts,
			&endpointv3.LbEndpoint{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
			},
		)
	}
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: cluster,
		Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: hosts}},
	}
}

func breakers(most uint32) *clusterv3.CircuitBreakers {
	limit := wrapperspb.UInt32(most)
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: limit, MaxPendingRequests: limit, MaxRequests: limit, MaxRetries: limit,
	}}}
}

func (w *Writer) noteBreakers(path string) {
	w.Note(path+".circuit_breakers", "The defaults are 1024 connections and requests, and 3 retries.")
}
