package envoy

import (
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// pagesPort is where Bellhop serves its metrics and its health, in deploy/kubernetes.
const pagesPort = 9902

// outside makes the servers outside the mesh reachable: the fan-out speaks plain HTTP to its proxy, for only then can the
// proxy's filters see the headers, and the proxy speaks TLS to the server.
func (w *meshWriter) outside(namespace string) []manifest {
	var all []manifest
	for _, b := range w.backends {
		if !b.secure {
			continue
		}
		entry := manifest{
			kind: "ServiceEntry", version: trafficVersion, name: resourceName(b), namespace: namespace, notes: make(notes),
			spec: fields("hosts", list(scalar(b.host)), "location", "MESH_EXTERNAL", "resolution", "DNS",
				"ports", list(fields("number", 80, "name", "http", "protocol", "HTTP", "targetPort", int(b.port)))),
		}
		entry.note("$.spec.ports", "The fan-out asks for "+b.asked()+". With https of its own no filter could see the headers.")
		rule := manifest{
			kind: "DestinationRule", version: trafficVersion, name: resourceName(b), namespace: namespace, notes: make(notes),
			spec: fields("host", scalar(b.host), "trafficPolicy", fields("portLevelSettings", list(originate(80, b)))),
		}
		rule.note("$.spec.trafficPolicy", "From the proxy on it is TLS. The server has to prove that it is "+b.host+".")
		all = append(all, entry, rule)
	}
	return all
}

func (m manifest) note(path string, lines ...string) { m.notes.note(path, lines...) }

// originate makes a port of a host TLS.
func originate(port int, b backend) yaml.MapSlice {
	return fields("port", fields("number", port),
		"tls", fields("mode", "SIMPLE", "sni", scalar(b.host), "subjectAltNames", list(scalar(b.host))))
}

// resourceName is a backend's name as Kubernetes takes it.
func resourceName(b backend) string {
	plain := strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(b.name))
	return "bellhop-" + strings.Trim(plain, "-")
}

// mutualTLS is what a Bellhop that is a service needs of the mesh: only the proxies of fan-outs reach it, and only with
// the mesh's own mutual TLS.
func (w *meshWriter) mutualTLS() []manifest {
	labels := strings.Split(w.service.host, ".")
	name, namespace := labels[0], labels[1]
	selector := fields("matchLabels", fields("app", scalar(name)))
	port := int(w.service.port)

	sidecar := manifest{
		kind: "Sidecar", version: trafficVersion, name: name, namespace: namespace, notes: make(notes),
		spec: fields("workloadSelector", fields("labels", fields("app", scalar(name))),
			"ingress", list(fields("port", fields("number", port, "protocol", "GRPC", "name", "grpc"), "defaultEndpoint", "127.0.0.1:"+strconv.Itoa(port)))),
	}
	sidecar.note("$.spec.ingress", "Bellhop listens on loopback, where only its proxy reaches it: nobody gets past the mesh's mutual TLS.")
	strict := manifest{
		kind: "PeerAuthentication", version: securityVersion, name: name, namespace: namespace, notes: make(notes),
		spec: fields("selector", selector, "mtls", fields("mode", "STRICT"),
			"portLevelMtls", yaml.MapSlice{{Key: strconv.Itoa(pagesPort), Value: fields("mode", "PERMISSIVE")}}),
	}
	strict.note("$.spec.portLevelMtls", "Metrics and health, which hold no values, may be read from outside the mesh.")
	allow := manifest{
		kind: "AuthorizationPolicy", version: securityVersion, name: name, namespace: namespace, notes: make(notes),
		spec: fields("selector", selector, "action", "ALLOW", "rules", list(
			fields("from", list(fields("source", w.source())), "to", list(fields("operation", fields("ports", list(quoted(strconv.Itoa(port))))))),
			fields("to", list(fields("operation", fields("ports", list(quoted(strconv.Itoa(pagesPort))))))),
		)),
	}
	allow.note("$.spec.rules", "Whoever can ask Bellhop can redeem tickets: only the proxies of fan-outs may.")
	return []manifest{sidecar, strict, allow, w.connections(name, namespace)}
}

// source is who may use Bellhop.
func (w *meshWriter) source() yaml.MapSlice {
	switch w.options.SetUp {
	case SetUpMesh:
		return fields("namespaces", w.fanouts)
	case SetUpGateway:
		return fields("namespaces", list(scalar(w.options.RootNamespace)))
	default:
		return fields("principals", w.principals())
	}
}

// principals are the fan-out's, as the mesh's certificates name them.
func (w *meshWriter) principals() []any {
	all := make([]any, len(w.accounts))
	for i, one := range w.accounts {
		all[i] = w.options.TrustDomain + "/ns/" + one.namespace + "/sa/" + one.name
	}
	return all
}

