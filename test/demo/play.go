package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"bellhop/test/mcptest"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// play lets all players make their calls at the same time, and returns what was
// recorded when the last request has come.
func play(ctx context.Context, p *path) (evidence, error) {
	cast := players()
	answers := make([][]answer, len(cast))
	errs := make([]error, len(cast))
	var playing sync.WaitGroup
	for i, who := range cast {
		playing.Go(func() { answers[i], errs[i] = who.play(ctx, p.endpoint) })
	}
	playing.Wait()
	for _, err := range errs {
		if err != nil {
			return evidence{}, err
		}
	}
	p.settle(ctx)
	e := evidence{atFanout: p.tap.Requests(), atBackend: map[string][]mcptest.Recorded{}}
	for i, s := range servers() {
		e.atBackend[s.name] = p.backends[i].Requests()
	}
	for _, list := range answers {
		e.answers = append(e.answers, list...)
	}
	health, err := p.vmcp.BackendHealth(ctx)
	e.health = map[string]string{}
	for name, h := range health {
		e.health[name] = strings.Join(
			slices.DeleteFunc([]string{h.Status, h.LastErrorCategory}, func(text string) bool { return text == "" }),
			", ",
		)
	}
	return e, err
}

// play opens a session, asks for the tools, makes the calls and ends the session.
func (p player) play(ctx context.Context, endpoint string) ([]answer, error) {
	client, err := mcptest.Connect(ctx, mcptest.ClientOptions{
		URL: endpoint, Era: p.era,
		Header: func() http.Header { return http.Header{keyHeader: {p.key}, "User-Agent": {p.name}} },
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	answers := []answer{p.tools(ctx, client)}
	for _, c := range calls() {
		answers = append(answers, p.call(ctx, client, c))
	}
	if err := client.Close(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return answers, nil
}

// tools counts the tools that the player is shown, by backend.
func (p player) tools(ctx context.Context, client *mcptest.Client) answer {
	a := answer{player: p.name, what: "tools/list"}
	names, err := client.Tools(ctx)
	if err != nil {
		a.failed, a.text = true, err.Error()
		return a
	}
	var parts []string
	for _, s := range servers() {
		count := 0
		for _, name := range names {
			if strings.HasPrefix(name, s.name+"_") {
				count++
			}
		}
		a.failed = a.failed || count == 0
		parts = append(parts, fmt.Sprintf("%d %s", count, s.name))
	}
	a.text = strings.Join(parts, ", ")
	return a
}

// call makes one tool call. What a whoami tool answers is cut down to whose key it saw.
func (p player) call(ctx context.Context, client *mcptest.Client, c call) answer {
	a := answer{player: p.name, what: c.tool}
	arguments := map[string]any{}
	if c.echo {
		arguments["text"] = p.greeting()
	}
	result, err := client.Call(ctx, c.tool, arguments)
	switch {
	case err != nil:
		a.failed, a.text = true, c.shorten(reason(err))
	case result.IsError:
		a.failed, a.text = true, c.shorten(mcptest.Text(result))
	case c.echo:
		a.text = mcptest.Text(result)
	default:
		a.readHeader(mcptest.Text(result))
	}
	return a
}

// shorten leaves the tool's name out of a complaint: it stands beside it.
func (c call) shorten(complaint string) string {
	return strings.ReplaceAll(complaint, strconv.Quote(c.tool)+" ", "")
}

// reason is what a JSON-RPC error says, without the wrapping of each layer.
func reason(err error) string {
	var wire *jsonrpc.Error
	if errors.As(err, &wire) {
		return wire.Message
	}
	return err.Error()
}

// readHeader reads the answer of a whoami tool.
func (a *answer) readHeader(text string) {
	if err := json.Unmarshal([]byte(text), &a.header); err != nil {
		a.failed, a.text = true, "no header: "+text
		return
	}
	a.text = "saw " + cmp.Or(strings.Join(a.header.Values(keyHeader), " and "), "no key")
}

// settle waits until no more requests come: vMCP ends its sessions with the backends
// after it has answered.
func (p *path) settle(ctx context.Context) {
	const quiet = 300 * time.Millisecond
	for last := -1; ; {
		now := 0
		for _, backend := range p.backends {
			now += len(backend.Requests())
		}
		if now == last {
			return
		}
		last = now
		select {
		case <-ctx.Done():
			return
		case <-time.After(quiet):
		}
	}
}
