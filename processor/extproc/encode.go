package extproc

import (
	"google.golang.org/protobuf/encoding/protowire"

	"bellhop/policy"
	"bellhop/processor"
)

// The fields of a ProcessingResponse that changes a request's headers
// (envoy/service/ext_proc/v3/external_processor.proto, envoy/config/core/v3/base.proto).
const (
	answerHeadersField   = 1 // ProcessingResponse: HeadersResponse
	commonField          = 1 // HeadersResponse: CommonResponse
	mutationField        = 2 // CommonResponse: HeaderMutation
	setHeadersField      = 1 // HeaderMutation: repeated HeaderValueOption
	removeHeadersField   = 2 // HeaderMutation: repeated string
	optionHeaderField    = 1 // HeaderValueOption: HeaderValue
	optionAppendField    = 2 // HeaderValueOption: BoolValue
	boolValueField       = 1 // BoolValue: bool
	dynamicMetadataField = 8 // ProcessingResponse: google.protobuf.Struct
	modeOverrideField    = 9 // ProcessingResponse: ProcessingMode
	responseModeField    = 2 // ProcessingMode: HeaderSendMode; SKIP is 2
	structFieldsField    = 1 // Struct: map<string, Value>
	valueStringField     = 3 // Value: string
	valueStructField     = 5 // Value: Struct
	sizeOfNestedLengths  = 24
)

// skipField is a ProcessingMode that declines the request's body, as the field of an answer, on the wire. It is exactly
// one of allowed_override_modes: Envoy compares it as a whole, and ignores silently what differs.
const skipField = string(rune(modeOverrideField<<3|2)) + "\x02" + string(rune(responseModeField<<3)) + "\x02"

// encodeAnswer writes what [replyRequest] builds from an answer that needs no response; with skip also that the
// request's body is not needed, though Envoy offers it.
func encodeAnswer(answer processor.Answer, skip bool) []byte {
	size := mutationSize(answer)
	session := newSessionSize(answer.Session)
	common := sizeOf(mutationField, size)
	headers := sizeOf(commonField, common)
	out := make([]byte, 0, headers+session.message+sizeOfNestedLengths)
	out = appendHead(out, answerHeadersField, headers)
	out = appendHead(out, commonField, common)
	out = appendHead(out, mutationField, size)
	previous := ""
	for i := range answer.Set {
		out = appendLine(out, &answer.Set[i], answer.Set[i].Name == previous)
		previous = answer.Set[i].Name
	}
	for _, name := range answer.Remove {
		out = appendText(out, removeHeadersField, name)
	}
	if answer.Session != "" {
		out = session.append(out, answer.Session)
	}
	if skip {
		out = append(out, skipField...)
	}
	return out
}

// sessionSize holds the sizes of the messages of [sessionMetadata], from the outermost to the innermost.
type sessionSize struct{ message, entry, namespace, fields, field, value int }

func newSessionSize(name string) sessionSize {
	if name == "" {
		return sessionSize{}
	}
	var s sessionSize
	s.value = sizeOf(valueStringField, len(name))
	s.field = sizeOf(mapKeyField, len(sessionField)) + sizeOf(mapValueField, s.value)
	s.fields = sizeOf(structFieldsField, s.field)
	s.namespace = sizeOf(valueStructField, s.fields)
	s.entry = sizeOf(mapKeyField, len(metadataNamespace)) + sizeOf(mapValueField, s.namespace)
	s.message = sizeOf(structFieldsField, s.entry)
	return s
}

func (s sessionSize) append(out []byte, name string) []byte {
	out = appendHead(out, dynamicMetadataField, s.message)
	out = appendHead(out, structFieldsField, s.entry)
	out = appendText(out, mapKeyField, metadataNamespace)
	out = appendHead(out, mapValueField, s.namespace)
	out = appendHead(out, valueStructField, s.fields)
	out = appendHead(out, structFieldsField, s.field)
	out = appendText(out, mapKeyField, sessionField)
	out = appendHead(out, mapValueField, s.value)
	return appendText(out, valueStringField, name)
}

func mutationSize(answer processor.Answer) int {
	size := 0
	previous := ""
	for i := range answer.Set {
		option, _ := lineSize(&answer.Set[i], answer.Set[i].Name == previous)
		size += sizeOf(setHeadersField, option)
		previous = answer.Set[i].Name
	}
	for _, name := range answer.Remove {
		size += sizeOf(removeHeadersField, len(name))
	}
	return size
}

// trueField is a BoolValue that is true, as the field of an option, on the wire.
const trueField = string(rune(optionAppendField<<3|2)) + "\x02" + string(rune(boolValueField<<3)) + "\x01"

// lineSize is the size of an option, and of the HeaderValue in it.
func lineSize(line *policy.Header, another bool) (option, header int) {
	if len(line.Name) > 0 {
		header += sizeOf(headerKeyField, len(line.Name))
	}
	if line.Value.Len() > 0 {
		header += sizeOf(headerRawField, line.Value.Len())
	}
	option = sizeOf(optionHeaderField, header)
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
		out = appendText(out, headerKeyField, line.Name)
	}
	if line.Value.Len() > 0 {
		out = appendText(out, headerRawField, line.Value.Reveal())
	}
	if another {
		out = append(out, trueField...)
	}
	return out
}

// sizeOf is the size of a text or a nested message of size bytes, with its head.
func sizeOf(number protowire.Number, size int) int {
	return protowire.SizeTag(number) + protowire.SizeBytes(size)
}

func appendText(out []byte, number protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(out, number, protowire.BytesType), text)
}

// appendHead begins a nested message of that size.
func appendHead(out []byte, number protowire.Number, size int) []byte {
	out = protowire.AppendTag(out, number, protowire.BytesType)
	return protowire.AppendVarint(out, uint64(size)) //nolint:gosec // a length
}
