// Command image makes Bellhop's image without a container engine: the static binary alone, as an archive that docker,
// podman and others load, and a list of what the binary is made of beside it. The same source makes the same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

// reference is what the archive calls the image.
const reference = "bellhop:dev"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var o options
	flag.StringVar(&o.source, "source", ".", "the project's folder")
	flag.StringVar(&o.out, "out", "bin/image", "the folder to write to")
	flag.StringVar(&o.platform, "platform", "linux/amd64", "linux/ARCHITECTURE")
	flag.StringVar(&o.revision, "revision", "", "the commit that it is made from, for a label")
	flag.Parse()
	made, err := build(ctx, o)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s %s\n%s\n%s\n", reference, made.digest, made.archive, made.sbom)
	return err
}

type options struct {
	source, out, platform, revision string
}

// made is what a build leaves behind.
type made struct {
	binary, archive, sbom string // files
	digest                string // of the image
}

func build(ctx context.Context, o options) (made, error) {
	system, architecture, ok := strings.Cut(o.platform, "/")
	if !ok || system != "linux" {
		return made{}, fmt.Errorf("--platform %s: write linux/amd64 or linux/arm64", o.platform)
	}
	out, err := filepath.Abs(o.out)
	if err != nil {
		return made{}, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // an image is no secret
		return made{}, err
	}
	name := filepath.Join(out, "bellhop-linux-"+architecture)
	m := made{binary: name, archive: name + ".tar", sbom: name + ".cdx.json"}
	if err := compile(ctx, o.source, architecture, m.binary); err != nil {
		return made{}, err
	}
	image, err := assemble(m.binary, architecture, o.revision)
	if err != nil {
		return made{}, fmt.Errorf("assemble the image: %w", err)
	}
	digest, err := image.Digest()
	if err != nil {
		return made{}, err
	}
	m.digest = digest.String()
	return m, errors.Join(writeArchive(image, m.archive), writeSBOM(m.binary, m.sbom))
}

// compile builds the binary as the Dockerfile does: static, and the same wherever and whenever it is built.
func compile(ctx context.Context, source, architecture, binary string) error {
	command := exec.CommandContext(
		ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", binary, "./cmd/bellhop",
	)
	command.Dir = source
	command.Env = append(
		os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture, "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=",
		"GOAMD64=", "GOARM64=",
	)
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("build Bellhop: %w", err)
	}
	return nil
}
