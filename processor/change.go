package processor

import (
	"slices"

	"bellhop/policy"
)

// The most that Envoy takes: it answers 500 to a request whose mutation goes beyond any of these, even when it is
// configured to fail open (measured with Envoy 1.40).
const (
	maxOperations  = 100      // of one kind in one mutation
	maxHeaders     = 100      // lines of the request that results
	maxHeaderBytes = 60 << 10 // of the request that results
)

// change is what becomes of a request's headers: first remove, then set. Several lines of one name stand together
// in set and replace what was there.
type change struct {
	remove  []string
	set     []policy.Header
	await   *awaited // not nil: the response has something to tell
	session string   // not empty: the request's session, by Bellhop's name for it
}

// replaces reports whether a line of that name does not survive the change.
func (c change) replaces(name string) bool {
	return slices.Contains(c.remove, name) || slices.ContainsFunc(c.set, func(h policy.Header) bool { return h.Name == name })
}

// fits reports whether Envoy will take the change for a request. With forward rules Envoy shows only some of the
// headers, so this can only be the nearest guess.
func (c change) fits(request []policy.Header) bool {
	if len(c.remove) > maxOperations || len(c.set) > maxOperations {
		return false
	}
	lines, bytes := len(c.set), 0
	for _, header := range c.set {
		bytes += size(header)
	}
	for _, header := range request {
		if !c.replaces(header.Name) {
			lines++
			bytes += size(header)
		}
	}
	return lines <= maxHeaders && bytes <= maxHeaderBytes
}

func size(header policy.Header) int { return len(header.Name) + header.Value.Len() }

// setBaggage writes the baggage that is left once Bellhop's member is out of it.
func (c *change) setBaggage(others string) {
	if others = valid(others); others == "" {
		c.remove = append(c.remove, policy.BaggageHeader)
		return
	}
	c.set = append(c.set, policy.Header{Name: policy.BaggageHeader, Value: policy.NewValue(others)})
}

// valid returns text where Envoy takes it as a header's value, else nothing.
func valid(text string) string {
	if !policy.ValidValue(text) {
		return ""
	}
	return text
}
