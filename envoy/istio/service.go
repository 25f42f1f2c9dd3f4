package istio

import (
	"strconv"
	"strings"

	"bellhop/envoy"

	"github.com/goccy/go-yaml"
)

// pagesPort is where Bellhop serves its metrics and its health, in deploy/kubernetes.
const pagesPort = 9902

// mutualTLS is what a Bellhop that is a service needs of the mesh: only the proxies of fan-outs reach it, and only with
// the mesh's own mutual TLS.
func (w *writer) mutualTLS() []manifest {
	labels := strings.Split(w.service.Host, ".")
	name, namespace := labels[0], labels[1]
	selector := fields("matchLabels", fields("app", envoy.Scalar(name)))
	port := int(w.service.Port)

	sidecar := manifest{
		kind: "Sidecar", version: trafficVersion, name: name, namespace: namespace, notes: make(envoy.Notes),
		spec: fields(
			"workloadSelector",
			fields("labels", fields("app", envoy.Scalar(name))),
			"ingress",
			list(
				fields(
					"port", fields("number", port, "protocol", "GRPC", "name", "grpc"), "defaultEndpoint",
					"127.0.0.1:"+strconv.Itoa(port),
				),
			),
		),
	}
	sidecar.note(
		"$.spec.ingress",
		"Bellhop listens on loopback, where only its proxy can reach it: no one can bypass the mesh's mutual TLS.",
	)
	strict := manifest{
		kind: "PeerAuthentication", version: securityVersion, name: name, namespace: namespace, notes: make(envoy.Notes),
		spec: fields("selector", selector, "mtls", fields("mode", "STRICT"),
			"portLevelMtls", yaml.MapSlice{{Key: strconv.Itoa(pagesPort), Value: fields("mode", "PERMISSIVE")}}),
	}
	strict.note(
		"$.spec.portLevelMtls",
		"Metrics and health, which contain no values, may be read from outside the mesh.",
	)
	return []manifest{
		sidecar, strict, w.callers(name, namespace, selector), w.notOthers(name, namespace, selector),
		w.connections(name, namespace),
	}
}

// callers lets only the proxies of fan-outs ask Bellhop, and each only in the name of its own fan-out.
func (w *writer) callers(name, namespace string, selector yaml.MapSlice) manifest {
	allow := manifest{
		kind: "AuthorizationPolicy", version: securityVersion, name: name + "-" + w.asker(), namespace: namespace,
		notes: make(envoy.Notes),
		spec: fields("selector", selector, "action", "ALLOW", "rules", append(w.mayAsk(),
			fields("to", atPort(pagesPort)))),
	}
	allow.note(
		"$.spec.rules",
		"Every caller of Bellhop can redeem tickets: only the proxies of fan-outs may call it, each for its own fan-out.",
	)
	return allow
}

// asker names whom the rules are for. Policies that allow add up, if they have names of their own.
func (w *writer) asker() string {
	switch w.options.SetUp {
	case Mesh:
		return "mesh"
	case Gateway:
		return "gateways-" + w.fanout()
	default:
		return w.fanout()
	}
}

// notOthers shuts out whoever speaks in the name of a fan-out and is not its proxy. Any other policy that allows, of
// the root namespace or of Bellhop's, would let others in beside those of callers; what denies comes first in Istio.
func (w *writer) notOthers(name, namespace string, selector yaml.MapSlice) manifest {
	deny := manifest{
		kind: "AuthorizationPolicy", version: securityVersion, name: name + "-only-" + w.asker(), namespace: namespace,
		notes: make(envoy.Notes),
		spec:  fields("selector", selector, "action", "DENY", "rules", w.mayNotAsk()),
	}
	deny.note(
		"$.spec.rules",
		"What denies comes before what allows: no other policy, of whoever may write some, lets others speak in the name of",
		"these fan-outs.",
	)
	return deny
}

// asking are who may ask for a fan-out, and in which role; empty: in both.
type asking struct {
	fanout     string
	principals []any
	role       envoy.Role
}

