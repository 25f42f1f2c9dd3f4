package server

import (
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"

	"bellhop/policy"
	"bellhop/processor"
	"bellhop/processor/server/credentials"
	"bellhop/processor/ticket"
)

// configuration is all served policies, with the files that they name, and the keys of tickets. It is immutable.
type configuration struct {
	keys      ticket.Keys
	documents []*document // by path
}

// document is one policy with the files that it names.
type document struct {
	path   string
	text   []byte
	policy *policy.Policy
	// withdrawn says that the policy is above the ceiling: its requests are refused.
	withdrawn bool
	allowed   []string        // the folders beneath which its discovery files lie; nil: any, for there is no ceiling
	findings  policy.Findings // warnings
	// identities are the discovery identities, by backend; an empty one could not be read, now or before.
	identities map[string][]policy.Header
}

// readIdentity reads the discovery identity of a backend, or says why it cannot.
type readIdentity func(policy.Backend, credentials.Place) ([]policy.Header, error)

// identified returns the documents with the present discovery identities. Where one cannot be read, the last good one
// stays in force, and with it, if the policy has changed, the policy before.
func (r *configuration) identified(
	read readIdentity,
	before *configuration,
) (documents []*document, loadErrors []loadError) {
	for _, document := range r.documents {
		was, known := before.at(document.path)
		same := known && was.samePolicy(document)
		next, err := document.identified(read, was, same)
		if err != nil {
			loadErrors = append(loadErrors, loadError{outcomeDiscovery, document.path, err})
		}
		if err != nil && known && !same && !was.lacks(next) {
			next, _ = was.identified(read, was, true)
		}
		documents = append(documents, next)
	}
	return documents, loadErrors
}

// lacks reports whether this document lacks every identity that other lacks: then there is no good one to keep.
func (d *document) lacks(other *document) bool {
	for backend, identity := range other.identities {
		if own, has := d.identities[backend]; len(identity) == 0 && (!has || len(own) > 0) {
			return false
		}
	}
	return true
}

// identified returns the document with its present discovery identities; where one cannot be read, with the last good
// one of the same policy.
func (d *document) identified(read readIdentity, was *document, same bool) (*document, error) {
	next := *d
	next.identities = map[string][]policy.Header{}
	var loadErrors []error
	for _, backend := range d.policy.Backends() {
		if len(backend.Discovery) == 0 || d.withdrawn {
			continue
		}
		identity, err := read(backend, d.place())
		loadErrors = append(loadErrors, err)
		if err != nil && same {
			identity = was.identities[backend.Name]
		}
		next.identities[backend.Name] = identity
	}
	return &next, errors.Join(loadErrors...)
}

// processed returns the configuration in the processor's form.
func (r *configuration) processed() []processor.Rules {
	var all []processor.Rules
	for _, document := range r.documents {
		all = append(all, processor.Rules{
			Policy: document.policy, Identities: document.identities, Withdrawn: document.withdrawn,
		})
	}
	return all
}

// sealed reports whether any policy uses sealed tickets.
func (r *configuration) sealed() bool {
	return slices.ContainsFunc(r.documents, func(d *document) bool { return d.policy.Sealed() })
}

// policies returns the policies in force, by the path of their document.
func (r *configuration) policies() []*policy.Policy {
	var all []*policy.Policy
	for _, document := range r.documents {
		all = append(all, document.policy)
	}
	return all
}

// fanouts are the names of the fan-outs.
func (r *configuration) fanouts() []string {
	var names []string
	for _, document := range r.documents {
		names = append(names, document.policy.Fanout())
	}
	return names
}

// files lists all files from which the configuration was read.
func (r *configuration) files() []string {
	var files []string
	for _, document := range r.documents {
		files = append(
			append(files, document.path),
			document.credentials()...)
	}
	return files
}

// credentials lists the files of discovery identities. A policy above the ceiling may name any file, and has none.
func (d *document) credentials() []string {
	if d.withdrawn {
		return nil
	}
	return credentials.Files(d.policy.Backends(), d.place())
}

// place is where the files that the document names may lie.
func (d *document) place() credentials.Place {
	return credentials.Place{Folder: filepath.Dir(d.path), Allowed: d.allowed}
}

// below returns the configuration with the documents above a ceiling withdrawn.
func (r *configuration) below(ceiling *policy.Ceiling) *configuration {
	if ceiling == nil {
		return r
	}
	next := &configuration{keys: r.keys}
	for _, one := range r.documents {
		if loaded, _ := policy.LoadUnder(ceiling, one.path, one.text); loaded == nil {
			withdrawn := *one
			withdrawn.withdrawn, withdrawn.identities = true, nil
			one = &withdrawn
		}
		next.documents = append(next.documents, one)
	}
	return next
}

// at returns the document of a path.
func (r *configuration) at(path string) (*document, bool) {
	i := slices.IndexFunc(r.documents, func(d *document) bool { return d.path == path })
	if i < 0 {
		return nil, false
	}
	return r.documents[i], true
}

// same reports whether other has the same policies, byte for byte, the same discovery identities, and the same keys.
func (r *configuration) same(other *configuration) bool {
	return r.keys.Equal(other.keys) && slices.EqualFunc(r.documents, other.documents, func(a, b *document) bool {
		return a.path == b.path && a.samePolicy(b) && a.sameIdentities(b)
	})
}

func (d *document) samePolicy(other *document) bool {
	return d.policy.Digest() == other.policy.Digest() && d.withdrawn == other.withdrawn
}

func (d *document) sameIdentities(other *document) bool {
	return maps.EqualFunc(d.identities, other.identities, func(a, b []policy.Header) bool {
		return slices.EqualFunc(a, b, func(a, b policy.Header) bool { return a.Name == b.Name && a.Value.Equal(b.Value) })
	})
}

// beyond lists the headers that a proxy has to show, or let Bellhop change, for this policy and not for the other.
func (d *document) beyond(other *document) []string {
	names := slices.Concat(
		missing(d.policy.IngressFootprint(), other.policy.IngressFootprint()),
		missing(d.policy.EgressFootprint(), other.policy.EgressFootprint()),
	)
	slices.Sort(names)
	return slices.Compact(names)
}

func missing(wanted, given policy.Footprint) []string {
	var names []string
	for _, name := range wanted.Reads {
		if !slices.Contains(given.Reads, name) {
			names = append(names, name)
		}
	}
	for _, name := range wanted.Writes {
		if !slices.Contains(given.Writes, name) {
			names = append(names, name)
		}
	}
	return names
}

// warn logs what is legal but unwise.
func (r *configuration) warn(log *slog.Logger) {
	for _, document := range r.documents {
		document.warn(log)
	}
}

func (d *document) warn(log *slog.Logger) {
	for _, finding := range d.findings {
		if finding.Topic != policy.TopicClusters { // Envoy's configuration may name the backends
			log.Warn(finding.Message, "file", finding.File, "line", finding.Line, "hint", finding.Hint)
		}
	}
}
