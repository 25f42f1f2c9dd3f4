package processor

import (
	"context"
	"log/slog"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
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

// Settings are all that a [Processor] needs. Every field but Identities is required.
type Settings struct {
	Policy     *policy.Policy
	Key        ticket.Key
	Store      Store
	Identities map[string][]policy.Header // discovery identities, by backend
	Metrics    prometheus.Registerer
	Log        *slog.Logger
}

// Processor is the ext_proc service. It keeps nothing of a request but what its store keeps.
type Processor struct {
	extprocv3.UnimplementedExternalProcessorServer

	policy     *policy.Policy
	minter     *ticket.Minter
	store      Store
	identities map[string][]policy.Header
	metrics    *metrics
	log        *slog.Logger
	warnings   *warnings
	now        func() time.Time
}

// New makes a processor.
func New(settings Settings) *Processor {
	return &Processor{
		policy:     settings.Policy,
		minter:     ticket.NewMinter(settings.Key, settings.Policy.Fanout(), settings.Policy.Rotate()),
		store:      settings.Store,
		identities: settings.Identities,
		metrics:    newMetrics(settings.Metrics, settings.Policy.Pattern),
		log:        settings.Log,
		warnings:   newWarnings(settings.Log),
		now:        time.Now,
	}
}
