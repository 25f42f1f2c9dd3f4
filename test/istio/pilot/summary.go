package pilot

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
)

// Summary says of a configuration what matters to Bellhop: which HTTP filters and access logs stand where and in what order, what
// virtual hosts set for them, which headers are taken off, and which clusters there are. It is sorted where order says nothing:
// pilot's own changes from run to run.
func (r Rendered) Summary() string {
	var out strings.Builder
	for _, listener := range sorted(r.Listeners) {
		for _, chain := range slices.Concat(listener.GetFilterChains(), defaultChain(listener)) {
			if manager := Manager(chain); manager != nil {
				fmt.Fprintf(&out, "listener %s%s\n", listener.GetName(), port(chain))
				for _, filter := range manager.GetHttpFilters() {
					fmt.Fprintf(&out, "  %s%s\n", filter.GetName(), disabled(filter.GetDisabled()))
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
		fmt.Fprintf(&out, "cluster %s\n", cluster.GetName())
	}
	return out.String()
}

func sorted[T interface{ GetName() string }](all []T) []T {
	return slices.SortedStableFunc(slices.Values(all), func(a, b T) int { return strings.Compare(a.GetName(), b.GetName()) })
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
