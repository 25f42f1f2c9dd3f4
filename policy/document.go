package policy

import "time"

// Version is the version of the policy language that this package reads.
const Version = 1

// Document is a policy as written, with defaults applied. Names are in lower case.
type Document struct {
	Version  int       `json:"version" jsonschema:"required,enum=1" jsonschema_description:"The version of the policy language"`
	Fanout   string    `json:"fanout" jsonschema_description:"A name for the fan-out; tickets of one fan-out are invalid at another"`
	Keep     Keep      `json:"keep" jsonschema:"enum=request,enum=session,default=request" jsonschema_description:"The default of the rules: how long a client's header is kept"`
	Mode     Mode      `json:"mode" jsonschema:"enum=enforce,enum=observe,default=enforce" jsonschema_description:"observe evaluates, counts and logs, and changes nothing"`
	Explain  bool      `json:"explain" jsonschema:"default=false" jsonschema_description:"The response to a client that sends x-bellhop-explain: 1 lists which of its headers were captured"`
	Forward  []Rule    `json:"forward" jsonschema:"required,minItems=1" jsonschema_description:"The headers that may be carried; no others ever are"`
	Backends []Backend `json:"backends" jsonschema_description:"The backends, by name. If declared, all others get nothing. If not, the policy applies to every backend behind the filter"` // nil: none is declared
	Strip    []string  `json:"strip" jsonschema:"uniqueItems=true" jsonschema_description:"Headers and families that are taken off clients' requests before the fan-out, and off every request to a backend; * at the end makes a family"`
	Limits   Limits    `json:"limits" jsonschema_description:"Limits reject requests that exceed them; nothing is truncated"`
	Ticket   Ticket    `json:"ticket" jsonschema_description:"How tickets are issued and how long they are valid"`
	Session  Session   `json:"session" jsonschema_description:"How MCP sessions are identified"`
}

// Keep says how long a client's header is kept.
type Keep string

const (
	// KeepRequest keeps a header for the request that carried it only.
	KeepRequest Keep = "request"
	// KeepSession keeps it also for later requests of the same MCP session and principal that lack it.
	KeepSession Keep = "session"
)

// Mode says whether a policy is enforced or only observed.
type Mode string

const (
	// ModeEnforce enforces the policy.
	ModeEnforce Mode = "enforce"
	// ModeObserve evaluates, counts and logs, and changes nothing.
	ModeObserve Mode = "observe"
)

// Repeat says how to carry a header that a client sends on several lines.
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
	// ConflictReplace removes the fan-out's header, also where the client sent none.
	ConflictReplace Conflict = "replace"
	// ConflictKeep keeps the fan-out's.
	ConflictKeep Conflict = "keep"
	// ConflictReject refuses the request when both have a value, and they differ.
	ConflictReject Conflict = "reject"
)

// Rule names one header, or one family of headers, that may be carried, and where to.
type Rule struct {
	Name     string   `json:"name" jsonschema:"required" jsonschema_description:"The header that clients send; a * at the end makes it a family of headers"`
	To       []string `json:"to" jsonschema:"minItems=1,uniqueItems=true" jsonschema_description:"The backends that may have it; without it every declared one"` // empty: every declared backend
	Required bool     `json:"required" jsonschema:"default=false" jsonschema_description:"A client request without the header is refused"`
	As       string   `json:"as" jsonschema_description:"The name at the backend; without it the name that clients send"` // equal to Name unless the rule renames
	Prefix   string   `json:"prefix" jsonschema_description:"Put before each value at the backend, such as 'Bearer '"`
	Tools    []string `json:"tools" jsonschema:"minItems=1" jsonschema_description:"Only for calls of these tools; * stands for any run of characters. Where the tool is not known the header is not sent"` // empty: every request
	Keep     Keep     `json:"keep" jsonschema:"enum=request,enum=session" jsonschema_description:"request: absent means absent. session: later requests of the same MCP session get the last value"`
	Repeat   Repeat   `json:"repeat" jsonschema:"enum=all,enum=first,enum=reject,default=all" jsonschema_description:"How to carry a header that has several lines"`
	Conflict Conflict `json:"conflict" jsonschema:"enum=replace,enum=keep,enum=reject,default=replace" jsonschema_description:"What happens if the fan-out itself sends that header to the backend"`
	Hide     bool     `json:"hide" jsonschema:"default=true" jsonschema_description:"The fan-out does not see the header"`
	MaxBytes int      `json:"max_bytes" jsonschema_description:"The maximum bytes of one value; at most limits.value_bytes"` // 0: only the limits of the policy
	Line     int      `json:"-"`                                                                                             // of the document
	Number   int      `json:"-"`                                                                                             // in the policy, from 1
}

