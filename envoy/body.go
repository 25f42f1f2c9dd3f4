package envoy

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"bellhop/policy"
)

// reads reports whether filters of a role offer Bellhop the bodies of requests.
func (p *Processing) reads(r Role) bool {
	if r == Ingress {
		return p.ReadsAtIngress
	}
	return p.readsAtEgress
}

// processingMode sends the headers of requests to Bellhop, and offers it their bodies if it may have to read them. The
// modes of trailers are left to their default, which is SKIP: written out, they keep Envoy from taking an override for
// the one in allowed_override_modes (measured with Envoy 1.40).
func processingMode(reads bool) *extprocv3.ProcessingMode {
	mode := &extprocv3.ProcessingMode{
		RequestHeaderMode:  extprocv3.ProcessingMode_SEND,
		ResponseHeaderMode: extprocv3.ProcessingMode_SKIP,
	}
	if reads {
		mode.RequestBodyMode = extprocv3.ProcessingMode_BUFFERED
	}
	return mode
}

// allowOverrides allows exactly what Bellhop asks for: Envoy compares each entry as a whole, and ignores silently what
// differs. Either declines the body.
func (w *Writer) allowOverrides(path string, r Role, config *extprocv3.ExternalProcessor) {
	if w.reads(r) {
		config.AllowedOverrideModes = append(
			config.AllowedOverrideModes, &extprocv3.ProcessingMode{ResponseHeaderMode: extprocv3.ProcessingMode_SKIP},
		)
		w.Note(path+".allow_mode_override", "Bellhop may decline the body of a request, and most often does.")
	}
	if r == Ingress && w.responses {
		config.AllowedOverrideModes = append(
			config.AllowedOverrideModes, &extprocv3.ProcessingMode{ResponseHeaderMode: extprocv3.ProcessingMode_SEND},
		)
		w.Note(
			path+".allow_mode_override",
			"Bellhop may ask for the headers of a response: that to the first request of a session names the session,",
			"and that to its last one says that it has ended.",
		)
	}
	config.AllowModeOverride = len(config.AllowedOverrideModes) > 0
}

// EgressOverrides are what the filter at egress has to know of a backend: its name, the clusters that lead to it, with
// * for any text, and where the path of its own URL stands there, or "" if it has none. Where no header depends on what
// a request asks for, its body is not offered.
func (p *Processing) EgressOverrides(name, cluster, path string) *extprocv3.ExtProcOverrides {
	overrides := &extprocv3.ExtProcOverrides{GrpcInitialMetadata: Metadata(BackendKey, name, ClusterKey, cluster)}
	needed := slices.ContainsFunc(p.policies, func(one *policy.Policy) bool { return one.ReadsBodiesOf(name) })
	switch {
	case needed && path != "":
		overrides.GrpcInitialMetadata = append(overrides.GrpcInitialMetadata, Metadata(PathKey, path)...)
	case !needed && p.readsAtEgress:
		overrides.ProcessingMode = processingMode(false)
	}
	return overrides
}

// How much of a body Envoy holds, in bytes. While it waits for the answer to the headers it holds what comes of the
// body, and answers 413 beyond the limit, also where the body is then declined (measured with Envoy 1.40). So the limit
// at ingress, where a body is only read if its announced length is within limits.body_bytes, is out of reach. At egress
// it bounds what one request can take of Envoy's memory.
const (
	ingressBodyLimit = 1 << 30
	egressBodyLimit  = policy.MaxBodyBytes
)

// BodyLimit is how much of a body Envoy holds for a virtual host where Bellhop may have to read it.
func (w *Writer) BodyLimit(path string, r Role) *wrapperspb.UInt64Value {
	switch {
	case !w.reads(r):
		return nil
	case r == Ingress:
		w.Note(
			path+".request_body_buffer_limit",
			"Envoy holds what comes of a body until Bellhop has answered the headers. No length is refused for that.",
		)
		return wrapperspb.UInt64(ingressBodyLimit)
	default:
		w.Note(
			path+".request_body_buffer_limit",
			"What one request may take of Envoy's memory. Bellhop itself refuses a body that has to be read and is longer than",
			"the policy's limits.body_bytes.",
		)
		return wrapperspb.UInt64(egressBodyLimit)
	}
}

// windows let a body that has to be read arrive whole over HTTP/2, where the window of its stream is what bounds it.
func (w *Writer) windows(path string, r Role) *corev3.Http2ProtocolOptions {
	if r != Egress || !w.reads(r) {
		return nil
	}
	const streams = 4
	w.Note(path, "Over HTTP/2 a body that has to be read must fit into its stream's window.")
	return &corev3.Http2ProtocolOptions{
		InitialStreamWindowSize:     wrapperspb.UInt32(egressBodyLimit),
		InitialConnectionWindowSize: wrapperspb.UInt32(streams * egressBodyLimit),
	}
}
