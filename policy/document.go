package policy

import "time"

// Version is the version of the policy language that this package reads.
const Version = 1

// Document is a policy as it is written, with the defaults filled in. Names are in lower case.
type Document struct {
	Version  int
	Fanout   string // optional; tickets of one fan-out are worthless at another
	Forward  []Rule
	Backends []Backend // nil: no world is declared, every backend behind the filter may be meant
	Limits   Limits
	Ticket   Ticket
}

// Rule names one header that may be carried, and where to.
type Rule struct {
	Name   string
	To     []string // backends; empty: every declared backend
	As     string   // the name at the backend; equal to Name unless the rule renames
	Prefix string   // put before each value at the backend
	Hide   bool     // the fan-out does not see the header
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
}

const (
	defaultLifetime = 30 * time.Minute
	defaultRotate   = 24 * time.Hour
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
