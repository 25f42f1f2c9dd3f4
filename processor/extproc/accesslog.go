package extproc

import (
	"net/http"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// The dynamic metadata in which Envoy keeps Bellhop's name for the session of a request.
const (
	metadataNamespace = "bellhop"
	sessionField      = "session"
)

// fromUpstream is how Envoy says that a response is the fan-out's, and not one of its own, such as where it has no
// route.
const fromUpstream = "via_upstream"

// sessionMetadata gives Envoy Bellhop's name for the session of a request, which the access log returns.
func sessionMetadata(name string) *structpb.Struct {
	field := func(key string, value *structpb.Value) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{key: value}}
	}
	return field(metadataNamespace, structpb.NewStructValue(field(sessionField, structpb.NewStringValue(name))))
}

// StreamAccessLogs ends the sessions that a fan-out no longer knows: it answers 404 to their requests (MCP 2025-11-25,
// Streamable HTTP, session management). Envoy logs that after the response, so a long call needs Bellhop only at its
// beginning, and the request costs one message.
func (s *Service) StreamAccessLogs(stream accesslogservicev3.AccessLogService_StreamAccessLogsServer) error {
	binding, err := s.admit(stream.Context())
	if err != nil {
		return s.refuse(err)
	}
	for {
		message, err := untilDrained(s.draining, stream.Recv)
		if err != nil {
			return ended(err)
		}
		if _, err := s.core.Serves(binding.Fanout); err != nil {
			return s.refuse(err)
		}
		for _, entry := range message.GetHttpLogs().GetLogEntry() {
			name, ok := sessionNotFound(entry)
			if !ok {
				continue
			}
			if err := s.core.SessionNotFound(stream.Context(), binding.Fanout, name); err != nil {
				return s.refuse(err)
			}
		}
	}
}

// sessionNotFound returns the session of a POST that the fan-out answered with 404. A GET says nothing: a fan-out
// without event streams may answer it so. Envoy only has a name for a session whose own principal sent the request.
func sessionNotFound(entry *accesslogv3.HTTPAccessLogEntry) (name string, ok bool) {
	metadata := entry.GetCommonProperties().GetMetadata().GetFilterMetadata()[metadataNamespace]
	name = metadata.GetFields()[sessionField].GetStringValue()
	post := entry.GetRequest().GetRequestMethod() == corev3.RequestMethod_POST
	response := entry.GetResponse()
	notFound := response.GetResponseCode().GetValue() == http.StatusNotFound &&
		response.GetResponseCodeDetails() == fromUpstream
	return name, name != "" && post && notFound
}
