package mcptest

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// Tap is a proxy that changes nothing and records every request. It stands
// where a test wants to look: between Envoy and the fan-out, say.
type Tap struct {
	Recorder

	listener  *listener
	transport *http.Transport
}

// StartTap starts a tap in front of a target, an http or https URL of which only
// scheme, host and port count: what comes in for a path goes to the same path there.
func StartTap(target string) (*Tap, error) {
	destination, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("start a tap: %w", err)
	}
	if destination.Host == "" {
		return nil, fmt.Errorf("start a tap: %q is no target; give one like http://127.0.0.1:8080", target)
	}
	destination = &url.URL{Scheme: destination.Scheme, Host: destination.Host}
	t := &Tap{transport: &http.Transport{
		DisableCompression:  true, // would add an Accept-Encoding of its own
		MaxIdleConnsPerHost: 100,
	}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(destination)
			if r.In.Host != t.Address() { // else the target is called by its own name, as it would be without a tap
				r.Out.Host = r.In.Host
			}
			restore(r)
		},
		Transport:     t.transport,
		FlushInterval: -1, // pass on each event of a stream at once
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "tap: "+err.Error(), http.StatusBadGateway)
		},
	}
	if t.listener, err = listen("", nil, t.Record(proxy)); err != nil {
		return nil, fmt.Errorf("start a tap in front of %s: %w", target, err)
	}
	return t, nil
}

// restore puts back what the reverse proxy takes off on its own account.
func restore(r *httputil.ProxyRequest) {
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if lines, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = lines
		}
	}
}

// URL is the tap's address, without a path.
func (t *Tap) URL() string { return t.listener.url }

// Address is the tap's host:port.
func (t *Tap) Address() string { return t.listener.address }

// Close stops the tap and cuts what still streams through it.
func (t *Tap) Close() error {
	err := t.listener.close()
	t.transport.CloseIdleConnections()
	return err
}
