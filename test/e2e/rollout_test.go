package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
)

// User-Agent is a header that clients send and that vMCP sends too: a real conflict.
func TestAConflictWithTheFanout(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: conflicting("replace")}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for _, era := range eras {
		for _, conflict := range []string{"replace", "keep", "reject"} {
			replacePolicy(t, s, conflicting(conflict))
			client := connect(t, s, mcptest.ClientOptions{Era: era, Header: func() http.Header {
				return http.Header{"User-Agent": {"mine/1"}}
			}})
			for _, tool := range []string{"old_whoami", "new_whoami"} {
				var got []string
				wait(t, fmt.Sprintf("%s, a %s client, %s", conflict, era, tool), func() bool {
					header, err := client.WhoAmI(limit(t), tool)
					got = header.Values("User-Agent")
					switch conflict {
					case "replace":
						return err == nil && slices.Equal(got, []string{"mine/1"})
					case "keep":
						return err == nil && len(got) == 1 && got[0] != "mine/1"
					default:
						return err != nil
					}
				})
			}
		}
	}
}

func conflicting(conflict string) string {
	return "version: 1\nforward: [{name: user-agent, conflict: " + conflict + "}]\n"
}

// A dry run changes nothing and refuses nothing, and says what would have been; enforcing is a reload away.
func TestADryRun(t *testing.T) {
	const rule = "version: 1\nforward: [{name: x-mcp-api-key, required: true}]\n"
	backends := both(t)
	s := start(t, stack.Options{Policy: rule + "mode: observe\n"}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for i, era := range eras {
		if i > 0 {
			reload(t, s, rule+"mode: observe\n")
		}
		withoutKey := connect(t, s, mcptest.ClientOptions{Era: era})
		waitKey(t, withoutKey, "old_whoami")
		client := connect(t, s, mcptest.ClientOptions{Era: era, Header: sends("k")})
		wantKey(t, client, "old_whoami")
		wantKey(t, client, "new_whoami")
		reload(t, s, rule)
		wantKey(t, client, "old_whoami", "k")
		wantKey(t, client, "new_whoami", "k")
		if _, err := withoutKey.WhoAmI(limit(t), "old_whoami"); err == nil {
			t.Error("a request without the required header passes now")
		}
	}
	metrics, err := s.Metrics(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(
		metrics,
		`bellhop_headers_total{backend="",fanout="",header="x-mcp-api-key",outcome="rejected"}`,
	) {
		t.Error("what would have been refused is not counted")
	}
	seen := 0
	for _, request := range s.FanoutTap().Requests() {
		if request.Header.Get(key) == "k" && request.Header.Get("X-Bellhop-Ticket") == "" {
			seen++
		}
	}
	if seen == 0 {
		t.Error("no request went to the fan-out as the client sent it")
	}
}

// flavoured is a policy whose two destinations tell it from another.
func flavoured(flavour string) string {
	return strings.ReplaceAll(
		"version: 1\nforward:\n  - {name: x-mcp-api-key, as: x-N-key}\n  - {name: x-tenant-id, as: x-N-tenant}\n", "N",
		flavour,
	)
}

// While the policy changes all the time, under load, every call is served by one policy and never by a mix.
func TestNoCallSeesAMixOfPolicies(t *testing.T) {
	const flips, clients = 30, 4
	backends := both(t)
	all := flavoured("p") + strings.TrimPrefix(flavoured("q"), "version: 1\nforward:\n")
	s := start(t, stack.Options{Policy: all}, backends) // Envoy lets both be written
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	reload(t, s, flavoured("p"))
	var stop atomic.Bool
	var served [2]atomic.Int64
	var group sync.WaitGroup
	for i := range clients {
		who := fmt.Sprintf("client-%d", i)
		client := connect(t, s, mcptest.ClientOptions{Era: eras[i%2], Header: func() http.Header {
			return http.Header{key: {who}, "X-Tenant-Id": {who}}
		}})
		group.Go(func() {
			for !stop.Load() && !t.Failed() {
				header, err := client.WhoAmI(limit(t), []string{"old_whoami", "new_whoami"}[i/2])
				if err != nil {
					t.Errorf("%s: %v", who, err)
					return
				}
				p := []string{header.Get("X-P-Key"), header.Get("X-P-Tenant"), header.Get("X-Q-Key"), header.Get("X-Q-Tenant")}
				switch {
				case slices.Equal(p, []string{who, who, "", ""}):
					served[0].Add(1)
				case slices.Equal(p, []string{"", "", who, who}):
					served[1].Add(1)
				default:
					t.Errorf("%s: a mix of two policies: %q", who, p)
				}
			}
		})
	}
	for i := range flips {
		reload(t, s, flavoured([]string{"q", "p"}[i%2]))
	}
	stop.Store(true)
	group.Wait()
	t.Logf(
		"%d reloads under %d clients: %d calls by one policy, %d by the other", flips, clients, served[0].Load(),
		served[1].Load(),
	)
	if served[0].Load() == 0 || served[1].Load() == 0 {
		t.Error("one of the policies served no call: the test proves nothing")
	}
	wantClean(t, s, backends)
}

// reload changes the policy and waits until that is in force.
func reload(t *testing.T, s *stack.Stack, text string) {
	t.Helper()
	before := reloadsOf(t, s, "applied")
	replacePolicy(t, s, text)
	wait(t, "the reload is counted", func() bool { return reloadsOf(t, s, "applied") != before })
}

// Two fan-outs share a Bellhop, and the policy of the one is nothing to the other.
func TestASecondFanoutChangesNothing(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{
		Policy: "version: 1\nfanout: search\nforward: " +
			"[x-mcp-api-key]\n", Files: map[string]string{"other.yaml": "version: 1\nfanout: other\nforward: [x-other]\n"},
		ServeArgs: []string{"--policy", "other.yaml"},
	}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for _, era := range eras {
		client := connect(t, s, mcptest.ClientOptions{Era: era, Header: sends("k")})
		wantKey(t, client, "old_whoami", "k")
		wantKey(t, client, "new_whoami", "k")
	}
	metrics, err := s.Metrics(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(metrics, `fanout="search"`) ||
		strings.Contains(metrics, `bellhop_requests_total{fanout="other"`) {
		t.Error("requests are counted for the wrong fan-out")
	}
	wantClean(t, s, backends)
}
