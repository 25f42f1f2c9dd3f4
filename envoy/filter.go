package envoy

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"bellhop/policy"
)

// Role is the side of the fan-out on which a filter stands.
type Role string

// The two sides.
const (
	Ingress Role = "ingress" // clients → fan-out
	Egress  Role = "egress"  // fan-out → backends
)

// FilterName is the name of the filter of that role.
func (r Role) FilterName() string { return "bellhop." + string(r) }

// The keys of the gRPC metadata that says which filter a stream comes from.
const (
	RoleKey    = "bellhop-role"
	BackendKey = "bellhop-backend"
	FanoutKey  = "bellhop-fanout"
	PathKey    = "bellhop-path"
	ClusterKey = "bellhop-cluster"
)

// maxAnswer bounds what Envoy reads from Bellhop: a request has at most 60 KiB of headers.
const maxAnswer = 128 << 10

// Filters stand in the order in which a request passes them, all of them before the router. The path of each follows
// from its place.
func (w *Writer) Filters(path func(i int) string, r Role) []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{w.filter(path(0), r)}
}

// Within are the paths of the elements of a list.
func Within(list string) func(i int) string {
	return func(i int) string { return fmt.Sprintf("%s[%d]", list, i) }
}

// filter is the ext_proc filter of one role.
func (w *Writer) filter(path string, r Role) *hcmv3.HttpFilter {
	path += ".typed_config"
	config := &extprocv3.ExternalProcessor{
		GrpcService:      w.grpcService(path+".grpc_service", r),
		FailureModeAllow: w.FailOpen,
		StatusOnError:    &typev3.HttpStatus{Code: http.StatusServiceUnavailable},
		ProcessingMode:   processingMode(w.reads(r)),
		MessageTimeout:   durationpb.New(w.messageTimeout(r)),
		StatPrefix:       string(r),
		RouteCacheAction: extprocv3.ExternalProcessor_RETAIN,
	}
	footprint := w.atIngress
	if r == Egress {
		footprint = w.atEgress
		config.RequestAttributes = []string{"xds.cluster_name"}
	}
	w.allowOverrides(path, r, config)
	config.MetadataOptions = w.metadataOptions(path+".metadata_options", r)
	config.ForwardRules = forwardRules(footprint)
	config.MutationRules = mutationRules(footprint)
	w.noteFilter(path, r)
	return &hcmv3.HttpFilter{Name: r.FilterName(), ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: w.Pack(config)}}
}

// messageTimeout bounds how long Envoy waits for each answer. A body of some megabytes takes longer on its way, and to
// read, than headers do.
func (w *Writer) messageTimeout(r Role) time.Duration {
	if w.reads(r) {
		return 2 * time.Second
	}
	return 500 * time.Millisecond
}

func (w *Writer) noteFilter(path string, r Role) {
	switch {
	case r == Ingress && w.ReadsAtIngress:
		w.Note(path+".processing_mode", "The headers of requests; of a refused one also the body, for the ID in the error.")
	case r == Egress && w.readsAtEgress:
		w.Note(
			path+".processing_mode",
			"The headers of requests, and the bodies of those whose headers depend on what they ask for: the policy has",
			"rules for tools, or a discovery identity.",
		)
	default:
		w.Note(path+".processing_mode", "Only the headers of requests. Bodies and responses never reach Bellhop.")
	}
	w.Note(path+".message_timeout", "The default of 0.2 s includes the time to connect.")
	w.Note(path+".mutation_rules", "From the policy: Envoy lets Bellhop change these headers and no others.",
		"content-type is that of its error messages to the client.")
	w.Note(path+".forward_rules", "From the policy: Envoy sends Bellhop these headers and no others, in either spelling:",
		"many servers read _ as -.")
	w.Note(
		path+".route_cache_action",
		"The route, and with it the backend, was chosen before Bellhop: no header can change it.",
	)
	if !w.FailOpen {
		w.Note(
			path+".status_on_error",
			"Fail closed (failure_mode_allow is false by default): when Bellhop cannot answer, the client gets",
			"this status, and nothing passes unprocessed.",
		)
		return
	}
	risk := "the clients' hidden headers reach the fan-out in the clear, and a forged ticket reaches it."
	if r == Egress {
		risk = "requests go out without the clients' headers, and the ticket reaches the backend."
	}
	w.Note(
		path+".failure_mode_allow", "WARNING, --fail-open: while Bellhop is down or slow,", risk,
		"Remove it to answer 503 instead.",
	)
}

// forwardRules lets Bellhop see the headers that it has to read.
func forwardRules(footprint policy.Footprint) *extprocv3.HeaderForwardingRules {
	if footprint.ReadsAll {
		return nil
	}
	list := &matcherv3.ListStringMatcher{}
	for _, name := range footprint.Reads {
		if prefix, isFamily := strings.CutSuffix(name, "*"); isFamily {
			list.Patterns = append(
				list.Patterns,
				&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}},
			)
		} else {
			list.Patterns = append(list.Patterns, exactly(name))
		}
	}
	oneWay := func(name string) bool { return !strings.ContainsAny(name, "-_") }
	spelled := inAnySpelling(slices.DeleteFunc(slices.Clone(footprint.Reads), oneWay))
	list.Patterns = append(
		list.Patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: spelled}},
	)
	return &extprocv3.HeaderForwardingRules{AllowedHeaders: list}
}

