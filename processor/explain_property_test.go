package processor_test

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"bellhop/policy"
	"bellhop/processor"
	"bellhop/processor/store/memory"
	"bellhop/processor/ticket"
)

// drawPolicy draws a document with whatever the language has for one request.
func drawPolicy(t *rapid.T) string {
	pick := func(of ...string) string { return rapid.SampledFrom(of).Draw(t, of[len(of)-1]) }
	var text strings.Builder
	text.WriteString("version: 1\nexplain: " + pick("false", "true") + "\nforward:\n")
	for _, name := range rapid.SliceOfNDistinct(
		rapid.SampledFrom([]string{"x-a", "x-b", "x-f-*", "authorization"}), 1, 4, rapid.ID[string],
	).Draw(t, "names") {
		rule := "  - {name: \"" + name + "\""
		if name == "authorization" {
			rule += pick(", hide: true", ", hide: false") + ", to: [a]"
		} else {
			rule += pick("", ", hide: false") + pick("", ", to: [a]", ", to: [b]") +
				pick("", ", repeat: first", ", repeat: reject")
		}
		if name == "x-a" || name == "x-b" {
			rule += pick("", "", ", required: true") + pick("", ", as: x-r"+name[1:])
		}
		rule += pick(
			"",
			", keep: session",
		) + pick(
			"",
			"",
			", tools: [t1]",
		) + pick(
			"",
			", conflict: keep",
			", conflict: reject",
		)
		text.WriteString(rule + "}\n")
	}
	text.WriteString("backends: {a: {discovery: [{name: x-id, file: f}]}, b: {}}\n")
	text.WriteString(
		pick("", "strip: [cookie, x-i-*]\n") + pick("", "limits: {headers: 2}\n", "limits: {value_bytes: 3}\n"),
	)
	text.WriteString(pick("", "session: {bind: [x-user]}\n", "session: {bind: []}\n"))
	return text.String()
}

func drawLines(t *rapid.T, label string) []policy.Header {
	name := rapid.SampledFrom([]string{
		"x-a", "x-a", "x-b", "x-f-1", "x-f-2", "authorization", "authorization", "x-user", "cookie", "x-i-1", "x-other",
		"x-r-a", "x-id", "connection",
	})
	value := rapid.SampledFrom([]string{"", "1", "2", "x-a", "long"})
	var lines []policy.Header
	for range rapid.IntRange(0, 5).Draw(t, label) {
		lines = append(lines, policy.Header{Name: name.Draw(t, label), Value: policy.NewValue(value.Draw(t, label))})
	}
	return lines
}

// drawClient draws a request of a client, which most often says who it is.
func drawClient(t *rapid.T, label string) []policy.Header {
	lines := drawLines(t, label)
	for _, name := range []string{"authorization", "x-user"} {
		if who := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, label+" "+name); who != "" {
			lines = append(lines, policy.Header{Name: name, Value: policy.NewValue(who)})
		}
	}
	return lines
}

// drawOperation draws what a request asks for, and the body that asks for it, or "" for one that is not shown.
func drawOperation(t *rapid.T) (policy.Operation, string) {
	message := rapid.SampledFrom([]policy.Message{
		{}, {Method: "initialize"}, {Method: "tools/call", Tool: "t1"}, {Method: "tools/call", Tool: "t2"},
	}).Draw(t, "operation")
	if message.Method == "" {
		return policy.NotKnown(policy.UnreadableHidden), ""
	}
	body, _ := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": 1, "method": message.Method, "params": map[string]string{"name": message.Tool},
	})
	return policy.Asks(message), string(body)
}

// served is what became of a request, by the code that serves.
type served struct {
	Refused, BackendRefused string
	Sees, Gets              []string
}

