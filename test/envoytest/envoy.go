package envoytest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"bellhop/test/process"
)

// Options say what to start. Path, Config and Admin are needed.
type Options struct {
	Path   string // of the program
	Config string // path of its configuration
	Admin  string // HOST:PORT of its admin page, as the configuration says
	// Args are further flags. Envoys on one machine share nothing.
	Args        []string
	Concurrency int    // worker threads; 0: 1
	LogLevel    string // empty: warning
	Env         []string
	Dir         string
}

// Envoy is a running Envoy.
type Envoy struct {
	*process.Process
	admin string
}

// Start starts an Envoy and waits until it is ready.
func Start(ctx context.Context, o Options) (*Envoy, error) {
	level := o.LogLevel
	if level == "" {
		level = "warning"
	}
	running, err := process.Start(process.Options{
		Name: "Envoy", Path: o.Path, Env: o.Env, Dir: o.Dir,
		Args: append([]string{
			"--config-path", o.Config, "--disable-hot-restart", "--concurrency", strconv.Itoa(max(o.Concurrency, 1)),
			"--log-level", level,
		}, o.Args...),
	})
	if err != nil {
		return nil, err
	}
	e := &Envoy{Process: running, admin: "http://" + o.Admin}
	if err := process.WaitHTTP(ctx, running, e.admin+"/ready"); err != nil {
		running.Kill()
		<-running.Done()
		return nil, err
	}
	return e, nil
}

// AdminURL is the address of Envoy's admin page.
func (e *Envoy) AdminURL() string { return e.admin }

// Stats returns Envoy's counters and gauges by name.
func (e *Envoy) Stats(ctx context.Context) (map[string]uint64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.admin+"/stats", nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read Envoy's statistics: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read Envoy's statistics: %w", err)
	}
	stats := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), ": ")
		// Texts and histograms are no numbers, and nothing to count with.
		if value, err := strconv.ParseUint(number, 10, 64); err == nil {
			stats[name] = value
		}
	}
	return stats, nil
}
