package process

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	pollInterval   = 25 * time.Millisecond
	requestTimeout = 2 * time.Second
	linesInError   = 30
)

// WaitHTTP waits until a GET of the URL answers 2xx. It gives up when the context
// ends or the program does; the error then holds the last lines of its output.
func WaitHTTP(ctx context.Context, p *Process, url string) error {
	// A transport of its own: no proxy from the environment, and no connection left open.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: requestTimeout}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		last := get(ctx, client, url)
		if last == nil {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("wait for %s at %s: it ended with exit code %d; the end of its output:\n%s",
				p.name, url, p.ExitCode(), lastLines(p.Output(), linesInError))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s at %s: %w; last answer: %w; the end of its output:\n%s",
				p.name, url, context.Cause(ctx), last, lastLines(p.Output(), linesInError))
		case <-ticker.C:
		}
	}
}

// get asks once; nil means 2xx.
func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("HTTP status %s", response.Status)
	}
	return nil
}

// FreePorts returns TCP ports that are free on the loopback address, all
// different. Somebody else may take one before it is used; there is no way to
// hold a port for a program that wants a number, so start it soon.
func FreePorts(count int) ([]int, error) {
	ports := make([]int, 0, count)
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find %d free ports on 127.0.0.1: %w", count, err)
		}
		// Held until all are found, so that none comes twice.
		defer func() { _ = listener.Close() }()
		address, err := netip.ParseAddrPort(listener.Addr().String())
		if err != nil {
			return nil, fmt.Errorf("find %d free ports on 127.0.0.1: %w", count, err)
		}
		ports = append(ports, int(address.Port()))
	}
	return ports, nil
}
