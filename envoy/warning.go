package envoy

import (
	"fmt"
	"net/netip"
	"slices"

	"bellhop/policy"
)

// Warnings says what is possible but unwise in options that [Bootstrap] accepts. It returns nothing for others.
func Warnings(p *policy.Policy, options BootstrapOptions) []string {
	plan, err := newPlan(p, options.withDefaults())
	if err != nil {
		return nil
	}
	return slices.Concat(plan.missing(), plan.exposed(), plan.nameless(), plan.inTheClear())
}

// missing reports backends that the policy declares and Envoy's configuration lacks.
func (p *plan) missing() []string {
	var warnings []string
	for _, declared := range p.policy.Backends() {
		if !slices.ContainsFunc(p.backends, func(b Backend) bool { return b.Name == declared.Name }) {
			warnings = append(
				warnings,
				fmt.Sprintf(
					"backend %s: declared in the policy, but not reachable through this Envoy; add --backend %s=URL",
					declared.Name, declared.Name,
				),
			)
		}
	}
	return warnings
}

func (p *plan) exposed() []string {
	var warnings []string
	if p.FailOpen {
		warnings = append(
			warnings,
			"--fail-open: while Bellhop is down, the fan-out sees the clients' headers and backends see tickets; leave it out "+
				"to answer 503 instead",
		)
	}
	if !p.egress.Addr().IsLoopback() {
		warnings = append(
			warnings,
			fmt.Sprintf("--egress %s: %s; listen on loopback, or let only the fan-out reach it", p.egress, egressRisk),
		)
	}
	if p.admin.IsValid() && !p.admin.Addr().IsLoopback() {
		warnings = append(
			warnings,
			fmt.Sprintf(
				"--envoy-admin %s: every process that reaches it can read and stop this Envoy; listen on loopback",
				p.admin,
			),
		)
	}
	return warnings
}

// nameless finds listeners beyond this machine that answer to the names of this machine only.
func (p *plan) nameless() []string {
	var warnings []string
	for _, one := range []struct {
		role    Role
		address netip.AddrPort
		names   []string
	}{{Ingress, p.ingress, p.ingressNames}, {Egress, p.egress, p.egressNames}} {
		if one.address.Addr().IsUnspecified() && len(one.names) == 0 {
			warnings = append(warnings, fmt.Sprintf(
				"--%s %s: it answers to localhost, 127.0.0.1 and [::1] only, and to any other Host with 421; add %s for "+
					"each name by which it is called",
				one.role, one.address, hostFlag(one.role),
			))
		}
	}
	return warnings
}

// inTheClear finds backends to which the clients' headers would travel unencrypted.
func (p *plan) inTheClear() []string {
	var warnings []string
	for _, b := range p.backends {
		if !b.Secure && !b.loopback() {
			warnings = append(
				warnings,
				fmt.Sprintf(
					"--backend %s: the clients' headers go to %s unencrypted; use https where the network is not yours alone",
					b.Name, b.Place,
				),
			)
		}
	}
	return warnings
}

const egressRisk = "every process that reaches it can redeem tickets and, through the backends, act for clients"
