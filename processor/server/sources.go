package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

// sources say where the rules are read from.
type sources struct {
	policies []string // files, and folders of files
	ceiling  string   // empty: none
	keyFile  string   // empty: random is used
	random   ticket.Keys
}

// load reads all documents and all that they name, or none; only discovery identities may be missing, see [rules.unread].
// Faults of the documents are returned as [policy.Findings].
func (s sources) load() (*rules, error) {
	read, err := s.read(readAny)
	if err != nil {
		return nil, err
	}
	parsed, err := read.parse()
	if err != nil {
		return nil, err
	}
	if parsed.keys, err = s.keys(); err != nil {
		return nil, err
	}
	return parsed.identified(), nil
}

// keys reads the keys of tickets.
func (s sources) keys() (ticket.Keys, error) {
	if s.keyFile == "" {
		return s.random, nil
	}
	content, err := os.ReadFile(s.keyFile)
	if err != nil {
		return nil, fmt.Errorf("--key-file: %w; make one with: bellhop keygen --add %s", err, s.keyFile)
	}
	keys, err := ticket.ParseKeys(content)
	if err != nil {
		return nil, fmt.Errorf("--key-file %s: %w", s.keyFile, err)
	}
	return keys, nil
}

func readAny(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; write one, or correct the path", err)
	}
	return text, nil
}

// file is one document as it was read.
type file struct {
	path string
	text []byte
}

// texts are all documents as they were read at one time.
type texts struct {
	ceiling  *file
	policies []file
}

// read reads all documents, each with open.
func (s sources) read(open func(path string) ([]byte, error)) (texts, error) {
	var read texts
	paths, err := s.paths()
	if err != nil {
		return read, err
	}
	for _, path := range paths {
		text, err := open(path)
		if err != nil {
			return read, fmt.Errorf("--policy: %w", err)
		}
		read.policies = append(read.policies, file{path, text})
	}
	if s.ceiling != "" {
		text, err := open(s.ceiling)
		if err != nil {
			return read, fmt.Errorf("--ceiling: %w", err)
		}
		read.ceiling = &file{s.ceiling, text}
	}
	return read, nil
}

// paths lists the policy documents; those of a folder by name.
func (s sources) paths() ([]string, error) {
	var paths []string
	for _, path := range s.policies {
		if !isFolder(path) {
			paths = append(paths, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("--policy: %w; make the folder readable, or correct the path", err)
		}
		before := len(paths)
		for _, entry := range entries {
			if name := filepath.Join(path, entry.Name()); isPolicy(entry.Name()) && name != s.ceiling && !isFolder(name) {
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

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// isPolicy passes over hidden files: Kubernetes keeps its own there.
func isPolicy(name string) bool {
	return !strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml"))
}

// watchable reports whether all documents can be read again: a pipe cannot. One that is missing may come back.
func (s sources) watchable() bool {
	return !slices.ContainsFunc(s.named(), func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && !info.IsDir() && !info.Mode().IsRegular()
	})
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
		if isFolder(path) {
			watched = append(watched, filepath.Join(path, "*.yaml"))
		}
	}
	if s.keyFile != "" {
		watched = append(watched, s.keyFile)
	}
	return watched
}

// digest is one of all texts, and of the names that they have.
func (t texts) digest() [sha256.Size]byte {
	sum := sha256.New()
	all := t.policies
	if t.ceiling != nil {
		all = append(slices.Clone(all), *t.ceiling)
	}
	for _, file := range all {
		_, _ = fmt.Fprintf(sum, "%d %s %d ", len(file.path), file.path, len(file.text))
		sum.Write(file.text)
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// parse makes rules that lack their discovery identities. Faults of the documents are returned as [policy.Findings].
func (t texts) parse() (*rules, error) {
	var ceiling *policy.Ceiling
	var faults policy.Findings
	if t.ceiling != nil {
		loaded, findings := policy.LoadCeiling(t.ceiling.path, t.ceiling.text)
		if loaded == nil {
			return nil, findings
		}
		ceiling = loaded
	}
	all := &rules{}
	for _, file := range t.policies {
		loaded, findings := policy.LoadUnder(ceiling, file.path, file.text)
		if loaded == nil {
			faults = append(faults, findings...)
			continue
		}
		all.documents = append(all.documents, &document{path: file.path, policy: loaded, findings: findings})
	}
	if len(faults) > 0 {
		return nil, faults
	}
	if err := all.unambiguous(); err != nil {
		return nil, err
	}
	return all, nil
}

// unambiguous wants each fan-out to have one policy.
func (r *rules) unambiguous() error {
	var faults []error
	for i, document := range r.documents {
		for _, other := range r.documents[:i] {
			if other.policy.Fanout() == document.policy.Fanout() {
				faults = append(faults, fmt.Errorf("%s and %s are both for the fan-out %q: write fanout: with a name of its own into each, and into the bellhop-fanout of its filters",
					other.path, document.path, document.policy.Fanout()))
			}
		}
	}
	return errors.Join(faults...)
}
