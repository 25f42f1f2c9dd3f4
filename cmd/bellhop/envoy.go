package main

import "github.com/spf13/cobra"

func newEnvoy() *cobra.Command {
	return &cobra.Command{Use: "envoy", Short: "Make Envoy configuration from a policy"}
}
