package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"bellhop/policy"
	"bellhop/processor/server/credentials"
	"bellhop/processor/server/files"
)

// explainFlags is a question as it is written on the command line.
type explainFlags struct {
	policy, ceiling         string
	backend                 string
	client, earlier, fanout []string // "name: value" each
	method, tool            string
	session, noTicket       bool
	output                  string
}

func newExplain() *cobra.Command {
	var asked explainFlags
	cmd := &cobra.Command{
		Use:   "explain --policy FILE --backend NAME -H 'NAME: VALUE'...",
		Short: "Say what becomes of a client's headers at a backend, and why",
		Long: `Say what becomes of a client's headers at a backend, and why: whether each is captured, what the fan-out sees, under which
name the backend gets it, and by which line of the policy. The answers come from the code that serves. Values are
never printed. Exit code 0: explained; 1: the policy is invalid; 2: the command line is wrong.`,
		Example: `  bellhop explain --policy policy.yaml --backend github -H 'x-github-token: t' --tool search_code
  bellhop explain --policy policy.yaml --backend github --no-ticket`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explain(cmd, asked) },
	}
	flags := cmd.Flags()
	flags.StringVar(&asked.policy, "policy", "", "the policy document, - for standard input")
	flags.StringVar(&asked.ceiling, "ceiling", "", ceilingUsage)
	flags.StringVar(&asked.backend, "backend", "", "the backend, by its name in the policy or by an Envoy cluster of it")
	flags.StringArrayVarP(&asked.client, "header", "H", nil, "'NAME: VALUE' of a header that the client sends; repeat it")
	flags.StringVar(
		&asked.method, "method", "", "the JSON-RPC method of the request (default: not known; with --tool "+
			"tools/call, with --no-ticket initialize)",
	)
	flags.StringVar(&asked.tool, "tool", "", "the tool that is called, by the backend's name for it (default: not known)")
	flags.BoolVar(&asked.session, "session", false, "the client has an MCP session")
	flags.StringArrayVar(
		&asked.earlier,
		"earlier",
		nil,
		"'NAME: VALUE' of a header of an earlier request of the MCP session, which otherwise was the "+
			"same; repeat it",
	)
	flags.StringArrayVar(
		&asked.fanout, "fanout-header", nil,
		"'NAME: VALUE' of a header that the fan-out itself sends to the backend; repeat it",
	)
	flags.BoolVar(&asked.noTicket, "no-ticket", false, "a request that no client caused, such as startup discovery")
	flags.StringVar(&asked.output, "output", "text", "text or json")
	return cmd
}

func explain(cmd *cobra.Command, asked explainFlags) error {
	render, err := explainPrinter(asked.output)
	if err != nil {
		return err
	}
	question, err := asked.question()
	if err != nil {
		return err
	}
	loaded, _, err := readPolicy(asked.policy, asked.ceiling, cmd.InOrStdin())
	if err != nil {
		return err
	}
	if asked.backend == "" && !loaded.Open() {
		return errors.New("explain needs a backend that the policy declares: --backend " + oneOfBackends(loaded))
	}
	question.Unread = asked.noTicket && !identityReads(loaded, question.Backend, filepath.Dir(asked.policy))
	return render(cmd.OutOrStdout(), loaded.Explain(question))
}

// identityReads reports whether the discovery identity of a backend can be read on this machine, as it is read to
// serve.
func identityReads(loaded *policy.Policy, backend, folder string) bool {
	for _, declared := range loaded.Backends() {
		if declared.Name == backend || slices.Contains(declared.Clusters, backend) {
			_, err := credentials.Read(files.NewReader(files.DefaultTimeout), declared, credentials.Place{Folder: folder})
			return err == nil
		}
	}
	return true
}

// earlierRequest is what the client sends now, but for the headers that --earlier says otherwise.
func earlierRequest(earlier, client []policy.Header) []policy.Header {
	if len(earlier) == 0 {
		return nil
	}
	given := earlier
	for _, header := range client {
		same := func(other policy.Header) bool { return strings.EqualFold(other.Name, header.Name) }
		if !slices.ContainsFunc(given, same) {
			earlier = append(earlier, header)
		}
	}
	return earlier
}

// question reads the flags, and reports all errors at once.
func (asked explainFlags) question() (policy.Question, error) {
	var errs []error
	if asked.policy == "" {
		errs = append(
			errs,
			errors.New("explain needs a policy: bellhop explain --policy policy.yaml --backend NAME -H 'x-mcp-api-key: VALUE'"),
		)
	}
	if asked.noTicket && len(asked.client)+len(asked.earlier) > 0 {
		errs = append(errs, errors.New("--no-ticket is a request that no client caused: leave -H and --earlier out"))
	}
	read := func(flag string, lines []string) []policy.Header {
		headers, err := parseHeaders(flag, lines)
		errs = append(errs, err)
		return headers
	}
	question := policy.Question{
		Backend: asked.backend, Session: asked.session, NoTicket: asked.noTicket, Operation: asked.operation(),
		Client:  read("-H", asked.client),
		Earlier: read("--earlier", asked.earlier),
		Fanout:  read("--fanout-header", asked.fanout),
	}
	question.Earlier = earlierRequest(question.Earlier, question.Client)
	return question, errors.Join(errs...)
}

