package istio

import (
	"bellhop/envoy"

	"github.com/goccy/go-yaml"
)

// egressGateway leads the fan-out's requests for the backends through the egress gateway, which speaks TLS to them.
// What each side needs stands in its own namespace and is for it alone, so that Istio prefers it to what others export.
func (w *writer) egressGateway() []manifest {
	hosts := make([]any, len(w.backends))
	for i, b := range w.backends {
		hosts[i] = envoy.Scalar("./" + b.Host)
	}
	server := manifest{
		kind: "Gateway", version: trafficVersion, name: w.egressName(), namespace: w.egress.namespace,
		notes: make(envoy.Notes),
		spec: fields("selector", labelsOf(w.egress.labels), "servers", list(fields(
			"port", fields("number", 80, "name", "https-bellhop", "protocol", "HTTPS"), "hosts", hosts,
			"tls", fields("mode", "ISTIO_MUTUAL"),
		))),
	}
	server.note(
		"$.spec.servers",
		"The mesh's mutual TLS protects the way to the gateway. Clients without a proxy are refused. Only VirtualServices of",
		"this namespace may lead these hosts anywhere.",
	)
	all := []manifest{server, w.egressCallers(w.egress.namespace)}
	for _, b := range w.backends {
		all = append(all, w.fromGateway(b)...)
	}
	for _, namespace := range w.users() {
		all = append(all, w.toGateway(namespace)...)
	}
	return all
}

// egressName names what one fan-out has at the egress gateway.
func (w *writer) egressName() string { return "bellhop-egress-" + w.fanout() }

// egressCallers lets only the fan-out use the backends' hosts at the gateway.
func (w *writer) egressCallers(namespace string) manifest {
	hosts := make([]any, 0, 2*len(w.backends))
	for _, b := range w.backends {
		hosts = append(hosts, envoy.Scalar(b.Host), envoy.Scalar(b.Host+":*"))
	}
	deny := manifest{
		kind: "AuthorizationPolicy", version: securityVersion, name: w.egressName(), namespace: namespace,
		notes: make(envoy.Notes),
		spec: fields("selector", fields("matchLabels", labelsOf(w.egress.labels)), "action", "DENY", "rules", list(
			fields(
				"from", list(fields("source", fields("notPrincipals", w.principals()))),
				"to", list(fields("operation", fields("hosts", hosts))),
			),
		)),
	}
	deny.note("$.spec.rules", "Whoever reaches these hosts through the gateway can redeem tickets: only the fan-out may.")
	return deny
}

// fanoutCallers admits only the ingress gateway to the fan-out: every other way bypasses Bellhop.
func (w *writer) fanoutCallers() manifest {
	rule := fields("from", list(fields("source", fields("notPrincipals", list(w.principal(w.ingress.account))))))
	if w.port != 0 {
		rule = append(rule, fields("to", atPort(int(w.port)))...)
	}
	deny := manifest{
		kind: "AuthorizationPolicy", version: securityVersion, name: "bellhop-" + w.workload(),
		namespace: w.options.Namespace, notes: make(envoy.Notes),
		spec: fields("selector", fields("matchLabels", labelsOf(w.labels)), "action", "DENY", "rules", list(rule)),
	}
	deny.note(
		"$.spec.rules",
		"A client that bypasses the ingress gateway would show its headers to the fan-out, and could send tickets: denied.",
	)
	return deny
}

// entry makes a backend's host known in a namespace.
func (w *writer) entry(b envoy.Backend, namespace string) manifest {
	return manifest{
		kind: "ServiceEntry", version: trafficVersion, name: resourceName(b), namespace: namespace,
		spec: fields(
			"exportTo", list("."), "hosts", list(envoy.Scalar(b.Host)), "location", "MESH_EXTERNAL", "resolution", "DNS",
			"ports", list(
				fields("number", 80, "name", "http", "protocol", "HTTP"),
				fields("number", int(b.Port), "name", "https", "protocol", "HTTPS"),
			),
		),
	}
}

// led is a VirtualService that leads a backend's host, as it comes in by one of Istio's gateways, to a destination.
func (w *writer) led(name, namespace string, b envoy.Backend, gateway string, destination yaml.MapSlice) manifest {
	return manifest{
		kind: "VirtualService", version: trafficVersion, name: name, namespace: namespace, notes: make(envoy.Notes),
		spec: fields(
			"exportTo", list("."), "hosts", list(envoy.Scalar(b.Host)), "gateways", list(gateway),
			"http", list(fields(
				"match", list(fields("port", 80)), "route", list(fields("destination", destination)),
			)),
		),
	}
}

// fromGateway leads from the egress gateway to a backend, by TLS.
func (w *writer) fromGateway(b envoy.Backend) []manifest {
	namespace := w.egress.namespace
	route := w.led(
		resourceName(b)+"-out", namespace, b, w.egressName(),
		fields("host", envoy.Scalar(b.Host), "port", fields("number", int(b.Port))),
	)
	route.note("$.spec.http", "From the gateway to the server.")
	return []manifest{w.entry(b, namespace), {
		kind: "DestinationRule", version: trafficVersion, name: resourceName(b), namespace: namespace,
		spec: fields(
			"exportTo", list("."), "host", envoy.Scalar(b.Host), "trafficPolicy",
			fields("portLevelSettings", list(originate(int(b.Port), b))),
		),
	}, route}
}

// toGateway leads from the fan-out's pods in a namespace to the egress gateway.
func (w *writer) toGateway(namespace string) []manifest {
	subsets := make([]any, len(w.backends))
	for i, b := range w.backends {
		subsets[i] = fields("name", envoy.Scalar(subsetName(b)), "trafficPolicy", fields("portLevelSettings", list(
			fields("port", fields("number", 80), "tls", fields("mode", "ISTIO_MUTUAL", "sni", envoy.Scalar(b.Host))))))
	}
	all := []manifest{{
		kind: "DestinationRule", version: trafficVersion, name: w.egressName(), namespace: namespace,
		spec: fields("exportTo", list("."), "host", envoy.Scalar(w.egress.service), "subsets", subsets),
	}}
	for _, b := range w.backends {
		if namespace != w.egress.namespace {
			all = append(all, w.entry(b, namespace))
		}
		route := w.led(resourceName(b), namespace, b, "mesh", fields(
			"host", envoy.Scalar(w.egress.service), "subset", envoy.Scalar(subsetName(b)), "port", fields("number", 80),
		))
		route.note("$.spec.http", "From the fan-out to the gateway.")
		all = append(all, route)
	}
	return all
}
