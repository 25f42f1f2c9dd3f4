package processor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

// JSON-RPC 2.0 error codes (https://www.jsonrpc.org/specification#error_object).
const (
	codeInvalidRequest = -32600
	codeInternalError  = -32603
)

// The stable reasons of errors, beside those of [policy.Reason].
const (
	reasonNotShown = "headers_not_shown"
	reasonTooMany  = "too_many_to_remove"
	reasonNoRoom   = "no_room_for_ticket"
	reasonSealed   = "too_large_to_seal"
	reasonStore    = "store_unavailable"
	reasonIdentity = "identity_unavailable"
	reasonSession  = "repeated_session"
	reasonTooLarge = "body_too_large"
	reasonTimeout  = "body_timeout"
	reasonBusy     = "too_many_bodies"
	reasonCeiling  = "above_ceiling"
)

// Error is an HTTP error response with a JSON-RPC body. Its texts consist of fixed words, header names and limits, so
// they contain no values.
type Error struct {
	Status  int             // HTTP
	Reason  string          // stable, for machines and metrics
	Header  string          // the header it is about, or empty
	Message string          // for the client, with what to do
	Headers []policy.Header // further headers of the response, for a client that asked for an explanation
	ID      json.RawMessage // of the client's JSON-RPC request: a string or a number; nil: not known
	code    int             // JSON-RPC
}

// unknownID is the id in the body if the request's own is not known. JSON-RPC 2.0 asks for null then, but the
// official Go SDK (1.8.0, measured) drops an error with null and closes the session; with any other id it hands the
// message to the caller and the session lives on.
const unknownID = `"bellhop"`

type rpcError struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Error   rpcBody         `json:"error"`
}

type rpcBody struct {
	Code    int     `json:"code"`
	Message string  `json:"message"`
	Data    rpcData `json:"data"`
}

type rpcData struct {
	Reason string `json:"reason"`
	Header string `json:"header,omitempty"`
}

// Body is the JSON-RPC error.
func (e *Error) Body() []byte {
	id := e.ID
	if id == nil {
		id = json.RawMessage(unknownID)
	}
	body, _ := json.Marshal(rpcError{Version: "2.0", ID: id, Error: rpcBody{
		Code: e.code, Message: e.Message, Data: rpcData{Reason: e.Reason, Header: e.Header},
	}}) // strings and numbers: cannot fail
	return body
}

// withID is the error as the answer to the client's JSON-RPC request of that ID.
func (e *Error) withID(id json.RawMessage) *Error {
	answer := *e
	answer.ID = id
	return &answer
}

// rejected is the error of a request that violates the policy.
func rejected(rejection *policy.Rejection) *Error {
	status := http.StatusBadRequest
	switch rejection.Reason {
	case policy.ReasonValue, policy.ReasonCount, policy.ReasonTotal:
		status = http.StatusRequestHeaderFieldsTooLarge
	case policy.ReasonConflict:
		status = http.StatusConflict
	case policy.ReasonOperation:
		if rejection.Why == policy.UnreadableHidden { // the operator's to mend, not the client's
			status = http.StatusInternalServerError
		}
	case policy.ReasonSession: // to which clients begin a new one (MCP 2025-11-25, Streamable HTTP, session management)
		status = http.StatusNotFound
	case policy.ReasonNoRoom:
		status = http.StatusRequestHeaderFieldsTooLarge
	default:
	}
	return &Error{
		Status: status, code: codeInvalidRequest, Reason: string(rejection.Reason), Header: rejection.Header,
		Message: rejection.Error(),
	}
}

// repeatedSession is the error of a client's request with several session IDs: none of them can be trusted to be the
// one that the fan-out reads.
func repeatedSession() *Error {
	return &Error{
		Status: http.StatusBadRequest, code: codeInvalidRequest, Reason: reasonSession, Header: policy.SessionHeader,
		Message: "the request has several " + policy.SessionHeader + " headers; send one",
	}
}

