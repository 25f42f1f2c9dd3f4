package main

import (
	"github.com/spf13/cobra"

	"bellhop/policy"
)

func newSchema() *cobra.Command {
	var ceiling bool
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the policy language, for editors",
		Long: `Print the JSON Schema (draft 2020-12) of the policy language. Editors with a YAML language server use it for a policy
whose first line is "# yaml-language-server: $schema=policy.schema.json". It sees the shape of a policy; bellhop
check sees the rest.`,
		Example: "  bellhop schema > policy.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema := policy.Schema
			if ceiling {
				schema = policy.CeilingSchema
			}
			text, err := schema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().BoolVar(&ceiling, "ceiling", false, "the schema of ceilings, in the place of that of policies")
	return cmd
}