// mutationRules lets Bellhop change the headers that it has to write. Envoy counts the others and ignores them. Where a
// family is among them, the names that no policy can carry are taken out of it again.
func mutationRules(footprint policy.Footprint) *mutationv3.HeaderMutationRules {
	rules := &mutationv3.HeaderMutationRules{
		DisallowAll:     wrapperspb.Bool(true),
		AllowExpression: inAnySpelling(append(slices.Clip(footprint.Writes), "content-type")),
	}
	if slices.ContainsFunc(footprint.Writes, isOpenFamily) {
		rules.DisallowExpression = anyOf(outsideFamilies(footprint.Writes))
		if slices.Contains(footprint.Writes, policy.ExternalAddressHeader) {
			rules.DisallowExpression.Regex += "|^x-envoy-" + otherThan("external") + "$"
		}
		rules.DisallowExpression.Regex = eitherSpelling().Replace(rules.DisallowExpression.Regex)
	}
	return rules
}

// isOpenFamily reports whether a name is a family that could hold restricted names among others.
func isOpenFamily(name string) bool {
	prefix, isFamily := strings.CutSuffix(name, "*")
	return isFamily && !policy.Restricted(prefix)
}

// outsideFamilies lists the patterns that are in no family, but for those that Bellhop itself writes.
func outsideFamilies(writes []string) []string {
	var patterns []string
	for _, name := range []string{"authorization", "cookie"} {
		if !slices.Contains(writes, name) {
			patterns = append(patterns, name)
		}
	}
	for _, row := range policy.Restrictions() {
		patterns = append(patterns, notWritten(row.Pattern, writes)...)
	}
	return patterns
}

// notWritten is what is left of a restricted name or family without what Bellhop itself writes.
func notWritten(pattern string, writes []string) []string {
	switch pattern {
	case "content-*": // content-type is that of Bellhop's errors
		return []string{
			"content-length", "content-encoding", "content-language", "content-location", "content-range",
			"content-disposition",
		}
	case "content-length", policy.BaggageHeader, "x-bellhop-*":
		return nil
	}
	prefix, isFamily := strings.CutSuffix(pattern, "*")
	written := func(name string) bool { return name == pattern || isFamily && strings.HasPrefix(name, prefix) }
	if slices.ContainsFunc(writes, written) {
		return nil
	}
	return []string{pattern}
}

// otherThan is a regular expression for what does not begin with a word: RE2 has no other way to say it.
func otherThan(word string) string {
	expression := ""
	for i := len(word) - 1; i >= 0; i-- {
		letter := word[i : i+1]
		if expression != "" {
			expression = "|" + letter + expression
		}
		expression = "([^" + letter + "].*" + expression + ")?"
	}
	return expression
}

// anyOf is a regular expression for names and families of names.
func anyOf(patterns []string) *matcherv3.RegexMatcher {
	var parts []string
	for _, pattern := range patterns {
		if prefix, isFamily := strings.CutSuffix(pattern, "*"); isFamily {
			parts = append(parts, regexp.QuoteMeta(prefix)+".*")
		} else {
			parts = append(parts, regexp.QuoteMeta(pattern))
		}
	}
	return &matcherv3.RegexMatcher{Regex: "^(" + strings.Join(parts, "|") + ")$"}
}

// inAnySpelling is [anyOf] for these names with - and with _, which many servers read alike.
func inAnySpelling(patterns []string) *matcherv3.RegexMatcher {
	matcher := anyOf(patterns)
	matcher.Regex = eitherSpelling().Replace(matcher.Regex)
	return matcher
}

func eitherSpelling() *strings.Replacer { return strings.NewReplacer("-", "[-_]", "_", "[-_]") }

func exactly(text string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: text}}
}

func (w *Writer) grpcService(path string, r Role) *corev3.GrpcService {
	w.Note(path+".initial_metadata", "Gives Bellhop its role. A client cannot set it: it is not a header.")
	return &corev3.GrpcService{
		TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
			ClusterName: w.Cluster, Authority: w.Authority, MaxReceiveMessageLength: wrapperspb.UInt32(maxAnswer),
		}},
		InitialMetadata: w.initialMetadata(r),
		RetryPolicy:     w.retryPolicy(path + ".retry_policy"),
	}
}

// initialMetadata says which filter a stream comes from.
func (w *Writer) initialMetadata(r Role) []*corev3.HeaderValue {
	entries := []string{RoleKey, string(r)}
	if w.FanoutName != "" {
		entries = append(entries, FanoutKey, w.FanoutName)
	}
	return Metadata(entries...)
}

// retryPolicy bridges the restart of a Bellhop.
func (w *Writer) retryPolicy(path string) *corev3.RetryPolicy {
	const retries = 3
	w.Note(path+".retry_back_off", "Hides a restart of Bellhop. The default of 1 s would outlast message_timeout.")
	retry := &corev3.RetryPolicy{
		RetryBackOff: &corev3.BackoffStrategy{
			BaseInterval: durationpb.New(5 * time.Millisecond),
			MaxInterval:  durationpb.New(50 * time.Millisecond),
		},
		NumRetries: wrapperspb.UInt32(retries),
		RetryOn:    "connect-failure,refused-stream,unavailable,reset",
	}
	if w.replicated() {
		w.Note(path+".retry_host_predicate", "Each retry goes to another Bellhop.")
		retry.RetryHostPredicate = []*corev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &corev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: w.Pack(&previoushostsv3.PreviousHostsPredicate{}),
			},
		}}
		retry.HostSelectionRetryMaxAttempts = retries
	}
	return retry
}

// Metadata makes gRPC metadata of keys and values in turn.
func Metadata(pairs ...string) []*corev3.HeaderValue {
	var all []*corev3.HeaderValue
	for i := 0; i+1 < len(pairs); i += 2 {
		all = append(all, &corev3.HeaderValue{Key: pairs[i], Value: pairs[i+1]})
	}
	return all
}
