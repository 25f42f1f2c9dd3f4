package main

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// kept is what a demo that goes on running has to offer.
type kept struct {
	endpoint string // with Bellhop
	without  string // the endpoint without it
	metrics  string
	envoy    string
	folder   string
	script   string // calls a tool with curl
}

// offer says where all that runs is, and writes a script for whom has no MCP client at hand.
func (s *show) offer(dir string) (*kept, error) {
	k := &kept{
		endpoint: s.with.endpoint,
		without:  s.without.endpoint,
		metrics:  s.with.stack.MetricsURL(),
		envoy:    s.with.stack.EnvoyAdminURL(),
		folder:   dir,
		script:   filepath.Join(dir, "call"),
	}
	return k, os.WriteFile(k.script, []byte(k.callScript()), 0o600)
}

// callScript makes one tool call with curl. A modern request stands alone, so one is enough.
func (k *kept) callScript() string {
	return `# Calls the tool billing_whoami through Bellhop: sh call [KEY]
exec curl -sS ` + k.endpoint + ` \
  -H "` + keyHeader + `: ${1:-my-key}" \
  -H 'content-type: application/json' \
  -H 'accept: application/json, text/event-stream' \
  -H 'mcp-protocol-version: 2026-07-28' \
  -H 'mcp-method: tools/call' \
  -H 'mcp-name: billing_whoami' \
  -d '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "billing_whoami", "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "curl", "version": "0"},
        "io.modelcontextprotocol/clientCapabilities": {}}}}'
`
}

func (k *kept) table() table {
	return table{
		{{text: "All of it runs until Ctrl-C:", mark: bold, wide: true}},
		{
			{text: "MCP endpoint"},
			{text: k.endpoint, mark: bold},
			{text: "send any " + keyHeader + "; billing_whoami shows it"},
		},
		{{text: "no MCP client?"}, {text: "sh " + k.script + " KEY", wide: true}},
		{{text: "without Bellhop"}, {text: k.without}, {text: "the same, to compare"}},
		{{text: "Bellhop's metrics"}, {text: k.metrics}},
		{{text: "Envoy's admin"}, {text: k.envoy}},
		{{text: "settings and logs"}, {text: k.folder, wide: true}},
	}
}

// keep lets everything run until the context ends. A program that ends before is an error.
func (s *show) keep(ctx context.Context) error {
	watching, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.with.stack.Wait(watching) }()
	defer cancel()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ticker.C:
			for _, p := range []*path{s.with, s.without} {
				p.forget()
				if err := p.writeLogs(); err != nil {
					return err
				}
			}
		}
	}
}
