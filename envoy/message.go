package envoy

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Writer builds the messages and collects the comments on them. A method that takes a path is told where in the
// document its message will stand, so that a comment is written beside the field that it explains.
type Writer struct {
	Processing
	Notes
	Errs OptionErrors
}

// NewWriter makes a writer of filters.
func NewWriter(p Processing) *Writer { return &Writer{Processing: p, Notes: make(Notes)} }

// message is a message of Envoy's API, which can validate itself.
type message interface {
	proto.Message
	ValidateAll() error
}

// Pack checks a message and wraps it, so that it can stand where Envoy takes any message.
func (w *Writer) Pack(m message) *anypb.Any {
	w.check(m)
	wrapped := &anypb.Any{}
	// By itself a map has its keys in any order, and so the bytes of one message are not always the same.
	if err := anypb.MarshalFrom(wrapped, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		w.Errs = append(w.Errs, err)
	}
	return wrapped
}

// check checks a message by its own rules. They end at wrapped messages, which pack has checked.
func (w *Writer) check(m message) {
	if err := m.ValidateAll(); err != nil {
		w.Errs = append(w.Errs, err)
	}
}
