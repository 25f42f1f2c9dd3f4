package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"bellhop/policy"
	"bellhop/processor/server/credentials"
	"bellhop/processor/server/files"
	"bellhop/processor/ticket"
)

// sources are the files from which the configuration is read.
type sources struct {
	policies []string // files, and folders of files
	ceiling  string   // empty: none
	keyFile  string   // empty: random is used
	own      []string // Bellhop's own secrets, which are no backend's identity
	random   ticket.Keys
	files    *files.Reader
}

// load reads everything for the first time. If some documents are invalid, the others are served; it is an error if
// none is left, or no key. Errors in documents are returned as [policy.Findings].
func (s sources) load() (reading, error) {
	first := s.next(&configuration{})
	serves := slices.ContainsFunc(first.configuration.documents, func(d *document) bool { return !d.withdrawn })
	if len(first.configuration.keys) == 0 || !serves {
		return first, first.err()
	}
	return first, nil
}

// reading is the result of one reading of all files.
type reading struct {
	configuration *configuration // what is to be in force
	loadErrors    []loadError    // why that is not all that the files say
	paths         []string       // of the policy documents
	text          []byte         // a digest of all documents
	names         []string       // the files that the documents name
}

// loadError is one error in the files, with the outcome that it is counted as.
type loadError struct {
	outcome  outcome
	document string // path of the policy document that it is about; empty: none, or all
	error
}

func (f loadError) Unwrap() error { return f.error }

// err joins all errors, or is nil. The findings of all documents become one list.
func (r reading) err() error {
	var findings, some policy.Findings
	var others []error
	for _, one := range r.loadErrors {
		if errors.As(one.error, &some) {
			findings = append(findings, some...)
		} else {
			others = append(others, one)
		}
	}
	switch {
	case len(findings) == 0:
		return errors.Join(others...)
	case len(others) == 0:
		return findings
	default:
		return errors.Join(append([]error{findings}, others...)...)
	}
}

// next reads all files and decides what is in force after before. Each document, the keys and each discovery identity
// is loaded by itself, whole: where it is invalid, the last good version stays, if there is one.
func (s sources) next(before *configuration) reading {
	next := reading{configuration: &configuration{keys: before.keys, documents: before.documents}}
	if read, err := s.read(); err != nil {
		next.loadErrors = append(next.loadErrors, loadError{outcomeUnreadable, "", err})
	} else {
		next.text, next.paths = read.digest(), read.paths()
		next.configuration.documents, next.loadErrors = read.parse(before)
	}
	if keys, err := s.keys(); err != nil {
		next.loadErrors = append(next.loadErrors, loadError{outcomeKeys, "", err})
	} else {
		next.configuration.keys = keys
	}
	next.names = next.configuration.files()
	documents, loadErrors := next.configuration.identified(s.identity, before)
	next.configuration.documents, next.loadErrors = documents, append(next.loadErrors, loadErrors...)
	return next
}

// identity reads the discovery identity of a backend.
func (s sources) identity(backend policy.Backend, place credentials.Place) ([]policy.Header, error) {
	place.Own = s.own
	return credentials.Read(s.files, backend, place)
}

// keys reads the keys of tickets.
func (s sources) keys() (ticket.Keys, error) {
	if s.keyFile == "" {
		return s.random, nil
	}
	content, err := s.files.Read(s.keyFile, files.MaxKeys)
	if err != nil {
		return nil, fmt.Errorf("--key-file: %w; make one with: bellhop keygen --add %s", err, s.keyFile)
	}
	keys, err := ticket.ParseKeys(content)
	if err != nil {
		return nil, fmt.Errorf("--key-file %s: %w", s.keyFile, err)
	}
	return keys, nil
}

// document reads one document.
func (s sources) document(path string) ([]byte, error) {
	text, err := s.files.Read(path, files.MaxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; write one, or correct the path", err)
	}
	return text, err
}

// file is one document as it was read.
type file struct {
	path     string
	text     []byte
	unread   error // not nil: it could not be
	inFolder bool  // of which only the folder is on the command line
}

// texts are all documents of one reading.
type texts struct {
	ceiling  *file
	policies []file
}

// read reads all documents.
func (s sources) read() (texts, error) {
	var read texts
	paths, err := s.paths()
	if err != nil {
		return read, err
	}
	for _, path := range paths {
		text, err := s.document(path)
		if err != nil {
			err = fmt.Errorf("--policy: %w", err)
		}
		read.policies = append(
			read.policies,
			file{path: path, text: text, unread: err, inFolder: !slices.Contains(s.policies, path)},
		)
	}
	if s.ceiling != "" {
		text, err := s.document(s.ceiling)
		if err != nil {
			return read, fmt.Errorf("--ceiling: %w", err)
		}
		read.ceiling = &file{path: s.ceiling, text: text}
	}
	return read, nil
}