// Backend is one MCP server behind the fan-out.
type Backend struct {
	Name      string     `json:"-"`
	Clusters  []string   `json:"clusters" jsonschema:"uniqueItems=true" jsonschema_description:"The names of the Envoy clusters that are this backend"`
	Discovery []Identity `json:"discovery" jsonschema_description:"A credential of the backend's own, for requests that no client caused; never for a tool call"`
}

// Identity is one header of a backend's discovery identity, which requests without a client get.
type Identity struct {
	Name   string `json:"name" jsonschema:"required" jsonschema_description:"The header that the backend reads"`
	Prefix string `json:"prefix" jsonschema_description:"Prepended to the content of the file, such as 'Bearer '"`
	File   string `json:"file" jsonschema:"required,minLength=1" jsonschema_description:"The file that holds the value; a relative path is relative to the policy document's folder"`
	Line   int    `json:"-"` // of the document
}

// Limits reject requests that exceed them; nothing is truncated.
type Limits struct {
	Headers    int `json:"headers" jsonschema:"default=64" jsonschema_description:"The maximum number of header lines in one client request"`
	ValueBytes int `json:"value_bytes" jsonschema:"default=8192" jsonschema_description:"The maximum bytes of one value"`
	TotalBytes int `json:"total_bytes" jsonschema:"default=16384" jsonschema_description:"The maximum bytes of all names and values in one client request"`
	BodyBytes  int `json:"body_bytes" jsonschema:"default=4194304" jsonschema_description:"The maximum bytes of one request body that has to be read to know what it asks for"`
}

// Carrier is a way for a ticket to cross the fan-out.
type Carrier string

const (
	// CarrierHeader is the header [TicketHeader].
	CarrierHeader Carrier = "header"
	// CarrierBaggage is the member [BaggageMember] of the W3C baggage header.
	CarrierBaggage Carrier = "baggage"
)

// TicketMode says where the headers are kept while a ticket crosses the fan-out.
type TicketMode string

const (
	// TicketStored keeps the headers in Bellhop's store; the ticket is a reference to them.
	TicketStored TicketMode = "stored"
	// TicketSealed encrypts the headers into the ticket itself.
	TicketSealed TicketMode = "sealed"
)

// Ticket says how tickets are issued and how long they are valid.
type Ticket struct {
	Mode     TicketMode    `json:"mode" jsonschema:"enum=stored,enum=sealed,default=stored" jsonschema_description:"stored: a ticket refers to headers that Bellhop stores. sealed: a ticket contains the headers, encrypted"`
	Carriers []Carrier     `json:"carriers" jsonschema:"minItems=1,uniqueItems=true,enum=header,enum=baggage,default=header" jsonschema_description:"How tickets cross the fan-out, in the order in which egress reads them"`
	Lifetime time.Duration `json:"lifetime" jsonschema:"default=30m" jsonschema_description:"How long an unused ticket can be redeemed"`
	MaxAge   time.Duration `json:"max_age" jsonschema:"default=24h" jsonschema_description:"How long a stored ticket can be redeemed after its client last sent these headers, however often it is used; with baggage at most (and by default) 5m"`
	Rotate   time.Duration `json:"rotate" jsonschema:"default=24h" jsonschema_description:"The same headers get a new ticket this often; with baggage at most (and by default) 5m"`
	Grace    time.Duration `json:"grace" jsonschema:"default=30s" jsonschema_description:"How long a ticket can be used after every session that had it was issued another"`
}

// Session says how MCP sessions are identified.
type Session struct {
	Bind []string      `json:"bind" jsonschema:"uniqueItems=true,default=authorization" jsonschema_description:"The headers of a request that identify its user, the principal; a session belongs to one principal"`
	Idle time.Duration `json:"idle" jsonschema:"default=30m" jsonschema_description:"How long an unused session is kept"`
}

const (
	defaultLifetime = 30 * time.Minute
	defaultMaxAge   = 24 * time.Hour
	defaultRotate   = 24 * time.Hour
	defaultGrace    = 30 * time.Second
	defaultIdle     = 30 * time.Minute
	// maxBaggageAge limits how long a ticket can be used by a reader of a body into which the fan-out has copied it, as
	// vMCP does with baggage, after its client last sent the headers.
	maxBaggageAge = 5 * time.Minute
)

func defaultLimits() Limits {
	return Limits{Headers: 64, ValueBytes: 8192, TotalBytes: 16384, BodyBytes: 4 << 20}
}

func (t Ticket) uses(carrier Carrier) bool {
	for _, listed := range t.Carriers {
		if listed == carrier {
			return true
		}
	}
	return false
}
