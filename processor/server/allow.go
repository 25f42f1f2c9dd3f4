package server

import (
	"crypto/x509"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"bellhop/policy"
	"bellhop/processor/extproc"
	"bellhop/processor/server/files"
)

// allowance says that proxies with a certificate of such a name may name a fan-out.
type allowance struct{ pattern, fanout string }

// readAllowances reads PATTERN=FANOUT from the flags and from a file of such lines. All errors are reported at once.
func readAllowances(flags []string, file string, reader *files.Reader) ([]allowance, error) {
	var all []allowance
	var errs []error
	read := func(where, text string) {
		one, err := parseAllowance(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", where, text, err))
		}
		all = append(all, one)
	}
	for _, text := range flags {
		read("--tls-allow", text)
	}
	if file != "" {
		content, err := reader.Read(file, files.MaxDocument)
		if err != nil {
			return nil, fmt.Errorf("--tls-allow-file: %w", err)
		}
		for i, line := range strings.Split(string(content), "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				read(fmt.Sprintf("--tls-allow-file %s:%d:", file, i+1), line)
			}
		}
	}
	return all, errors.Join(errs...)
}

func parseAllowance(text string) (allowance, error) {
	i := strings.LastIndex(text, "=")
	if i <= 0 {
		return allowance{}, errors.New("write PATTERN=FANOUT, such as spiffe://cluster.local/ns/search/sa/*=search")
	}
	one := allowance{pattern: text[:i], fanout: text[i+1:]}
	if _, err := path.Match(one.separated(one.pattern), ""); err != nil || strings.Contains(one.pattern, "?") {
		return one, errors.New("the pattern is not one: write a URI or a DNS name, with * for one part of it")
	}
	if one.fanout != "" && !policy.ValidLabel(one.fanout) {
		return one, errors.New("what follows = cannot be the name of a fan-out")
	}
	return one, nil
}

// isURI reports whether the pattern is of URIs, such as SPIFFE IDs, and not of DNS names.
func (a allowance) isURI() bool { return strings.Contains(a.pattern, "://") }

// separated writes a name with / between its parts, so that * stands for one part: of a path, or a label of a DNS name.
func (a allowance) separated(name string) string {
	if a.isURI() {
		return name
	}
	return strings.ReplaceAll(strings.ToLower(name), ".", "/")
}

// matches reports whether a certificate has a name of the pattern. A common name is none.
func (a allowance) matches(certificate *x509.Certificate) bool {
	names := certificate.DNSNames
	if a.isURI() {
		names = nil
		for _, uri := range certificate.URIs {
			names = append(names, uri.String())
		}
	}
	return slices.ContainsFunc(names, func(name string) bool {
		matched, err := path.Match(a.separated(a.pattern), a.separated(name))
		return matched && err == nil
	})
}

// allowed says which fan-outs a certificate may name, or nil for all.
func allowed(all []allowance) extproc.Allowed {
	if len(all) == 0 {
		return nil
	}
	return func(certificate *x509.Certificate, fanout string) bool {
		return slices.ContainsFunc(all, func(a allowance) bool { return a.fanout == fanout && a.matches(certificate) })
	}
}
