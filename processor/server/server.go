// Package server runs Bellhop: it loads what a configuration names, opens the listeners, serves until it is stopped,
// and drains. While it serves it reloads what changes.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"bellhop/processor"
	"bellhop/processor/extproc"
	"bellhop/processor/server/admin"
	"bellhop/processor/server/files"
	"bellhop/processor/server/filewatch"
	"bellhop/processor/ticket"
)

// The budget of a stop: [Config.DrainDelay], then at most unwatchTimeout for a running reload, stopTimeout for the
// open streams, and adminTimeout for the admin server. The grace period of whatever runs Bellhop must be longer
// than their sum.
const (
	unwatchTimeout = time.Second
	stopTimeout    = 5 * time.Second
	adminTimeout   = time.Second
)

// What happens to requests when the store fails.
const (
	rejectRequests  = "reject"   // 503; the default
	continueWithout = "continue" // without the headers
)

const (
	// settleTime is how long files must not change before they are read: a writer may be halfway.
	settleTime = 100 * time.Millisecond
	// pollTime is how often files are read in any case: not every filesystem reports changes.
	pollTime = 30 * time.Second
)

const (
	// patience is how long a header may not be sent, or a backend not be reached, before a warning asks whether its name
	// is right.
	patience = time.Hour
	// minStoreBytes leaves room for the largest captures that a policy allows.
	minStoreBytes = 1 << 20
	// streamWindow and connectionWindow are gRPC's flow control windows, in bytes: a message fits into one, and a burst of
	// requests into the other. Fixed windows spare the pings by which gRPC estimates better ones.
	streamWindow     = 64 << 10
	connectionWindow = 1 << 20
	// handshakeTime bounds the handshakes of a connection, because a stop waits for them.
	handshakeTime = 3 * time.Second
	// workersPerCPU are gRPC's stream workers: one blocks while it waits for a message, and a call that finds none free
	// runs on a new stack, which costs a tenth of its CPU.
	workersPerCPU = 32
	// maxStack bounds the stack of a panic in the log, in bytes.
	maxStack = 16 << 10
	// minPing allows the pings of Envoy's connection_keepalive.
	minPing = 5 * time.Second
)

// Config is the configuration from the command line.
type Config struct {
	Policies   []string // paths of policy documents, and of folders of them; they are read again when they change
	Ceiling    string   // path of the ceiling document; empty for none
	Listen     string   // unix:///PATH, HOST:PORT or tcp://HOST:PORT
	Admin      string   // HOST:PORT of the admin server; empty for none
	Store      string   // memory, or the address of a Redis or Valkey server, which may hold a password
	StoreBytes uint64   // limit of the memory store or the near cache, in bytes
	// OnStoreError says what to do with requests whose headers a store cannot save or return: reject or continue.
	OnStoreError string
	KeyFile      string        // keys of tickets; empty for a random key that lives as long as the process
	TLS          TLS           // of Listen
	TLSAllow     []string      // PATTERN=FANOUT: which fan-outs the filters of a certificate may name; none: all
	TLSAllowFile string        // a file of such lines
	DrainDelay   time.Duration // how long to keep serving as NOT_SERVING: at least one health check interval of Envoy
	BodyTimeout  time.Duration // how long a request may take to send its body, where that has to be read; 0: 30 s
	Settle       time.Duration // how long changed files are left alone before they are read again; 0: 100 ms
}

// Server is a Bellhop whose listeners are open.
type Server struct {
	config    Config
	log       *slog.Logger
	reloader  *reloader
	storage   *storage
	processor *processor.Processor
	service   *extproc.Service
	grpc      *grpc.Server
	health    *health.Server
	admin     *http.Server
	streams   net.Listener
	pages     net.Listener
	ready     atomic.Bool
	panics    prometheus.Counter
}

// New does everything that can fail: it reads the policies and all that they name, and opens the listeners. Errors in
// policies are returned as [policy.Findings].
func New(config Config, log *slog.Logger) (*Server, error) {
	s := &Server{config: config, log: log}
	from := sources{
		policies: config.Policies,
		ceiling:  config.Ceiling,
		keyFile:  config.KeyFile,
		own:      slices.DeleteFunc([]string{config.KeyFile, config.TLS.Key}, func(file string) bool { return file == "" }),
		random:   ticket.RandomKeys(),
		files:    files.NewReader(files.DefaultTimeout),
	}
	first, err := from.load()
	if err != nil {
		return nil, err
	}
	configuration := first.configuration
	if err := s.check(); err != nil {
		return nil, err
	}
	creds, err := config.TLS.credentials(from.files)
	if err != nil {
		return nil, err
	}
	allowances, err := readAllowances(config.TLSAllow, config.TLSAllowFile, from.files)
	if err != nil {
		return nil, err
	}
	if err := s.checkAllowances(allowances, from.single()); err != nil {
		return nil, err
	}
	if s.storage, err = openStorage(config, configuration.keys, log); err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	s.panics = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "bellhop_panics_total", Help: "Requests that failed because of a panic in Bellhop: a bug.",
	})
	registry.MustRegister(s.panics)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(s.storage.collectors...)
	s.processor = processor.New(processor.Settings{
		Share: s.storage.share, StoreTimeout: s.storage.timeout,
		FailOpen: config.OnStoreError == continueWithout, Single: from.single(), Metrics: registry, Log: log,
	}, configuration.keys, configuration.processed()...)
	s.reloader = newReloader(from, first, s.processor, s.storage, registry, log)
	configuration.warn(log)
	s.warnOfKeys(configuration)
	s.admin = admin.New(registry, s.ready.Load, s.storage.ready)
	if err := s.open(); err != nil {
		s.close()
		return nil, err
	}
	s.service = extproc.New(s.processor, extproc.Settings{
		BodyTimeout: s.config.BodyTimeout, Allowed: allowed(allowances),
	})
	s.buildGRPC(grpc.Creds(creds)) // last, for it starts goroutines
	return s, nil
}

