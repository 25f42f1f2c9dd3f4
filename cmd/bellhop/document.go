package main

import (
	"fmt"
	"io"
	"os"

	"bellhop/policy"
)

const ceilingUsage = "a ceiling document, below which the policy has to stay (default: none)"

// readPolicy reads a policy, and the ceiling above it if there is one. It returns the warnings of both; errors of
// either are the error, as [policy.Findings].
func readPolicy(file, ceiling string, stdin io.Reader) (*policy.Policy, policy.Findings, error) {
	above, findings, err := readCeiling(ceiling, stdin)
	if err != nil {
		return nil, nil, err
	}
	if findings.HasErrors() {
		return nil, nil, findings
	}
	text, err := readDocument(file, stdin)
	if err != nil {
		return nil, nil, err
	}
	loaded, more := policy.LoadUnder(above, file, text)
	if loaded == nil {
		return nil, nil, more
	}
	return loaded, append(findings, more...), nil
}

// readCeiling reads a ceiling; there is none where the file has no name. It is nil with an error among the findings.
func readCeiling(file string, stdin io.Reader) (*policy.Ceiling, policy.Findings, error) {
	if file == "" {
		return nil, policy.Findings{}, nil
	}
	text, err := readDocument(file, stdin)
	if err != nil {
		return nil, policy.Findings{}, err
	}
	loaded, findings := policy.LoadCeiling(file, text)
	return loaded, append(policy.Findings{}, findings...), nil
}

// readDocument reads a file, or standard input where its name is -.
func readDocument(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w; correct the path", err)
	}
	return text, nil
}
