package envoy

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// writer builds the messages and collects the comments on them. A method that takes a path is told where in the
// document its message will stand, so that a comment is written beside the field that it explains.
type writer struct {
	processing
	notes
	errs   optionErrors
}

func newWriter(p processing) *writer { return &writer{processing: p, notes: make(notes)} }

// message is a message of Envoy's API: it can tell whether it keeps that API's rules.
type message interface {
	proto.Message
	ValidateAll() error
}

// pack checks a message and wraps it, so that it can stand where Envoy takes any message.
func (w *writer) pack(m message) *anypb.Any {
	w.check(m)
	wrapped, err := anypb.New(m)
	if err != nil {
		w.errs = append(w.errs, err)
	}
	return wrapped
}

// check checks a message by its own rules. They end at wrapped messages, which pack has checked.
func (w *writer) check(m message) {
	if err := m.ValidateAll(); err != nil {
		w.errs = append(w.errs, err)
	}
}
