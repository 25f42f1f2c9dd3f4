package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
)

var eras = []mcptest.Era{mcptest.Legacy, mcptest.Modern}

// carriers are the ways for a ticket through vMCP, with what vMCP needs for each.
var carriers = map[string]stack.Options{
	"header": {Policy: smallest},
	"baggage": {
		Policy:             smallest + "ticket: {carriers: [baggage]}\n",
		Baggage:            true,
		PassthroughHeaders: []string{},
	},
	"sealed": {Policy: smallest + "ticket: {mode: sealed}\n"},
	"sealed baggage": {
		Policy:             smallest + "ticket: {mode: sealed, carriers: [baggage]}\n",
		Baggage:            true,
		PassthroughHeaders: []string{},
	},
	"both": {Policy: smallest + "ticket: {carriers: [header, baggage]}\n", Baggage: true},
}

// Twenty sessions of both eras call both eras of backends, twenty times each, all at once: every call has its own
// client's key, with each carrier and with both.
func TestConcurrentSessionsNeverMix(t *testing.T) {
	const sessions, calls = 20, 20
	for name, options := range carriers {
		t.Run(name, func(t *testing.T) {
			backends := both(t)
			s := start(t, options, backends)
			if err := s.WaitHealthy(limit(t)); err != nil {
				t.Fatal(err)
			}
			var group sync.WaitGroup
			for i := range sessions {
				mine := fmt.Sprintf("key-of-%02d", i)
				client := connect(t, s, mcptest.ClientOptions{Era: eras[i%2], Header: sends(mine)})
				group.Go(func() {
					for call := range calls {
						wantKey(t, client, []string{"old_whoami", "new_whoami"}[(i+call)%2], mine)
					}
				})
			}
			group.Wait()
			wantClean(t, s, backends)
			if name == "header" || name == "sealed" {
				wantNoTicketInBodies(t, backends)
			}
		})
	}
}

// A key that changes in mid-session changes at once; one that is no longer sent is no longer there.
func TestAKeyChangesAndGoesInMidSession(t *testing.T) {
	for name, options := range carriers {
		t.Run(name, func(t *testing.T) {
			backends := both(t)
			s := start(t, options, backends)
			if err := s.WaitHealthy(limit(t)); err != nil {
				t.Fatal(err)
			}
			for _, era := range eras {
				var now atomic.Value
				now.Store([]string{"first"})
				client := connect(
					t, s,
					mcptest.ClientOptions{Era: era, Header: func() http.Header { return http.Header{key: now.Load().([]string)} }},
				)
				for _, values := range [][]string{{"first"}, {"second"}, {}, {"third"}, {}} {
					now.Store(values)
					wantKey(t, client, "old_whoami", values...)
					wantKey(t, client, "new_whoami", values...)
				}
			}
			wantClean(t, s, backends)
		})
	}
}

// One session, many calls at the same time with different keys or none.
func TestConcurrentCallsOfOneSession(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: smallest}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	var next atomic.Int64
	var sent sync.Map // a call's mark → its key
	client := connect(t, s, mcptest.ClientOptions{Era: mcptest.Modern, Header: func() http.Header {
		n := next.Add(1)
		mark := strconv.FormatInt(n, 10)
		if n%3 == 0 {
			sent.Store(mark, "")
			return http.Header{"X-Mark": {mark}}
		}
		sent.Store(mark, "key-"+mark)
		return http.Header{key: {"key-" + mark}, "X-Mark": {mark}}
	}})
	var group sync.WaitGroup
	for range 60 {
		group.Go(func() {
			if _, err := client.WhoAmI(limit(t), "new_whoami"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	keys := map[string]int{}
	for _, request := range backends["new"].Requests() {
		if request.RPCMethod == "tools/call" {
			keys[request.Header.Get(key)]++
		}
	}
	for got, times := range keys {
		mark := strings.TrimPrefix(got, "key-")
		if want, known := sent.Load(mark); got != "" && (!known || want != got || times != 1) {
			t.Errorf("key %q reached the backend %d times", got, times)
		}
	}
	if keys[""] != 20 || len(keys) != 41 {
		t.Errorf("%d calls without a key and %d keys; want 20 and 40", keys[""], len(keys)-1)
	}
}

// All lines of a repeated header arrive, in their order.
func TestRepeatedValuesStaySeparateAndInOrder(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: smallest}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for _, era := range eras {
		client := connect(t, s, mcptest.ClientOptions{Era: era, Header: sends("b", "a, c", "b")})
		wantKey(t, client, "old_whoami", "b", "a, c", "b")
		wantKey(t, client, "new_whoami", "b", "a, c", "b")
	}
}

// Scoping, renaming and prefixes, with rules for one backend each.
func TestEachBackendGetsOnlyWhatIsItsOwn(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: `
version: 1
forward:
  - {name: x-mcp-api-key, to: [old]}
  - {name: x-github-token, to: [new], as: authorization, prefix: "Bearer "}
  - x-tenant-id
backends: {old: {}, new: {}}
`}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	client := connect(t, s, mcptest.ClientOptions{Header: func() http.Header {
		return http.Header{key: {"k"}, "X-Github-Token": {"g"}, "X-Tenant-Id": {"t"}, "X-Unlisted": {"u"}}
	}})
	for tool, want := range map[string]http.Header{
		"old_whoami": {key: {"k"}, "X-Tenant-Id": {"t"}},
		"new_whoami": {"Authorization": {"Bearer g"}, "X-Tenant-Id": {"t"}},
	} {
		got, err := client.WhoAmI(limit(t), tool)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{key, "X-Github-Token", "Authorization", "X-Tenant-Id", "X-Unlisted"} {
			if got.Get(name) != want.Get(name) {
				t.Errorf("%s: %s is %q, want %q", tool, name, got.Get(name), want.Get(name))
			}
		}
	}
	wantClean(t, s, backends)
}
