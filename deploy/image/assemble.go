package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user runs Bellhop, and owns the folder of its socket.
const user = 65532

// labels are those of the Dockerfile.
func labels(revision string) map[string]string {
	all := map[string]string{
		"org.opencontainers.image.title": "Bellhop",
		"org.opencontainers.image.description": "Carries a client's own headers through an MCP gateway, as an Envoy " +
			"external processing server",
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
	if revision != "" {
		all["org.opencontainers.image.revision"] = revision
	}
	return all
}

// assemble makes the image of one layer: the binary, and the folder of its socket.
func assemble(binary, architecture, revision string) (v1.Image, error) {
	content, err := files(binary)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithMediaType(types.OCILayer),
	)
	if err != nil {
		return nil, err
	}
	image, err := mutate.Append(
		mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "bellhop/deploy/image"}},
	)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	config.Config = v1.Config{
		User:       fmt.Sprintf("%d:%d", user, user),
		Entrypoint: []string{"/bellhop"},
		WorkingDir: "/",
		Labels:     labels(revision),
	}
	return mutate.ConfigFile(image, config)
}

// files is the layer: nothing in it says when or where it was made.
func files(binary string) ([]byte, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, entry := range []tar.Header{
		{Name: "bellhop", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))},
		{Name: "run/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "run/bellhop/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: user, Gid: user},
	} {
		if err := add(w, entry, program); err != nil {
			return nil, err
		}
	}
	return content.Bytes(), w.Close()
}

// add writes one entry, with its content if it is a file.
func add(w *tar.Writer, entry tar.Header, content []byte) error {
	entry.Format, entry.ModTime = tar.FormatUSTAR, time.Unix(0, 0)
	if err := w.WriteHeader(&entry); err != nil {
		return err
	}
	if entry.Typeflag != tar.TypeReg {
		return nil
	}
	_, err := w.Write(content)
	return err
}

// writeArchive writes an OCI image layout as one file, with the index by which older programs find an image in it.
func writeArchive(image v1.Image, file string) error {
	folder, err := os.MkdirTemp("", "image")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	written, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	if err := written.AppendImage(image,
		layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": reference})); err != nil {
		return err
	}
	index, err := oldIndex(image)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "manifest.json"), index, 0o600); err != nil {
		return err
	}
	return pack(folder, file)
}

// oldIndex is the manifest.json of docker save.
func oldIndex(image v1.Image) ([]byte, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	blob := func(digest v1.Hash) string { return path.Join("blobs", digest.Algorithm, digest.Hex) }
	var layers []string
	for _, layer := range manifest.Layers {
		layers = append(layers, blob(layer.Digest))
	}
	return json.Marshal(
		[]tarball.Descriptor{{Config: blob(manifest.Config.Digest), RepoTags: []string{reference}, Layers: layers}},
	)
}

// pack writes a folder's files into an archive, in the order of their names.
func pack(folder, file string) error {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	err := fs.WalkDir(os.DirFS(folder), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		return add(w, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}, text)
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, content.Bytes(), 0o644) //nolint:gosec // an image is no secret
}
