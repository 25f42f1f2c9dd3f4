package policy_test

import (
	"fmt"

	"bellhop/policy"
)

// A policy is loaded once. Each client request is captured; each request to a backend is decided.
func Example() {
	text := `
version: 1
backends: {github: {clusters: [mcp-github]}, search: {clusters: [mcp-search]}}
forward: [{name: x-github-token, to: [github], as: authorization, prefix: "Bearer "}]
`
	loaded, findings := policy.Load("policy.yaml", []byte(text))
	if loaded == nil {
		fmt.Print(findings)
		return
	}

	captured, rejection := loaded.Capture([]policy.Header{
		{Name: "x-github-token", Value: policy.NewValue("secret")},
		{Name: "x-other", Value: policy.NewValue("not listed")},
	})
	if rejection != nil {
		fmt.Println(rejection)
		return
	}
	fmt.Println("hidden from the fan-out:", captured.Hide)

	for _, cluster := range []string{"mcp-github", "mcp-search"} {
		backend, _ := loaded.Backend("", cluster)
		decision := loaded.Decide(policy.Call{Backend: backend, Ticket: policy.StatusRedeemed, Capture: captured.Capture})
		for _, header := range decision.Set {
			fmt.Println(backend, "gets", header.Name, header.Value) // a value never prints itself
		}
		for _, verdict := range decision.Verdicts {
			fmt.Println(backend, verdict.Header, verdict.Outcome)
		}
	}
	// Output:
	// hidden from the fan-out: [x-github-token]
	// github gets authorization [REDACTED]
	// github x-github-token forwarded
	// search x-github-token not_allowed
}

// A document with errors gives no policy. Each error says what is wrong, where, and how to fix it.
func ExampleLoad() {
	_, findings := policy.Load("policy.yaml", []byte("version: 1\nforward: [x a]\n"))
	fmt.Print(findings)
	// Output:
	// policy.yaml:2:11: error: name: "x a" is not a header name
	//   2 | forward: [x a]
	//     |           ^
	//   hint: write letters, digits and !#$%&'+-.^_`|~ only, such as x-mcp-api-key
}
