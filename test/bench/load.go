package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"bellhop/test/envoytest"
)

const (
	// load is the command that is the client.
	load = "load"
	// streams are open at once.
	streams = 16
	// ready and done are what the client prints when it has warmed up, and when it is through.
	ready = "ready"
	done  = "done"
)

// runLoad plays Envoy: it warms up, prints ready, waits for a line, makes its calls and prints done.
func runLoad(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(load, flag.ContinueOnError)
	socket := flags.String("socket", "", "path of the server's Unix socket")
	name := flags.String("kind", "", "of the requests")
	calls := flags.Int("calls", 0, "how many")
	fill := flags.Int("fill", 0, "clients with a key of their own that send one request before")
	checked := flags.Bool("check", false, "want the right answers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	connection, err := grpc.NewClient("unix:"+*socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	c := client{rpc: extprocv3.NewExternalProcessorClient(connection), checked: *checked}
	if err := c.fill(ctx, *fill); err != nil {
		return err
	}
	one, err := c.request(ctx, *name)
	if err != nil {
		return err
	}
	if err := c.accept(ctx, one); err != nil {
		return err
	}
	if err := c.repeat(ctx, *calls/4, one); err != nil {
		return err
	}
	fmt.Println(ready)
	if !bufio.NewScanner(os.Stdin).Scan() {
		return errors.New("standard input ended before the start")
	}
	if err := c.repeat(ctx, *calls, one); err != nil {
		return err
	}
	fmt.Println(done)
	return nil
}

// client makes calls as Envoy does: a stream for each, one message, one answer, reset.
type client struct {
	rpc     extprocv3.ExternalProcessorClient
	checked bool
}

// call is one request that is made again and again.
type call struct {
	role    string
	message *extprocv3.ProcessingRequest
	want    string
}

// request prepares the requests of a kind: those of egress need a ticket that is known.
func (c client) request(ctx context.Context, name string) (call, error) {
	for _, k := range kinds() {
		if k.name != name {
			continue
		}
		lines := k.lines
		if k.role == "egress" {
			minted := "0123456789012345678901234567890123456789012" // for a server that does nothing
			if c.checked {
				var err error
				message := message("ingress", []string{":method: POST", "x-mcp-api-key: " + key})
				if minted, err = c.do(ctx, call{"ingress", message, "x-bellhop-ticket"}); err != nil {
					return call{}, err
				}
			}
			lines = []string{"x-bellhop-ticket: " + minted}
		}
		return call{k.role, message(k.role, lines), k.want}, nil
	}
	return call{}, fmt.Errorf("there is no kind %q", name)
}

// fill lets so many clients send a request, and redeems each ticket once.
func (c client) fill(ctx context.Context, clients int) error {
	return c.parallel(ctx, clients, func(i int) error {
		lines := []string{":method: POST", fmt.Sprintf("x-mcp-api-key: %040d", i)}
		minted, err := c.do(ctx, call{"ingress", message("ingress", lines), "x-bellhop-ticket"})
		if err != nil {
			return err
		}
		_, err = c.do(ctx, call{"egress", message("egress", []string{"x-bellhop-ticket: " + minted}), "x-mcp-api-key"})
		return err
	})
}

// accept makes one call of which the fan-out's response is shown, if it is asked for: a session is its principal's once
// the fan-out has accepted a request of it.
func (c client) accept(ctx context.Context, one call) error {
	ctx, reset := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "bellhop-role", one.role))
	defer reset()
	stream, err := c.rpc.Process(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(one.message); err != nil {
		return err
	}
	answer, err := stream.Recv()
	if err != nil || !envoytest.AsksForResponse(answer) {
		return err
	}
	if err := stream.Send(envoytest.ResponseHeaders(":status: 200")); err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

func (c client) repeat(ctx context.Context, calls int, one call) error {
	return c.parallel(ctx, calls, func(int) error {
		_, err := c.do(ctx, one)
		return err
	})
}

// parallel makes calls over all streams until one fails.
func (c client) parallel(ctx context.Context, calls int, do func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	for range streams {
		group.Go(func() {
			for i := int(next.Add(1)); i <= calls && failed.Load() == nil && ctx.Err() == nil; i = int(next.Add(1)) {
				if err := do(i); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

func (c client) do(ctx context.Context, one call) (string, error) {
	ctx, reset := context.WithCancel(metadata.AppendToOutgoingContext(ctx,
		"bellhop-role", one.role, "x-envoy-internal", "true", "x-forwarded-for", "127.0.0.1"))
	defer reset()
	stream, err := c.rpc.Process(ctx)
	if err != nil {
		return "", err
	}
	if err := stream.Send(one.message); err != nil {
		return "", err
	}
	answer, err := stream.Recv()
	if err != nil || !c.checked {
		return "", err
	}
	return sets(answer, one.want)
}