// Reload reads all files again, whether they have changed or not. The next request is served by what they say. An
// invalid file is returned and logged, and its last good version stays in force. Errors in policies are returned as
// [policy.Findings].
func (s *Server) Reload() error { return s.reloader.reload() }

// check rejects settings that cannot work.
func (s *Server) check() error {
	switch {
	case s.config.BodyTimeout < 0:
		return fmt.Errorf("--body-timeout %s: write 0s or more", s.config.BodyTimeout)
	case s.config.DrainDelay < 0:
		return fmt.Errorf("--drain-delay %s: write 0s or more", s.config.DrainDelay)
	case s.config.Store != inMemory && !strings.Contains(s.config.Store, "://"):
		// What was written may be an address with a password, so it is not shown.
		return errors.New("--store: write memory, or the address of a server with its scheme: redis://HOST:PORT")
	case s.config.Store != inMemory && s.config.KeyFile == "":
		return errors.New(
			"--store: what several Bellhops share is encrypted under a key that all of them have; make one with bellhop " +
				"keygen --add keys, and give it to each with --key-file keys",
		)
	case !slices.Contains([]string{"", rejectRequests, continueWithout}, s.config.OnStoreError):
		return fmt.Errorf("--on-store-error %s: write reject or continue", s.config.OnStoreError)
	case s.config.StoreBytes < minStoreBytes:
		return fmt.Errorf("--store-bytes %d: too little; write %d or more", s.config.StoreBytes, minStoreBytes)
	default:
		return nil
	}
}

// checkAllowances demands that certificates are bound to fan-outs where there are several: else each proxy whose
// certificate opens Bellhop could name another team's.
func (s *Server) checkAllowances(allowances []allowance, single bool) error {
	switch {
	case len(allowances) > 0 && !s.config.TLS.given():
		return errors.New("--tls-allow: needs mutual TLS; add --tls-cert, --tls-key and --tls-client-ca")
	case len(allowances) == 0 && beyondLoopback(s.config.Listen) && !single:
		return errors.New(
			"several fan-outs are served beyond this machine, and any certificate could name any of them: add --tls-allow " +
				"PATTERN=FANOUT for each, such as --tls-allow 'spiffe://cluster.local/ns/search/sa/*=search', or --tls-allow-file",
		)
	default:
		return nil
	}
}

// warnOfKeys warns of keys that other users can read, and of tickets that die with the process.
func (s *Server) warnOfKeys(configuration *configuration) {
	if s.config.KeyFile == "" {
		if configuration.sealed() {
			s.log.Warn(
				"sealed tickets without --key-file: the key lives as long as this process, so no other replica can open them, "+
					"and they do not survive a restart",
				"hint",
				"bellhop keygen --add keys, and --key-file keys",
			)
		}
		return
	}
	warnOfExposed(s.log, s.config.KeyFile)
}

// warnOfExposed warns of a key file that other users can read.
func warnOfExposed(log *slog.Logger, file string) {
	info, err := os.Stat(file)
	if err != nil {
		return
	}
	if what := ticket.Exposed(info.Mode()); what != "" {
		log.Warn(what, "file", file, "mode", info.Mode().Perm().String(), "hint", "chmod 0600 "+file)
	}
}

func (s *Server) buildGRPC(creds grpc.ServerOption) {
	s.grpc = grpc.NewServer(append(extproc.Options(), creds,
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.NumStreamWorkers(uint32(workersPerCPU*runtime.GOMAXPROCS(0))), //nolint:gosec // a number of processors
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		s.recoverPanics(),
	)...)
	s.health = health.NewServer()
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	s.service.Register(s.grpc)
}

// recoverPanics keeps a panic in a handler from ending the process.
func (s *Server) recoverPanics() grpc.ServerOption {
	return grpc.ChainStreamInterceptor(recovery.StreamServerInterceptor(recovery.WithRecoveryHandler(s.panicked)))
}

