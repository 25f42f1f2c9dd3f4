package istio

import (
	"fmt"
	"slices"
	"strings"

	"bellhop/envoy"
	"bellhop/policy"
)

// Manifests writes the manifests that put Bellhop on both sides of a fan-out in an Istio mesh, as YAML with comments:
// the EnvoyFilter, and what the set-up needs of Istio's other resources. Bellhop's own workload is not among them: it
// does not depend on the policy, and stands in deploy/kubernetes. There is one policy but for [Mesh]. The error holds
// everything that is wrong with the options, an error a line.
func Manifests(policies []*policy.Policy, options Options) ([]byte, error) {
	options = options.withDefaults()
	plan, err := newPlan(policies, options)
	if err != nil {
		return nil, err
	}
	w := &writer{plan: plan}
	manifests := w.manifests()
	if err := w.errs.Join(); err != nil {
		return nil, fmt.Errorf("write Istio's configuration: %w (a bug in Bellhop, please report it)", err)
	}
	return renderAll(w.title(policies), manifests)
}

// Warnings says what is possible but unwise in options that [Manifests] accepts. It returns nothing for others.
func Warnings(policies []*policy.Policy, options Options) []string {
	plan, err := newPlan(policies, options.withDefaults())
	if err != nil {
		return nil
	}
	var warnings []string
	if plan.FailOpen {
		warnings = append(
			warnings,
			"--fail-open: while Bellhop is down, the fan-out sees the clients' headers and backends see tickets; leave it out "+
				"to answer 503 instead",
		)
	}
	if plan.release < closingRelease && plan.options.SetUp != Sidecar {
		warnings = append(
			warnings,
			"--proxy-version "+plan.options.ProxyVersion+": while Bellhop's service does not exist, these proxies skip the "+
				"filters, and the fan-out sees the clients' headers; create the service first and delete it last",
		)
	}
	if plan.baggage {
		warnings = append(
			warnings,
			"ticket.carriers: baggage: what the fan-out sends to a server that is no backend takes the ticket along; use the "+
				"header where the fan-out passes it on",
		)
	}
	for _, one := range policies {
		if slices.Contains(one.IngressFootprint().Reads, "x-request-id") {
			warnings = append(
				warnings,
				"x-request-id: Istio's proxies generate one for each request without, which Bellhop cannot "+
					"distinguish from a client's; so each request gets a different ticket",
			)
		}
	}
	return append(warnings, plan.inTheClear()...)
}

// inTheClear finds backends outside the mesh to which the clients' headers would travel unencrypted.
func (p *plan) inTheClear() []string {
	var warnings []string
	for _, b := range p.backends {
		if !b.Secure && !strings.Contains(b.Host, ".svc.") {
			warnings = append(
				warnings,
				fmt.Sprintf(
					"--backend %s: if %s is outside the mesh, the clients' headers go there unencrypted; use https", b.Name,
					b.Place,
				),
			)
		}
	}
	return warnings
}

// writer writes the manifests of one set-up.
type writer struct {
	*plan
	errs envoy.OptionErrors
}

func (w *writer) manifests() []manifest {
	switch w.options.SetUp {
	case Gateway:
		return slices.Concat(w.gatewayFilters(), []manifest{w.fanoutCallers()}, w.mutualTLS(), w.egressGateway())
	case Sidecar:
		return append([]manifest{w.workloadFilter(w.options.Namespace)}, w.toBackends(w.options.Namespace)...)
	case Mesh:
		all := append([]manifest{w.workloadFilter(w.options.RootNamespace)}, w.mutualTLS()...)
		for _, namespace := range w.fanouts {
			all = append(all, w.toBackends(namespace)...)
		}
		return all
	default:
		return append(
			append([]manifest{w.workloadFilter(w.options.Namespace)}, w.mutualTLS()...),
			w.toBackends(w.options.Namespace)...)
	}
}

// title is the comment at the top of the file.
func (w *writer) title(policies []*policy.Policy) string {
	digests := make([]string, len(policies))
	for i, one := range policies {
		digests[i] = one.Digest()
	}
	word := "policy "
	if len(digests) > 1 {
		word = "policies "
	}
	var text strings.Builder
	text.WriteString(
		"Bellhop on both sides of an MCP fan-out, in an Istio mesh: the " + string(w.options.SetUp) + " set-up.\n" +
			"Made from " + word + strings.Join(digests, ", ") + " by the command below. The lists of headers follow the " +
			"policy: after\n" +
			"a change of the policy run " +
			"it again.\n\n" + envoy.Command("istio "+string(w.options.SetUp), w.options.flags()) + "\n\n" +
			"The fan-out uses, for its backends:\n",
	)
	for _, b := range w.backends {
		fmt.Fprintf(&text, "  %-17s %s\n", b.Name, asked(b))
	}
	return text.String()
}

// asked is the URL by which the fan-out asks for a backend: in the clear, for its proxy does what TLS there is to do.
func asked(b envoy.Backend) string {
	return "http://" + envoy.Target{Place: origin(b), Path: b.Path}.Authority() + b.Path
}
