package extproc

import (
	"strings"
	"unicode/utf8"
	"unsafe"

	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"bellhop/policy"
)

// The fields of a ProcessingRequest with a request's headers
// (envoy/service/ext_proc/v3/external_processor.proto, envoy/config/core/v3/base.proto, google/protobuf/struct.proto).
const (
	requestHeadersField = 2  // ProcessingRequest: HttpHeaders
	attributesField     = 9  // ProcessingRequest: map<string, Struct>
	protocolConfigField = 11 // ProcessingRequest: ProtocolConfiguration

	headerMapField   = 1 // HttpHeaders: HeaderMap
	endOfStreamField = 3 // HttpHeaders: bool
	headersField     = 1 // HeaderMap: repeated HeaderValue

	headerKeyField   = 1 // HeaderValue: string
	headerValueField = 2 // HeaderValue: string
	headerRawField   = 3 // HeaderValue: bytes

	mapKeyField      = 1 // of a map's entry
	mapValueField    = 2
	structField      = 1 // Struct: map<string, Value>
	stringValueField = 3 // Value: string

	requestBodyModeField  = 1 // ProtocolConfiguration: BodySendMode
	responseBodyModeField = 2
)

// decode decodes the usual message, a request's headers. It returns false for every other message and for unexpected
// fields; protobuf then decodes it. The texts of the request are parts of raw.
func (m *message) decode(raw []byte) bool {
	*m = message{kind: requestHeaders}
	var seen [protocolConfigField + 1]bool
	whole := eachField(raw, func(number protowire.Number, content []byte) bool {
		if content == nil || number > protocolConfigField || seen[number] && number != attributesField {
			return false
		}
		seen[number] = true
		switch number {
		case requestHeadersField:
			return m.decodeHeaders(content)
		case attributesField:
			return m.decodeAttributes(content)
		case protocolConfigField:
			return m.decodeProtocolConfig(content)
		default:
			return false
		}
	})
	return whole && seen[requestHeadersField]
}

func (m *message) decodeHeaders(raw []byte) bool {
	maps := 0
	return eachField(raw, func(number protowire.Number, content []byte) bool {
		switch number {
		case headerMapField:
			maps++
			return maps == 1 && content != nil && m.decodeHeaderMap(content)
		case endOfStreamField:
			m.bodiless = content == nil
			return content == nil
		default:
			return false
		}
	})
}

func (m *message) decodeHeaderMap(raw []byte) bool {
	lines := 0
	counted := eachField(raw, func(number protowire.Number, content []byte) bool {
		lines++
		return number == headersField && content != nil
	})
	m.request.Headers = make([]policy.Header, 0, lines)
	return counted && eachField(raw, func(_ protowire.Number, content []byte) bool {
		var key, value, rawValue []byte
		whole := eachField(content, func(number protowire.Number, content []byte) bool {
			switch number {
			case headerKeyField:
				key = content
			case headerValueField:
				value = content
			case headerRawField:
				rawValue = content
			default:
				return false
			}
			return content != nil && (number == headerRawField || utf8.Valid(content))
		})
		if len(rawValue) == 0 {
			rawValue = value
		}
		name := strings.ToLower(textOf(key))
		m.request.Headers = append(m.request.Headers, policy.Header{Name: name, Value: policy.NewValue(textOf(rawValue))})
		return whole
	})
}

// decodeAttributes finds the cluster's name among the attributes of one filter.
func (m *message) decodeAttributes(raw []byte) bool {
	return eachEntry(raw, func(_, fields []byte) bool {
		return eachField(fields, func(number protowire.Number, field []byte) bool {
			if number != structField || field == nil {
				return false
			}
			return eachEntry(field, func(key, value []byte) bool {
				return eachField(value, func(number protowire.Number, text []byte) bool {
					if textOf(key) == clusterAttribute {
						m.request.Cluster = textOf(text)
					}
					return number == stringValueField && text != nil && utf8.Valid(text)
				})
			})
		})
	})
}

func (m *message) decodeProtocolConfig(raw []byte) bool {
	m.configured = true
	modes := [2]extprocfilterv3.ProcessingMode_BodySendMode{}
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 || kind != protowire.VarintType || number > responseBodyModeField {
			return false
		}
		mode, v := protowire.ConsumeVarint(raw[n:])
		if v < 0 {
			return false
		}
		modes[number-requestBodyModeField] = extprocfilterv3.ProcessingMode_BodySendMode(mode) //nolint:gosec // an enum
		raw = raw[n+v:]
	}
	m.bodies = bodiesOf(modes[0], modes[1])
	return true
}

// eachField calls visit with each field of a message: with its content, or nil for a number. It is false where the
// message is malformed, or where visit is.
func eachField(raw []byte, visit func(number protowire.Number, content []byte) bool) bool {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return false
		}
		raw = raw[n:]
		var content []byte
		switch kind {
		case protowire.BytesType:
			content, n = protowire.ConsumeBytes(raw)
			if content == nil {
				content = []byte{}
			}
		case protowire.VarintType:
			var value uint64
			if value, n = protowire.ConsumeVarint(raw); value == 0 {
				return false // the default of a number is not written
			}
		default:
			return false
		}
		if n < 0 || !visit(number, content) {
			return false
		}
		raw = raw[n:]
	}
	return true
}

// eachEntry calls visit with the key and the value of the one entry of a map that a field holds.
func eachEntry(raw []byte, visit func(key, value []byte) bool) bool {
	var key, value []byte
	whole := eachField(raw, func(number protowire.Number, content []byte) bool {
		switch {
		case number == mapKeyField && key == nil && utf8.Valid(content):
			key = content
		case number == mapValueField && value == nil:
			value = content
		default:
			return false
		}
		return content != nil
	})
	return whole && visit(key, value)
}

// textOf returns a part of a message as a string, without a copy: the message is never written to.
func textOf(content []byte) string {
	return unsafe.String(unsafe.SliceData(content), len(content)) //nolint:gosec // G103: decode owns the bytes
}
