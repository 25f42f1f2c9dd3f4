package policy

import "time"

// Version is the version of the policy language that this package reads.
const Version = 1

// Document is a policy as it is written, with the defaults filled in. Names are in lower case.
type Document struct {
	Version  int
	Fanout   string // optional; tickets of one fan-out are worthless at another
	Keep     Keep   // the default for the rules
	Mode     Mode
	Explain  bool // a client that asks is told which of its own headers were captured
	Forward  []Rule
	Backends []Backend // nil: no world is declared, every backend behind the filter may be meant
	Limits   Limits
	Ticket   Ticket
	Session  Session
}

// Keep says how long a client's header is of use.
type Keep string

const (
	// KeepRequest is for what the request that carried the header causes. Absent means absent.
	KeepRequest Keep = "request"
	// KeepSession is also for later requests of the same MCP session and principal that lack the header.
	KeepSession Keep = "session"
)

// Mode says whether a policy is applied or only watched.
type Mode string

const (
	// ModeEnforce applies the policy.
	ModeEnforce Mode = "enforce"
	// ModeObserve computes, counts and logs, and changes nothing.
	ModeObserve Mode = "observe"
)

// Repeat says what becomes of a header that a client sends on several lines.
type Repeat string

const (
	// RepeatAll carries all lines, in their order.
	RepeatAll Repeat = "all"
	// RepeatFirst carries the first line.
	RepeatFirst Repeat = "first"
	// RepeatReject refuses the request.
	RepeatReject Repeat = "reject"
)

// Conflict says what happens at a backend when the fan-out itself sends the name that a rule writes.
type Conflict string

const (
	// ConflictReplace takes the fan-out's away, also where the client sent nothing.
	ConflictReplace Conflict = "replace"
	// ConflictKeep keeps the fan-out's.
	ConflictKeep Conflict = "keep"
	// ConflictReject refuses the request when both have a value, and they differ.
	ConflictReject Conflict = "reject"
)

// Rule names one header, or one family of headers, that may be carried, and where to.
type Rule struct {
	Name     string   // ends in * for a family
	To       []string // backends; empty: every declared backend
	Required bool     // a client request without it is refused
	As       string   // the name at the backend; equal to Name unless the rule renames
	Prefix   string   // put before each value at the backend
	Tools    []string // patterns of the tools whose calls get it; empty: every request
	Keep     Keep
	Repeat   Repeat
	Conflict Conflict
	Hide     bool // the fan-out does not see the header
	MaxBytes int  // of one value; 0: only the limits of the policy
	Line     int  // of the document
}

// Backend is one MCP server behind the fan-out.
type Backend struct {
	Name      string
	Clusters  []string // names of the Envoy clusters that are this backend
	Discovery []Identity
}

// Identity is one header of a backend's own credential, for requests that no client caused.
type Identity struct {
	Name   string
	Prefix string // put before the content of File
	File   string // holds the value; a relative path counts from the policy document's folder
}

// Limits reject a request; they never cut one.
type Limits struct {
	Headers    int // header lines in one capture
	ValueBytes int // bytes of one value
	TotalBytes int // bytes of all names and values of one capture
}

// Carrier is a way for a ticket to cross the fan-out.
type Carrier string

const (
	// CarrierHeader is the header [TicketHeader].
	CarrierHeader Carrier = "header"
	// CarrierBaggage is the member [BaggageMember] of the W3C baggage header.
	CarrierBaggage Carrier = "baggage"
)

// Ticket says how tickets are made and how long they live.
type Ticket struct {
	Carriers []Carrier     // in the order in which egress reads them
	Lifetime time.Duration // how long an unused ticket can be redeemed
	Rotate   time.Duration // the same headers get a new ticket this often
	Grace    time.Duration // how long a ticket is of use after every session that had it has another
}

// Session says how MCP sessions are recognised.
type Session struct {
	Bind []string      // the headers of a request that make its principal
	Idle time.Duration // how long an unused session is remembered
}

const (
	defaultLifetime = 30 * time.Minute
	defaultRotate   = 24 * time.Hour
	defaultGrace    = 30 * time.Second
	defaultIdle     = 30 * time.Minute
	// maxBaggageRotate bounds how long a ticket that a fan-out has copied into a body, as vMCP does with baggage, is
	// of use to whoever reads that body.
	maxBaggageRotate = 5 * time.Minute
)

func defaultLimits() Limits { return Limits{Headers: 64, ValueBytes: 8192, TotalBytes: 16384} }

func (t Ticket) uses(carrier Carrier) bool {
	for _, listed := range t.Carriers {
		if listed == carrier {
			return true
		}
	}
	return false
}
