package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"bellhop/processor/server"
)

const (
	defaultListen     = "unix:///run/bellhop/bellhop.sock"
	defaultAdmin      = "127.0.0.1:9902"
	defaultStoreBytes = 64 << 20
	// defaultDrainDelay is two health check intervals of the Envoy configuration that bellhop envoy makes.
	defaultDrainDelay = 2 * time.Second
	// defaultBodyTimeout is for 4 MiB at 1 Mbit/s.
	defaultBodyTimeout = 30 * time.Second
)

func newServe() *cobra.Command {
	var config server.Config
	var format, level string
	cmd := &cobra.Command{
		Use:   "serve --policy FILE",
		Short: "Serve Envoy's ext_proc filters",
		Long: `Serve Envoy's ext_proc filters under a policy.

Every flag can also be set by an environment variable: --key-file by BELLHOP_KEY_FILE. The command line wins. Any other
BELLHOP_ variable is an error, except those that Kubernetes sets for a Service called bellhop.

Unless GOGC is set, the garbage collector runs at 400 percent. Unless GOMEMLIMIT is set, its soft limit is
1.25 × --store-bytes + 128 MiB, but at most 90 percent of the container's memory limit.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), os.Environ()); err != nil {
				return err
			}
			if len(config.Policies) == 0 {
				return errors.New("serve needs a policy: bellhop serve --policy policy.yaml")
			}
			log, err := newLog(cmd.ErrOrStderr(), format, level)
			if err != nil {
				return err
			}
			server.TuneGC(config.StoreBytes, os.LookupEnv, memlimit.FromCgroup, log)
			// Other commands end at once at a signal, whatever file they wait for.
			stop, release := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer release()
			return serve(stop, config, log)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(
		&config.Policies, "policy", nil, "a policy document, or a folder of them; repeat it for several fan-outs",
	)
	flags.StringVar(
		&config.Ceiling, "ceiling", "", "a ceiling document, below which the policies have to stay (default: none)",
	)
	flags.StringVar(&config.Listen, "listen", defaultListen, "where Envoy finds Bellhop: unix:///PATH or HOST:PORT")
	flags.StringVar(&config.Admin, "admin", defaultAdmin, "HOST:PORT of /metrics, /livez and /readyz; empty for none")
	flags.StringVar(
		&config.Store,
		"store",
		"memory",
		"where captures are kept: memory, or redis:// or valkey:// (rediss://, valkeys:// for TLS) with "+
			"USER:PASSWORD@HOST:PORT, or unix:///PATH",
	)
	flags.Uint64Var(
		&config.StoreBytes, "store-bytes", defaultStoreBytes,
		"limit of the memory store, or of the near cache of a shared one, in bytes",
	)
	flags.StringVar(
		&config.OnStoreError, "on-store-error", "reject",
		"what to do with requests whose headers the store cannot save or return: reject (503) or continue without them",
	)
	flags.StringVar(
		&config.KeyFile,
		"key-file",
		"",
		"keys of tickets: 32 bytes in base64 a line, newest first, or a cleartext Tink keyset in JSON (default: a random "+
			"key that lives as long as the process)",
	)
	flags.StringVar(&config.TLS.Cert, "tls-cert", "", "PEM certificate for --listen beyond loopback")
	flags.StringVar(&config.TLS.Key, "tls-key", "", "PEM private key of --tls-cert")
	flags.StringVar(&config.TLS.ClientCA, "tls-client-ca", "", "PEM roots that sign the proxies' certificates")
	flags.StringArrayVar(
		&config.TLSAllow,
		"tls-allow",
		nil,
		"PATTERN=FANOUT: proxies whose certificate has a URI or DNS name of the pattern may "+
			"name that fan-out; repeat it (needed beyond loopback with several fan-outs)",
	)
	flags.StringVar(&config.TLSAllowFile, "tls-allow-file", "", "a file with a PATTERN=FANOUT on each line")
	flags.DurationVar(
		&config.DrainDelay, "drain-delay", defaultDrainDelay, "how long to keep serving as NOT_SERVING before a stop",
	)
	flags.DurationVar(
		&config.BodyTimeout, "body-timeout", defaultBodyTimeout, "how long a request may take to send its body, where that "+
			"has to be read",
	)
	flags.StringVar(&format, "log-format", "text", "text or json")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// serve runs until the first signal, drains, and ends by force at the second.
func serve(ctx context.Context, config server.Config, log *slog.Logger) error {
	hangup := make(chan os.Signal, 1) // before anything else: an early one must not end the program
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	s, err := unlessStopped(ctx, func() (*server.Server, error) { return server.New(config, log) })
	if err != nil {
		return err
	}
	force, cancel := context.WithCancel(context.Background())
	defer cancel()
	context.AfterFunc(ctx, func() {
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		<-again
		cancel()
	})
	go func() { // ends with the program
		for range hangup {
			_ = s.Reload() // it logs errors itself
		}
	}()
	return s.Run(ctx, force)
}

// startGrace is how long a program that is stopped while it starts may take to finish starting, so that it stops in
// order: it logs the stop and removes its socket.
const startGrace = time.Second

// unlessStopped waits for load, or until startGrace after ctx is done: a file on a mount that hangs must not keep the
// program from ending.
func unlessStopped[T any](ctx context.Context, load func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() { // ends with the program, if load does not return
		value, err := load()
		done <- result{value, err}
	}()
	select {
	case got := <-done:
		return got.value, got.err
	case <-ctx.Done():
	}
	select {
	case got := <-done:
		return got.value, got.err
	case <-time.After(startGrace):
		var none T
		return none, errors.New("stopped before all files were read")
	}
}

func newLog(out io.Writer, format, level string) (*slog.Logger, error) {
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %s: write debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: threshold}
	switch strings.ToLower(format) {
	case "text":
		return slog.New(slog.NewTextHandler(out, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, options)), nil
	default:
		return nil, fmt.Errorf("--log-format %s: write text or json", format)
	}
}
