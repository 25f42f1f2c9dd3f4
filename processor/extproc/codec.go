package extproc

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	protobuf "google.golang.org/protobuf/proto"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// codec reads the messages of a stream into the core's types and writes the core's answers, without protobuf's types in
// between (a sixth of a call's CPU). Every other message, and every kind of message that is rare, goes through
// protobuf.
type codec struct{ encoding.CodecV2 }

func newCodec() grpc.ServerOption {
	return grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)})
}

// Unmarshal implements [encoding.CodecV2].
func (c codec) Unmarshal(data mem.BufferSlice, into any) error {
	m, ok := into.(*message)
	if !ok {
		return c.CodecV2.Unmarshal(data, into)
	}
	raw := data.Materialize() // a copy: its texts become the request's
	if m.decode(raw) {
		return nil
	}
	full := &extprocv3.ProcessingRequest{}
	if err := protobuf.Unmarshal(raw, full); err != nil {
		return err
	}
	*m = readMessage(full)
	return nil
}

// Marshal implements [encoding.CodecV2].
func (c codec) Marshal(from any) (mem.BufferSlice, error) {
	r, ok := from.(*reply)
	if !ok {
		return c.CodecV2.Marshal(from)
	}
	if r.message != nil {
		return c.CodecV2.Marshal(r.message)
	}
	return mem.BufferSlice{mem.SliceBuffer(encodeAnswer(r.answer, r.skip))}, nil
}
