package envoy

import (
	"net/http"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The dynamic metadata in which Envoy keeps Bellhop's name for the session of a request.
const (
	metadataNamespace = "bellhop"
	sessionField      = "session"
)

// AccessLogs report to Bellhop at ingress which sessions the fan-out no longer knows: those whose requests it answers
// with 404. A response phase of ext_proc could report it too, but would fail a call if Bellhop died during it.
func (w *Writer) AccessLogs(path func(i int) string, r Role) []*accesslogv3.AccessLog {
	if r != Ingress || !w.sessions {
		return nil
	}
	w.Note(
		path(0),
		"A 404 to a request of a session: the fan-out no longer knows it, so Bellhop deletes it. Bellhop is notified after",
		"the response, so no response waits for it. Nothing else is logged.",
	)
	return []*accesslogv3.AccessLog{{
		Name:   "bellhop.session_unknown",
		Filter: w.sessionUnknown(),
		ConfigType: &accesslogv3.AccessLog_TypedConfig{
			TypedConfig: w.Pack(&grpclogv3.HttpGrpcAccessLogConfig{CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
				LogName:             "bellhop",
				TransportApiVersion: corev3.ApiVersion_V3,
				GrpcService: &corev3.GrpcService{
					TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
						EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: w.Cluster, Authority: w.Authority},
					},
					InitialMetadata: w.initialMetadata(r),
				},
				BufferSizeBytes: wrapperspb.UInt32(0), // each at once: there are few
			}}),
		},
	}}
}

// sessionUnknown matches the 404 to a request of a session that Bellhop knows.
func (w *Writer) sessionUnknown() *accesslogv3.AccessLogFilter {
	status := &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op:    accesslogv3.ComparisonFilter_EQ,
			Value: &corev3.RuntimeUInt32{DefaultValue: http.StatusNotFound, RuntimeKey: "bellhop.session_unknown"},
		}},
	}
	known := &accesslogv3.AccessLogFilter_MetadataFilter{MetadataFilter: &accesslogv3.MetadataFilter{
		Matcher: &matcherv3.MetadataMatcher{
			Filter: metadataNamespace,
			Path: []*matcherv3.MetadataMatcher_PathSegment{
				{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: sessionField}},
			},
			Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: true}},
		},
		MatchIfKeyNotFound: wrapperspb.Bool(false),
	}}
	return &accesslogv3.AccessLogFilter{
		FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{
			Filters: []*accesslogv3.AccessLogFilter{{FilterSpecifier: status}, {FilterSpecifier: known}},
		}},
	}
}

// metadataOptions let Bellhop name the session of a request for the access log.
func (w *Writer) metadataOptions(path string, r Role) *extprocv3.MetadataOptions {
	if r != Ingress || !w.sessions {
		return nil
	}
	w.Note(path+".receiving_namespaces", "Bellhop's own name for the session of a request, for the access log.")
	return &extprocv3.MetadataOptions{ReceivingNamespaces: &extprocv3.MetadataOptions_MetadataNamespaces{
		Untyped: []string{metadataNamespace},
	}}
}
