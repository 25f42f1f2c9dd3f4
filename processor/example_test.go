package processor_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
	"bellhop/processor"
	"bellhop/processor/store/memory"
	"bellhop/processor/ticket"
)

// A client's key is taken off its request to the gateway, and put on the gateway's request to the one backend that may
// have it.
func Example() {
	loaded, findings := policy.Load("policy.yaml", []byte(`
version: 1
forward:
  - {name: x-mcp-api-key, to: [billing]}
backends:
  billing: {clusters: [mcp-billing]}
  search: {clusters: [mcp-search]}
`))
	if loaded == nil {
		fmt.Println(findings)
		return
	}
	kept := memory.New(1 << 20)
	defer kept.Close()
	core := processor.New(processor.Settings{
		Store: kept, Sessions: kept, Supersession: kept, Single: true,
		Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	}, ticket.RandomKeys(), processor.Rules{Policy: loaded})

	ctx := context.Background()
	fromClient := processor.Request{Headers: []policy.Header{{Name: "x-mcp-api-key", Value: policy.NewValue("k1")}}}
	toGateway, err := core.Request(ctx, processor.Binding{Role: processor.Ingress}, fromClient)
	fmt.Println("gateway:", toGateway.Remove, names(toGateway.Set), err)

	for _, cluster := range []string{"mcp-billing", "mcp-search"} {
		fromGateway := processor.Request{Headers: toGateway.Set, Cluster: cluster} // the gateway passes the ticket on
		toBackend, err := core.Request(ctx, processor.Binding{Role: processor.Egress}, fromGateway)
		fmt.Println(cluster+":", toBackend.Remove, names(toBackend.Set), err)
	}
	// Output:
	// gateway: [x-mcp-api-key x_bellhop_ticket x_bellhop-ticket x-bellhop_ticket] [x-bellhop-ticket] <nil>
	// mcp-billing: [x-mcp-api-key x-bellhop-ticket] [x-mcp-api-key] <nil>
	// mcp-search: [x-bellhop-ticket] [] <nil>
}

func names(headers []policy.Header) []string {
	list := []string{}
	for _, header := range headers {
		list = append(list, header.Name)
	}
	return list
}
