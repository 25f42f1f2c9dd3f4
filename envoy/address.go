package envoy

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Place is a host and a port that can be connected to.
type Place struct {
	Host string     // a DNS name, or an IP address without brackets
	IP   netip.Addr // valid where host is an IP address
	Port uint16
}

// loopback reports whether the place can only be on this machine.
func (p Place) loopback() bool { return p.IP.IsLoopback() || p.Host == "localhost" }

// String is the place as HOST:PORT.
func (p Place) String() string { return net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))) }

// Target is the base URL of an HTTP server.
type Target struct {
	Place
	Secure bool
	Path   string // escaped; empty for the root
}

// Authority is the Host header that the server expects.
func (t Target) Authority() string {
	if t.Secure && t.Port == 443 || !t.Secure && t.Port == 80 {
		if t.IP.Is6() {
			return "[" + t.Host + "]"
		}
		return t.Host
	}
	return t.String()
}

// Endpoint is where one Bellhop listens: a Unix socket or a place.
type Endpoint struct {
	Place
	pipe string
}

// parseListen reads IP:PORT. A name would leave it to DNS where Envoy listens.
func parseListen(text string) (netip.AddrPort, *Problem) {
	address, err := netip.ParseAddrPort(text)
	if err != nil || address.Port() == 0 || address.Addr().Zone() != "" {
		return netip.AddrPort{}, &Problem{"is not an IP address and a port", "write it like 127.0.0.1:8080 or [::1]:8080"}
	}
	return netip.AddrPortFrom(address.Addr().Unmap(), address.Port()), nil
}

// overlap reports whether two listeners cannot both be opened.
func overlap(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && (a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified())
}

// ParseTarget reads an http or https URL that names a server and, at most, a path.
func ParseTarget(text string) (Target, *Problem) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "":
		return Target{}, &Problem{"is not a URL", "write it like http://127.0.0.1:9001/mcp"}
	case u.Scheme != "http" && u.Scheme != "https":
		return Target{}, &Problem{"has no scheme that is known", "begin it with http:// or https://"}
	case u.User != nil:
		return Target{}, &Problem{
			"holds a user or a password",
			"take it out; a credential belongs into the policy, as a header or a discovery identity",
		}
	case u.RawQuery != "" || u.ForceQuery:
		return Target{}, &Problem{"has a query", "take out all from the ? on; each request brings its own query"}
	case strings.Contains(text, "#"):
		return Target{}, &Problem{"has a fragment", "take out all from the # on; fragments are never sent"}
	}
	port := u.Port()
	if port == "" && !strings.HasSuffix(u.Host, ":") {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	where, p := parsePlace(u.Hostname(), port)
	if p != nil {
		return Target{}, p
	}
	path := u.EscapedPath()
	if path == "/" {
		path = ""
	}
	return Target{Place: where, Secure: u.Scheme == "https", Path: path}, nil
}

// OddPath finds a path that is not written as Envoy reads it, so that no request would match it.
func (t Target) OddPath() *Problem {
	encoded := regexp.MustCompile(`(?i)%([01].|2[def]|3[0-9]|4[1-9a-f]|5[0-9acf]|6[1-9a-f]|7[0-9aef])`)
	dots := regexp.MustCompile(`/\.\.?(;[^/]*)?(/|$)`)
	if strings.Contains(t.Path, "//") || dots.MatchString(t.Path) || encoded.MatchString(t.Path) {
		return &Problem{
			"has a path that is not in its plain form",
			"write it without //, dots as segments, and escapes of letters, digits, slashes or -._~",
		}
	}
	return nil
}

// ParseEndpoint reads unix:///PATH, HOST:PORT or tcp://HOST:PORT.
func ParseEndpoint(text string) (Endpoint, *Problem) {
	// The kernel's sockaddr_un has room for 107 bytes and a final zero.
	const longest = 107
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		path, rooted := strings.CutPrefix(path, "//")
		switch {
		case !rooted || !strings.HasPrefix(path, "/"):
			return Endpoint{}, &Problem{"is not an absolute path", "write it like " + DefaultBellhop + ", with three slashes"}
		case len(path) > longest:
			return Endpoint{}, &Problem{
				"is too long for a Unix socket",
				"choose a path of at most " + strconv.Itoa(longest) + " bytes",
			}
		}
		return Endpoint{pipe: path}, nil
	}
	const hint = "write unix:///PATH or HOST:PORT"
	host, port, err := net.SplitHostPort(strings.TrimPrefix(text, "tcp://"))
	if err != nil {
		return Endpoint{}, &Problem{"is neither a Unix socket nor a host and a port", hint}
	}
	where, p := parsePlace(host, port)
	return Endpoint{Place: where}, p
}

// parsePlace checks a host and a port.
func parsePlace(host, port string) (Place, *Problem) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return Place{}, &Problem{"has no usable port", "write a port from 1 to 65535"}
	}
	where := Place{Host: strings.ToLower(host), Port: uint16(number)}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" || ip.IsUnspecified() {
			return Place{}, &Problem{
				"is not an address that can be connected to",
				"write the server's own address, without a zone",
			}
		}
		where.IP = ip.Unmap()
		where.Host = where.IP.String()
		return where, nil
	}
	if !ValidHost(where.Host) {
		return Place{}, &Problem{"has no usable host", "write an IP address or a DNS name, without a final dot"}
	}
	return where, nil
}

// ValidHost reports whether host is a DNS name. One that ends in a number is a mistyped IP address.
func ValidHost(host string) bool {
	const label = `[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?`
	names := regexp.MustCompile(`^(` + label + `\.)*` + label + `$`)
	last := host[strings.LastIndexByte(host, '.')+1:]
	return len(host) <= 253 && names.MatchString(host) && strings.Trim(last, "0123456789") != ""
}
