package istio

import "bellhop/envoy"

// egressGateway leads the fan-out's requests for the backends through the egress gateway, which speaks TLS to them.
func (w *writer) egressGateway() []manifest {
	namespace, gateway := w.egress.namespace, w.egress.service
	hosts := make([]any, len(w.backends))
	subsets := make([]any, len(w.backends))
	for i, b := range w.backends {
		hosts[i] = envoy.Scalar("./" + b.Host)
		subsets[i] = fields("name", envoy.Scalar(subsetName(b)), "trafficPolicy", fields("portLevelSettings", list(
			fields("port", fields("number", 80), "tls", fields("mode", "ISTIO_MUTUAL", "sni", envoy.Scalar(b.Host))))))
	}
	server := manifest{
		kind: "Gateway", version: trafficVersion, name: w.egressName(), namespace: namespace, notes: make(envoy.Notes),
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
	all := []manifest{server, {
		kind: "DestinationRule", version: trafficVersion, name: w.egressName(), namespace: namespace,
		spec: fields("exportTo", w.users(), "host", envoy.Scalar(gateway), "subsets", subsets),
	}, w.egressCallers(namespace)}
	for _, b := range w.backends {
		all = append(all, w.throughGateway(b, namespace, gateway)...)
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

// throughGateway is what one backend needs.
func (w *writer) throughGateway(b envoy.Backend, namespace, gateway string) []manifest {
	name := resourceName(b)
	entry := manifest{
		kind: "ServiceEntry", version: trafficVersion, name: name, namespace: namespace,
		spec: fields(
			"exportTo",
			w.users(),
			"hosts",
			list(envoy.Scalar(b.Host)),
			"location",
			"MESH_EXTERNAL",
			"resolution",
			"DNS",
			"ports",
			list(
				fields("number", 80, "name", "http", "protocol", "HTTP"),
				fields("number", int(b.Port), "name", "https", "protocol", "HTTPS")),
		),
	}
	rule := manifest{
		kind: "DestinationRule", version: trafficVersion, name: name, namespace: namespace,
		spec: fields(
			"exportTo", w.users(), "host", envoy.Scalar(b.Host), "trafficPolicy",
			fields("portLevelSettings", list(originate(int(b.Port), b))),
		),
	}
	to := func(host string, port int, subset any) []any {
		return list(
			fields("destination", fields("host", envoy.Scalar(host), "subset", subset, "port", fields("number", port))),
		)
	}
	route := manifest{
		kind: "VirtualService", version: trafficVersion, name: name, namespace: namespace, notes: make(envoy.Notes),
		spec: fields(
			"exportTo",
			w.users(),
			"hosts",
			list(envoy.Scalar(b.Host)),
			"gateways",
			list("mesh", w.egressName()),
			"http",
			list(
				fields(
					"match", list(fields("gateways", list("mesh"), "port", 80)),
					"route", to(gateway, 80, envoy.Scalar(subsetName(b))),
				),
				fields("match", list(fields("gateways", list(w.egressName()), "port", 80)), "route", to(b.Host, int(b.Port), nil)),
			),
		),
	}
	route.note("$.spec.http", "From the fan-out to the gateway, and from the gateway to the server.")
	return []manifest{entry, rule, route}
}
