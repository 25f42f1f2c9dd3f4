package processor

import (
	"slices"
	"strings"

	"bellhop/policy"
)

// The client's own view: a client that asks is told which of its own headers were taken. Names only.
const (
	askHeader       = "x-bellhop-explain" // the client's question; its value is 1
	capturedHeader  = "x-bellhop-captured"
	notListedHeader = "x-bellhop-not-listed"
	leftOutHeader   = "x-bellhop-left-out" // of a family of the policy, but never carried
	rejectedHeader  = "x-bellhop-rejected"
)

// maxView bounds one list in bytes: a response has headers of its own, and Envoy limits for all of them.
const maxView = 1024

// asks reports whether the client wants to be told, and the policy lets it.
func (e *engine) asks(request incoming) bool {
	return e.policy.Explains() && slices.ContainsFunc(request.headers, func(h policy.Header) bool {
		return h.Name == askHeader && h.Value.Reveal() == "1"
	})
}

// view lists the client's own headers by what became of them.
func (e *engine) view(request incoming, taken policy.Captured) []policy.Header {
	var captured, notListed []string
	for _, header := range request.headers {
		switch {
		case taken.Capture.Has(header.Name):
			captured = addOnce(captured, header.Name)
		case e.policy.Pattern(header.Name) == "" && !policy.Restricted(header.Name):
			notListed = addOnce(notListed, header.Name)
		}
	}
	var lines []policy.Header
	for _, list := range []struct {
		name  string
		names []string
	}{{capturedHeader, captured}, {notListedHeader, notListed}, {leftOutHeader, taken.LeftOut}} {
		if len(list.names) > 0 {
			lines = append(lines, nameList(list.name, list.names))
		}
	}
	return lines
}

func nameList(header string, names []string) policy.Header {
	slices.Sort(names)
	text := strings.Join(names, ", ")
	if len(text) > maxView {
		text = text[:maxView] + "..."
	}
	return policy.Header{Name: header, Value: policy.NewValue(text)}
}

func addOnce(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}
