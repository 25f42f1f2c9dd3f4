package envoy

import (
	_ "embed"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// redirectScript is what the filter runs. An error in it must not let a Location pass: it removes the header first.
//
//go:embed redirect.lua
var redirectScript string

// redirectFilterName is the name of the filter that translates redirects.
func (r Role) redirectFilterName() string { return "bellhop." + string(r) + "_redirect" }

// Server is what the redirect filter has to know of the server of a route.
type server struct {
	name      string   // in words
	hint      string   // what to write in the configuration in place of what it says; URL, or ORIGIN, stands for what it says
	own       []string // the origins that it calls its own
	host      bool     // the request's own Host is one of them
	prefix    string   // what stands before its paths at this Envoy
	path      string   // the path outside of which it has no route; empty: none
	elsewhere []string // origins to which it may lead
}

// redirectFilter keeps responses from routing requests. It stands next to the router, so it sees a response first.
func (w *Writer) redirectFilter(path string, r Role) *hcmv3.HttpFilter {
	w.Note(
		path,
		"Responses must not route requests: a client that follows a Location takes its headers, or the fan-out its ticket,",
		"along. What a server says of itself leads through Envoy to the same server; what leads elsewhere becomes 502, with",
		"a line in Envoy's log and a count in http."+string(r)+".lua.bellhop_redirect.refused.",
	)
	config := &luav3.Lua{
		DefaultSourceCode: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: strings.ReplaceAll(redirectScript, "\n\n", "\n")},
		},
		StatPrefix:      "bellhop_redirect",
		ClearRouteCache: wrapperspb.Bool(false),
	}
	return &hcmv3.HttpFilter{
		Name:       r.redirectFilterName(),
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: w.Pack(config)},
	}
}

// redirectRoute tells the redirect filter whose responses come by a route.
func (w *Writer) redirectRoute(s server) *luav3.LuaPerRoute {
	return &luav3.LuaPerRoute{FilterContext: w.context(s)}
}

func (w *Writer) context(s server) *structpb.Struct {
	fields := map[string]any{"server": s.name}
	for key, value := range map[string]string{"hint": s.hint, "prefix": s.prefix, "path": s.path} {
		if value != "" {
			fields[key] = value
		}
	}
	for key, values := range map[string][]string{"own": s.own, "elsewhere": s.elsewhere} {
		if len(values) > 0 {
			list := make([]any, len(values))
			for i, value := range values {
				list[i] = value
			}
			fields[key] = list
		}
	}
	if s.host {
		fields["host"] = true
	}
	made, err := structpb.NewStruct(fields)
	if err != nil {
		w.Errs = append(w.Errs, err)
	}
	return made
}

// fanoutRedirects is what the redirect filter has to know of the fan-out.
func (w *bootstrapWriter) fanoutRedirects() server {
	known := server{
		name: "the fan-out", hint: "write --fanout ORIGIN, or --ingress-redirect ORIGIN to let clients go there",
		own: []string{w.fanout.origin()}, host: true,
	}
	for _, origin := range w.elsewhere {
		known.elsewhere = append(known.elsewhere, origin.origin())
	}
	return known
}

// origin is the target's scheme, host and port, each written out.
func (t Target) origin() string {
	scheme := "http"
	if t.Secure {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s", scheme, t.Place)
}
