package docs

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/test/mcptest"
	"bellhop/test/process"
	"bellhop/test/tools"
)

// insideVariable tells the test that it runs in a network of its own.
const insideVariable = "INSIDE_BELLHOP_RECIPE"

// usersConfig is the vmcp.yaml that the recipe's reader has.
const usersConfig = `
name: mine
groupRef: mine
incomingAuth: {type: anonymous}
outgoingAuth: {source: inline, default: {type: unauthenticated}}
aggregation: {conflictResolution: prefix, conflictResolutionConfig: {prefixFormat: "{workload}_"}}
backends:
  - {name: a, url: "http://127.0.0.1:9001/mcp", transport: streamable-http}
`

// The recipe "Add Bellhop to your vMCP" is run word for word, with its own ports: in a network of its own where the
// machine allows that, else on the machine's.
func TestTheRecipeWorksWordForWord(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Envoy and vMCP")
	}
	if os.Getenv(insideVariable) != "" {
		t.Skip("the inner run has a test of its own")
	}
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInsideTheRecipe$", "-test.v")
	command.Env = append(os.Environ(), insideVariable+"=own")
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
	}
	output, err := command.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Log("this machine lends no network of its own; using its ports")
		command = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInsideTheRecipe$", "-test.v")
		command.Env = append(os.Environ(), insideVariable+"=shared")
		output, err = command.CombinedOutput()
	}
	if err != nil || !strings.Contains(string(output), "--- PASS: TestInsideTheRecipe") {
		t.Fatalf("%v\n%s", err, output)
	}
}

// TestInsideTheRecipe is the inner half of the test above.
func TestInsideTheRecipe(t *testing.T) {
	switch os.Getenv(insideVariable) {
	case "":
		return // it is started by the test above
	case "own":
		raiseLoopback(t)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "vmcp.yaml"), []byte(usersConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	backend, err := mcptest.StartBackend(mcptest.BackendOptions{Name: "a", Address: "127.0.0.1:9001"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = backend.Close() })
	running := runRecipe(t, folder, recipe(t))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := process.WaitHTTP(ctx, running, "http://127.0.0.1:4483/readyz"); err != nil {
		t.Fatal(err)
	}
	waitForPort(t, "127.0.0.1:8080", running)
	waitForBackend(t, running)
	for _, era := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		client, err := mcptest.Connect(ctx, mcptest.ClientOptions{
			URL: "http://127.0.0.1:8080/mcp", Era: era,
			Header: func() http.Header { return http.Header{"X-Mcp-Api-Key": {"mine"}} },
		})
		if err != nil {
			t.Fatalf("%v\n%s", err, running.Output())
		}
		got, err := client.WhoAmI(ctx, "a_whoami")
		if err != nil || got.Get("X-Mcp-Api-Key") != "mine" {
			t.Errorf("%s: the backend got %q, %v\n%s", era, got.Get("X-Mcp-Api-Key"), err, running.Output())
		}
		_ = client.Close()
	}
}

// recipe is the text between the fences, unchanged.
func recipe(t *testing.T) string {
	t.Helper()
	for _, s := range snippets(t) {
		if s.language == "sh recipe" {
			if lines := strings.Count(s.text, "\n"); lines > 10 {
				t.Errorf("the recipe has %d lines; ten are promised", lines)
			}
			return s.text
		}
	}
	t.Fatal("the README has no recipe")
	return ""
}

func runRecipe(t *testing.T, folder, script string) *process.Process {
	t.Helper()
	running, err := process.Start(process.Options{
		Name: "recipe", Path: "/bin/sh", Args: []string{"-c", script}, Dir: folder,
		Env: []string{"PATH=" + programs(t) + ":" + os.Getenv("PATH"), "HOME=" + folder, "TOOLHIVE_SKIP_UPDATE_CHECK=true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { running.Kill(); <-running.Done() })
	return running
}

// programs makes a folder with the three programs, as a reader has them in PATH.
func programs(t *testing.T) string {
	t.Helper()
	folder := filepath.Dir(build(t))
	for _, tool := range []string{"envoy", "vmcp"} {
		path, err := tools.Path(t.Context(), tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(folder, tool)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func waitForPort(t *testing.T, address string, running *process.Process) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if connection, err := net.Dial("tcp", address); err == nil {
			_ = connection.Close()
			return
		}
	}
	t.Fatalf("nothing listens on %s\n%s", address, running.Output())
}

// waitForBackend waits until vMCP has found the backend. On a busy machine Envoy may start too late for vMCP's first
// look; the next is 30 s later.
func waitForBackend(t *testing.T, running *process.Process) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		response, err := http.Get("http://127.0.0.1:4483/api/backends/health")
		if err != nil {
			continue
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if strings.Contains(string(body), `"healthy"`) {
			return
		}
	}
	t.Fatalf("vMCP did not find the backend within a minute\n%s", running.Output())
}

// raiseLoopback switches on the loopback interface, which is down in a new network.
func raiseLoopback(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(socket) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		t.Fatal(err)
	}
}
