// Command bellhop carries a client's own headers through an MCP gateway, as an Envoy external processing server.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/policy"
)

// The exit codes of every command.
const (
	exitOK      = 0
	exitInvalid = 1 // the policy is invalid
	exitUsage   = 2 // the command line or the machine does not allow what was asked for
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program, so that tests can call it.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	command := newCommand()
	command.SetArgs(args)
	command.SetIn(stdin)
	command.SetOut(stdout)
	command.SetErr(stderr)
	return report(command.Execute(), stderr)
}

// report prints what went wrong and chooses the exit code.
func report(err error, stderr io.Writer) int {
	var findings policy.Findings
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInvalid):
		return exitInvalid
	case errors.As(err, &findings):
		_, _ = fmt.Fprint(stderr, findings.Error())
		return exitInvalid
	default:
		for line := range strings.SplitSeq(err.Error(), "\n") { // joined errors stand a line each
			_, _ = fmt.Fprintln(stderr, "bellhop:", line)
		}
		return exitUsage
	}
}

// errInvalid ends a command that has printed what is wrong with a policy.
var errInvalid = errors.New("the policy is invalid")

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "bellhop",
		Short: "Carry a client's own headers through an MCP gateway",
		Long: `Bellhop carries a client's own headers through an MCP gateway, as an Envoy external processing server.

It takes the headers that a policy allows off the client's request, gives the gateway an opaque ticket in their
place, and puts the headers back on exactly the backend requests that may have them.`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newServe(), newCheck(), newExplain(), newEnvoy(), newKeygen(), newSchema(), newVersion())
	return root
}
