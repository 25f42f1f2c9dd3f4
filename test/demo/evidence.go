package main

import (
	"net/http"
	"slices"
	"strings"

	"bellhop/policy"
	"bellhop/test/mcptest"
)

// evidence is what was recorded on one way from the clients to the backends.
type evidence struct {
	atFanout  []mcptest.Recorded            // what vMCP got
	atBackend map[string][]mcptest.Recorded // what each backend got
	answers   []answer                      // what the clients got
	health    map[string]string             // what vMCP thinks of each backend
}

// answer is what one player's request came to.
type answer struct {
	player string
	what   string      // tools/list, or the tool
	text   string      // in short, for people
	header http.Header // what a whoami tool showed; nil for all others
	failed bool
}

// The owners of a key that are no players.
const (
	noKey      = "none"      // the request carried no key
	discovery  = "discovery" // the backend's own key, for requests that no client caused
	unknownKey = "unknown"   // a key that is none of the demo's, or more than one
)

// ownerOf says whose key a request carried.
func ownerOf(request mcptest.Recorded) string {
	values := request.Header.Values(keyHeader)
	if len(values) == 0 {
		return noKey
	}
	if len(values) > 1 {
		return unknownKey
	}
	for _, p := range players() {
		if values[0] == p.key {
			return p.name
		}
	}
	if values[0] == discoveryKey {
		return discovery
	}
	return unknownKey
}

// senderOf says which player a request at the fan-out came from. Its name is its User-Agent.
func senderOf(request mcptest.Recorded) string { return request.Header.Get("user-agent") }

// kindOf names the kind of a request: its MCP method, or its HTTP method where it has none.
func kindOf(request mcptest.Recorded) string {
	if request.RPCMethod != "" {
		return request.RPCMethod
	}
	return request.Method
}

// kinds lists the kinds of MCP requests, in the order in which they happen.
func kinds() []string {
	return []string{
		"server/discover", "initialize", "notifications/initialized", http.MethodGet, "tools/list",
		"logging/setLevel", "tools/call", "ping", http.MethodDelete,
	}
}

// kindsAt lists the kinds of requests that a backend got on any of these ways;
// unknown ones come last.
func kindsAt(backend string, ways ...evidence) []string {
	order := kinds()
	came := map[string]bool{}
	for _, e := range ways {
		for _, request := range e.atBackend[backend] {
			came[kindOf(request)] = true
			order = append(order, kindOf(request)) // a second time, if it is known
		}
	}
	var all []string
	for _, kind := range order {
		if came[kind] {
			all = append(all, kind)
			delete(came, kind)
		}
	}
	return all
}

// byOwner counts the requests of one kind at one backend by the owner of the key.
func (e evidence) byOwner(backend, kind string) map[string]int {
	count := map[string]int{}
	for _, request := range e.atBackend[backend] {
		if kindOf(request) == kind {
			count[ownerOf(request)]++
		}
	}
	return count
}

// has reports whether a backend got a key of this owner.
func (e evidence) has(owner string) bool {
	for _, requests := range e.atBackend {
		if slices.ContainsFunc(requests, func(r mcptest.Recorded) bool { return ownerOf(r) == owner }) {
			return true
		}
	}
	return false
}

// sight is what the fan-out saw of one player's header, in one form.
type sight struct {
	line     string // "name: value"
	requests int
}

// seen lists what the fan-out saw of a player's key: the key itself, or a ticket.
func (e evidence) seen(p player) []sight {
	var all []sight
	at := map[string]int{}
	for _, request := range e.atFanout {
		if senderOf(request) != p.name {
			continue
		}
		line := visible(request.Header)
		if _, known := at[line]; !known {
			at[line] = len(all)
			all = append(all, sight{line: line})
		}
		all[at[line]].requests++
	}
	return all
}

// visible shows the key and the ticket of a request to the fan-out.
func visible(header http.Header) string {
	var lines []string
	for _, name := range []string{keyHeader, policy.TicketHeader} {
		for _, value := range header.Values(name) {
			lines = append(lines, name+": "+shorten(value))
		}
	}
	if len(lines) == 0 {
		return noKey
	}
	return strings.Join(lines, ", ")
}

// shorten cuts what is too long to be read, which tickets are.
func shorten(value string) string {
	const most = 12
	if len(value) <= most {
		return value
	}
	return value[:8] + "…"
}

// answer returns what one player's request came to.
func (e evidence) answer(player, what string) answer {
	for _, a := range e.answers {
		if a.player == player && a.what == what {
			return a
		}
	}
	return answer{text: "no answer", failed: true}
}

// requests counts what reached all backends.
func (e evidence) requests() int {
	count := 0
	for _, list := range e.atBackend {
		count += len(list)
	}
	return count
}
