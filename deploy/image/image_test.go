package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const project = "../.."

func newImage(t *testing.T, source string) made {
	t.Helper()
	m, err := build(t.Context(), options{source: source, out: t.TempDir(), platform: "linux/amd64", revision: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The same source makes the same bytes, wherever it lies.
func TestTwoBuildsAreTheSame(t *testing.T) {
	elsewhere := t.TempDir()
	for _, name := range []string{"cmd", "envoy", "policy", "processor"} {
		if err := os.CopyFS(filepath.Join(elsewhere, name), os.DirFS(filepath.Join(project, name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := os.WriteFile(filepath.Join(elsewhere, name), content(t, filepath.Join(project, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, two := newImage(t, project), newImage(t, elsewhere)
	if one.digest != two.digest {
		t.Errorf("the digests are %s and %s", one.digest, two.digest)
	}
	for _, pair := range [][2]string{{one.binary, two.binary}, {one.archive, two.archive}, {one.sbom, two.sbom}} {
		if !bytes.Equal(content(t, pair[0]), content(t, pair[1])) {
			t.Errorf("two builds of %s differ", filepath.Base(pair[0]))
		}
	}
}

// What loads images finds the same one both ways: by the OCI layout, and by the index of docker save.
func TestTheArchiveIsAnImage(t *testing.T) {
	m := newImage(t, project)
	old, err := tarball.ImageFromPath(m.archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	unpack(t, bytes.NewReader(content(t, m.archive)), folder)
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := v1.NewHash(m.digest)
	if err != nil {
		t.Fatal(err)
	}
	image, err := index.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(validate.Image(image), validate.Index(index), validate.Image(old)); err != nil {
		t.Error(err)
	}
	one, _ := image.ConfigName()
	if other, err := old.ConfigName(); one != other || err != nil {
		t.Errorf("the configurations are %s and %s, %v", one, other, err)
	}
}

// The Dockerfile makes the same image: by the same command, for the same user, with the same labels.
func TestTheDockerfileBuildsTheSame(t *testing.T) {
	text := string(content(t, "Dockerfile"))
	found := map[string]string{}
	for _, label := range regexp.MustCompile(`(?m)^LABEL ([a-z.]+)="(.*)"$`).FindAllStringSubmatch(text, -1) {
		found[label[1]] = label[2]
	}
	if !maps.Equal(found, labels("")) {
		t.Errorf("its labels are %v, want %v", found, labels(""))
	}
	config := configOf(t, newImage(t, project))
	for _, line := range []string{
		`RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o /out/bellhop ./cmd/bellhop`,
		"USER " + config.User,
		`ENTRYPOINT ["` + strings.Join(config.Entrypoint, `", "`) + `"]`,
		"FROM golang:" + strings.TrimSpace(string(first(t, regexp.MustCompile(`(?m)^go (.*)$`),
			content(t, filepath.Join(project, "go.mod"))))) + " AS build",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("it has no line %s", line)
		}
	}
	// What it copies is all that the program is made of.
	command := exec.CommandContext(
		t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/bellhop",
	)
	command.Dir = project
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(output)) {
		rest, ours := strings.CutPrefix(strings.TrimSpace(line), "bellhop/")
		folder, _, _ := strings.Cut(rest, "/")
		if ours && !strings.Contains(text, "\nCOPY "+folder+" "+folder+"\n") {
			t.Errorf("it does not copy %s", folder)
		}
	}
}

// The image, unpacked into an empty folder, is all that Bellhop needs to run, as the user that it names.
func TestTheImageRuns(t *testing.T) {
	m := newImage(t, project)
	image, err := tarball.ImageFromPath(m.archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for _, layer := range layers {
		files, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		unpack(t, files, folder)
	}
	if entries, _ := os.ReadDir(folder); len(entries) != 2 {
		t.Errorf("there is more in the image than the binary and a folder: %v", entries)
	}
	version := start(folder, "version")
	if output, err := version.CombinedOutput(); err != nil || !strings.HasPrefix(string(output), "bellhop ") {
		t.Errorf("bellhop version: %v\n%s", err, output)
	}

	if err := os.WriteFile(filepath.Join(folder, "policy.yaml"), []byte("version: 1\nforward: "+
		"[x-mcp-api-key]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	admin := freePort(t)
	args := []string{"serve", "--policy", "/policy.yaml", "--admin", admin, "--drain-delay", "0s"}
	if os.Getuid() != 0 {
		args[2] = filepath.Join(folder, args[2])
		args = append(args, "--listen", "unix://"+filepath.Join(folder, "run/bellhop/bellhop.sock"))
	}
	serve := start(folder, args...)
	var output bytes.Buffer
	serve.Stderr = &output
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	ready := readyz(t, admin)
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := serve.Wait(); err != nil || !ready {
		t.Errorf("ready: %v; it ended with %v\n%s", ready, err, &output)
	}
}

func TestTheSBOMMatchesTheBinary(t *testing.T) {
	m := newImage(t, project)
	var list cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(content(t, m.sbom)),
		cyclonedx.BOMFileFormatJSON).Decode(&list); err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, part := range *list.Components {
		found = append(found, part.Name+"@"+part.Version)
		if want := "pkg:golang/" + strings.ReplaceAll(part.Name+"@"+part.Version, "+", "%2B"); part.PackageURL != want {
			t.Errorf("the URL of %s is %s, want %s", part.Name, part.PackageURL, want)
		}
	}
	output, err := exec.CommandContext(t.Context(), "go", "version", "-m", m.binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, line := range regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)`).FindAllStringSubmatch(string(output), -1) {
		want = append(want, line[1]+"@"+line[2])
	}
	if len(want) < 20 || !slices.Equal(found[1:], want) || !strings.HasPrefix(found[0], "std@1.") {
		t.Errorf("the list has %q, the binary %q", found, want)
	}
}

// start runs the image's program in it: as root in a root folder of its own and as the image's user, else as it can be.
func start(folder string, args ...string) *exec.Cmd {
	if os.Getuid() != 0 {
		return exec.Command(filepath.Join(folder, "bellhop"), args...)
	}
	command := exec.Command("/bellhop", args...)
	command.Dir, command.Env = "/", []string{}
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: folder, Credential: &syscall.Credential{Uid: user, Gid: user}}
	return command
}

func configOf(t *testing.T, m made) v1.Config {
	t.Helper()
	image, err := tarball.ImageFromPath(m.archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return file.Config
}

// unpack lays out an archive in a folder, with its modes, and its owners where that may be.
func unpack(t *testing.T, archive io.Reader, folder string) {
	t.Helper()
	for r := tar.NewReader(archive); ; {
		entry, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(folder, filepath.FromSlash(entry.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if entry.Typeflag == tar.TypeDir {
			err = os.MkdirAll(name, 0o755)
		} else {
			var text []byte
			text, err = io.ReadAll(r)
			err = errors.Join(err, os.WriteFile(name, text, 0o600))
		}
		if err = errors.Join(err, os.Chmod(name, entry.FileInfo().Mode().Perm())); err == nil && os.Getuid() == 0 {
			err = os.Chown(name, entry.Uid, entry.Gid)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func readyz(t *testing.T, admin string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return true
			}
		}
	}
	return false
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func content(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// first is what the first group of an expression matches.
func first(t *testing.T, expression *regexp.Regexp, text []byte) []byte {
	t.Helper()
	match := expression.FindSubmatch(text)
	if match == nil {
		t.Fatalf("nothing matches %s", expression)
	}
	return match[1]
}
