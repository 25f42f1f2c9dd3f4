package istio

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"bellhop/envoy"

	"github.com/goccy/go-yaml"
)

// toBackends is what the fan-outs of a namespace need to reach their backends, and nobody else but them: it stands in
// their own namespace and is for it alone, so that Istio prefers it to what other namespaces export.
func (w *writer) toBackends(namespace string) []manifest {
	return append(w.outside(namespace), w.routes(namespace)...)
}

// routes lead to each backend's own host. Without them a VirtualService of any other namespace, which is exported
// everywhere by default, could lead requests for the backend to another server, or mirror them there.
func (w *writer) routes(namespace string) []manifest {
	var all []manifest
	for i, b := range w.backends {
		onHost := func(other envoy.Backend) bool { return other.Host == b.Host }
		if slices.ContainsFunc(w.backends[:i], onHost) {
			continue
		}
		route := manifest{
			kind: "VirtualService", version: trafficVersion, name: resourceName(b), namespace: namespace,
			notes: make(envoy.Notes),
			spec: fields(
				"exportTo", list("."), "hosts", list(envoy.Scalar(b.Host)), "http",
				list(fields("route", list(fields("destination", fields("host", envoy.Scalar(b.Host)))))),
			),
		}
		route.note(
			"$.spec.http",
			"Where the host leads without it, on each of its ports. Istio prefers it to the VirtualServices of other "+
				"namespaces,",
			"which could lead the clients' headers elsewhere, or mirror them.",
		)
		all = append(all, route)
	}
	return all
}

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
				"exportTo",
				list("."),
				"hosts",
				list(envoy.Scalar(b.Host)),
				"location",
				"MESH_EXTERNAL",
				"resolution",
				"DNS",
				"ports",
				list(fields("number", 80, "name", "http", "protocol", "HTTP", "targetPort", int(b.Port))),
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
				"exportTo", list("."), "host", envoy.Scalar(b.Host), "trafficPolicy",
				fields("portLevelSettings", list(originate(80, b))),
			),
		}
		rule.note("$.spec.trafficPolicy", "The proxy originates TLS. The server must prove that it is "+b.Host+".")
		all = append(all, entry, rule)
	}
	return all
}

// users are the namespaces of the fan-out's pods.
func (w *writer) users() []string {
	names := []string{w.options.Namespace}
	for _, one := range w.accounts {
		names = append(names, one.namespace)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (m manifest) note(path string, lines ...string) { m.notes.Note(path, lines...) }

// originate makes a port of a host TLS.
func originate(port int, b envoy.Backend) yaml.MapSlice {
	return fields("port", fields("number", port),
		"tls", fields("mode", "SIMPLE", "sni", envoy.Scalar(b.Host), "subjectAltNames", list(envoy.Scalar(b.Host))))
}

// resourceName names what is about the host of a backend. It follows from the host, of which all else follows too:
// fan-outs that have the host in common have these resources in common, whatever they call it.
func resourceName(b envoy.Backend) string { return "bellhop-to-" + subsetName(b) }

// subsetName is the same where Istio takes no more than 63 letters.
func subsetName(b envoy.Backend) string { return distinct(dashed(b.Host), b.Host) }

// distinct is a name that no other identity has, however much alike or long the names are.
func distinct(name string, identity ...string) string {
	digest := sha256.Sum256([]byte(strings.Join(identity, "\x00")))
	end := "-" + hex.EncodeToString(digest[:4])
	return strings.Trim(name[:min(len(name), longestLabel-len(end))], "-") + end
}

// dashed is a text as Kubernetes takes it for a part of a name.
func dashed(text string) string {
	return strings.Trim(strings.NewReplacer("_", "-", ".", "-", "/", "-").Replace(strings.ToLower(text)), "-")
}