// paths lists the policy documents; those of a folder by name.
func (s sources) paths() ([]string, error) {
	var paths []string
	for _, path := range s.policies {
		if !s.files.IsFolder(path) {
			paths = append(paths, path)
			continue
		}
		entries, err := s.files.List(path)
		if err != nil {
			return nil, fmt.Errorf("--policy: %w; make the folder readable, or correct the path", err)
		}
		before := len(paths)
		for _, entry := range entries {
			if name := filepath.Join(path, entry.Name()); isPolicy(entry.Name()) && name != s.ceiling &&
				!s.files.IsFolder(name) {
				paths = append(paths, name)
			}
		}
		if len(paths) == before {
			return nil, fmt.Errorf("--policy %s: the folder holds no policy; write one with a name that ends in .yaml", path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// single reports whether there is one policy, and never another.
func (s sources) single() bool { return len(s.policies) == 1 && !s.files.IsFolder(s.policies[0]) }

// isPolicy skips hidden files: Kubernetes keeps its own there.
func isPolicy(name string) bool {
	return !strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml"))
}

// named are the paths on the command line.
func (s sources) named() []string {
	named := slices.Clone(s.policies)
	if s.ceiling != "" {
		named = append(named, s.ceiling)
	}
	return named
}

// watched are the paths on the command line, and for each folder a name that does not exist: files may appear there.
func (s sources) watched() []string {
	var watched []string
	for _, path := range s.named() {
		watched = append(watched, path)
		if s.files.IsFolder(path) {
			watched = append(watched, filepath.Join(path, "*.yaml"))
		}
	}
	if s.keyFile != "" {
		watched = append(watched, s.keyFile)
	}
	return watched
}

// paths are those of the policy documents.
func (t texts) paths() []string {
	var paths []string
	for _, file := range t.policies {
		paths = append(paths, file.path)
	}
	return paths
}

// digest covers all texts and their paths.
func (t texts) digest() []byte {
	sum := sha256.New()
	all := t.policies
	if t.ceiling != nil {
		all = append(slices.Clone(all), *t.ceiling)
	}
	for _, file := range all {
		_, _ = fmt.Fprintf(sum, "%d %s %d ", len(file.path), file.path, len(file.text))
		sum.Write(file.text)
	}
	return sum.Sum(nil)
}

// parse makes documents without their discovery identities. An invalid one is replaced by the one before, if there is
// any; with an invalid ceiling, all are. Errors in documents are [policy.Findings].
func (t texts) parse(before *configuration) ([]*document, []loadError) {
	var ceiling *policy.Ceiling
	if t.ceiling != nil {
		loaded, findings := policy.LoadCeiling(t.ceiling.path, t.ceiling.text)
		if loaded == nil {
			return before.documents, []loadError{{outcomeInvalid, "", findings}}
		}
		ceiling = loaded
	}
	before = before.below(ceiling)
	var documents []*document
	var loadErrors []loadError
	for _, file := range t.policies {
		was, _ := before.at(file.path)
		loaded, err := file.parse(ceiling, was)
		if err != nil {
			loadErrors = append(loadErrors, err.withdrawing(was))
			loaded = was
		}
		if loaded == nil && err != nil {
			loaded = file.above(ceiling)
		}
		if loaded != nil {
			documents = append(documents, loaded)
		}
	}
	return unambiguous(documents, before, loadErrors)
}

// above returns the document of a file that is sound but for the ceiling, or nil: its fan-out is known, so that its
// requests can be refused with a reason.
func (f file) above(ceiling *policy.Ceiling) *document {
	if ceiling == nil || f.unread != nil {
		return nil
	}
	bare := f
	loaded, err := bare.parse(nil, nil)
	if err != nil {
		return nil
	}
	loaded.withdrawn = true
	return loaded
}

// withdrawing is the error as that of a document that is above the ceiling, if the last good one is.
func (f loadError) withdrawing(was *document) loadError {
	if was != nil && was.withdrawn {
		f.outcome = outcomeCeiling
	}
	return f
}

// parse makes a document of a file; was is the one before, or nil.
func (f file) parse(ceiling *policy.Ceiling, was *document) (*document, *loadError) {
	if f.unread != nil {
		return nil, &loadError{outcomeUnreadable, f.path, f.unread}
	}
	loaded, findings := policy.LoadUnder(ceiling, f.path, f.text)
	if loaded == nil {
		return nil, &loadError{outcomeInvalid, f.path, findings}
	}
	name := strings.TrimSuffix(filepath.Base(f.path), filepath.Ext(f.path))
	switch fanout := loaded.Fanout(); {
	case f.inFolder && strings.Contains(name, "."):
		return nil, &loadError{outcomeInvalid, f.path, fmt.Errorf(
			"%s: in a folder each document has the name of its fan-out, without a dot, so that no team takes another's "+
				"place; rename the file, and the fan-out if its name has a dot", f.path,
		)}
	case f.inFolder && fanout != name:
		return nil, &loadError{outcomeInvalid, f.path, fmt.Errorf(
			"%s is for the fan-out %q: in a folder each document has the name of its fan-out, so that no team takes "+
				"another's place; write fanout: %s, or call the file %s.yaml", f.path, fanout, name, fanout,
		)}
	case was != nil && was.policy.Fanout() != fanout:
		return nil, &loadError{
			outcomeFanout,
			f.path,
			fmt.Errorf(
				"%s: fanout has changed from %q to %q, which needs a restart: change it back, or restart Bellhop", f.path,
				was.policy.Fanout(), fanout,
			),
		}
	default:
		made := &document{path: f.path, text: f.text, policy: loaded, findings: findings}
		if ceiling != nil {
			made.allowed = ceiling.Folders(loaded.Fanout())
		}
		return made, nil
	}
}

// unambiguous leaves one document for each fan-out: the one that it had, or none where several are new.
func unambiguous(documents []*document, before *configuration, loadErrors []loadError) ([]*document, []loadError) {
	var left []*document
	for _, one := range documents {
		_, known := before.at(one.path)
		i := slices.IndexFunc(documents, func(other *document) bool {
			_, has := before.at(other.path)
			return other != one && other.policy.Fanout() == one.policy.Fanout() && (has || !known)
		})
		if i < 0 {
			left = append(left, one)
			continue
		}
		loadErrors = append(loadErrors, loadError{outcomeInvalid, one.path, fmt.Errorf(
			"%s and %s are both for the fan-out %q: write another fanout: into one of them, and into the bellhop-fanout of "+
				"its filters", one.path, documents[i].path, one.policy.Fanout(),
		)})
	}
	return left, loadErrors
}
