package envoy

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// redirectScript is what the filter runs, behind a line that says what it knows. After an error in it Envoy passes the
// response on as it is by then, so the script takes the Location off before anything else.
//
//go:embed redirect.lua
var redirectScript string

// requestScript is what the filter does with requests, where it has to know of them. It costs more than all else.
//
//go:embed redirect_request.lua
var requestScript string

// RedirectFilterName is the name of the filter that translates redirects.
func (r Role) RedirectFilterName() string { return "bellhop." + string(r) + "_redirect" }

// Server is what the redirect filter has to know of the server of a route.
type Server struct {
	Name      string   // in words; empty: by its host
	Hint      string   // what to write in the configuration to have what it says; URL, or ORIGIN, stands for that
	Own       []string // the origins that it calls its own
	Host      bool     // the request's own Host is one of them
	Prefix    string   // what stands before its paths at this Envoy
	Exact     bool     // the route is for the prefix alone, which stands for the path /
	Path      string   // its own path, outside of which is nothing of it; empty: everything is
	Elsewhere []string // origins to which it may lead
	Events    bool     // its event streams may be those of MCP's old transport, which name a path for requests
}

// Judge says what the redirect filter knows of servers whose routes say nothing.
type Judge struct {
	Server string // in words; empty: by its host
	Host   bool   // the request's own Host is the server's, and its paths are at this Envoy as they are at the server
	Guard  bool   // answer 404 outside of the path that the route says: the routes themselves do not
	Hosts  bool   // a route may say that the request's own Host is the server's
}

// line is the judge as the script reads it.
func (j Judge) line() string {
	var fields []string
	if j.Server != "" {
		fields = append(fields, "server = "+strconv.Quote(j.Server))
	}
	for _, one := range []struct {
		name string
		set  bool
	}{{"host", j.Host}, {"guard", j.Guard}} {
		if one.set {
			fields = append(fields, one.name+" = true")
		}
	}
	return "local known = {" + strings.Join(fields, ", ") + "}\n"
}

// RedirectFilter keeps responses from routing requests. It stands next to the router, so it sees a response first.
func (w *Writer) RedirectFilter(path string, r Role, judge Judge) *hcmv3.HttpFilter {
	w.Note(
		path,
		"Responses must not route requests: a client that follows a Location takes its headers, or the fan-out its ticket,",
		"along. What a server says of itself leads through Envoy to the same server; what leads elsewhere becomes 502, with",
		"a line in Envoy's log and a count in http.*.lua.bellhop.redirect.refused.",
	)
	script := judge.line() + redirectScript
	if judge.Host || judge.Guard || judge.Hosts {
		script += requestScript
	}
	script = strings.ReplaceAll(script, "\n\n", "\n")
	return &hcmv3.HttpFilter{
		Name: r.RedirectFilterName(),
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: w.Pack(&luav3.Lua{
			DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: script}},
			StatPrefix:        "bellhop.redirect",
		})},
	}
}

// RedirectRoute tells the redirect filter whose responses come by a route.
func (w *Writer) RedirectRoute(s Server) *anypb.Any {
	fields := map[string]any{}
	for key, value := range map[string]string{"server": s.Name, "hint": s.Hint, "prefix": s.Prefix, "path": s.Path} {
		if value != "" {
			fields[key] = value
		}
	}
	for key, values := range map[string][]string{"own": s.Own, "elsewhere": s.Elsewhere} {
		var list []any
		for _, value := range values {
			list = append(list, value)
		}
		if list != nil {
			fields[key] = list
		}
	}
	for key, set := range map[string]bool{"host": s.Host, "exact": s.Exact, "events": s.Events} {
		if set {
			fields[key] = true
		}
	}
	made, err := structpb.NewStruct(fields)
	if err != nil {
		w.Errs = append(w.Errs, err)
	}
	return w.Pack(&luav3.LuaPerRoute{FilterContext: made})
}

// ofFanout is what the redirect filter has to know of the fan-out.
func (w *bootstrapWriter) ofFanout() Server {
	known := Server{
		Name: "the fan-out", Hint: "write --fanout ORIGIN, or --ingress-redirect ORIGIN to let clients go there",
		Own: []string{w.fanout.Origin()}, Host: true,
	}
	for _, origin := range w.elsewhere {
		known.Elsewhere = append(known.Elsewhere, origin.Origin())
	}
	return known
}

// ofBackend is what the redirect filter has to know of a backend.
func ofBackend(b Backend) Server {
	return Server{
		Name: "backend " + b.Name, Hint: "write --backend " + b.Name + "=URL", Own: []string{b.Origin()},
		Prefix: "/" + b.Name, Path: b.Base(),
	}
}

// Origin is the target's scheme, host and port, each written out.
func (t Target) Origin() string {
	scheme := "http"
	if t.Secure {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s", scheme, t.Place)
}
