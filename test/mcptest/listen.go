package mcptest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// closeTime is how long Close waits for requests that are still under way
// before it cuts them off.
const closeTime = 500 * time.Millisecond

// listener is an HTTP server without any timeout, so that a stream may stay
// open as long as it likes, which can yet be closed at any time.
type listener struct {
	address string // host:port
	url     string
	server  *http.Server
	cancel  context.CancelFunc // ends the context of every request
	served  chan struct{}
}

// listen serves a handler at an address; empty means a free loopback port.
func listen(address string, security *tls.Config, handler http.Handler) (*listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	socket, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w (is the port taken?)", address, err)
	}
	scheme := "http"
	if security != nil {
		scheme = "https"
		socket = tls.NewListener(socket, security)
	}

	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{
		address: socket.Addr().String(),
		url:     scheme + "://" + socket.Addr().String(),
		server: &http.Server{
			Handler:     handler,
			BaseContext: func(net.Listener) context.Context { return ctx },
			ErrorLog:    log.New(io.Discard, "", 0), // a client that hangs up is nothing to report
		},
		cancel: cancel,
		served: make(chan struct{}),
	}
	go func() {
		defer close(l.served)
		_ = l.server.Serve(socket) // always http.ErrServerClosed
	}()
	return l, nil
}

// close ends the requests that are under way, streams too, and stops listening.
func (l *listener) close() error {
	l.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if l.server.Shutdown(ctx) == nil {
		<-l.served
		return nil
	}
	err := l.server.Close()
	<-l.served
	if err != nil {
		return fmt.Errorf("close the server at %s: %w", l.url, err)
	}
	return nil
}