func (asked explainFlags) operation() policy.Operation {
	switch {
	case asked.tool != "" && asked.method == "":
		return policy.Asks(policy.Message{Method: policy.CallTool, Tool: asked.tool})
	case asked.method == policy.CallTool && asked.tool == "":
		return policy.NotKnown(policy.UnreadableTool)
	case asked.method != "":
		return policy.Asks(policy.Message{Method: asked.method, Tool: asked.tool})
	case asked.noTicket:
		return policy.Asks(policy.Message{Method: "initialize"}) // what a fan-out begins with
	default:
		return policy.Operation{}
	}
}

// parseHeaders reads "name: value" lines. Its errors give the number of a line and not its text, which may be a
// credential.
func parseHeaders(flag string, lines []string) ([]policy.Header, error) {
	var headers []policy.Header
	var errs []error
	for i, line := range lines {
		name, value, found := strings.Cut(line, ":")
		switch {
		case !found:
			errs = append(
				errs,
				fmt.Errorf("%s number %d has no colon; write it as %s 'x-mcp-api-key: VALUE'", flag, i+1, flag),
			)
		case !policy.ValidName(name):
			errs = append(
				errs,
				fmt.Errorf(
					"%s number %d has no header name before its colon; write it as %s 'x-mcp-api-key: VALUE'", flag, i+1, flag,
				),
			)
		default:
			headers = append(headers, policy.Header{Name: name, Value: policy.NewValue(strings.TrimSpace(value))})
		}
	}
	return headers, errors.Join(errs...)
}

func oneOfBackends(loaded *policy.Policy) string {
	var names []string
	for _, backend := range loaded.Backends() {
		names = append(names, backend.Name)
	}
	return strings.Join(names, " | ")
}

func explainPrinter(output string) (func(io.Writer, policy.Explanation) error, error) {
	switch output {
	case "text":
		return printExplanation, nil
	case "json":
		return printExplanationJSON, nil
	default:
		return nil, fmt.Errorf("--output %s: write text or json", output)
	}
}

func printExplanationJSON(out io.Writer, explained policy.Explanation) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		Summary string `json:"summary"`
		policy.Explanation
	}{explained.Summary(), explained})
}

// printExplanation prints the summary, a table, and the notes.
func printExplanation(out io.Writer, explained policy.Explanation) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\n", explained.Summary())
	if len(explained.Rows) > 0 {
		printRows(&text, explained)
	}
	for _, note := range explained.Notes {
		fmt.Fprintf(&text, "note: %s\n", note)
	}
	_, err := io.WriteString(out, strings.TrimRight(text.String(), "\n")+"\n")
	return err
}

func printRows(text *strings.Builder, explained policy.Explanation) {
	at := "AT THE BACKEND"
	if explained.Backend != "" {
		at = "AT " + explained.Backend
	}
	var table strings.Builder
	writer := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(writer, "HEADER\tCAPTURED\tFAN-OUT\tKEEP\t%s\tLINE\tWHY\n", at)
	for _, row := range explained.Rows {
		_, _ = fmt.Fprintln(writer, strings.Join([]string{
			row.Header, captured(row.IngressOutcome), dash(string(row.Fanout)), dash(string(row.Keep)), destination(row),
			lines(row.Lines),
			row.Why,
		}, "\t"))
	}
	_ = writer.Flush() // into memory
	for line := range strings.Lines(table.String()) {
		text.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	text.WriteString("\n")
}

func captured(fate policy.IngressOutcome) string {
	switch fate {
	case policy.IngressCaptured:
		return "yes"
	case policy.IngressKept:
		return "by the session"
	case policy.IngressNotSent:
		return "not sent"
	case policy.IngressIdentity:
		return "discovery"
	default:
		return "no"
	}
}

func destination(row policy.Row) string {
	switch {
	case row.As == "":
		return "-"
	case row.Prefix != "":
		return fmt.Sprintf("%s, with %q", row.As, row.Prefix)
	default:
		return row.As
	}
}

func lines(numbers []int) string {
	all := make([]string, len(numbers))
	for i, number := range numbers {
		all[i] = strconv.Itoa(number)
	}
	return dash(strings.Join(all, ","))
}

func dash(text string) string {
	if text == "" || text == string(policy.VisibilityNone) {
		return "-"
	}
	return text
}
