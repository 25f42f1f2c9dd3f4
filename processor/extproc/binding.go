package extproc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"

	"bellhop/processor"
)

// The keys of a filter's grpc_service.initial_metadata. A client cannot set them.
const (
	roleKey    = "bellhop-role"
	backendKey = "bellhop-backend"
	fanoutKey  = "bellhop-fanout"
	readsKey   = "bellhop-reads"
)

// readsMCP is the value of readsKey: the filter in front is envoy.filters.http.mcp.
const readsMCP = "mcp"

// keepBinding binds each stream when it begins. There its metadata can be read in place: a handler would have to copy
// it, or to search it once for each key, which is a twentieth of a call's CPU.
func keepBinding() grpc.ServerOption {
	return grpc.InTapHandle(func(ctx context.Context, stream *tap.Info) (context.Context, error) {
		kept := &bound{}
		kept.binding, kept.err = bind(stream.Header)
		return context.WithValue(ctx, boundKey{}, kept), nil
	})
}

// bound is the binding of a stream, or the error that it has none.
type bound struct {
	binding processor.Binding
	err     error
}

type boundKey struct{}

// bindingOf returns the binding of a stream. An error is a [processor.Misconfiguration], unless the server lacks our
// options.
func bindingOf(ctx context.Context) (processor.Binding, error) {
	kept, ok := ctx.Value(boundKey{}).(*bound)
	if !ok {
		return processor.Binding{}, errors.New("bellhop: the server lacks extproc.Options")
	}
	return kept.binding, kept.err
}

// bind reads a filter's metadata. A filter that does not set its role, or sets it twice, is misconfigured, and
// guessing could give a client's headers away. An error is a [processor.Misconfiguration].
func bind(filter metadata.MD) (processor.Binding, error) {
	var role, reads string
	var binding processor.Binding
	for _, entry := range [...]struct {
		key, reason string
		into        *string
	}{
		{roleKey, "role", &role}, {fanoutKey, "fanout", &binding.Fanout},
		{backendKey, "backend", &binding.Backend}, {readsKey, "reads", &reads},
	} {
		values := filter[entry.key]
		if len(values) > 1 {
			return binding, misconfigured(
				entry.reason, "the filter sets %s more than once: keep one in its grpc_service.initial_metadata", entry.key,
			)
		}
		if len(values) == 1 {
			*entry.into = values[0]
		}
	}
	if reads != "" && reads != readsMCP {
		return binding, misconfigured(
			"reads",
			"the filter's bellhop-reads is not mcp: correct its grpc_service.initial_metadata, or leave it out",
		)
	}
	binding.Role, binding.ReadsBodies = processor.Role(role), reads == readsMCP
	switch binding.Role {
	case processor.Ingress, processor.Egress:
		return binding, nil
	case "":
		return binding, misconfigured(
			"role",
			"the filter sets no role: add {key: bellhop-role, value: ingress} or {…, value: egress} "+
				"to its grpc_service.initial_metadata",
		)
	default:
		return binding, misconfigured(
			"role",
			"the filter's bellhop-role is neither ingress nor egress: correct its grpc_service.initial_metadata",
		)
	}
}

func misconfigured(reason, format string, args ...any) error {
	return &processor.Misconfiguration{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
