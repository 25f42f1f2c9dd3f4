package processor

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/ticket"
)

// Store remembers which capture a ticket stands for. Implementations are safe for concurrent use and return the
// captures they were given, which nobody changes.
type Store interface {
	// Put remembers the capture of a ticket until the ticket has not been used for lifetime. It is called for every
	// client request, so it must cost nothing when the ticket is known already.
	Put(ctx context.Context, ticket string, capture policy.Capture, lifetime time.Duration) error
	// Get returns the capture of a ticket, and false where there is none. An error means that nobody can tell.
	Get(ctx context.Context, ticket string) (policy.Capture, bool, error)
}

// Sessions remembers MCP sessions by the names of package session. Implementations are safe for concurrent use.
type Sessions interface {
	// Find returns what is remembered of a session, and false where nothing is. Only its own principal keeps it alive by
	// that. An error means that nobody can tell.
	Find(ctx context.Context, id, principal string) (session.Record, bool, error)
	// Update remembers what change makes of a session's record, the zero one where there is none, until the session has
	// not been used for idle. No other update comes in between. It is called only when something may have changed; where
	// change returns false, nothing is written.
	Update(ctx context.Context, id string, idle time.Duration, change func(session.Record) (session.Record, bool)) error
	// End forgets a session.
	End(ctx context.Context, id string) error
}

// Succession knows which tickets have been replaced by others.
type Succession interface {
	// Minted tells that a client got the ticket: it is of use for a while, whoever has replaced it.
	Minted(ticket string)
	// Superseded reports whether every session that had the ticket has had another for longer than grace.
	Superseded(ticket string, grace time.Duration) bool
}

// Settings are all that a [Processor] needs. Every field is required.
type Settings struct {
	Key        ticket.Key
	Store      Store
	Sessions   Sessions
	Succession Succession
	Metrics    prometheus.Registerer
	Log        *slog.Logger
}

// Processor is the ext_proc service. It keeps nothing of a request but what its store keeps.
type Processor struct {
	extprocv3.UnimplementedExternalProcessorServer

	shared  *shared
	current atomic.Pointer[engine]
}

// shared is what outlives a policy.
type shared struct {
	key        ticket.Key
	store      Store
	sessions   Sessions
	succession Succession
	draining   chan struct{} // closed by Drain
	metrics    *metrics
	log        *slog.Logger
	warnings   *warnings
	now        func() time.Time
}

// engine applies one policy. A stream is served by one engine for its whole life, so that no request sees a mix of two
// policies.
type engine struct {
	*shared

	policy     *policy.Policy
	minter     *ticket.Minter
	names      session.Names
	seen       *sightings
	identities map[string][]policy.Header
}

// New makes a processor that applies a policy. The identities are the discovery identities by backend.
func New(settings Settings, p *policy.Policy, identities map[string][]policy.Header) *Processor {
	processor := &Processor{shared: &shared{
		key: settings.Key, store: settings.Store, sessions: settings.Sessions, succession: settings.Succession,
		draining: make(chan struct{}), metrics: newMetrics(settings.Metrics),
		log: settings.Log, warnings: newWarnings(settings.Log), now: time.Now,
	}}
	processor.Apply(p, identities)
	settings.Metrics.MustRegister(newSightingCollector(&processor.current))
	return processor
}

// Apply takes another policy from the next stream on. Streams under way keep the one that they began with; tickets made
// under another policy of the same fan-out go on being redeemed.
func (p *Processor) Apply(next *policy.Policy, identities map[string][]policy.Header) {
	p.current.Store(&engine{
		seen:   newSightings(next, p.shared.now()),
		shared: p.shared, policy: next, identities: identities,
		names:  session.NewNames(p.shared.key.Derive("session"), next.Fanout()),
		minter: ticket.NewMinter(p.shared.key, next.Fanout(), next.Rotate()),
	})
}

// Drain lets go of the streams that only wait for a response, so that a stop fails no call: what the response would
// have told about its session is lost. It is called once.
func (p *Processor) Drain() { close(p.shared.draining) }

// Process serves one HTTP request.
func (p *Processor) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	return p.current.Load().serve(stream)
}
