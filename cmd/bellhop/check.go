package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"bellhop/policy"
)

func newCheck() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Check policy documents: every fault and every warning",
		Long:  "Check policy documents, - for standard input. Exit code 0: no fault; 1: faults; 2: a file cannot be read.",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 {
				return errors.New("check needs a policy: bellhop check policy.yaml")
			}
			render, err := checkPrinter(output)
			if err != nil {
				return err
			}
			findings, unread := check(files, cmd.InOrStdin())
			if err := render(cmd.OutOrStdout(), len(files), findings); err != nil {
				return err
			}
			if findings.Faulty() && unread == nil {
				return errFaults
			}
			return unread
		},
	}
	cmd.Flags().StringVar(&output, "output", "text", "text or json")
	return cmd
}

// check reads what can be read, and returns an error for the rest.
func check(files []string, stdin io.Reader) (policy.Findings, error) {
	all := policy.Findings{}
	var unread []error
	for _, file := range files {
		text, err := readPolicy(file, stdin)
		if err != nil {
			unread = append(unread, err)
			continue
		}
		_, findings := policy.Load(file, text)
		all = append(all, findings...)
	}
	return all, errors.Join(unread...)
}

func readPolicy(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w; correct the path", err)
	}
	return text, nil
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
