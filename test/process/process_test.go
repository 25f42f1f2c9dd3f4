package process_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bellhop/test/process"

	"go.uber.org/goleak"
)

// parentEnv makes the test binary play the parent of TestDiesWithParent.
const parentEnv = "BELLHOP_TEST_PROCESS_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentEnv) != "" {
		playParent()
	}
	goleak.VerifyTestMain(m)
}

// shell starts a shell script and kills it at the end of the test.
func shell(t *testing.T, script string) *process.Process {
	t.Helper()
	p, err := process.Start(process.Options{Name: "script", Path: "/bin/sh", Args: []string{"-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		<-p.Done()
	})
	return p
}

// eventually fails the test when the condition does not come true.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for range 200 {
		if condition() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("not within 5 s: %s", what)
}

func alive(pid int) bool {
	// A zombie still takes signals, so its state is asked for as well.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !errors.Is(err, os.ErrNotExist)
	}
	return !strings.Contains(string(status), ") Z ")
}

func TestOutputAndExitCode(t *testing.T) {
	p := shell(t, "echo out; echo err >&2; exit 3")
	<-p.Done()
	if got, want := p.Output(), "out\nerr\n"; got != want {
		t.Errorf("Output() = %q, want %q", got, want)
	}
	if got := p.ExitCode(); got != 3 {
		t.Errorf("ExitCode() = %d, want 3", got)
	}
	if err := p.Signal(syscall.SIGUSR1); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Signal after the end: %v, want os.ErrProcessDone", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("Stop after the end: %v", err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	p := shell(t, "i=0; while [ $i -lt 3000 ]; do printf '%01000d\n' $i; i=$((i+1)); done; echo last")
	<-p.Done()
	if got := len(p.Output()); got > 1<<20 {
		t.Errorf("Output() has %d bytes, want at most 1 MiB", got)
	}
	if !strings.HasSuffix(p.Output(), "last\n") {
		t.Errorf("the end of the output is lost")
	}
}

func TestStartFails(t *testing.T) {
	_, err := process.Start(process.Options{Name: "gateway", Path: "/no/such/program"})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "gateway") {
		t.Errorf("Start: %v, want an error that names the program", err)
	}
}

func TestEnvironmentAndDirectory(t *testing.T) {
	dir := t.TempDir()
	p, err := process.Start(process.Options{
		Path: "/bin/sh", Args: []string{"-c", `echo "$A|$HOME|$(pwd)"`}, Env: []string{"A=b"}, Dir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if got, want := p.Output(), "b||"+dir+"\n"; got != want {
		t.Errorf("Output() = %q, want %q", got, want)
	}
}

func TestStop(t *testing.T) {
	t.Run("polite", func(t *testing.T) {
		p := shell(t, "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.02; done")
		eventually(t, "trap set", func() bool { return p.Output() != "" })
		if err := p.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(p.Output(), "bye\n") || p.ExitCode() != 7 {
			t.Errorf("output %q, exit code %d; want its own goodbye and 7", p.Output(), p.ExitCode())
		}
	})
	t.Run("stubborn", func(t *testing.T) {
		p := shell(t, "trap '' TERM; echo ready; while :; do sleep 0.02; done")
		eventually(t, "trap set", func() bool { return p.Output() != "" })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v, want the deadline", err)
		}
		if alive(p.PID()) {
			t.Error("still alive after Stop")
		}
	})
}

// Not SIGHUP: a program started by nohup, and all that it starts, cannot trap that.
func TestSignalReachesTheProgram(t *testing.T) {
	p := shell(t, "trap 'echo again' USR1; echo ready; while :; do sleep 0.02; done")
	eventually(t, "trap set", func() bool { return p.Output() != "" })
	if err := p.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reload", func() bool { return strings.Contains(p.Output(), "again") })
}

func TestGrandchildrenEndWithTheProgram(t *testing.T) {
	p := shell(t, "sleep 60 & echo $!")
	<-p.Done()
	grandchild, err := strconv.Atoi(strings.TrimSpace(p.Output()))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "grandchild gone", func() bool { return !alive(grandchild) })
}

// playParent starts a child, tells its number, and waits to be killed.
func playParent() {
	p, err := process.Start(process.Options{Path: "/bin/sleep", Args: []string{"60"}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	<-p.Done()
	os.Exit(0)
}

func TestDiesWithParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can tie a program's life to its parent's")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), parentEnv+"=1")
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscan(stdout, &child); err != nil {
		t.Fatal(err)
	}
	if !alive(child) {
		t.Fatal("the child does not run")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	eventually(t, "child gone with its parent", func() bool { return !alive(child) })
}

// The kernel watches the thread that started a program. The end of the caller's
// thread, which a locked goroutine takes with it, must not end the program.
func TestOutlivesTheCallersThread(t *testing.T) {
	started := make(chan *process.Process)
	go func() {
		runtime.LockOSThread() // never unlocked
		p, err := process.Start(process.Options{Path: "/bin/sleep", Args: []string{"60"}})
		if err != nil {
			t.Error(err)
		}
		started <- p
	}()
	p := <-started
	time.Sleep(200 * time.Millisecond)
	if !alive(p.PID()) {
		t.Error("ended with the goroutine that started it")
	}
	p.Kill()
	<-p.Done()
}

func TestWaitHTTP(t *testing.T) {
	answer := http.StatusServiceUnavailable
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked > 2 {
			answer = http.StatusOK
		}
		w.WriteHeader(answer)
	}))
	defer server.Close()

	t.Run("ready", func(t *testing.T) {
		if err := process.WaitHTTP(t.Context(), shell(t, "sleep 60"), server.URL); err != nil {
			t.Error(err)
		}
	})
	t.Run("program dies", func(t *testing.T) {
		err := process.WaitHTTP(t.Context(), shell(t, "echo bad config; exit 9"), "http://127.0.0.1:1/")
		if err == nil || !strings.Contains(err.Error(), "bad config") || !strings.Contains(err.Error(), "exit code 9") {
			t.Errorf("WaitHTTP: %v, want the program's last words and exit code", err)
		}
	})
	t.Run("context ends", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := process.WaitHTTP(ctx, shell(t, "sleep 60"), "http://127.0.0.1:1/")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitHTTP: %v, want the deadline", err)
		}
	})
}
