package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

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
	cmd.AddCommand(newBootstrap())
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
	flags.StringVar(&options.PolicyFile, "policy", "", "the policy document")
	flags.StringVar(&ceiling, "ceiling", "", ceilingUsage)
	flags.StringVar(&options.Ingress, "ingress", "127.0.0.1:8080", "IP:PORT on which Envoy listens for clients")
	flags.StringVar(&options.Fanout, "fanout", "", "URL of the fan-out, without a path: http://127.0.0.1:4483")
	flags.StringVar(&options.Egress, "egress", "127.0.0.1:8081", "IP:PORT on which Envoy listens for the fan-out")
	flags.StringArrayVar(&options.Backends, "backend", nil, "NAME=URL of a backend, which the fan-out then reaches at http://EGRESS/NAME and the URL's path; repeat it")
	flags.StringArrayVar(&options.Bellhop, "bellhop", []string{envoy.DefaultBellhop}, "unix:///PATH or HOST:PORT of Bellhop; repeat it for replicas")
	flags.StringVar(&options.BellhopCA, "bellhop-ca", "", "PEM roots that sign Bellhop's certificate, for --bellhop beyond loopback")
	flags.StringVar(&options.BellhopCert, "bellhop-cert", "", "PEM certificate with which Envoy shows itself to Bellhop")
	flags.StringVar(&options.BellhopKey, "bellhop-key", "", "PEM private key of --bellhop-cert")
	flags.StringVar(&options.Admin, "envoy-admin", "", "IP:PORT of Envoy's own admin page (default: none)")
	flags.StringVar(&options.TrustedCA, "trusted-ca", envoy.DefaultTrustedCA, "PEM roots for https backends, on Envoy's machine")
	flags.BoolVar(&options.ReadMCP, "read-mcp", false, "let Envoy read the MCP method and the tool from the body, for discovery identities and error ids (always with rules for tools)")
	flags.BoolVar(&options.FailOpen, "fail-open", false, "let requests pass unprocessed while Bellhop is down: clients' headers reach the fan-out, tickets reach backends")
	return cmd
}

func bootstrap(cmd *cobra.Command, options envoy.BootstrapOptions, ceiling string) error {
	if options.PolicyFile == "" {
		return errors.New("envoy bootstrap needs a policy: bellhop envoy bootstrap --policy policy.yaml --fanout URL --backend NAME=URL")
	}
	loaded, findings, err := readPolicy(options.PolicyFile, ceiling, cmd.InOrStdin())
	if err != nil {
		return err
	}
	config, err := envoy.Bootstrap(loaded, options)
	if err != nil {
		return err
	}
	for _, finding := range findings {
		if finding.Topic != policy.TopicClusters { // the configuration names the backends
			_, _ = fmt.Fprintln(cmd.ErrOrStderr(), finding)
		}
	}
	for _, warning := range envoy.Warnings(loaded, options) {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "warning:", warning)
	}
	_, err = cmd.OutOrStdout().Write(config)
	return err
}