// panicked fails the request whose handler panicked, and no other. The panic's value may hold a part of a request, so
// it is not logged.
func (s *Server) panicked(value any) error {
	stack := debug.Stack()
	if elsewhere, ok := value.(*extproc.Panic); ok {
		stack = elsewhere.Stack
	}
	s.panics.Inc()
	s.log.Error("a handler panicked; please report it", "stack", string(stack[:min(len(stack), maxStack)]))
	return status.Error(codes.Internal, "bellhop: internal error")
}

func (s *Server) open() error {
	streams, err := listen(s.config.Listen, s.config.TLS.given())
	if err != nil {
		return err
	}
	s.streams = streams
	warnOfOpenFolder(s.log, s.config.Listen)
	if s.config.Admin == "" {
		return nil
	}
	pages, err := net.Listen("tcp", s.config.Admin)
	if err != nil {
		return errors.Join(
			fmt.Errorf("--admin %s: %w; choose another port, or stop what holds this one", s.config.Admin, err),
			streams.Close(),
		)
	}
	s.pages = pages
	return nil
}

// Run serves until ctx is done, then drains: it reports NOT_SERVING, waits for Envoy to notice, lets open streams end,
// and ends them by force when the budget is over. Once force is done, it ends at once.
func (s *Server) Run(ctx, force context.Context) error {
	failed := make(chan error, 2)
	go func() { failed <- s.grpc.Serve(s.streams) }()
	if s.pages != nil {
		go func() { failed <- s.admin.Serve(s.pages) }()
	}
	unwatch := s.watch(force)
	listening, stopListening := context.WithCancel(context.Background())
	defer stopListening()
	go s.processor.WarnOfUnseen(listening, patience)
	s.serving(true)
	s.announce()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		s.drain(force)
	}
	unwatch()
	s.stop(force)
	return err
}

// watch reloads when files change, until the returned function is called. That waits for a running reload, but not
// for long, and not at all once force is done.
func (s *Server) watch(force context.Context) (unwatch func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		filewatch.Files(
			ctx, filewatch.Settings{Quiet: cmp.Or(s.config.Settle, settleTime), Poll: pollTime, Log: s.log},
			s.reloader.look,
		)
	}()
	return func() {
		cancel()
		select {
		case <-done:
		case <-force.Done():
		case <-time.After(unwatchTimeout): // a reload that hangs ends with the process
			s.log.Warn("a reload has not ended; stopping without it", "after", unwatchTimeout)
		}
	}
}

func (s *Server) announce() {
	s.log.Info("serving", "listen", s.config.Listen, "admin", s.config.Admin, "store", storeName(s.config.Store))
	for _, document := range s.reloader.inForce.Load().documents {
		now := document.policy
		s.log.Info(
			"policy in force", "file", document.path, "digest", now.Digest(), "fanout", now.Fanout(), "mode", now.Mode(),
			"backends", len(now.Backends()),
		)
	}
	if s.pages != nil && !loopback(host(s.pages.Addr().String())) {
		s.log.Warn(
			"the admin server is open beyond loopback; it shows header and backend names, and no values",
			"admin", s.config.Admin,
		)
	}
}

func (s *Server) serving(yes bool) {
	state := healthv1.HealthCheckResponse_NOT_SERVING
	if yes {
		state = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", state)
	s.health.SetServingStatus(extproc.ServiceName, state)
	s.ready.Store(yes)
}

func (s *Server) drain(force context.Context) {
	s.serving(false)
	s.log.Info(
		"draining", "delay", s.config.DrainDelay, "budget", s.config.DrainDelay+unwatchTimeout+stopTimeout+adminTimeout,
	)
	select {
	case <-time.After(s.config.DrainDelay):
	case <-force.Done():
	}
}

// stop lets open streams end, and ends them by force when the budget is over. Then it returns, whatever gRPC still
// waits for: the process is about to end.
func (s *Server) stop(force context.Context) {
	s.service.Drain()
	graceful := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(graceful) }()
	select {
	case <-graceful:
	case <-time.After(stopTimeout):
		s.log.Warn("streams are still open after the drain; ending them", "after", stopTimeout)
		go s.grpc.Stop()
	case <-force.Done():
		go s.grpc.Stop()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(force), adminTimeout)
	defer cancel()
	closed := s.close()
	_ = s.admin.Shutdown(ctx)
	for _, ended := range []<-chan struct{}{graceful, closed} { // Stop lets GracefulStop return
		select {
		case <-ended:
		case <-ctx.Done():
		case <-force.Done():
		}
	}
	s.log.Info("stopped")
}

// close closes the store in the background, because a server that is away may hold it up. The channel is closed then.
func (s *Server) close() (closed <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.storage.close()
	}()
	return done
}

func host(address string) string {
	name, _, _ := net.SplitHostPort(address)
	return name
}
