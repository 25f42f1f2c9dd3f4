package envoy

import (
	"fmt"
	"net/netip"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"bellhop/policy"
)

// maxClientConnections bounds what all listeners together accept. Envoy warns at its start when nothing does.
const maxClientConnections = 50000

// maxExpression is the size of a compiled regular expression that Envoy accepts: about one for each character. The
// longest list has 48 names and what stands beside them.
const maxExpression = 100000

// Bootstrap writes a complete static configuration for one Envoy that stands on both sides of a fan-out, as YAML with
// comments. The same input gives the same bytes. The error holds everything that is wrong with the options, an error
// a line.
func Bootstrap(p *policy.Policy, options BootstrapOptions) ([]byte, error) {
	options = options.withDefaults()
	plan, err := newPlan(p, options)
	if err != nil {
		return nil, err
	}
	w := &bootstrapWriter{Writer: NewWriter(plan.Processing), plan: plan}
	config := w.bootstrap()
	w.check(config)
	if err := w.Errs.Join(); err != nil {
		return nil, fmt.Errorf("write Envoy's configuration: %w (a bug in Bellhop, please report it)", err)
	}
	return render(config, w.title(options), w.Notes)
}

// bootstrapWriter writes the two listeners with what they need.
type bootstrapWriter struct {
	*Writer
	*plan
}

func (w *bootstrapWriter) bootstrap() *bootstrapv3.Bootstrap {
	return &bootstrapv3.Bootstrap{
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: []*listenerv3.Listener{
				w.ingressListener("$.static_resources.listeners[0]"),
				w.egressListener("$.static_resources.listeners[1]"),
			},
			Clusters: w.clusters("$.static_resources.clusters"),
		},
		Admin:           w.adminPage("$.admin"),
		LayeredRuntime:  w.runtime("$.layered_runtime"),
		OverloadManager: w.overload("$.overload_manager"),
	}
}

func (w *bootstrapWriter) clusters(path string) []*clusterv3.Cluster {
	clusters := []*clusterv3.Cluster{w.BellhopCluster(path + "[0]")}
	w.Note(path+"[1]", "The fan-out.")
	clusters = append(clusters, w.serverCluster(path+"[1]", fanoutCluster, w.fanout))
	for i, b := range w.backends {
		at := fmt.Sprintf("%s[%d]", path, i+2)
		w.Note(at, "Backend "+b.Name+".")
		clusters = append(clusters, w.serverCluster(at, b.cluster, b.Target))
	}
	return clusters
}

func (w *bootstrapWriter) adminPage(path string) *bootstrapv3.Admin {
	if !w.admin.IsValid() {
		return nil
	}
	w.Note(path, "Envoy's own admin page (--envoy-admin). It shows the configuration and can stop this Envoy.")
	return &bootstrapv3.Admin{Address: socketAddress(w.admin.Addr().String(), w.admin.Port())}
}

func (w *bootstrapWriter) overload(path string) *overloadv3.OverloadManager {
	w.Note(path, "A limit on all clients together, so that a flood does not stop Envoy.")
	return &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
		Name: "envoy.resource_monitors.global_downstream_max_connections",
		ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: w.Pack(&connectionsv3.DownstreamConnectionsConfig{
			MaxActiveDownstreamConnections: maxClientConnections,
		})},
	}}}
}

// runtime raises Envoy's limit for regular expressions: mutation_rules can only take the whole list of headers as one,
// and with the default of 100 five ordinary names are too many, so that Envoy would not start.
func (w *Writer) runtime(path string) *bootstrapv3.LayeredRuntime {
	w.Note(
		path,
		"The list in mutation_rules is one regular expression. The default limit of 100 is too low for a handful of names.",
	)
	static := &structpb.Struct{Fields: map[string]*structpb.Value{
		"re2.max_program_size.error_level": structpb.NewNumberValue(maxExpression),
	}}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "bellhop", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: static},
	}}}
}

// title is the comment at the top of the file.
func (w *bootstrapWriter) title(options BootstrapOptions) string {
	var text strings.Builder
	text.WriteString(
		"Envoy on both sides of an MCP fan-out, with Bellhop carrying the clients' headers from one side to the other.\n" +
			"Made from policy " + w.policy.Digest() + " by the command below. The lists of headers follow the policy: after " +
			"a change of\n" +
			"the policy run it again.\n\n" + Command("bootstrap", options.flags()) + "\n\n" +
			"Clients use         http://" + reachable(w.ingress) + "\n" +
			"The fan-out uses, for its backends:\n",
	)
	for _, b := range w.backends {
		fmt.Fprintf(&text, "  %-17s http://%s/%s%s\n", b.Name, reachable(w.egress), b.Name, b.Path)
	}
	return text.String()
}

// reachable is where a listener is reached, as far as this program can know.
func reachable(address netip.AddrPort) string {
	if address.Addr().IsUnspecified() {
		return fmt.Sprintf("THIS-HOST:%d", address.Port())
	}
	return address.String()
}

func socketAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}