// connections are the settings of the connections to Bellhop, as those of the cluster that other forms write.
func (w *meshWriter) connections(name, namespace string) manifest {
	rule := manifest{
		kind: "DestinationRule", version: trafficVersion, name: name, namespace: namespace, notes: make(notes),
		spec: fields("host", scalar(w.service.host), "trafficPolicy", fields(
			"tls", fields("mode", "ISTIO_MUTUAL"),
			"connectionPool", fields(
				"tcp", fields("maxConnections", maxBellhopRequests, "connectTimeout", "250ms"),
				"http", fields("http2MaxRequests", maxBellhopRequests, "http1MaxPendingRequests", maxBellhopRequests, "maxRetries", maxBellhopRequests)),
			"outlierDetection", fields("consecutiveGatewayErrors", 1, "consecutive5xxErrors", 1, "splitExternalLocalOriginErrors", false,
				"interval", "1s", "baseEjectionTime", "1s", "maxEjectionPercent", 50))),
	}
	rule.note("$.spec.trafficPolicy.connectionPool", "The defaults are 1024 requests, and 3 retries.")
	rule.note("$.spec.trafficPolicy.outlierDetection", "A Bellhop that has died gets no more requests before Kubernetes knows.")
	return rule
}

// The egress gateway of Istio, as its chart names it.
const egressGatewayName = "istio-egressgateway"

// egressGateway leads the fan-out's requests for the backends through the egress gateway, which speaks TLS to them.
func (w *meshWriter) egressGateway() []manifest {
	namespace := w.options.RootNamespace
	gateway := egressGatewayName + "." + namespace + ".svc.cluster.local"
	hosts := make([]any, len(w.backends))
	subsets := make([]any, len(w.backends))
	for i, b := range w.backends {
		hosts[i] = scalar(b.host)
		subsets[i] = fields("name", scalar(resourceName(b)), "trafficPolicy", fields("portLevelSettings", list(
			fields("port", fields("number", 80), "tls", fields("mode", "ISTIO_MUTUAL", "sni", scalar(b.host))))))
	}
	server := manifest{
		kind: "Gateway", version: trafficVersion, name: "bellhop-egress", namespace: namespace, notes: make(notes),
		spec: fields("selector", fields("istio", "egressgateway"), "servers", list(fields(
			"port", fields("number", 80, "name", "https-bellhop", "protocol", "HTTPS"), "hosts", hosts, "tls", fields("mode", "ISTIO_MUTUAL")))),
	}
	server.note("$.spec.servers", "From the fan-out's proxy to the gateway it is the mesh's mutual TLS.")
	all := []manifest{server, {
		kind: "DestinationRule", version: trafficVersion, name: "bellhop-egress", namespace: namespace,
		spec: fields("host", scalar(gateway), "subsets", subsets),
	}, w.egressCallers(namespace)}
	for _, b := range w.backends {
		all = append(all, w.throughGateway(b, namespace, gateway)...)
	}
	return all
}

// egressCallers lets only the fan-out use the backends' hosts at the gateway.
func (w *meshWriter) egressCallers(namespace string) manifest {
	hosts := make([]any, 0, 2*len(w.backends))
	for _, b := range w.backends {
		hosts = append(hosts, scalar(b.host), scalar(b.host+":*"))
	}
	deny := manifest{
		kind: "AuthorizationPolicy", version: securityVersion, name: "bellhop-egress", namespace: namespace, notes: make(notes),
		spec: fields("selector", fields("matchLabels", fields("istio", "egressgateway")), "action", "DENY", "rules", list(
			fields("from", list(fields("source", fields("notPrincipals", w.principals()))), "to", list(fields("operation", fields("hosts", hosts)))))),
	}
	deny.note("$.spec.rules", "Whoever reaches these hosts through the gateway can redeem tickets: only the fan-out may.")
	return deny
}

// throughGateway is what one backend needs.
func (w *meshWriter) throughGateway(b backend, namespace, gateway string) []manifest {
	name := resourceName(b)
	entry := manifest{
		kind: "ServiceEntry", version: trafficVersion, name: name, namespace: namespace,
		spec: fields("hosts", list(scalar(b.host)), "location", "MESH_EXTERNAL", "resolution", "DNS", "ports", list(
			fields("number", 80, "name", "http", "protocol", "HTTP"),
			fields("number", int(b.port), "name", "https", "protocol", "HTTPS"))),
	}
	rule := manifest{
		kind: "DestinationRule", version: trafficVersion, name: name, namespace: namespace,
		spec: fields("host", scalar(b.host), "trafficPolicy", fields("portLevelSettings", list(originate(int(b.port), b)))),
	}
	to := func(host string, port int, subset any) []any {
		return list(fields("destination", fields("host", scalar(host), "subset", subset, "port", fields("number", port))))
	}
	route := manifest{
		kind: "VirtualService", version: trafficVersion, name: name, namespace: namespace, notes: make(notes),
		spec: fields("hosts", list(scalar(b.host)), "gateways", list("mesh", "bellhop-egress"), "http", list(
			fields("match", list(fields("gateways", list("mesh"), "port", 80)), "route", to(gateway, 80, scalar(name))),
			fields("match", list(fields("gateways", list("bellhop-egress"), "port", 80)), "route", to(b.host, int(b.port), nil)))),
	}
	route.note("$.spec.http", "From the fan-out to the gateway, and from the gateway to the server.")
	return []manifest{entry, rule, route}
}
