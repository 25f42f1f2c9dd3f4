package envoytest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// Envoy's limits for a mutation and for what it makes of a request, with an unchanged connection manager.
const (
	maxOperations = 100 // of one kind
	maxHeaders    = 100
	maxBytes      = 60 << 10
)

// Apply makes of a request's header lines what Envoy 1.40 makes of them with an answer: removes first, then sets in
// their order; append unset replaces, append true adds a line; append_action is ignored. An error says why Envoy would
// answer 500 instead. The answer to a body, where there is one, is applied after that to the headers.
func Apply(lines []string, answer *extprocv3.ProcessingResponse) ([]string, error) {
	var mutation *extprocv3.HeaderMutation
	switch kind := answer.GetResponse().(type) {
	case *extprocv3.ProcessingResponse_RequestHeaders:
		mutation = kind.RequestHeaders.GetResponse().GetHeaderMutation()
	case *extprocv3.ProcessingResponse_RequestBody:
		mutation = kind.RequestBody.GetResponse().GetHeaderMutation()
	default:
		return nil, fmt.Errorf("the answer is a %T, not one to request headers or to a body", answer.GetResponse())
	}
	if len(mutation.GetSetHeaders()) > maxOperations || len(mutation.GetRemoveHeaders()) > maxOperations {
		return nil, fmt.Errorf("more than %d operations of one kind", maxOperations)
	}
	result := slices.Clone(lines)
	for _, name := range mutation.GetRemoveHeaders() {
		if strings.ContainsAny(name, " \n\r\x00") {
			return nil, fmt.Errorf("remove of the invalid name %q", name)
		}
		result = without(result, name)
	}
	for _, option := range mutation.GetSetHeaders() {
		if err := valid(option.GetHeader()); err != nil {
			return nil, err
		}
		name := strings.ToLower(option.GetHeader().GetKey())
		if !option.GetAppend().GetValue() { //nolint:staticcheck // the field that Envoy's ext_proc reads
			result = without(result, name)
		}
		result = append(result, name+": "+string(option.GetHeader().GetRawValue()))
	}
	if len(result) > maxHeaders || size(result) > maxBytes {
		return nil, fmt.Errorf("%d headers of %d bytes are more than the %d of %d bytes allowed",
			len(result), size(result), maxHeaders, maxBytes)
	}
	return result, nil
}

// valid returns why Envoy would refuse, or misread, a header that is set.
func valid(header *corev3.HeaderValue) error {
	control := func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }
	switch {
	case header.GetKey() == "":
		return errors.New("a header without a name becomes a malformed line")
	case header.GetValue() != "":
		return fmt.Errorf("%s: value is ignored; only raw_value is read", header.GetKey())
	case strings.ContainsAny(header.GetKey(), " :/\"\t\n\r\x00"):
		return fmt.Errorf("%q is not a header name", header.GetKey())
	case strings.ContainsFunc(string(header.GetRawValue()), control):
		return fmt.Errorf("%s: a control character in the value", header.GetKey())
	}
	return nil
}

func without(lines []string, name string) []string {
	prefix := strings.ToLower(name) + ": "
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasPrefix(line, prefix) })
}

func size(lines []string) int {
	bytes := 0
	for _, line := range lines {
		bytes += len(line) - len(": ")
	}
	return bytes
}
