// Package credentials reads the discovery identities of backends, the credentials for requests that no client caused.
package credentials

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"bellhop/policy"
	"bellhop/processor/server/files"
)

// Read reads the discovery identity of a backend, whole or not at all. Relative paths are relative to folder. All
// errors are reported at once; none of them shows what a file holds.
func Read(reader *files.Reader, backend policy.Backend, folder string) ([]policy.Header, error) {
	var identity []policy.Header
	var errs []error
	for _, one := range backend.Discovery {
		header, err := read(reader, one, folder)
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
func Files(backends []policy.Backend, folder string) []string {
	var files []string
	for _, backend := range backends {
		for _, identity := range backend.Discovery {
			files = append(files, locate(identity, folder))
		}
	}
	return files
}

func locate(identity policy.Identity, folder string) string {
	if filepath.IsAbs(identity.File) {
		return identity.File
	}
	return filepath.Join(folder, identity.File)
}

func read(reader *files.Reader, identity policy.Identity, folder string) (policy.Header, error) {
	path := locate(identity, folder)
	content, err := reader.Read(path, files.MaxCredential)
	if err != nil {
		return policy.Header{}, fmt.Errorf("%w; make the file readable, or correct file: in the policy", err)
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
