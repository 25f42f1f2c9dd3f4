package processor

import (
	"log/slog"
	"sync/atomic"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/ticket"
)

// Settings are all that a [Processor] needs. Every field but Continue and Single is required.
type Settings struct {
	Store      ticket.Store
	Sessions   session.Store
	Succession ticket.Supersession
	// Continue lets requests go on without the headers that a store which fails could not keep or tell; else they are
	// refused. A required header is missed in either case.
	Continue bool
	// Single says that there is one fan-out and never another, so that filters need not name it.
	Single  bool
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Processor is the ext_proc service, and that of an access log. It keeps nothing of a request but what its store keeps.
type Processor struct {
	extprocv3.UnimplementedExternalProcessorServer
	accesslogv3.UnimplementedAccessLogServiceServer

	shared  *shared
	current atomic.Pointer[engines]
}

// Rules are what one fan-out is served by.
type Rules struct {
	Policy *policy.Policy
	// Identities are the discovery identities, by backend. An empty one cannot be read: requests that need it are refused.
	Identities map[string][]policy.Header
}

// shared is what outlives a policy.
type shared struct {
	store      ticket.Store
	sessions   session.Store
	succession ticket.Supersession
	goesOn     bool          // where the store fails
	single     bool          // there is one fan-out and never another
	draining   chan struct{} // closed by Drain
	families   *families
	log        *slog.Logger
	warnings   *warnings
	now        func() time.Time
}

// engine applies the policy of one fan-out. A stream is served by one engine for its whole life, so that no request sees a
// mix of two policies.
type engine struct {
	*shared

	metrics    *metrics // of this fan-out
	policy     *policy.Policy
	minter     *ticket.Minter
	names      []session.Names // under each key, the newest first
	sealer     *ticket.Sealer
	seen       *sightings
	identities map[string][]policy.Header
	// quiet is until when requests without a ticket get no discovery identity: clients' requests from a dry run, which gives out no
	// tickets, may still be under way.
	quiet time.Time
}

// New makes a processor that applies the rules of each fan-out.
func New(settings Settings, keys ticket.Keys, all ...Rules) *Processor {
	processor := &Processor{shared: &shared{
		store: settings.Store, sessions: settings.Sessions, succession: settings.Succession, goesOn: settings.Continue, single: settings.Single,
		draining: make(chan struct{}), families: newFamilies(settings.Metrics),
		log: settings.Log, warnings: newWarnings(settings.Log), now: time.Now,
	}}
	processor.Apply(keys, all...)
	settings.Metrics.MustRegister(newSightingCollector(&processor.current))
	return processor
}

// Apply takes other keys and rules from the next stream on, for all fan-outs at once: no two of them have the same name.
// Streams under way keep the rules that they began with; tickets made under other rules of the same fan-out go on being
// redeemed.
func (p *Processor) Apply(keys ticket.Keys, all ...Rules) {
	before := p.current.Load()
	next := make(engines, len(all))
	for _, rules := range all {
		next[rules.Policy.Fanout()] = p.shared.engine(keys, rules, before)
	}
	p.current.Store(&next)
}

func (s *shared) engine(keys ticket.Keys, rules Rules, before *engines) *engine {
	fanout := rules.Policy.Fanout()
	var names []session.Names
	for _, key := range keys.Derive("session") {
		names = append(names, session.NewNames(key, fanout))
	}
	return &engine{
		shared: s, metrics: s.families.of(fanout), policy: rules.Policy, identities: rules.Identities,
		seen:   before.sightings(rules.Policy, s.now()),
		quiet:  before.quiet(rules.Policy, s.now()),
		names:  names,
		sealer: ticket.NewSealer(keys, fanout, rules.Policy.Rotate(), rules.Policy.Lifetime()),
		minter: ticket.NewMinter(keys[0], fanout, rules.Policy.Rotate()),
	}
}

// Register adds the services to a gRPC server.
func (p *Processor) Register(server grpc.ServiceRegistrar) {
	extprocv3.RegisterExternalProcessorServer(server, p)
	accesslogv3.RegisterAccessLogServiceServer(server, p)
}

// Drain lets go of the streams that only wait for a response, so that a stop fails no call: what the response would
// have told about its session is lost. Access logs end too: Envoy goes on with another Bellhop. It is called once.
func (p *Processor) Drain() { close(p.shared.draining) }

// Process serves one HTTP request.
func (p *Processor) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	bound, err := bind(stream.Context())
	if err != nil {
		return p.shared.refuse(err)
	}
	engine, err := p.engineOf(bound.fanout)
	if err != nil {
		return p.shared.refuse(err)
	}
	return engine.serve(stream, bound)
}