// severalSessions is the error of a response with several session IDs.
func severalSessions() *Error {
	return &Error{
		Status: http.StatusBadGateway, code: codeInternalError, Reason: reasonSession, Header: policy.SessionHeader,
		Message: "the gateway's response has several " + policy.SessionHeader + " headers, so that the session cannot begin",
	}
}

// noRoomForTicket is the error of a client's request that leaves no room for the ticket.
func noRoomForTicket() *Error {
	return &Error{
		Status: http.StatusRequestHeaderFieldsTooLarge, code: codeInvalidRequest,
		Reason: reasonNoRoom, Header: policy.TicketHeader,
		Message: "the request's headers leave no room for " + policy.TicketHeader + "; send fewer or shorter headers",
	}
}

// tooLargeToSeal is the error of a client's request whose headers do not fit into a sealed ticket.
func tooLargeToSeal(err error) *Error {
	limit := 0
	if tooLong, ok := errors.AsType[*ticket.TooLongError](err); ok {
		limit = tooLong.Limit
	}
	return &Error{
		Status: http.StatusRequestHeaderFieldsTooLarge, code: codeInvalidRequest, Reason: reasonSealed,
		Message: fmt.Sprintf(
			"the headers to be carried are too long: encrypted, they have to fit into %d bytes; send fewer or shorter ones",
			limit,
		),
	}
}

// tooManyToRemove is the error of a request to a backend from which more has to be removed than Envoy allows.
func tooManyToRemove() *Error {
	return &Error{
		Status: http.StatusRequestHeaderFieldsTooLarge, code: codeInvalidRequest, Reason: reasonTooMany,
		Message: "the request to the backend has too many headers to remove; let the gateway send fewer",
	}
}

// storeFailed is the error of a request whose capture cannot be written or read.
func storeFailed() *Error {
	return &Error{
		Status: http.StatusServiceUnavailable, code: codeInternalError, Reason: reasonStore,
		Message: "the headers of this request cannot be carried right now; try again",
	}
}

// identityUnavailable is the error of a discovery request to a backend whose discovery identity cannot be read.
func identityUnavailable() *Error {
	return &Error{
		Status: http.StatusServiceUnavailable, code: codeInternalError, Reason: reasonIdentity,
		Message: "the discovery identity of this backend cannot be read right now; " +
			"its operator has to make its file readable",
	}
}

// headersNotShown is the error of a filter that does not show the headers of requests.
func headersNotShown() *Error {
	return &Error{
		Status: http.StatusInternalServerError, code: codeInternalError, Reason: reasonNotShown,
		Message: "the proxy does not show this request's headers to Bellhop; " +
			"its operator has to set request_header_mode to SEND",
	}
}

// bodyTooLarge is the error of a request to a backend whose body is too long to be read.
func bodyTooLarge(limit int) *Error {
	return &Error{
		Status: http.StatusRequestEntityTooLarge, code: codeInvalidRequest, Reason: reasonTooLarge,
		Message: fmt.Sprintf(
			"the policy has rules for tools or a discovery identity for this backend, so the request's body has to be read, "+
				"and it is longer than the %d bytes of limits.body_bytes", limit,
		),
	}
}

// tooManyBodies is the error of a request to a backend whose body has to be read, while too many others wait for
// theirs.
func tooManyBodies() *Error {
	return &Error{
		Status: http.StatusServiceUnavailable, code: codeInternalError, Reason: reasonBusy,
		Message: "too many requests wait for their bodies right now; try again",
	}
}

// bodyTimeout is the error of a request to a backend whose body does not come.
func bodyTimeout() *Error {
	return &Error{
		Status: http.StatusRequestTimeout, code: codeInvalidRequest, Reason: reasonTimeout,
		Message: "the request's body has to be read, and did not come whole in time; send it faster",
	}
}

// policyWithdrawn is the error of every request of a fan-out whose policy is above its ceiling.
func policyWithdrawn() *Error {
	return &Error{
		Status: http.StatusServiceUnavailable, code: codeInternalError, Reason: reasonCeiling,
		Message: "the policy for this gateway is above the ceiling that its operator has set; its owner has to change it",
	}
}
