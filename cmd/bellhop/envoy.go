package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bellhop/envoy"
	"bellhop/policy"
)

func newEnvoy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "envoy",
		Short: "Make Envoy configuration from a policy",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBootstrap(), newFilters(), newIstio())
	return cmd
}

func newBootstrap() *cobra.Command {
	var options envoy.BootstrapOptions
	var ceiling string
	cmd := &cobra.Command{
		Use:   "bootstrap --policy FILE --fanout URL --backend NAME=URL...",
		Short: "Print a complete configuration for one Envoy on both sides of a fan-out",
		Args:  cobra.NoArgs,
		Example: `  bellhop envoy bootstrap --policy policy.yaml \
    --ingress 127.0.0.1:8080 --fanout http://127.0.0.1:4483 \
    --egress 127.0.0.1:8081 --backend github=https://mcp.example.com/mcp > envoy.yaml
  envoy -c envoy.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error { return bootstrap(cmd, options, ceiling) },
	}
	flags := cmd.Flags()
	addPolicy(cmd, &options.PolicyFile, &ceiling)
	addProcessing(cmd, &options.FilterOptions)
	flags.StringVar(&options.Ingress, "ingress", "127.0.0.1:8080", "IP:PORT on which Envoy listens for clients")
	flags.StringVar(&options.Fanout, "fanout", "", "URL of the fan-out, without a path: http://127.0.0.1:4483")
	flags.StringVar(&options.Egress, "egress", "127.0.0.1:8081", "IP:PORT on which Envoy listens for the fan-out")
	flags.StringArrayVar(
		&options.Backends, "backend", nil,
		"NAME=URL of a backend, which the fan-out then reaches at http://EGRESS/NAME and the URL's path; repeat it",
	)
	addDoors(flags, &options)
	flags.StringVar(&options.Admin, "envoy-admin", "", "IP:PORT of Envoy's own admin page (default: none)")
	flags.StringVar(
		&options.TrustedCA, "trusted-ca", envoy.DefaultTrustedCA, "PEM roots for https backends, on Envoy's machine",
	)
	return cmd
}

// addDoors adds the flags that say who may speak to the listeners.
func addDoors(flags *pflag.FlagSet, options *envoy.BootstrapOptions) {
	flags.StringArrayVar(
		&options.IngressHosts, "ingress-host", nil,
		"name by which clients call the ingress, beside localhost and its own address: mcp.example.com, *.example.com; "+
			"repeat it",
	)
	flags.StringArrayVar(
		&options.EgressHosts, "egress-host", nil,
		"name by which the fan-out calls the egress, beside localhost and its own address; repeat it",
	)
	flags.StringArrayVar(
		&options.IngressOrigins, "ingress-origin", nil,
		"origin of web pages that may use the ingress (CORS): https://app.example.com; repeat it",
	)
	flags.StringArrayVar(
		&options.IngressRedirect, "ingress-redirect", nil,
		"origin to which the fan-out may redirect clients, such as an identity provider; repeat it",
	)
	flags.StringVar(
		&options.FanoutHost, "fanout-host", envoy.HostAuto,
		"which Host the fan-out gets: keep (the client's), rewrite (that of --fanout), or auto (the client's where both "+
			"are names of this machine)",
	)
}

func newFilters() *cobra.Command {
	var options envoy.FilterOptions
	var ceiling string
	cmd := &cobra.Command{
		Use:     "filters --policy FILE",
		Short:   "Print the filters and the cluster for an Envoy that you have already",
		Args:    cobra.NoArgs,
		Example: "  bellhop envoy filters --policy policy.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, findings, err := onePolicy(cmd, options.PolicyFile, ceiling, "bellhop envoy filters --policy policy.yaml")
			if err != nil {
				return err
			}
			config, err := envoy.Filters(loaded, options)
			if err != nil {
				return err
			}
			printFindings(cmd, findings) // including those about clusters: nothing else names the backends here
			_, err = cmd.OutOrStdout().Write(config)
			return err
		},
	}
	addPolicy(cmd, &options.PolicyFile, &ceiling)
	addProcessing(cmd, &options)
	return cmd
}

func addPolicy(cmd *cobra.Command, file, ceiling *string) {
	cmd.Flags().StringVar(file, "policy", "", "the policy document")
	cmd.Flags().StringVar(ceiling, "ceiling", "", ceilingUsage)
}

// addProcessing adds the flags that all forms have.
func addProcessing(cmd *cobra.Command, options *envoy.FilterOptions) {
	flags := cmd.Flags()
	flags.StringArrayVar(
		&options.Bellhop, "bellhop", []string{envoy.DefaultBellhop},
		"unix:///PATH or HOST:PORT of Bellhop; repeat it for replicas",
	)
	flags.StringVar(
		&options.BellhopCA, "bellhop-ca", "", "PEM roots that sign Bellhop's certificate, for --bellhop beyond loopback",
	)
	flags.StringVar(&options.BellhopCert, "bellhop-cert", "", "PEM certificate with which Envoy shows itself to Bellhop")
	flags.StringVar(&options.BellhopKey, "bellhop-key", "", "PEM private key of --bellhop-cert")
	addFailOpen(cmd, &options.FailOpen)
}

func addFailOpen(cmd *cobra.Command, failOpen *bool) {
	cmd.Flags().
		BoolVar(failOpen, "fail-open", false, "let requests pass unprocessed while Bellhop is down: clients' headers reach "+
			"the fan-out, tickets reach backends")
}

// onePolicy reads the policy that a command needs.
func onePolicy(cmd *cobra.Command, file, ceiling, example string) (*policy.Policy, policy.Findings, error) {
	if file == "" {
		return nil, nil, fmt.Errorf("envoy %s needs a policy: %s", cmd.Name(), example)
	}
	return readPolicy(file, ceiling, cmd.InOrStdin())
}

// printFindings prints warnings.
func printFindings(cmd *cobra.Command, findings policy.Findings) {
	for _, finding := range findings {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), finding)
	}
}

func warn(cmd *cobra.Command, warnings []string) {
	for _, warning := range warnings {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "warning:", warning)
	}
}

func bootstrap(cmd *cobra.Command, options envoy.BootstrapOptions, ceiling string) error {
	loaded, findings, err := onePolicy(
		cmd, options.PolicyFile, ceiling, "bellhop envoy bootstrap --policy policy.yaml --fanout URL --backend NAME=URL",
	)
	if err != nil {
		return err
	}
	config, err := envoy.Bootstrap(loaded, options)
	if err != nil {
		return err
	}
	printFindings(cmd, withoutClusters(findings)) // the configuration names the backends
	warn(cmd, envoy.Warnings(loaded, options))
	_, err = cmd.OutOrStdout().Write(config)
	return err
}

// withoutClusters leaves out warnings about backends without clusters.
func withoutClusters(findings policy.Findings) policy.Findings {
	return slices.DeleteFunc(
		slices.Clone(findings),
		func(f policy.Finding) bool { return f.Topic == policy.TopicClusters },
	)
}
