package mcptest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The tools that every backend has.
const (
	WhoAmI = "whoami" // answers with the header of the request that carried the call
	Echo   = "echo"   // answers with its argument "text"
	Slow   = "slow"   // takes "seconds", and reports progress after each of them
)

type noArguments struct{}

type echoArguments struct {
	Text string `json:"text" jsonschema:"what to say again"`
}

type slowArguments struct {
	Seconds int `json:"seconds" jsonschema:"how long to take"`
}

// newServer builds a server with the common tools and perhaps one more, which
// does what whoami does.
func newServer(name, private string) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: name, Version: "0"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: WhoAmI, Description: "Shows the HTTP header of this very call."}, whoAmI)
	mcp.AddTool(server, &mcp.Tool{Name: Echo, Description: "Says the text again."}, echo)
	mcp.AddTool(server, &mcp.Tool{Name: Slow, Description: "Takes some seconds and reports progress."}, slow)
	if private != "" {
		mcp.AddTool(server, &mcp.Tool{Name: private, Description: "Only this caller sees it."}, whoAmI)
	}
	return server
}

func whoAmI(_ context.Context, request *mcp.CallToolRequest, _ noArguments) (*mcp.CallToolResult, any, error) {
	header, err := json.Marshal(request.Extra.Header)
	if err != nil {
		return nil, nil, fmt.Errorf("write the header as JSON: %w", err)
	}
	return text(string(header)), nil, nil
}

func echo(_ context.Context, _ *mcp.CallToolRequest, arguments echoArguments) (*mcp.CallToolResult, any, error) {
	return text(arguments.Text), nil, nil
}

func slow(
	ctx context.Context,
	request *mcp.CallToolRequest,
	arguments slowArguments,
) (*mcp.CallToolResult, any, error) {
	token := request.Params.GetProgressToken()
	for second := 1; second <= arguments.Seconds; second++ {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(time.Second):
		}
		if token == nil {
			continue
		}
		// A client that has gone will be noticed soon enough.
		_ = request.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
			ProgressToken: token,
			Progress:      float64(second),
			Total:         float64(arguments.Seconds),
		})
	}
	return text("done"), nil, nil
}

func text(content string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: content}}}
}