func (w *writer) asking() []asking {
	switch w.options.SetUp {
	case Mesh:
		all := make([]asking, len(w.fanouts))
		for i, one := range w.fanouts {
			of := envoy.Scalar(w.options.TrustDomain + "/ns/" + one + "/*")
			all[i] = asking{fanout: one, principals: list(of)}
		}
		return all
	case Gateway:
		return []asking{
			{
				w.FanoutName,
				list(w.principal(w.ingress.account)),
				envoy.Ingress,
			}, {w.FanoutName, list(w.principal(w.egress.account)), envoy.Egress},
		}
	default:
		return []asking{{fanout: w.FanoutName, principals: w.principals()}}
	}
}

// when are the conditions of a filter that speaks so.
func (a asking) when() []any {
	all := list(saying(envoy.FanoutKey, a.fanout))
	if a.role != "" {
		all = append(all, saying(envoy.RoleKey, string(a.role)))
	}
	return all
}

// mayAsk are the rules of who may ask Bellhop for which fan-out. What a filter says of itself Bellhop believes, and
// anybody with a certificate of the mesh could say it too: so the name is held against the certificate.
func (w *writer) mayAsk() []any {
	var rules []any
	for _, one := range w.asking() {
		rules = append(rules, fields(
			"from", list(fields("source", fields("principals", one.principals))), "to", atPort(int(w.service.Port)),
			"when", one.when(),
		))
	}
	return rules
}

// mayNotAsk are the rules of who may not. Where fan-outs have names, nobody speaks without one.
func (w *writer) mayNotAsk() []any {
	var rules []any
	named := true
	for _, one := range w.asking() {
		named = named && one.fanout != ""
		rules = append(rules, fields(
			"from", list(fields("source", fields("notPrincipals", one.principals))), "to", atPort(int(w.service.Port)),
			"when", one.when(),
		))
	}
	if named {
		rules = append(rules, fields("to", atPort(int(w.service.Port)), "when", list(saying(envoy.FanoutKey, ""))))
	}
	if w.options.SetUp == Gateway {
		rules = append(rules, fields("to", atPort(int(w.service.Port)), "when", list(saying(envoy.RoleKey, ""))))
	}
	return rules
}

// saying is the condition that a filter says something of itself, or with an empty value that it does not.
func saying(key, value string) yaml.MapSlice {
	header := envoy.Quoted("request.headers[" + key + "]")
	if value == "" {
		return fields("key", header, "notValues", list(envoy.Quoted("*")))
	}
	return fields("key", header, "values", list(envoy.Scalar(value)))
}

func atPort(port int) []any {
	return list(fields("operation", fields("ports", list(envoy.Quoted(strconv.Itoa(port))))))
}

// principals are the fan-out's.
func (w *writer) principals() []any {
	all := make([]any, len(w.accounts))
	for i, one := range w.accounts {
		all[i] = w.principal(one)
	}
	return all
}

// connections are the settings of the connections to Bellhop, as those of the cluster that other forms write.
func (w *writer) connections(name, namespace string) manifest {
	rule := manifest{
		kind: "DestinationRule", version: trafficVersion, name: name, namespace: namespace, notes: make(envoy.Notes),
		spec: fields("host", envoy.Scalar(w.service.Host), "trafficPolicy", fields(
			"tls",
			fields("mode", "ISTIO_MUTUAL"),
			"connectionPool",
			fields(
				"tcp",
				fields("maxConnections", envoy.MaxBellhopRequests, "connectTimeout", "250ms"),
				"http",
				fields(
					"http2MaxRequests", envoy.MaxBellhopRequests, "http1MaxPendingRequests", envoy.MaxBellhopRequests,
					"maxRetries", envoy.MaxBellhopRequests,
				),
			),
			"outlierDetection",
			fields("consecutiveGatewayErrors", 1, "consecutive5xxErrors", 1, "splitExternalLocalOriginErrors", false,
				"interval", "1s", "baseEjectionTime", "1s", "maxEjectionPercent", 50),
		)),
	}
	rule.note("$.spec.trafficPolicy.connectionPool", "The defaults are 1024 requests, and 3 retries.")
	rule.note(
		"$.spec.trafficPolicy.outlierDetection",
		"A dead Bellhop gets no more requests, even before Kubernetes notices.",
	)
	return rule
}
