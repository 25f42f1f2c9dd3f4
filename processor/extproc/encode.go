package extproc

import (
	"google.golang.org/protobuf/encoding/protowire"

	"bellhop/policy"
	"bellhop/processor"
)

// The fields of a ProcessingResponse that changes a request's headers
// (envoy/service/ext_proc/v3/external_processor.proto, envoy/config/core/v3/base.proto).
const (
	answerHeadersField  = 1 // ProcessingResponse: HeadersResponse
	commonField         = 1 // HeadersResponse: CommonResponse
	mutationField       = 2 // CommonResponse: HeaderMutation
	setHeadersField     = 1 // HeaderMutation: repeated HeaderValueOption
	removeHeadersField  = 2 // HeaderMutation: repeated string
	optionHeaderField   = 1 // HeaderValueOption: HeaderValue
	optionAppendField   = 2 // HeaderValueOption: BoolValue
	boolValueField      = 1 // BoolValue: bool
	sizeOfNestedLengths = 24
)

// encodeAnswer writes what [replyRequest] makes of an answer that needs no response and has no session.
func encodeAnswer(answer processor.Answer) []byte {
	size := mutationSize(answer)
	common := protowire.SizeTag(mutationField) + protowire.SizeBytes(size)
	headers := protowire.SizeTag(commonField) + protowire.SizeBytes(common)
	out := make([]byte, 0, headers+sizeOfNestedLengths)
	out = appendHead(out, answerHeadersField, headers)
	out = appendHead(out, commonField, common)
	out = appendHead(out, mutationField, size)
	previous := ""
	for i := range answer.Set {
		out = appendLine(out, &answer.Set[i], answer.Set[i].Name == previous)
		previous = answer.Set[i].Name
	}
	for _, name := range answer.Remove {
		out = protowire.AppendTag(out, removeHeadersField, protowire.BytesType)
		out = protowire.AppendString(out, name)
	}
	return out
}

func mutationSize(answer processor.Answer) int {
	size := 0
	previous := ""
	for i := range answer.Set {
		option, _ := lineSize(&answer.Set[i], answer.Set[i].Name == previous)
		size += protowire.SizeTag(setHeadersField) + protowire.SizeBytes(option)
		previous = answer.Set[i].Name
	}
	for _, name := range answer.Remove {
		size += protowire.SizeTag(removeHeadersField) + protowire.SizeBytes(len(name))
	}
	return size
}

// trueField is a BoolValue that is true, as the field of an option, on the wire.
const trueField = string(rune(optionAppendField<<3|2)) + "\x02" + string(rune(boolValueField<<3)) + "\x01"

// lineSize is the size of an option, and of the HeaderValue in it.
func lineSize(line *policy.Header, another bool) (option, header int) {
	if len(line.Name) > 0 {
		header += protowire.SizeTag(headerKeyField) + protowire.SizeBytes(len(line.Name))
	}
	if line.Value.Len() > 0 {
		header += protowire.SizeTag(headerRawField) + protowire.SizeBytes(line.Value.Len())
	}
	option = protowire.SizeTag(optionHeaderField) + protowire.SizeBytes(header)
	if another {
		option += len(trueField)
	}
	return option, header
}

func appendLine(out []byte, line *policy.Header, another bool) []byte {
	option, header := lineSize(line, another)
	out = appendHead(out, setHeadersField, option)
	out = appendHead(out, optionHeaderField, header)
	if len(line.Name) > 0 {
		out = protowire.AppendTag(out, headerKeyField, protowire.BytesType)
		out = protowire.AppendString(out, line.Name)
	}
	if line.Value.Len() > 0 {
		out = protowire.AppendTag(out, headerRawField, protowire.BytesType)
		out = protowire.AppendString(out, line.Value.Reveal())
	}
	if another {
		out = append(out, trueField...)
	}
	return out
}

// appendHead begins a nested message of that size.
func appendHead(out []byte, number protowire.Number, size int) []byte {
	out = protowire.AppendTag(out, number, protowire.BytesType)
	return protowire.AppendVarint(out, uint64(size)) //nolint:gosec // a length
}
