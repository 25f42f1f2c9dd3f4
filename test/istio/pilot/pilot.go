// Package pilot lets Istio's own control plane, in this process, make a proxy's configuration of manifests.
package pilot

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/test"
)

// Rendered is the configuration that a proxy would be given.
type Rendered struct {
	Listeners []*listenerv3.Listener
	Routes    []*routev3.RouteConfiguration
	Clusters  []*clusterv3.Cluster
}

// Render makes the configuration of one proxy in a mesh that holds the manifests.
func Render(t test.Failer, manifests string, proxy *model.Proxy) Rendered {
	t.Helper()
	server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{ConfigString: manifests})
	proxy = server.SetupProxy(proxy)
	return Rendered{Listeners: server.Listeners(proxy), Routes: server.Routes(proxy), Clusters: server.Clusters(proxy)}
}

// Sidecar is a proxy beside the application of a pod.
func Sidecar(namespace, ip string, labels map[string]string) *model.Proxy {
	return &model.Proxy{
		Type: model.SidecarProxy, ID: "pod." + namespace, ConfigNamespace: namespace, IPAddresses: []string{ip},
		Labels:   labels,
		Metadata: &model.NodeMetadata{Namespace: namespace, Labels: labels, IstioVersion: "1.31.0"},
	}
}

// Gateway is a proxy that stands by itself.
func Gateway(namespace, ip string, labels map[string]string) *model.Proxy {
	proxy := Sidecar(namespace, ip, labels)
	proxy.Type = model.Router
	return proxy
}

// Manager is the HTTP connection manager of a filter chain, or nil where it is for something else.
func Manager(chain *listenerv3.FilterChain) *hcmv3.HttpConnectionManager {
	for _, filter := range chain.GetFilters() {
		manager := &hcmv3.HttpConnectionManager{}
		if filter.GetTypedConfig().MessageIs(manager) && filter.GetTypedConfig().UnmarshalTo(manager) == nil {
			return manager
		}
	}
	return nil
}
