package kubernetes_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Bellhop runs as each manifest says: with its arguments, its files as the kubelet lays them out, its user and the
// group of the socket's folder. It takes a changed ConfigMap, and ends within its budget.
func TestBellhopRunsAsTheManifestsSay(t *testing.T) {
	known := newSchemas(t)
	for name, text := range sets(t) {
		c, _ := newCluster(t, known, text)
		for i := range c.workloads {
			w := &c.workloads[i]
			ours, _ := w.bellhop()
			if ours == nil {
				t.Fatalf("%s: %s has no Bellhop", name, w.name)
			}
			if needsStore(ours) {
				continue // there is none here; with one it runs in test/redis
			}
			t.Run(name, func(t *testing.T) { runAs(t, c, w, ours) })
		}
	}
}

func needsStore(ours *corev1.Container) bool {
	for _, variable := range ours.Env {
		if variable.Name == "BELLHOP_STORE" {
			return true
		}
	}
	return false
}

func runAs(t *testing.T, c *cluster, w *workload, ours *corev1.Container) {
	under := opened(t)
	if err := c.mount(w, ours, under); err != nil {
		t.Fatal(err)
	}
	inForce, _ := newFlags(t).of(ours)
	admin := freePort(t)
	args := []string{
		"serve",
		"--admin",
		admin,
		"--drain-delay",
		inForce["drain-delay"][0],
		"--log-format",
		inForce["log-format"][0],
	}
	for _, policy := range inForce["policy"] {
		args = append(args, "--policy", filepath.Join(under, policy))
	}
	for _, name := range []string{"ceiling", "key-file"} {
		if value := inForce[name][0]; value != "" {
			args = append(args, "--"+name, filepath.Join(under, value))
		}
	}
	socket, sidecar := strings.CutPrefix(inForce["listen"][0], "unix://")
	if sidecar {
		socket = filepath.Join(under, socket)
		args = append(args, "--listen", "unix://"+socket)
	} else {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	command := exec.Command(bellhop, args...)
	output := logFile(filepath.Join(under, "log"))
	file, err := os.Create(string(output))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	command.Stderr = file
	if os.Getuid() == 0 { // only root may be somebody else
		group := uint32(*w.pod.Spec.SecurityContext.FSGroup)
		command.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: 65532, Gid: 65532, Groups: []uint32{group}},
		}
		own(t, filepath.Join(under, "run/bellhop"), group)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() { _ = command.Process.Kill() })
	waitFor(t, output, "http://"+admin+"/readyz", "")
	if sidecar {
		wantSocket(t, socket, uint32(*w.pod.Spec.SecurityContext.FSGroup))
	}
	c.swap(t, w, ours, under)
	waitFor(t, output, "http://"+admin+"/metrics", `bellhop_policy_reloads_total{outcome="applied"} 1`)

	delay, _ := time.ParseDuration(inForce["drain-delay"][0])
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Bellhop ended with %v\n%s", err, output)
		}
	case <-time.After(delay + stopBudget):
		t.Errorf("Bellhop needed longer than its budget\n%s", output)
	}
}

// logFile is what a program wrote.
type logFile string

func (f logFile) String() string {
	text, _ := os.ReadFile(string(f))
	return string(text)
}

// opened is a temporary folder that other users may pass.
func opened(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, one := range []string{folder, filepath.Dir(folder)} {
		if err := os.Chmod(one, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// own makes a folder what the kubelet makes of an emptyDir under an fsGroup.
func own(t *testing.T, folder string, group uint32) {
	t.Helper()
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := errors.Join(os.Chown(folder, 0, int(group)), os.Chmod(folder, 0o777|fs.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
}

// wantSocket: the proxy may use it by its group, and others may not.
func wantSocket(t *testing.T, path string, group uint32) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("the socket's mode is %s", info.Mode())
	}
	if status, ok := info.Sys().(*syscall.Stat_t); os.Getuid() == 0 && (!ok || status.Gid != group) {
		t.Errorf("the socket belongs to group %d, want %d", status.Gid, group)
	}
}

// swap changes each policy, the way the kubelet brings a changed ConfigMap.
func (c *cluster) swap(t *testing.T, w *workload, ours *corev1.Container, under string) {
	t.Helper()
	for _, m := range ours.VolumeMounts {
		if m.MountPath != "/etc/bellhop/policy" {
			continue
		}
		files, err := c.files(w.volume(m.Name))
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			files[name] = strings.Replace(text, "version: 1\n", "version: 1\nmode: observe\n", 1)
		}
		if err := project(filepath.Join(under, m.MountPath), files); err != nil {
			t.Fatal(err)
		}
	}
}

// waitFor waits until a page answers 200 with a text in it.
func waitFor(t *testing.T, output logFile, url, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var last string
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			last = string(body)
			if response.StatusCode == http.StatusOK && strings.Contains(last, text) {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s did not answer with %q but %q\n%s", url, text, last, output)
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
