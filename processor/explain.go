package processor

import (
	"slices"
	"strings"

	"bellhop/policy"
)

// The explanation that a client can ask for: which of its own headers were captured, by name only.
const (
	explainHeader   = "x-bellhop-explain" // the client's request for it; its value is 1
	capturedHeader  = "x-bellhop-captured"
	notListedHeader = "x-bellhop-not-listed"
	leftOutHeader   = "x-bellhop-left-out" // of a family of the policy but never carried, or in another spelling
	rejectedHeader  = "x-bellhop-rejected"
)

// maxNameList bounds one list in bytes: a response has headers of its own, and Envoy limits the sum.
const maxNameList = 1024

// explains reports whether the client asks for an explanation, and the policy allows it.
func (f *fanout) explains(request []policy.Header) bool {
	return f.policy.Explains() && slices.ContainsFunc(request, func(h policy.Header) bool {
		return h.Name == explainHeader && h.Value.Reveal() == "1"
	})
}

// explanation lists the client's own headers by outcome.
func (f *fanout) explanation(request []policy.Header, captured policy.Captured) []policy.Header {
	var taken, notListed []string
	for _, header := range request {
		switch {
		case captured.Capture.Has(header.Name):
			taken = appendOnce(taken, header.Name)
		case f.policy.Pattern(header.Name) == "" && f.policy.SpelledPattern(header.Name) == "" &&
			!policy.Restricted(header.Name):
			notListed = appendOnce(notListed, header.Name)
		}
	}
	leftOut := slices.Concat(captured.LeftOut, captured.Respelled)
	var lines []policy.Header
	for _, list := range []struct {
		name  string
		names []string
	}{{capturedHeader, taken}, {notListedHeader, notListed}, {leftOutHeader, leftOut}} {
		if len(list.names) > 0 {
			lines = append(lines, nameList(list.name, list.names))
		}
	}
	return lines
}

func nameList(header string, names []string) policy.Header {
	slices.Sort(names)
	text := strings.Join(names, ", ")
	if len(text) > maxNameList {
		text = text[:maxNameList] + "..."
	}
	return policy.Header{Name: header, Value: policy.NewValue(text)}
}

func appendOnce(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}
