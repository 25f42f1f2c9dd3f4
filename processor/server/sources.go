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
	"bellhop/processor/server/files"
	"bellhop/processor/ticket"
)

// sources say where the rules are read from.
type sources struct {
	policies []string // files, and folders of files
	ceiling  string   // empty: none
	keyFile  string   // empty: random is used
	random   ticket.Keys
	files    *files.Reader
}

// load reads all for the first time. Where some documents have faults, the others are served; it is an error where none
// is left, or no key. Faults of documents are returned as [policy.Findings].
func (s sources) load() (reading, error) {
	first := s.next(&rules{})
	if len(first.rules.keys) == 0 || len(first.rules.documents) == 0 {
		return first, first.err()
	}
	return first, nil
}

// reading is what one reading of all files came to.
type reading struct {
	rules  *rules   // what is to be in force
	faults []fault  // why that is not all that the files say
	paths  []string // of the policy documents
	text   []byte   // a digest of all documents
	names  []string // the files that the documents name
}

// fault is one thing that is wrong with the files, as it is counted.
type fault struct {
	outcome  outcome
	document string // path of the policy document that it is about; empty: none, or all
	error
}

func (f fault) Unwrap() error { return f.error }

// err is all that is wrong, or nil. The findings of all documents are one.
func (r reading) err() error {
	var findings, some policy.Findings
	var others []error
	for _, one := range r.faults {
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

// next reads all files and says what is to be in force after before. Each document, the keys and each discovery
// identity is taken by itself, whole: where one has faults, the last good one stays, if there is any.
func (s sources) next(before *rules) reading {
	next := reading{rules: &rules{keys: before.keys, documents: before.documents}}
	if read, err := s.read(); err != nil {
		next.faults = append(next.faults, fault{outcomeUnreadable, "", err})
	} else {
		next.text, next.paths = read.digest(), read.paths()
		next.rules.documents, next.faults = read.parse(before)
	}
	if keys, err := s.keys(); err != nil {
		next.faults = append(next.faults, fault{outcomeKeys, "", err})
	} else {
		next.rules.keys = keys
	}
	next.names = next.rules.files()
	documents, faults := next.rules.identified(s.files, before)
	next.rules.documents, next.faults = documents, append(next.faults, faults...)
	return next
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

// texts are all documents as they were read at one time.
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

// isPolicy passes over hidden files: Kubernetes keeps its own there.
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

// watched are the paths on the command line, and in each folder one more that is not there: in it files may be made.
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

// digest is one of all texts, and of the names that they have.
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

// parse makes documents that lack their discovery identities. In the place of one with faults stands the one before, if
// there is any; with a faulty ceiling, all of these. Faults of documents are [policy.Findings].
func (t texts) parse(before *rules) ([]*document, []fault) {
	var ceiling *policy.Ceiling
	if t.ceiling != nil {
		loaded, findings := policy.LoadCeiling(t.ceiling.path, t.ceiling.text)
		if loaded == nil {
			return before.documents, []fault{{outcomeFaults, "", findings}}
		}
		ceiling = loaded
	}
	var documents []*document
	var faults []fault
	for _, file := range t.policies {
		was, known := before.at(file.path)
		loaded, err := file.parse(ceiling, was)
		if err != nil {
			faults = append(faults, *err)
			loaded = was
		}
		if err == nil || known {
			documents = append(documents, loaded)
		}
	}
	return unambiguous(documents, before, faults)
}

// parse makes one document of a file; was is the one before, or nil.
func (f file) parse(ceiling *policy.Ceiling, was *document) (*document, *fault) {
	if f.unread != nil {
		return nil, &fault{outcomeUnreadable, f.path, f.unread}
	}
	loaded, findings := policy.LoadUnder(ceiling, f.path, f.text)
	if loaded == nil {
		return nil, &fault{outcomeFaults, f.path, findings}
	}
	name, _, _ := strings.Cut(filepath.Base(f.path), ".")
	switch fanout := loaded.Fanout(); {
	case f.inFolder && fanout != name:
		return nil, &fault{
			outcomeFaults,
			f.path,
			fmt.Errorf(
				"%s is for the fan-out %q: in a folder each document has the name of its fan-out, so that no team takes "+
					"another's place; write fanout: %s, or call the file %s.yaml",
				f.path,
				fanout,
				name,
				fanout,
			),
		}
	case was != nil && was.policy.Fanout() != fanout:
		return nil, &fault{
			outcomeFanout,
			f.path,
			fmt.Errorf(
				"%s: fanout has changed from %q to %q, which needs a restart: change it back, or restart Bellhop",
				f.path,
				was.policy.Fanout(),
				fanout,
			),
		}
	default:
		return &document{path: f.path, policy: loaded, findings: findings}, nil
	}
}

// unambiguous leaves each fan-out one document: the one that it had, or none where several are new.
func unambiguous(documents []*document, before *rules, faults []fault) ([]*document, []fault) {
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
		faults = append(
			faults,
			fault{
				outcomeFaults,
				one.path,
				fmt.Errorf(
					"%s and %s are both for the fan-out %q: write fanout: with a name of its own into each, and into the "+
						"bellhop-fanout of its filters",
					one.path,
					documents[i].path,
					one.policy.Fanout(),
				),
			},
		)
	}
	return left, faults
}
