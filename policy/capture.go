package policy

import (
	"fmt"
	"slices"
)

// Capture is the headers taken off one client request: in the policy's order, the lines of one name in the client's.
type Capture []Header

// Reason says which limit a client's request broke. Its text is stable: metrics and clients may rely on it.
type Reason string

const (
	// ReasonByte is a byte that HTTP does not allow in a header value.
	ReasonByte Reason = "control_byte"
	// ReasonValue is a value longer than limits.value_bytes.
	ReasonValue Reason = "value_too_long"
	// ReasonCount is more header lines than limits.headers.
	ReasonCount Reason = "too_many_headers"
	// ReasonTotal is more bytes of names and values than limits.total_bytes.
	ReasonTotal Reason = "total_too_long"
)

// Rejection is a client's request that breaks a limit. It names the header, never its value.
type Rejection struct {
	Header string
	Reason Reason
	Limit  int // lines or bytes; 0 where the reason has none
}

// Error implements error with a text that is fit for the client.
func (r *Rejection) Error() string {
	switch r.Reason {
	case ReasonByte:
		return fmt.Sprintf("header %s holds a control character, which HTTP does not allow; remove it and send the request again", r.Header)
	case ReasonValue:
		return fmt.Sprintf("header %s is longer than the %d bytes allowed; send a shorter value", r.Header, r.Limit)
	case ReasonCount:
		return fmt.Sprintf("header %s is one line more than the %d allowed; send fewer headers", r.Header, r.Limit)
	case ReasonTotal:
		return fmt.Sprintf("header %s takes the headers above the %d bytes allowed in all; send shorter values", r.Header, r.Limit)
	default:
		return fmt.Sprintf("header %s is not allowed", r.Header)
	}
}

// Capture takes off a client's request the headers that the policy carries. A broken limit rejects the request as
// a whole; nothing is cut to fit.
func (p *Policy) Capture(request []Header) (Capture, *Rejection) {
	hopByHop := nominated(request)
	var capture Capture
	for _, header := range request {
		if _, carried := p.index[header.Name]; !carried || hopByHop[header.Name] {
			continue
		}
		capture = append(capture, Header{Name: header.Name, Value: NewValue(trimOuter(header.Value.Reveal()))})
	}
	if rejection := p.exceeds(capture); rejection != nil {
		return nil, rejection
	}
	slices.SortStableFunc(capture, func(a, b Header) int { return p.index[a.Name] - p.index[b.Name] })
	return capture, nil
}

func (p *Policy) exceeds(capture Capture) *Rejection {
	limits, total := p.doc.Limits, 0
	for i, header := range capture {
		total += len(header.Name) + header.Value.Len()
		switch {
		case !ValidValue(header.Value.Reveal()):
			return &Rejection{Header: header.Name, Reason: ReasonByte}
		case header.Value.Len() > limits.ValueBytes:
			return &Rejection{Header: header.Name, Reason: ReasonValue, Limit: limits.ValueBytes}
		case i >= limits.Headers:
			return &Rejection{Header: header.Name, Reason: ReasonCount, Limit: limits.Headers}
		case total > limits.TotalBytes:
			return &Rejection{Header: header.Name, Reason: ReasonTotal, Limit: limits.TotalBytes}
		}
	}
	return nil
}

// Hidden returns the names that the fan-out must not see. They are removed from every client request, present or
// not: what was not seen must not slip through either. The slice is shared: do not change it.
func (p *Policy) Hidden() []string { return p.hidden }
