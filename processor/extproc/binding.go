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
	pathKey    = "bellhop-path"
	clusterKey = "bellhop-cluster" // may be repeated
)

// keepMetadata keeps the metadata of each stream as it came. From package metadata a handler would get a copy, or would
// have to search it once for each key, which is a twentieth of a call's CPU.
func keepMetadata() grpc.ServerOption {
	return grpc.InTapHandle(func(ctx context.Context, stream *tap.Info) (context.Context, error) {
		return context.WithValue(ctx, metadataKey{}, stream.Header), nil
	})
}

type metadataKey struct{}

// bindingOf returns the binding of a stream. An error is a [processor.Misconfiguration], unless the server lacks our
// options.
func bindingOf(ctx context.Context) (processor.Binding, error) {
	filter, ok := ctx.Value(metadataKey{}).(metadata.MD)
	if !ok {
		return processor.Binding{}, errors.New("bellhop: the server lacks extproc.Options")
	}
	return bind(filter)
}

// bind reads a filter's metadata. A filter that does not set its role, or sets it twice, is misconfigured, and
// guessing could give a client's headers away. An error is a [processor.Misconfiguration].
func bind(filter metadata.MD) (processor.Binding, error) {
	var role string
	var binding processor.Binding
	for _, entry := range [...]struct {
		key, reason string
		into        *string
	}{
		{roleKey, "role", &role}, {fanoutKey, "fanout", &binding.Fanout},
		{backendKey, "backend", &binding.Backend}, {pathKey, "path", &binding.Path},
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
	binding.Clusters = filter[clusterKey]
	binding.Role = processor.Role(role)
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
