package envoy

import (
	"encoding/json"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// refusal is an answer that Envoy gives by itself. Bellhop is not asked: no ticket is made or redeemed.
type refusal struct {
	route   string // the route's name, which stands in access logs
	status  uint32
	reason  string // stable, for programs
	message string // what is wrong, and how to mend it
}

// refuse answers what matches with a JSON-RPC error, as Bellhop's own errors are.
func (w *bootstrapWriter) refuse(r Role, match *routev3.RouteMatch, with refusal) *routev3.Route {
	return &routev3.Route{
		Name:  with.route,
		Match: match,
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: with.status,
			Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: w.errorBody(with)}},
		}},
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: "content-type", Value: "application/json"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
		TypedPerFilterConfig: map[string]*anypb.Any{r.FilterName(): w.Pack(
			&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Disabled{Disabled: true}},
		)},
	}
}

// errorBody is a JSON-RPC error. Its id is Bellhop's for a request whose own is not known (see processor/error.go).
func (w *bootstrapWriter) errorBody(of refusal) string {
	type data struct {
		Reason string `json:"reason"`
	}
	type body struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    data   `json:"data"`
	}
	text, err := json.Marshal(struct {
		Version string `json:"jsonrpc"`
		ID      string `json:"id"`
		Error   body   `json:"error"`
	}{"2.0", "bellhop", body{-32600, of.message, data{of.reason}}})
	if err != nil {
		w.Errs = append(w.Errs, err)
	}
	return string(text)
}

// anyPath matches every request.
func anyPath() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}
