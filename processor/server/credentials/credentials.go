// Package credentials reads the discovery identities of backends, the credentials for requests that no client caused.
package credentials

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"bellhop/policy"
	"bellhop/processor/server/files"
)

// Place says where the files of a policy may lie.
type Place struct {
	Folder string // of the policy document: relative paths lie beneath it
	// Allowed are the folders of which absolute paths lie beneath one; nil: absolute paths are anywhere, because there is
	// no ceiling that says otherwise.
	Allowed []string
	Own     []string // Bellhop's own secrets: what they hold no backend gets, by whatever name it is called
}

// Read reads the discovery identity of a backend, whole or not at all. No link leads out of the folder beneath which a
// file has to lie. All errors are reported at once; none of them shows what a file holds.
func Read(reader *files.Reader, backend policy.Backend, place Place) ([]policy.Header, error) {
	var identity []policy.Header
	var errs []error
	for _, one := range backend.Discovery {
		header, err := read(reader, one, place)
		if err != nil {
			errs = append(errs, fmt.Errorf("discovery header %s of backend %s: %w", one.Name, backend.Name, err))
			continue
		}
		identity = append(identity, header)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return identity, nil
}

// Files lists the files that [Read] reads.
func Files(backends []policy.Backend, place Place) []string {
	var files []string
	for _, backend := range backends {
		for _, identity := range backend.Discovery {
			files = append(files, place.path(identity))
		}
	}
	return files
}

func (p Place) path(identity policy.Identity) string {
	if filepath.IsAbs(identity.File) {
		return identity.File
	}
	return filepath.Join(p.Folder, identity.File)
}

// content reads a file beneath the folder in which it has to lie.
func (p Place) content(reader *files.Reader, identity policy.Identity) ([]byte, error) {
	if !filepath.IsAbs(identity.File) {
		return reader.ReadBeneath(p.Folder, identity.File, files.MaxCredential)
	}
	if p.Allowed == nil {
		return reader.Read(identity.File, files.MaxCredential)
	}
	for _, folder := range p.Allowed {
		if path, err := filepath.Rel(folder, identity.File); err == nil && filepath.IsLocal(path) {
			return reader.ReadBeneath(folder, path, files.MaxCredential)
		}
	}
	return nil, fmt.Errorf("%s is beneath no folder that the ceiling allows", identity.File)
}

func read(reader *files.Reader, identity policy.Identity, place Place) (policy.Header, error) {
	path := place.path(identity)
	content, err := place.content(reader, identity)
	if err != nil {
		return policy.Header{}, fmt.Errorf("%w; make the file readable, or correct file: in the policy", err)
	}
	if own, err := place.isOwn(reader, content); err != nil || own {
		return policy.Header{}, errors.Join(err, fmt.Errorf(
			"%s holds a key of Bellhop's own, which no backend may get; correct file: in the policy", path,
		))
	}
	text := identity.Prefix + strings.TrimRight(string(content), "\r\n")
	switch {
	case text == identity.Prefix:
		return policy.Header{}, fmt.Errorf("%s is empty; write the credential into it", path)
	case !policy.ValidValue(text):
		return policy.Header{}, fmt.Errorf(
			"%s contains a control character, which no header may have; write one line of text into it",
			path,
		)
	}
	return policy.Header{Name: identity.Name, Value: policy.NewValue(text)}, nil
}

// isOwn reports whether a file holds one of Bellhop's own secrets. The content is compared, because a file has many
// names.
func (p Place) isOwn(reader *files.Reader, content []byte) (bool, error) {
	for _, file := range p.Own {
		own, err := reader.Read(file, files.MaxKeys)
		if err != nil {
			return false, err
		}
		if bytes.Equal(bytes.TrimSpace(own), bytes.TrimSpace(content)) {
			return true, nil
		}
	}
	return false, nil
}
