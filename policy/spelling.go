package policy

import (
	"slices"
	"strings"
)

// Many servers read x_key as x-key: those that hand headers to programs as variables, as CGI (RFC 3875, 4.1.18) and
// WSGI do. So a header in another spelling than the policy's is neither carried nor shown to anybody who would take it
// for the policy's.

// hyphenated returns the spelling by which names are compared: in lower case, with hyphens for underscores.
func hyphenated(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return r == '_' || 'A' <= r && r <= 'Z' }) < 0 {
		return name
	}
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// spellings are names and families of a policy that headers in another spelling are compared with.
type spellings struct {
	patterns    []string
	hyphenated  []string // the same, as they are compared
	underscored bool     // a pattern is written with an underscore, so that a name without one can be another spelling
}

func newSpellings(patterns []string) spellings {
	s := spellings{patterns: patterns}
	for _, pattern := range patterns {
		s.hyphenated = append(s.hyphenated, hyphenated(pattern))
		s.underscored = s.underscored || strings.Contains(pattern, "_")
	}
	return s
}

// respelled returns the position of the pattern of which a name is another spelling; -1: of none. A name that a pattern
// covers as it is written is not.
func (s *spellings) respelled(name string) int {
	if !s.underscored && strings.IndexByte(name, '_') < 0 {
		return -1
	}
	if slices.ContainsFunc(s.patterns, func(pattern string) bool { return matches(pattern, name) }) {
		return -1
	}
	spelled := hyphenated(name)
	return slices.IndexFunc(s.hyphenated, func(pattern string) bool { return matches(pattern, spelled) })
}

// writtenAtBackends lists the names and families that the policy captures or sets at any backend.
func (p *Policy) writtenAtBackends() []string {
	patterns := p.Patterns()
	for _, rule := range p.doc.Forward {
		patterns = appendOnce(patterns, rule.As)
	}
	for _, backend := range p.doc.Backends {
		for _, identity := range backend.Discovery {
			patterns = appendOnce(patterns, identity.Name)
		}
	}
	return patterns
}

// SpelledPattern returns the name or family of which a header's name is another spelling, or "".
func (p *Policy) SpelledPattern(name string) string {
	if at := p.spelled.respelled(name); at >= 0 {
		return p.spelled.patterns[at]
	}
	return ""
}

// hideRespelled keeps from the fan-out what it could take for a header that it must not see. It reports whether the
// header is one in another spelling.
func (p *Policy) hideRespelled(taken *Captured, name string, atMost int) bool {
	at := p.sources.spelled.respelled(name)
	if at < 0 {
		return false
	}
	taken.Respelled = appendOnce(taken.Respelled, name)
	if p.sources.list[at].hide {
		p.hide(taken, name, atMost)
	}
	return true
}

// dropRespelled removes from a request to a backend what the backend could take for a header of the policy's, and
// returns the rest.
func (p *Policy) dropRespelled(request []Header, decision *Decision) []Header {
	left, dropped := decision.drop(request, func(header Header) bool { return p.spelled.respelled(header.Name) >= 0 })
	for _, header := range dropped {
		decision.Verdicts = append(decision.Verdicts, Verdict{Header: header.Name, Outcome: OutcomeSpelling})
	}
	return left
}
