package processor

import (
	"context"
	"net/http"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Where Envoy files Bellhop's name for a request's session.
const (
	metadataNamespace = "bellhop"
	sessionField      = "session"
)

// fromUpstream is how Envoy says that a response is the fan-out's, and not one of its own, as where it has no route.
const fromUpstream = "via_upstream"

// sessionMetadata tells Envoy of which session a request is, by Bellhop's name for it.
func sessionMetadata(name string) *structpb.Struct {
	field := func(key string, value *structpb.Value) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{key: value}}
	}
	return field(metadataNamespace, structpb.NewStructValue(field(sessionField, structpb.NewStringValue(name))))
}

// StreamAccessLogs hears which sessions a fan-out has forgotten: it answers 404 to their requests (MCP 2025-11-25,
// Streamable HTTP, session management). Envoy tells it by its access log, after the response and not by it: so a call that
// takes long needs no Bellhop but at its beginning, and the request costs one message.
func (p *Processor) StreamAccessLogs(stream accesslogservicev3.AccessLogService_StreamAccessLogsServer) error {
	bound, err := bind(stream.Context())
	if err != nil {
		return p.shared.refuse(err)
	}
	for {
		message, err := untilDrained(p.shared.draining, stream.Recv)
		if err != nil {
			return ended(err)
		}
		engine, err := p.engineOf(bound.fanout)
		if err != nil {
			return p.shared.refuse(err)
		}
		for _, entry := range message.GetHttpLogs().GetLogEntry() {
			engine.forget(stream.Context(), entry)
		}
	}
}

// forget ends the session of a POST that was answered with 404: a GET may be answered so by a fan-out without event streams. Envoy only
// has a name for a session whose principal sent the request.
func (e *engine) forget(ctx context.Context, entry *accesslogv3.HTTPAccessLogEntry) {
	told := entry.GetCommonProperties().GetMetadata().GetFilterMetadata()[metadataNamespace]
	name := told.GetFields()[sessionField].GetStringValue()
	post := entry.GetRequest().GetRequestMethod() == corev3.RequestMethod_POST
	response := entry.GetResponse()
	forgotten := response.GetResponseCode().GetValue() == http.StatusNotFound && response.GetResponseCodeDetails() == fromUpstream
	if name == "" || !post || !forgotten {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	e.end(ctx, name)
}
