package envoy

import (
	"fmt"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/proto"

	"bellhop/policy"
)

// Filters writes what an Envoy that exists already needs to have Bellhop on both sides of a fan-out: the HTTP filters
// of each side, Bellhop's cluster and a setting of the runtime, each under a heading that says where it belongs. The
// result is YAML with comments, and no complete configuration. The error holds everything that is wrong with the
// options, an error a line.
func Filters(p *policy.Policy, options FilterOptions) ([]byte, error) {
	options = options.withDefaults()
	var f OptionErrors
	f.Unprintable(options.flags())
	w := NewWriter(NewProcessing(&f, options, p))
	if err := f.Join(); err != nil {
		return nil, err
	}
	document := w.pieces()
	if err := w.Errs.Join(); err != nil {
		return nil, fmt.Errorf("write Envoy's filters: %w (a bug in Bellhop, please report it)", err)
	}
	body, err := Write(document, w.Notes)
	if err != nil {
		return nil, err
	}
	return append(Headed(w.filtersTitle(p, options)), body...), nil
}

func (w *Writer) pieces() yaml.MapSlice {
	const ingressList, egressList = "ingress_http_filters", "egress_http_filters"
	w.Note(
		"$."+ingressList,
		"Into http_filters of the listener that clients use, in front of the router and behind what authenticates",
		"and authorises clients. Its generate_request_id has to be false where the policy lists x-request-id.",
	)
	w.Note(
		"$."+egressList,
		"Into http_filters of the listener through which the fan-out reaches its backends, in front of the router.",
		"Bellhop identifies the backend by the cluster's name, which the policy lists under clusters:.",
		"Each route has to say for the filter bellhop.egress_redirect, under typed_per_filter_config, whose it is, as in",
		"README.md beside this program's Envoy package. Redirects on a route that does not say it are answered with 502.",
	)
	w.Note("$.clusters", "Into static_resources.")
	pieces := yaml.MapSlice{
		{Key: ingressList, Value: forest(w, w.judged(ingressList, Ingress, Judge{Server: "the fan-out", Host: true}))},
		{Key: egressList, Value: forest(w, w.judged(egressList, Egress, Judge{Guard: true}))},
		{Key: "clusters", Value: []any{w.Tree(w.BellhopCluster("$.clusters[0]"))}},
	}
	const logList = "ingress_access_log"
	if logs := w.AccessLogs(Within("$."+logList), Ingress); logs != nil {
		w.Note("$."+logList, "Into access_log of the listener that clients use, beside http_filters.")
		pieces = append(pieces, yaml.MapItem{Key: logList, Value: forest(w, logs)})
	}
	return append(pieces, yaml.MapItem{Key: "layered_runtime", Value: w.Tree(w.runtime("$.layered_runtime"))})
}

// judged is the filters of a role, with that for redirects at the end.
func (w *Writer) judged(list string, r Role, judge Judge) []*hcmv3.HttpFilter {
	at := Within("$." + list)
	filters := w.Filters(at, r)
	return append(filters, w.RedirectFilter(at(len(filters)), r, judge))
}

// forest is the trees of several messages.
func forest[M proto.Message](w *Writer, messages []M) []any {
	trees := make([]any, len(messages))
	for i, m := range messages {
		trees[i] = w.Tree(m)
	}
	return trees
}

// Tree validates a message, if it has a validator, and returns it as values that YAML can encode.
func (w *Writer) Tree(m proto.Message) any {
	if sound, ok := m.(message); ok {
		w.check(sound)
	}
	made, err := Tree(m)
	if err != nil {
		w.Errs = append(w.Errs, err)
	}
	return made
}

func (w *Writer) filtersTitle(p *policy.Policy, options FilterOptions) string {
	return "What an Envoy that you have already needs for Bellhop. Paste each part where its comment says.\n" +
		"Made from policy " + p.Digest() + " by the command below. The lists of headers follow the policy: after " +
		"a change of\n" +
		"the policy run it again.\n\n" + Command("filters", options.flags()) + "\n"
}
