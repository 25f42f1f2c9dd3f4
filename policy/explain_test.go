package policy_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bellhop/policy"
)

const explainPolicy = `version: 1
forward:
  - x-all
  - {name: x-billing, to: [billing], required: true, max_bytes: 10}
  - {name: x-token, to: [github], as: authorization, prefix: "Bearer ", tools: [search_*]}
  - {name: x-acme-*, keep: session, repeat: first, hide: false}
  - {name: x-keep, conflict: keep}
  - {name: x-conflict, conflict: reject}
  - {name: auth*, to: [billing]}
backends:
  github:
    clusters: [mcp-github]
    discovery:
      - {name: authorization, prefix: "Bearer ", file: secret}
  billing: {}
`

func TestExplainHeader(t *testing.T) {
	search := policy.Asks(policy.Message{Method: "tools/call", Tool: "search_code"})
	required := "x-billing: 1"
	tests := []struct {
		name     string
		question policy.Question
		header   string
		want     policy.Row
	}{
		{"forwarded", policy.Question{Backend: "github", Client: headers("X-All: 1", required)}, "x-all",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeForwarded,
				As:             "x-all",
				Lines:          []int{3},
			}},
		{
			"by the name of a cluster",
			policy.Question{Backend: "mcp-github", Client: headers("x-all: 1", required)},
			"x-all",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeForwarded,
				As:             "x-all",
				Lines:          []int{3},
			},
		},
		{
			"renamed, for a tool",
			policy.Question{Backend: "github", Client: headers("x-token: 1", required), Operation: search},
			"x-token",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeForwarded,
				As:             "authorization",
				Prefix:         "Bearer ",
				Lines:          []int{5},
			},
		},
		{
			"the tool is not known",
			policy.Question{
				Backend:   "github",
				Client:    headers("x-token: 1", required),
				Operation: policy.NotKnown(policy.UnreadableTool),
			},
			"x-token",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeOperation,
				Lines:          []int{5},
				Why: "only for calls of search_*; what this request asks for is not known: it is a tools/call that does not " +
					"say under params.name which",
			},
		},
		{
			"another tool",
			policy.Question{
				Backend:   "github",
				Client:    headers("x-token: 1", required),
				Operation: policy.Asks(policy.Message{Method: "tools/call", Tool: "merge"}),
			},
			"x-token",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeOtherTool,
				Lines:          []int{5},
				Why:            "only for calls of search_*; this call is of merge",
			},
		},
		{
			"another method",
			policy.Question{
				Backend:   "github",
				Client:    headers("x-token: 1", required),
				Operation: policy.Asks(policy.Message{Method: "tools/list"}),
			},
			"x-token",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeOtherTool,
				Lines:          []int{5},
				Why:            "only for calls of search_*; this request is tools/list",
			},
		},
		{
			"the method is disputed",
			policy.Question{
				Backend:   "github",
				Client:    headers("x-token: 1", required),
				Operation: policy.NotKnown(policy.UnreadableKey),
			},
			"x-token",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeOperation,
				Lines:          []int{5},
				Why: "only for calls of search_*; what this request asks for is not known: " +
					"a key of its JSON-RPC message occurs twice, or in another case",
			},
		},
		{"for another backend", policy.Question{Backend: "github", Client: headers(required)}, "x-billing",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeNotAllowed,
				Lines:          []int{4},
				Why:            "its rule is for billing",
			}},
		{"backend not declared", policy.Question{Backend: "mail", Client: headers("x-all: 1", required)}, "x-all",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeNotAllowed,
				Lines:          []int{3},
				Why:            "the policy does not declare this backend",
			}},
		{"absent", policy.Question{Backend: "github", Client: headers(required)}, "x-all",
			policy.Row{
				IngressOutcome: policy.IngressNotSent,
				Fanout:         policy.VisibilityNone,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeAbsent,
				Lines:          []int{3},
				Why:            "the client did not send it",
			}},
		{"required", policy.Question{Backend: "billing"}, "x-billing",
			policy.Row{
				IngressOutcome: policy.IngressNotSent,
				Fanout:         policy.VisibilityNone,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeAbsent,
				Lines:          []int{4},
				Why:            "required, and the client did not send it: the request is refused",
			}},
		{"required elsewhere", policy.Question{Backend: "github"}, "x-billing",
			policy.Row{
				IngressOutcome: policy.IngressNotSent,
				Fanout:         policy.VisibilityNone,
				Lines:          []int{4},
				Why:            "required of every client, though not for this backend",
			}},
		{"of a request that lacks another", policy.Question{Backend: "github", Client: headers("x-all: 1")}, "x-all",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityNone,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeForwarded,
				Lines:          []int{3},
				Why:            "the request is refused because of x-billing",
			}},
		{"too long", policy.Question{Backend: "billing", Client: headers("x-billing: 12345678901")}, "x-billing",
			policy.Row{
				IngressOutcome: policy.IngressRejected,
				Fanout:         policy.VisibilityNone,
				Lines:          []int{4},
				Why:            "header x-billing is longer than the 10 bytes allowed; send a shorter value",
			}},
		{
			"of a request with one too long",
			policy.Question{Backend: "billing", Client: headers("x-all: 1", "x-billing: 12345678901")},
			"x-all",
			policy.Row{
				IngressOutcome: policy.IngressRefused,
				Fanout:         policy.VisibilityNone,
				Lines:          []int{3},
				Why:            "the request is refused because of x-billing",
			},
		},
		{"not listed", policy.Question{Backend: "github", Client: headers("x-other: 1", required)}, "x-other",
			policy.Row{
				IngressOutcome: policy.IngressNotListed,
				Fanout:         policy.VisibilityShown,
				Lines:          []int{},
				Why:            "no rule lists it",
			}},
		{
			"restricted",
			policy.Question{Backend: "github", Client: headers("mcp-session-id: 1", required)},
			"mcp-session-id",
			policy.Row{
				IngressOutcome: policy.IngressRestricted,
				Fanout:         policy.VisibilityShown,
				Lines:          []int{},
				Why: "no policy can carry it (mcp-*): it belongs to the MCP exchange between fan-out and backend; a foreign " +
					"one breaks every backend",
			},
		},
		{
			"a ticket of the client's",
			policy.Question{Backend: "github", Client: headers("x-bellhop-ticket: 1", required)},
			"x-bellhop-ticket",
			policy.Row{
				IngressOutcome: policy.IngressRestricted,
				Fanout:         policy.VisibilityHidden,
				Lines:          []int{},
				Why:            "no policy can carry it (x-bellhop-*): it is Bellhop's own",
			},
		},
		{
			"sensitive, in a family",
			policy.Question{Backend: "billing", Client: headers("authorization: 1", required)},
			"authorization",
			policy.Row{
				IngressOutcome: policy.IngressSensitive,
				Fanout:         policy.VisibilityShown,
				Lines:          []int{},
				Why:            "families do not include it: it carries a credential and needs its own rule with to: and hide:",
			},
		},
		{
			"nominated",
			policy.Question{Backend: "github", Client: headers("connection: x-all", "x-all: 1", required)},
			"x-all",
			policy.Row{
				IngressOutcome: policy.IngressNominated,
				Fanout:         policy.VisibilityHidden,
				Outcome:        policy.OutcomeAbsent,
				Lines:          []int{3},
				Why:            "the request's own Connection makes it hop-by-hop (RFC 9110, 7.6.1)",
			},
		},
		{
			"two lines, no session",
			policy.Question{Backend: "github", Client: headers("x-acme-a: 1", "x-acme-a: 2", required)},
			"x-acme-a",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				FirstLine:      true,
				Fanout:         policy.VisibilityShown,
				Keep:           policy.KeepSession,
				Outcome:        policy.OutcomeForwarded,
				As:             "x-acme-a",
				Lines:          []int{6},
				Why:            "only its first line is carried (repeat: first); no MCP session: the same as keep: request",
			},
		},
		{
			"kept for the session",
			policy.Question{Backend: "github", Session: true, Client: headers("x-acme-a: 1", required)},
			"x-acme-a",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityShown,
				Keep:           policy.KeepSession,
				Outcome:        policy.OutcomeForwarded,
				As:             "x-acme-a",
				Lines:          []int{6},
				Why:            "later requests of this session without it get it too",
			},
		},
		{
			"kept",
			policy.Question{
				Backend: "github",
				Earlier: headers("x-acme-a: 1", "x-all: 2", required, "authorization: u"),
				Client:  headers(required, "authorization: u"),
			},
			"x-acme-a",
			policy.Row{
				IngressOutcome: policy.IngressKept,
				Fanout:         policy.VisibilityNone,
				Keep:           policy.KeepSession,
				Outcome:        policy.OutcomeForwarded,
				As:             "x-acme-a",
				Lines:          []int{6},
				Why:            "sent by an earlier request of this session",
			},
		},
		{
			"not for the session",
			policy.Question{Backend: "github", Earlier: headers("x-all: 2"), Client: headers(required)},
			"x-all",
			policy.Row{
				IngressOutcome: policy.IngressNotSent,
				Fanout:         policy.VisibilityNone,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeAbsent,
				Lines:          []int{3},
				Why:            "the client did not send it",
			},
		},
		{
			"never in the session",
			policy.Question{Backend: "github", Session: true, Client: headers(required)},
			"x-acme-*",
			policy.Row{
				IngressOutcome: policy.IngressNotSent,
				Fanout:         policy.VisibilityNone,
				Keep:           policy.KeepSession,
				Outcome:        policy.OutcomeAbsent,
				Lines:          []int{6},
				Why:            "the client did not send it; no earlier request of this session sent it either",
			},
		},
		{
			"conflict kept",
			policy.Question{Backend: "github", Client: headers("x-keep: 1", required), Fanout: headers("X-Keep: 2")},
			"x-keep",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeConflict,
				Lines:          []int{7},
				Why:            "the fan-out sends its own, and conflict: keep leaves it",
			},
		},
		{
			"conflict rejected",
			policy.Question{
				Backend: "github",
				Client:  headers("x-conflict: 1", required),
				Fanout:  headers("x-conflict: 2"),
			},
			"x-conflict",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeConflict,
				Lines:          []int{8},
				Why:            "the fan-out sends another value, and conflict: reject refuses the request",
			},
		},
		{
			"beside a conflict",
			policy.Question{
				Backend: "github",
				Client:  headers("x-all: 1", "x-conflict: 1", required),
				Fanout:  headers("x-conflict: 2"),
			},
			"x-all",
			policy.Row{
				IngressOutcome: policy.IngressCaptured,
				Fanout:         policy.VisibilityHidden,
				Keep:           policy.KeepRequest,
				Outcome:        policy.OutcomeForwarded,
				Lines:          []int{3},
				Why:            "the request to the backend is refused because of x-conflict",
			},
		},
		{"discovery", policy.Question{
			Backend: "github", NoTicket: true, Operation: policy.Asks(policy.Message{Method: "initialize"}),
		}, "authorization",
			policy.Row{
				IngressOutcome: policy.IngressIdentity,
				Fanout:         policy.VisibilityNone,
				Outcome:        policy.OutcomeIdentity,
				As:             "authorization",
				Prefix:         "Bearer ",
				Lines:          []int{14},
				Why:            "discovery identity, from secret",
			}},
		{
			"no discovery for a tool call",
			policy.Question{Backend: "github", NoTicket: true, Operation: search},
			"authorization",
			policy.Row{
				IngressOutcome: policy.IngressIdentity,
				Fanout:         policy.VisibilityNone,
				Lines:          []int{14},
				Why:            "discovery identity: only for methods that need no client, such as initialize and tools/list",
			},
		},
		{"no discovery for a client", policy.Question{Backend: "github", Client: headers(required)}, "authorization",
			policy.Row{
				IngressOutcome: policy.IngressIdentity,
				Fanout:         policy.VisibilityNone,
				Lines:          []int{14},
				Why:            "discovery identity: only for requests that no client caused",
			}},
	}
	p := load(t, explainPolicy)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []policy.Row
			for _, row := range p.Explain(test.question).Rows {
				if row.Header == test.header {
					got = append(got, row)
				}
			}
			test.want.Header = test.header
			if diff := cmp.Diff([]policy.Row{test.want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExplainSummary(t *testing.T) {
	tests := []struct {
		name, want string
		question   policy.Question
	}{
		{"delivered", "The fan-out sees x-acme-a, a ticket. billing gets x-billing, x-acme-a.",
			policy.Question{Backend: "billing", Client: headers("x-billing: 1", "x-acme-a: 1")}},
		{
			"renamed, and removed",
			"The fan-out sees a ticket. github gets authorization (from x-token). Removed from the fan-out's request: " +
				"x-all.",
			policy.Question{
				Backend:   "github",
				Client:    headers("x-token: 1", "x-billing: 1"),
				Operation: policy.Asks(policy.Message{Method: "tools/call", Tool: "search_a"}),
				Fanout:    headers("x-all: 1", "authorization: 2", "x-free: 3"),
			},
		},
		{
			"refused",
			"The client's request is refused: header x-billing is missing or empty; send it with the request.",
			policy.Question{Backend: "github"},
		},
		{
			"refused at the backend",
			"The fan-out sees a ticket. The request to github is refused: header x-conflict is sent by the gateway too, with " +
				"another value; only one of them can be right.",
			policy.Question{
				Backend: "github",
				Client:  headers("x-billing: 1", "x-conflict: 1"),
				Fanout:  headers("x-conflict: 2"),
			},
		},
		{
			"not declared",
			"The fan-out sees a ticket. mail is not among the declared backends (github, billing) and gets nothing.",
			policy.Question{Backend: "mail", Client: headers("x-billing: 1")},
		},
		{"discovery", "No ticket: github gets authorization.", policy.Question{
			Backend: "github", NoTicket: true, Operation: policy.Asks(policy.Message{Method: "tools/list"}),
		}},
		{
			"nothing for discovery",
			"No ticket: billing gets none of these headers.",
			policy.Question{Backend: "billing", NoTicket: true},
		},
	}
	p := load(t, explainPolicy)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			explained := p.Explain(test.question)
			if diff := cmp.Diff(test.want, explained.Summary()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExplainNotes(t *testing.T) {
	for document, want := range map[string]string{
		"version: 1\nmode: observe\nforward: [x-a]\n": "mode: observe: all of " +
			"this is computed",
		"version: 1\nforward: [x-a]\n": "the policy declares no backends",
		"version: 1\nkeep: session\nforward: [x-a]\n": "clients of MCP 2026-07-28 have " +
			"no session, so for them it is the same as request",
		"version: 1\nkeep: session\nforward: [x-a]\nsession: {bind: []}\n": "the principal (none configured)",
		"version: 1\nkeep: session\nforward: [x-a]\nsession: {bind: [x-user, x-realm]}\n": "the principal (the client's " +
			"x-user, x-realm)",
	} {
		explained := load(t, document).Explain(policy.Question{Backend: "a"})
		if notes := strings.Join(explained.Notes, "\n"); !strings.Contains(notes, want) {
			t.Errorf("%s\ngot  %s\nwant %s", document, notes, want)
		}
	}
}

// Two rules in one line are two rules.
func TestExplainDistinguishesRulesOnOneLine(t *testing.T) {
	p := load(t, "version: 1\nforward: [{name: x-a, tools: [t]}, {name: x-a, as: x-b, prefix: p}]\n")
	rows := p.Explain(policy.Question{Client: headers("x-a: 1")}).Rows
	if len(rows) != 2 || rows[0].Why == "" || rows[1].As != "x-b" || rows[1].Prefix != "p" {
		t.Errorf("got %+v", rows)
	}
}

// What is explained is what is done: for any policy and any headers, the same as Capture and Decide say.
func TestExplainAgreesWithDecide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		question := policy.Question{
			Backend: rapid.SampledFrom(append([]string{"other"}, worldBackends...)).Draw(t, "backend"),
			Client:  drawHeaders(t, "canary-client"), Fanout: drawHeaders(t, "canary-fanout"),
		}
		explained := w.policy.Explain(question)
		taken, rejection := w.policy.Capture(question.Client)
		if rejection != nil {
			t.Fatal(rejection)
		}
		decision := w.policy.Decide(
			policy.Call{
				Backend: question.Backend,
				Ticket:  policy.StatusRedeemed,
				Capture: taken.Capture,
				Request: question.Fanout,
			},
		)
		var gets []string
		for _, row := range explained.Rows {
			if taken.Capture.Has(row.Header) != (row.IngressOutcome == policy.IngressCaptured) {
				t.Fatalf("%s: captured %v, explained as %s", row.Header, taken.Capture.Has(row.Header), row.IngressOutcome)
			}
			if row.As != "" {
				gets = append(gets, row.As)
			}
		}
		set := make(map[string]bool)
		for _, header := range decision.Set {
			set[header.Name] = true
			if !slices.Contains(gets, header.Name) || !slices.Contains(explained.Gets, header.Name) {
				t.Fatalf("%s is set and not explained: rows %q, gets %q", header.Name, gets, explained.Gets)
			}
		}
		if len(set) != len(gets) || len(set) != len(explained.Gets) {
			t.Fatalf("set %v, rows %q, gets %q", set, gets, explained.Gets)
		}
		if text, err := json.Marshal(explained); err != nil ||
			strings.Contains(string(text)+fmt.Sprint(explained), "canary") {
			t.Fatalf("a value is printed: %v", err)
		}
	})
}
