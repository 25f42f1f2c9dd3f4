package processor

import (
	"fmt"
	"net/http"

	"bellhop/policy"
)

// JSON-RPC 2.0 error codes (https://www.jsonrpc.org/specification#error_object).
const (
	codeInvalidRequest = -32600
	codeInternalError  = -32603
)

// problem ends a client's request with an error. Its texts are fixed or made of header names and limits, so nothing
// of a value can be in them.
type problem struct {
	status  int    // HTTP
	code    int    // JSON-RPC
	reason  string // stable, for machines and metrics
	header  string // the header it is about, or empty
	message string
	view    []policy.Header // for a client that asked
}

// rejected is the problem of a request that breaks a limit of the policy.
func rejected(rejection *policy.Rejection) *problem {
	status := http.StatusBadRequest
	switch rejection.Reason {
	case policy.ReasonValue, policy.ReasonCount, policy.ReasonTotal:
		status = http.StatusRequestHeaderFieldsTooLarge
	case policy.ReasonConflict:
		status = http.StatusConflict
	default:
	}
	return &problem{status: status, code: codeInvalidRequest, reason: string(rejection.Reason), header: rejection.Header, message: rejection.Error()}
}

// tooLarge is the problem of a client's request that has no room for the ticket.
func tooLarge() *problem {
	return &problem{
		status: http.StatusRequestHeaderFieldsTooLarge, code: codeInvalidRequest, reason: reasonNoRoom, header: policy.TicketHeader,
		message: "the request's headers leave no room for " + policy.TicketHeader + "; send fewer or shorter headers",
	}
}

// tooLargeToSeal is the problem of a client's request whose headers do not fit into a sealed ticket.
func tooLargeToSeal(most int) *problem {
	return &problem{
		status: http.StatusRequestHeaderFieldsTooLarge, code: codeInvalidRequest, reason: reasonSealed,
		message: fmt.Sprintf("the headers to be carried are too long: encrypted, they have to fit into %d bytes; send fewer or shorter ones", most),
	}
}

// tooMany is the problem of a backend's request of which Bellhop has to take off more than Envoy lets it.
func tooMany() *problem {
	return &problem{
		status: http.StatusRequestHeaderFieldsTooLarge, code: codeInvalidRequest, reason: reasonTooMany,
		message: "the request to the backend has too many headers to take off; let the gateway send fewer",
	}
}

// storeFailed is the problem of a request whose capture cannot be written or read.
func storeFailed() *problem {
	return &problem{
		status: http.StatusServiceUnavailable, code: codeInternalError, reason: reasonStore,
		message: "the headers of this request cannot be carried right now; try again",
	}
}

// identityUnread is the problem of a request that no client caused, to a backend whose own identity cannot be read.
func identityUnread() *problem {
	return &problem{
		status: http.StatusServiceUnavailable, code: codeInternalError, reason: reasonIdentity,
		message: "the discovery identity of this backend cannot be read right now; its operator has to make its file readable",
	}
}

// headersNotShown is the problem of a filter that is configured not to show the headers of requests.
func headersNotShown() *problem {
	return &problem{
		status: http.StatusInternalServerError, code: codeInternalError, reason: reasonNotShown,
		message: "the proxy does not show this request's headers to Bellhop; its operator has to set request_header_mode to SEND",
	}
}

const (
	reasonNotShown = "headers_not_shown"
	reasonTooMany  = "too_many_to_remove"
	reasonNoRoom   = "no_room_for_ticket"
	reasonSealed   = "too_large_to_seal"
	reasonStore    = "store_unavailable"
	reasonIdentity = "identity_unavailable"
)

// errorID stands in the error's id where the request's own is not known: it is in the body, which Bellhop does not
// read. JSON-RPC 2.0 asks for null then, but the official Go SDK (1.8.0, measured) drops an error with null and closes the session; with any
// other id it hands the message to the caller and the session lives on.
const errorID = "bellhop"

type rpcError struct {
	Version string  `json:"jsonrpc"`
	ID      any     `json:"id"`
	Error   rpcBody `json:"error"`
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

func (p *problem) body(id any) rpcError {
	if id == nil {
		id = errorID
	}
	return rpcError{Version: "2.0", ID: id, Error: rpcBody{Code: p.code, Message: p.message, Data: rpcData{Reason: p.reason, Header: p.header}}}
}
