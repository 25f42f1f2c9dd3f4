package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"bellhop/policy"
)

func newCheck() *cobra.Command {
	var output, ceiling string
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Check policy documents: every error and every warning",
		Long:  "Check policy documents, - for standard input. Exit code 0: valid; 1: invalid; 2: a file cannot be read.",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 && ceiling == "" {
				return errors.New("check needs a policy: bellhop check policy.yaml")
			}
			render, err := checkPrinter(output)
			if err != nil {
				return err
			}
			policies, findings, unread := check(files, ceiling, cmd.InOrStdin())
			if ceiling != "" {
				files = append(files, ceiling)
			}
			if output == "text" && unread == nil && !findings.HasErrors() {
				explainTickets(cmd.OutOrStdout(), policies)
			}
			if err := render(cmd.OutOrStdout(), len(files), findings); err != nil {
				return err
			}
			if findings.HasErrors() && unread == nil {
				return errInvalid
			}
			return unread
		},
	}
	cmd.Flags().StringVar(&output, "output", "text", "text or json")
	cmd.Flags().StringVar(&ceiling, "ceiling", "", ceilingUsage)
	return cmd
}

// check reads what can be read, and returns an error for the rest.
func check(files []string, ceiling string, stdin io.Reader) ([]*policy.Policy, policy.Findings, error) {
	var policies []*policy.Policy
	above, all, err := readCeiling(ceiling, stdin)
	unread := []error{err}
	for _, file := range files {
		text, err := readDocument(file, stdin)
		if err != nil {
			unread = append(unread, err)
			continue
		}
		loaded, findings := policy.LoadUnder(above, file, text)
		policies, all = append(policies, loaded), append(all, findings...)
	}
	return policies, all, errors.Join(unread...)
}

// explainTickets says which deployments the chosen ticket mode suits: a policy does not know how many Bellhops run.
func explainTickets(out io.Writer, policies []*policy.Policy) {
	var said []bool
	for _, one := range policies {
		if slices.Contains(said, one.Sealed()) {
			continue
		}
		said = append(said, one.Sealed())
		text := "tickets are stored: right for one Bellhop, and for several that have one store (--store redis://…); for " +
			"several without, write ticket: {mode: sealed}"
		if one.Sealed() {
			text = "tickets are sealed: right for several Bellhops that have one key file (--key-file) and no store; with a " +
				"store, stored ones are shorter, and end when a session replaces them"
		}
		_, _ = fmt.Fprintln(out, text)
	}
}

func checkPrinter(output string) (func(io.Writer, int, policy.Findings) error, error) {
	switch output {
	case "text":
		return printText, nil
	case "json":
		return printJSON, nil
	default:
		return nil, fmt.Errorf("--output %s: write text or json", output)
	}
}

func printText(out io.Writer, files int, findings policy.Findings) error {
	for _, finding := range findings {
		if _, err := fmt.Fprintln(out, finding); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%s, %s in %s\n", count(findings.Count(policy.SeverityError), "error"),
		count(findings.Count(policy.SeverityWarning), "warning"), count(files, "file"))
	return err
}

func printJSON(out io.Writer, _ int, findings policy.Findings) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Errors   int             `json:"errors"`
		Warnings int             `json:"warnings"`
		Findings policy.Findings `json:"findings"`
	}{findings.Count(policy.SeverityError), findings.Count(policy.SeverityWarning), findings})
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
