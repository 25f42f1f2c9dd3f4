package istio

import (
	"slices"
	"strings"

	"bellhop/envoy"

	"github.com/goccy/go-yaml"
)

// outside makes the servers outside the mesh reachable: the fan-out speaks plain HTTP to its proxy, for only then can
// the proxy's filters see the headers, and the proxy speaks TLS to the server.
func (w *writer) outside(namespace string) []manifest {
	var all []manifest
	for _, b := range w.backends {
		if !b.Secure {
			continue
		}
		entry := manifest{
			kind: "ServiceEntry", version: trafficVersion, name: resourceName(b), namespace: namespace, notes: make(envoy.Notes),
			spec: fields(
				"exportTo", w.users(), "hosts", list(envoy.Scalar(b.Host)), "location", "MESH_EXTERNAL", "resolution", "DNS",
				"ports", list(fields("number", 80, "name", "http", "protocol", "HTTP", "targetPort", int(b.Port))),
			),
		}
		entry.note(
			"$.spec.exportTo",
			"Only for this namespace. The traffic of its other pods to the server is routed in the same way: Istio knows "+
				"nothing smaller.",
		)
		entry.note(
			"$.spec.ports",
			"The fan-out calls "+asked(b)+". If it used https itself, no filter could read the headers.",
		)
		rule := manifest{
			kind: "DestinationRule", version: trafficVersion, name: resourceName(b), namespace: namespace,
			notes: make(envoy.Notes),
			spec: fields(
				"exportTo", w.users(), "host", envoy.Scalar(b.Host), "trafficPolicy",
				fields("portLevelSettings", list(originate(80, b))),
			),
		}
		rule.note("$.spec.trafficPolicy", "The proxy originates TLS. The server must prove that it is "+b.Host+".")
		all = append(all, entry, rule)
	}
	return all
}

// users are the namespaces to which the fan-outs' resources apply: they route no other traffic.
func (w *writer) users() []any {
	var names []string
	switch w.options.SetUp {
	case Mesh:
		names = slices.Clone(w.fanouts)
	case Gateway:
		// The egress gateway's by its name: of a rule in the root namespace for "." and others Istio drops the ".".
		names = []string{w.options.RootNamespace, w.options.Namespace}
		for _, one := range w.accounts {
			names = append(names, one.namespace)
		}
	default:
		names = []string{"."}
	}
	slices.Sort(names)
	var all []any
	for _, name := range slices.Compact(names) {
		all = append(all, envoy.Scalar(name))
	}
	return all
}

func (m manifest) note(path string, lines ...string) { m.notes.Note(path, lines...) }

// originate makes a port of a host TLS.
func originate(port int, b envoy.Backend) yaml.MapSlice {
	return fields("port", fields("number", port),
		"tls", fields("mode", "SIMPLE", "sni", envoy.Scalar(b.Host), "subjectAltNames", list(envoy.Scalar(b.Host))))
}

// resourceName names what is about a server outside the mesh. It follows from the host, of which all else follows too:
// fan-outs that have the server in common have these resources in common, whatever they call it.
func resourceName(b envoy.Backend) string { return "bellhop-to-" + dashed(b.Host) }

// subsetName is the same where Istio takes no more than 63 letters.
func subsetName(b envoy.Backend) string { return dashed(b.Host) }

// dashed is a text as Kubernetes takes it for a part of a name.
func dashed(text string) string {
	return strings.Trim(strings.NewReplacer("_", "-", ".", "-", "/", "-").Replace(strings.ToLower(text)), "-")
}
