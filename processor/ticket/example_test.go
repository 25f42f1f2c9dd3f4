package ticket_test

import (
	"context"
	"fmt"
	"time"

	"bellhop/policy"
	"bellhop/processor/store/memory"
	"bellhop/processor/ticket"
)

// A ticket names the content of a capture: the same headers have the same ticket. Whoever holds it and reaches an
// issuer with the same keys and store gets the capture back.
func ExampleIssuer() {
	loaded, _ := policy.Load("policy.yaml", []byte("version: 1\nforward: [x-mcp-api-key]\n"))
	kept := memory.New(1 << 20)
	defer kept.Close()
	issuer := ticket.NewIssuer(ticket.RandomKeys(), loaded, kept, kept, time.Now)

	ctx := context.Background()
	capture := policy.Capture{{Name: "x-mcp-api-key", Value: policy.NewValue("k1")}}
	minted, err := issuer.Mint(capture)
	if err == nil {
		err = issuer.Save(ctx, minted)
	}
	again, _ := issuer.Mint(capture)
	fmt.Println(len(minted.Text), again.Text == minted.Text, err)

	fromGateway := []policy.Header{{Name: policy.TicketHeader, Value: policy.NewValue(minted.Text)}}
	redeemed, err := issuer.Redeem(ctx, ticket.Read(fromGateway))
	fmt.Println(redeemed.Status == policy.StatusRedeemed, redeemed.Capture, err)
	// Output:
	// 43 true <nil>
	// true [{x-mcp-api-key [REDACTED]}] <nil>
}
