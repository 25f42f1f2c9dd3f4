package jsonrpc_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/policy"
	"bellhop/processor/jsonrpc"
)

const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_x"}}`

func headers(lines ...string) []policy.Header {
	all := []policy.Header{{Name: "content-type", Value: policy.NewValue("application/json")}}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		all = append(all, policy.Header{Name: name, Value: policy.NewValue(value)})
	}
	return all
}

// operations are compared by what they say, because their fields are nobody's.
func same(a, b policy.Operation) bool {
	return cmp.Equal(a, b, cmp.AllowUnexported(policy.Operation{}))
}

func TestRead(t *testing.T) {
	search := policy.Asks(policy.Message{Method: "tools/call", Tool: "search_x"})
	list := policy.Message{Method: "tools/list"}
	tests := []struct {
		name, body string
		want       policy.Operation
	}{
		{"a call", call, search},
		{"white space around it", " \r\n\t" + call + "\n", search},
		{
			"the method last",
			`{"params":{"arguments":{"a":[1,{}]},"name":"search_x"},"id":"x","jsonrpc":"2.0","method":"tools/call"}`,
			search,
		},
		{
			"escaped letters",
			`{"jsonrpc":"2.0","\u006dethod":"tools\/c\u0061ll","params":{"n\u0061me":"search\u005fx"}}`,
			search,
		},
		{
			"a long value before the name",
			strings.Replace(call, `"name"`, `"arguments":{"a":"`+strings.Repeat("k", 1<<20)+`"},"name"`, 1),
			search,
		},
		{
			"a key twice in the tool's own arguments",
			strings.Replace(call, `"name"`, `"arguments":{"a":1,"a":2,"A":3},"name"`, 1),
			search,
		},
		{
			"a notification",
			`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
			policy.Asks(policy.Message{Method: "notifications/initialized"}),
		},
		{"an answer to the server", `{"jsonrpc":"2.0","id":1,"result":{}}`, policy.Asks(policy.Message{})},
		{
			"a batch",
			`[` + call + `,{"jsonrpc":"2.0","id":2,"method":"tools/list"}]`,
			policy.Asks(policy.Message{Method: "tools/call", Tool: "search_x"}, list),
		},
		{"a batch of one", `[` + call + `]`, search},
		{"no name", `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, policy.NotKnown(policy.UnreadableTool)},
		{
			"a name that is no text",
			strings.Replace(call, `"search_x"`, `["search_x"]`, 1),
			policy.NotKnown(policy.UnreadableTool),
		},
		{"an empty name", strings.Replace(call, "search_x", "", 1), policy.NotKnown(policy.UnreadableTool)},
		{
			"no name in a batch",
			`[` + call + `,{"jsonrpc":"2.0","method":"tools/call","params":{"name":null}}]`,
			policy.NotKnown(policy.UnreadableTool),
		},
		{
			"parameters by position",
			`{"jsonrpc":"2.0","method":"tools/call","params":["search_x"]}`,
			policy.NotKnown(policy.UnreadableTool),
		},
		{
			"a name that is no tool's",
			`{"jsonrpc":"2.0","method":"prompts/get","params":{"name":"p"}}`,
			policy.Asks(policy.Message{Method: "prompts/get"}),
		},

		{"nothing", "", policy.NotKnown(policy.UnreadableJSON)},
		{"no JSON", "tools/call", policy.NotKnown(policy.UnreadableJSON)},
		{"cut off", call[:len(call)-1], policy.NotKnown(policy.UnreadableJSON)},
		{"a byte order mark", "\ufeff" + call, policy.NotKnown(policy.UnreadableJSON)},
		{"two documents", call + call, policy.NotKnown(policy.UnreadableJSON)},
		{"trailing bytes", call + "x", policy.NotKnown(policy.UnreadableJSON)},
		{"a NUL at the end", call + "\x00", policy.NotKnown(policy.UnreadableJSON)},
		{
			"bytes that are no UTF-8",
			strings.Replace(call, "search_x", "search_\xff", 1),
			policy.NotKnown(policy.UnreadableJSON),
		},
		{"a lone surrogate", strings.Replace(call, "search_x", `search_\ud800`, 1), policy.NotKnown(policy.UnreadableJSON)},
		{"a comment", "/**/" + call, policy.NotKnown(policy.UnreadableJSON)},
		{"a comma at the end", strings.Replace(call, `"}}`, `",}}`, 1), policy.NotKnown(policy.UnreadableJSON)},
		{"very deep", strings.Repeat("[", 100000), policy.NotKnown(policy.UnreadableRPC)},

		{
			"the method twice",
			strings.Replace(call, `"id"`, `"method":"tools/list","id"`, 1),
			policy.NotKnown(policy.UnreadableKey),
		},
		{
			"the method in another case",
			strings.Replace(call, `"id"`, `"Method":"tools/list","id"`, 1),
			policy.NotKnown(policy.UnreadableKey),
		},
		{"only in another case", strings.Replace(call, `"method"`, `"METHOD"`, 1), policy.NotKnown(policy.UnreadableKey)},
		{
			"in another alphabet",
			strings.Replace(call, `"params"`, `"param`+"\u017f"+`"`, 1),
			policy.NotKnown(policy.UnreadableKey),
		},
		{
			"escaped, twice",
			strings.Replace(call, `"id"`, `"\u006dethod":"tools/list","id"`, 1),
			policy.NotKnown(policy.UnreadableKey),
		},
		{"an unknown key twice", strings.Replace(call, `"id"`, `"x":1,"X":2,"id"`, 1), policy.NotKnown(policy.UnreadableKey)},
		{
			"the name twice",
			strings.Replace(call, `"name"`, `"name":"delete_x","name"`, 1),
			policy.NotKnown(policy.UnreadableKey),
		},
		{
			"the name in another case",
			strings.Replace(call, `"name"`, `"Name":"delete_x","name"`, 1),
			policy.NotKnown(policy.UnreadableKey),
		},
		{"the parameters twice", strings.Replace(call, `"id"`, `"params":{},"id"`, 1), policy.NotKnown(policy.UnreadableKey)},

		{"a text", `"tools/call"`, policy.NotKnown(policy.UnreadableRPC)},
		{"an empty batch", `[]`, policy.NotKnown(policy.UnreadableRPC)},
		{"a batch in a batch", `[[` + call + `]]`, policy.NotKnown(policy.UnreadableRPC)},
		{"a batch with a number", `[` + call + `,1]`, policy.NotKnown(policy.UnreadableRPC)},
		{"no version", strings.Replace(call, `"jsonrpc":"2.0",`, "", 1), policy.NotKnown(policy.UnreadableRPC)},
		{"another version", strings.Replace(call, `2.0`, `1.0`, 1), policy.NotKnown(policy.UnreadableRPC)},
		{"neither request nor response", `{"jsonrpc":"2.0","id":1}`, policy.NotKnown(policy.UnreadableRPC)},
		{"both", strings.Replace(call, `"id"`, `"result":{},"id"`, 1), policy.NotKnown(policy.UnreadableRPC)},
		{"a method that is no text", `{"jsonrpc":"2.0","method":["tools/list"]}`, policy.NotKnown(policy.UnreadableRPC)},
		{"no method", `{"jsonrpc":"2.0","method":""}`, policy.NotKnown(policy.UnreadableRPC)},
		{
			"a method that looks like a call",
			strings.Replace(call, "tools/call", "TOOLS/CALL", 1),
			policy.NotKnown(policy.UnreadableRPC),
		},
		{
			"a method with a space",
			strings.Replace(call, "tools/call", "tools/call ", 1),
			policy.NotKnown(policy.UnreadableRPC),
		},
		{
			"a method with a NUL",
			strings.Replace(call, "tools/call", `tools/call\u0000`, 1),
			policy.NotKnown(policy.UnreadableRPC),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := jsonrpc.Read(headers(), []byte(test.body)).Operation; !same(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// The receiver may believe a header in place of the body, or decode the body in another way.
func TestReadKnowsNothingThatAHeaderContradicts(t *testing.T) {
	known := func(lines ...string) bool { return jsonrpc.Read(headers(lines...), []byte(call)).Operation.Known() }
	for _, lines := range [][]string{
		nil,
		{"mcp-method: tools/call"},
		{"mcp-method: tools/call", "mcp-name: search_x"},
		{"mcp-name: =?base64?c2VhcmNoX3g=?="},
		{"content-encoding: identity"},
	} {
		if !known(lines...) {
			t.Errorf("%q: not known", lines)
		}
	}
	for _, lines := range [][]string{
		{"mcp-method: tools/list"},
		{"mcp-method: Tools/call"},
		{"mcp-method: tools/call", "mcp-method: tools/call"},
		{"mcp-method: tools/call", "mcp-name: delete_x"},
		{"mcp-name: search_x, delete_x"},
		{"mcp-name: =?base64?ZGVsZXRlX3g=?="},
		{"content-encoding: gzip"},
		{"content-type: application/json"},
		{"mcp_method: tools/call"}, {"mcp_name: search_x"}, {"content_type: text/plain"}, {"content_encoding: gzip"},
	} {
		if known(lines...) {
			t.Errorf("%q: known", lines)
		}
	}
	batch := []byte("[" + call + "," + call + "]")
	if jsonrpc.Read(headers("mcp-method: tools/call"), batch).Operation.Known() {
		t.Error("a header for a batch: known")
	}
	for contentType, want := range map[string]bool{
		"application/json": true, "Application/JSON": true, "application/json; charset=utf-8": true,
		"application/json;charset=UTF-8": true, "application/json; charset=utf-16": false, "text/plain": false,
		"application/json, text/plain": false, "application/json-patch+json": false, "": false,
		"application/json; charset=utf-8; charset=utf-7": false,
	} {
		typed := []policy.Header{{Name: "content-type", Value: policy.NewValue(contentType)}}
		if got := jsonrpc.Read(typed, []byte(call)).Operation.Known(); got != want {
			t.Errorf("%q: known is %v", contentType, got)
		}
	}
	if jsonrpc.Read(nil, []byte(call)).Operation.Known() {
		t.Error("no content-type: known")
	}
}

// An error repeats the ID as the client wrote it, or repeats none.
func TestReadTheID(t *testing.T) {
	for id, want := range map[string]string{
		`"a-1"`: `"a-1"`, `7`: `7`, `-7`: `-7`, `9007199254740993`: `9007199254740993`, `1e21`: `1e21`, `null`: ``,
		`true`: ``, `[1]`: ``, `"` + strings.Repeat("i", 300) + `"`: ``,
	} {
		body := `{"id":` + id + `,"jsonrpc":"2.0","method":"ping"}`
		if got := jsonrpc.Read(headers(), []byte(body)).ID; string(got) != want {
			t.Errorf("%s: got %s, want %s", id, got, want)
		}
	}
	for _, body := range []string{"[" + call + "," + call + "]", call + call, `{"id":1,"id":2,"jsonrpc":"2.0","method":"ping"}`} {
		if got := jsonrpc.Read(headers(), []byte(body)).ID; got != nil {
			t.Errorf("%s: got %s", body, got)
		}
	}
}

// FuzzRead holds what is known against Go's own reader, which takes the last of equal keys and ignores their case:
// where the two differ, a receiver could do something else than what was decided.
func FuzzRead(f *testing.F) {
	for _, body := range []string{
		call, "[" + call + "]", `{"jsonrpc":"2.0","Method":"x","method":"y"}`, "\ufeff" + call, call + call,
		`{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","method":"tools/call","param` + "\u017f" + `":{"name":"a"}}`,
		`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a","NAME":"b"}}`, `[1]`, `{"":{}}`,
	} {
		f.Add([]byte(body))
	}
	type plain struct {
		Version string `json:"jsonrpc"`
		Method  string `json:"method"`
		Params  any    `json:"params"`
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := jsonrpc.Read(headers(), body)
		if !got.Operation.Known() {
			return
		}
		var all []plain
		if json.Unmarshal(body, &all) != nil {
			all = make([]plain, 1)
			if err := json.Unmarshal(body, &all[0]); err != nil {
				t.Fatalf("known, and Go's reader refuses it: %v", err)
			}
		}
		want := make([]policy.Message, len(all))
		for i, one := range all {
			want[i].Method = one.Method
			if params, ok := one.Params.(map[string]any); ok && one.Method == "tools/call" {
				want[i].Tool, _ = params["name"].(string)
			}
		}
		if !same(got.Operation, policy.Asks(want...)) {
			t.Fatalf("got %+v, Go's reader %+v", got.Operation, want)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for name, size := range map[string]int{"200B": 100, "4KiB": 4 << 10, "64KiB": 64 << 10} {
		body := []byte(strings.Replace(call, `"name"`, `"arguments":{"a":"`+strings.Repeat("k", size)+`"},"name"`, 1))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				jsonrpc.Read(headers(), body)
			}
		})
	}
}
