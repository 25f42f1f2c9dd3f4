package process

import (
	"context"
	"fmt"
	"net/http"
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
