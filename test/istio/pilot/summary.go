package pilot

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// Summary says of a configuration what matters to Bellhop: which HTTP filters and access logs stand where and in what
// order, what Bellhop's ask and where, what virtual hosts set for them, which headers are taken off, and which clusters
// there are with what TLS. It is sorted where order says nothing: pilot's own changes from run to run.
func (r Rendered) Summary() string {
	var out strings.Builder
	for _, listener := range sorted(r.Listeners) {
		for _, chain := range slices.Concat(listener.GetFilterChains(), defaultChain(listener)) {
			if manager := Manager(chain); manager != nil {
				fmt.Fprintf(&out, "listener %s%s\n", listener.GetName(), port(chain))
				for _, filter := range manager.GetHttpFilters() {
					fmt.Fprintf(&out, "  %s%s%s\n", filter.GetName(), disabled(filter.GetDisabled()), asks(filter))
				}
				for _, log := range manager.GetAccessLog() {
					fmt.Fprintf(&out, "  logs to %s\n", log.GetName())
				}
				summarise(&out, "  ", manager.GetRouteConfig())
			}
		}
	}
	for _, table := range sorted(r.Routes) {
		fmt.Fprintf(&out, "routes %s\n", table.GetName())
		summarise(&out, "  ", table)
	}
	for _, cluster := range sorted(r.Clusters) {
		fmt.Fprintf(&out, "cluster %s%s\n", cluster.GetName(), secured(cluster))
	}
	return out.String()
}

// asks is what a filter of Bellhop's tells Bellhop, and where it asks.
func asks(filter *hcmv3.HttpFilter) string {
	config := &extprocv3.ExternalProcessor{}
	if !filter.GetTypedConfig().MessageIs(config) || filter.GetTypedConfig().UnmarshalTo(config) != nil {
		return ""
	}
	text := " asks " + config.GetGrpcService().GetEnvoyGrpc().GetClusterName()
	for _, pair := range config.GetGrpcService().GetInitialMetadata() {
		text += fmt.Sprintf(" %s=%s", pair.GetKey(), pair.GetValue())
	}
	return text
}

// secured is the TLS of a cluster, by which its servers are known.
func secured(cluster *clusterv3.Cluster) string {
	text := ""
	for _, socket := range append([]*corev3.TransportSocket{cluster.GetTransportSocket()}, matched(cluster)...) {
		config := &tlsv3.UpstreamTlsContext{}
		if !socket.GetTypedConfig().MessageIs(config) || socket.GetTypedConfig().UnmarshalTo(config) != nil {
			continue
		}
		text += ", TLS to " + config.GetSni()
		for _, name := range config.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchSubjectAltNames() { //nolint:staticcheck // Istio writes this one
			text += " as " + name.GetExact()
		}
	}
	return text
}

func matched(cluster *clusterv3.Cluster) []*corev3.TransportSocket {
	var all []*corev3.TransportSocket
	for _, match := range cluster.GetTransportSocketMatches() {
		all = append(all, match.GetTransportSocket())
	}
	return all
}

func sorted[T interface{ GetName() string }](all []T) []T {
	return slices.SortedStableFunc(
		slices.Values(all),
		func(a, b T) int { return strings.Compare(a.GetName(), b.GetName()) },
	)
}

func defaultChain(listener *listenerv3.Listener) []*listenerv3.FilterChain {
	if listener.GetDefaultFilterChain() == nil {
		return nil
	}
	return []*listenerv3.FilterChain{listener.GetDefaultFilterChain()}
}

func port(chain *listenerv3.FilterChain) string {
	text := ""
	if number := chain.GetFilterChainMatch().GetDestinationPort(); number != nil {
		text += fmt.Sprintf(", port %d", number.GetValue())
	}
	if chain.GetTransportSocket() != nil {
		text += ", TLS"
	}
	return text
}

func disabled(is bool) string {
	if is {
		return " (disabled)"
	}
	return ""
}

func summarise(out *strings.Builder, indent string, table *routev3.RouteConfiguration) {
	if names := table.GetRequestHeadersToRemove(); len(names) > 0 {
		fmt.Fprintf(out, "%stakes off %s\n", indent, strings.Join(names, ", "))
	}
	for _, host := range sorted(table.GetVirtualHosts()) {
		fmt.Fprintf(out, "%shost %s\n", indent, host.GetName())
		for _, name := range slices.Sorted(maps.Keys(host.GetTypedPerFilterConfig())) {
			per := &extprocv3.ExtProcPerRoute{}
			if config := host.GetTypedPerFilterConfig()[name]; config.MessageIs(per) && config.UnmarshalTo(per) != nil {
				per = nil
			}
			fmt.Fprintf(out, "%s  enables %s", indent, name)
			for _, pair := range per.GetOverrides().GetGrpcInitialMetadata() {
				fmt.Fprintf(out, " %s=%s", pair.GetKey(), pair.GetValue())
			}
			out.WriteByte('\n')
		}
	}
}
