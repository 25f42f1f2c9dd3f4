package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bellhop/envoy"
	"bellhop/envoy/istio"
	"bellhop/policy"
)

func newIstio() *cobra.Command {
	var options istio.Options
	names := make([]string, 0, len(istio.SetUps()))
	for _, one := range istio.SetUps() {
		names = append(names, string(one))
	}
	cmd := &cobra.Command{
		Use:   "istio " + strings.Join(names, "|") + " --policy FILE --backend NAME=URL...",
		Short: "Print the manifests for a fan-out in an Istio mesh",
		Long: `Print the manifests for a fan-out in an Istio mesh: the EnvoyFilter and the other Istio resources that it needs.

  sidecar  one Bellhop in each pod of the fan-out
  central  one Bellhop service, used by the proxies of a fan-out
  mesh     one Bellhop service and one configuration for all fan-outs
  gateway  Bellhop at the ingress gateway and the egress gateway

The Services of the fan-out and of the backends must name their ports http…, or
to say appProtocol: http. Where a port is TCP, no filter sees the headers: a fan-out's
clients are not captured.`,
		ValidArgs: names,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		Example: `  bellhop envoy istio sidecar --policy policy.yaml --workload app=vmcp --port 4483 \
    --backend billing=http://mcp-billing.tools.svc.cluster.local:8080/mcp \
    --backend github=https://mcp.example.com/mcp | kubectl apply -f -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf(
					"envoy istio needs a set-up: bellhop envoy istio %s --policy policy.yaml --backend NAME=URL",
					strings.Join(names, "|"),
				)
			}
			options.SetUp = istio.SetUp(args[0])
			return writeIstio(cmd, options)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&options.PolicyFiles, "policy", nil, "the policy document; mesh: repeat it for each fan-out")
	flags.StringVar(&options.CeilingFile, "ceiling", "", ceilingUsage)
	flags.StringVar(&options.Namespace, "namespace", istio.DefaultNamespace, "the namespace of the fan-out")
	flags.StringArrayVar(
		&options.Workload, "workload", nil,
		"KEY=VALUE, a label of the fan-out's pods (default: "+istio.DefaultWorkload+"; mesh: "+istio.MeshLabel+")",
	)
	flags.StringVar(
		&options.Port, "port", "",
		"the port on which the fan-out's container listens: its Service's targetPort (default: every port of its pods)",
	)
	flags.StringArrayVar(
		&options.Hosts, "host", nil,
		"gateway: a host of the VirtualServices that lead clients to the fan-out; repeat it for all",
	)
	flags.StringArrayVar(
		&options.Backends, "backend", nil,
		"NAME=URL of a backend; https is for servers outside the mesh, and made by the proxy; repeat it",
	)
	flags.StringArrayVar(
		&options.Accounts, "account", nil,
		"central, gateway: NAMESPACE/NAME, the service account of the fan-out's pods; repeat it",
	)
	flags.StringVar(
		&options.Bellhop,
		"bellhop",
		"",
		"unix:///PATH beside the fan-out, else HOST:PORT of the "+
			"service (default: "+envoy.DefaultBellhop+" or "+istio.DefaultBellhopService+")",
	)
	flags.StringVar(
		&options.RootNamespace, "root-namespace", istio.DefaultRootNamespace, "the namespace of Istio",
	)
	addGateways(flags, &options)
	flags.StringVar(&options.TrustDomain, "trust-domain", istio.DefaultTrustDomain, "the trust domain of the mesh")
	flags.StringVar(
		&options.ProxyVersion,
		"proxy-version",
		istio.DefaultProxyVersion,
		"the oldest Istio of the proxies; 1.29 and 1.30 are supported too, and skip the filters while Bellhop's service "+
			"does not exist",
	)
	addFailOpen(cmd, &options.FailOpen)
	return cmd
}

// addGateways adds the flags that say which gateways there are.
func addGateways(flags *pflag.FlagSet, options *istio.Options) {
	flags.StringVar(
		&options.IngressAccount, "ingress-account", "",
		"gateway: NAMESPACE/NAME, the service account of the ingress gateway (default: "+
			"ROOT-NAMESPACE/"+istio.DefaultIngressAccount+")",
	)
	flags.StringArrayVar(
		&options.IngressGateway, "ingress-gateway", nil,
		"gateway: KEY=VALUE, a label of its pods; repeat it. Or gateway/NAME, of the Gateway API (default: "+
			istio.DefaultIngressGateway+")",
	)
	flags.StringVar(
		&options.EgressAccount, "egress-account", "",
		"gateway: NAMESPACE/NAME, the service account of the egress gateway (default: "+
			"ROOT-NAMESPACE/"+istio.DefaultEgressAccount+")",
	)
	flags.StringArrayVar(
		&options.EgressGateway, "egress-gateway", nil,
		"gateway: KEY=VALUE, a label of its pods; repeat it (default: "+istio.DefaultEgressGateway+")",
	)
	flags.StringVar(
		&options.EgressService, "egress-service", "",
		"gateway: the service of the egress gateway, by its whole name (default: "+istio.DefaultEgressService+
			".ROOT-NAMESPACE.svc.cluster.local)",
	)
}

func writeIstio(cmd *cobra.Command, options istio.Options) error {
	if len(options.PolicyFiles) == 0 {
		return fmt.Errorf(
			"envoy istio needs a policy: bellhop envoy istio %s --policy policy.yaml --backend NAME=URL",
			options.SetUp,
		)
	}
	if len(options.PolicyFiles) > 1 && options.SetUp != istio.Mesh {
		return fmt.Errorf(
			"envoy istio %s takes one policy: run it once for each fan-out, or use the mesh set-up",
			options.SetUp,
		)
	}
	var policies []*policy.Policy
	var all policy.Findings
	for _, file := range options.PolicyFiles {
		loaded, findings, err := readPolicy(file, options.CeilingFile, cmd.InOrStdin())
		if err != nil {
			return err
		}
		policies, all = append(policies, loaded), append(all, findings...)
	}
	manifests, err := istio.Manifests(policies, options)
	if err != nil {
		return err
	}
	printFindings(cmd, withoutClusters(all)) // the manifests name the backends
	warn(cmd, istio.Warnings(policies, options))
	_, err = cmd.OutOrStdout().Write(manifests)
	return err
}