// serve plays a question: the earlier request, the client's, and the fan-out's.
func serve(t *rapid.T, p *policy.Policy, q policy.Question, body string) served {
	kept := memory.New(4 << 20)
	defer kept.Close()
	core := processor.New(processor.Settings{
		Store: kept, Sessions: kept, Supersession: kept, Single: true,
		Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	}, ticket.RandomKeys(), processor.Rules{
		Policy: p, Identities: map[string][]policy.Header{"a": {{Name: "x-id", Value: policy.NewValue("own")}}},
	})
	ask := func(binding processor.Binding, request processor.Request) processor.Answer {
		answer, err := core.Request(t.Context(), binding, request)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Reading != nil {
			return core.Body(answer.Reading, []byte(body))
		}
		if answer.Pending != nil { // the fan-out accepts it
			core.Response(t.Context(), answer.Pending, processor.Response{Headers: headers(":status: 200")})
		}
		return answer
	}
	ingress := func(lines []policy.Header, session bool) processor.Answer {
		headers := append(slices.Clone(lines), policy.Header{Name: ":method", Value: policy.NewValue("POST")})
		if session {
			headers = append(headers, policy.Header{Name: policy.SessionHeader, Value: policy.NewValue("S")})
		}
		return ask(processor.Binding{Role: processor.Ingress}, processor.Request{Headers: headers})
	}
	request := processor.Request{Headers: append(slices.Clone(q.Fanout),
		policy.Header{Name: ":method", Value: policy.NewValue("POST")},
		policy.Header{Name: policy.TypeHeader, Value: policy.NewValue("application/json")},
	)}
	if body != "" {
		request.Body = processor.BodyOffered
	}
	var got served
	if !q.NoTicket {
		if len(q.Earlier) > 0 {
			ingress(q.Earlier, true)
		}
		answer := ingress(q.Client, q.Session || len(q.Earlier) > 0)
		if answer.Error != nil {
			got.Refused = answer.Error.Message
			return got
		}
		for _, header := range q.Client {
			if !slices.Contains(answer.Remove, header.Name) {
				got.Sees = append(got.Sees, header.Name)
			}
		}
		for _, header := range answer.Set {
			if header.Name == policy.TicketHeader {
				request.Headers = append(request.Headers, header)
			}
		}
	}
	answer := ask(processor.Binding{Role: processor.Egress, Backend: q.Backend}, request)
	if answer.Error != nil {
		got.BackendRefused = answer.Error.Message
		return got
	}
	for _, header := range answer.Set {
		got.Gets = append(got.Gets, header.Name)
	}
	return got
}

// Invariant 13: explain says what serving does, whatever the policy and the question: a person who believes it must not
// be wrong.
func TestExplainSaysWhatServingDoes(t *testing.T) {
	for range 20 { // rapid's 100 tries are few for so many flags
		rapid.Check(t, explainAsServed)
	}
}

func explainAsServed(t *rapid.T) {
	text := drawPolicy(t)
	p, findings := policy.Load("p.yaml", []byte(text))
	if p == nil {
		t.Fatal(findings.Error() + text)
	}
	operation, body := drawOperation(t)
	q := policy.Question{
		Backend: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "backend"), Operation: operation,
		NoTicket: rapid.SampledFrom([]bool{false, false, true}).Draw(t, "no ticket"), Fanout: drawLines(t, "fanout"),
	}
	if !q.NoTicket {
		q.Client, q.Session = drawClient(t, "client"), rapid.Bool().Draw(t, "session")
		q.Earlier = drawClient(t, "earlier")
	}
	want := serve(t, p, q, body)
	explained := p.Explain(q)
	got := served{
		Refused: explained.Refused, BackendRefused: explained.BackendRefused, Sees: explained.Sees, Gets: explained.Gets,
	}
	if got.Refused != "" {
		got.BackendRefused = "" // reported beside it, though there is no such request
	}
	for _, one := range []*served{&want, &got} {
		for _, list := range []*[]string{&one.Sees, &one.Gets} {
			slices.Sort(*list)
			*list = append([]string{}, slices.Compact(*list)...)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("serving and explaining differ (-served +explained):\n%s\n%s%+v", diff, text, explained)
	}
}
