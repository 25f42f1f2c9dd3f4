// Package process runs real programs for tests and demos, and makes sure that
// none of them outlives the program that started it.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// outputLimit bounds what is kept of a program's output.
const outputLimit = 1 << 20

// drainTime is how long the rest of the output is waited for once the program
// has ended. Nobody should hold the pipe by then.
const drainTime = time.Second

// Options say which program to start and how.
type Options struct {
	Name string   // what error messages call it; default: the path
	Path string   // the program; looked up in PATH when it has no slash
	Args []string // without the program's own name
	Env  []string // the whole environment as KEY=value; nil: the parent's
	Dir  string   // working directory; empty: the parent's
}

// Process is one started program. All methods may be used at the same time.
type Process struct {
	name     string
	pid      int
	output   *tail
	done     chan struct{}
	exitCode int // written before done is closed
}

// Start starts a program in a process group of its own.
//
// On Linux the kernel kills the program when its parent dies, however that
// happens. It takes "parent" to be the thread that started it, so one goroutine
// starts the program, keeps its thread to itself and waits: the thread lives
// as long as the program does. Grandchildren are not covered by that; they
// end with the group, when the program ends or Kill or Stop is called.
func Start(options Options) (*Process, error) {
	p := &Process{
		name:     options.Name,
		output:   &tail{limit: outputLimit},
		done:     make(chan struct{}),
		exitCode: -1,
	}
	if p.name == "" {
		p.name = options.Path
	}
	started := make(chan error)
	go p.run(options, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w (check that %q exists and is executable)", p.name, err, options.Path)
	}
	return p, nil
}

// run is the one goroutine of a program, from its start to its end.
func (p *Process) run(options Options, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	command := exec.Command(options.Path, options.Args...)
	command.Env, command.Dir = options.Env, options.Dir
	command.SysProcAttr = attributes()
	drained, err := p.start(command)
	if err == nil {
		p.pid = command.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}

	// The exit code says all that the error would.
	_ = command.Wait()
	p.Kill() // what the program left behind in its group
	drained()
	p.exitCode = command.ProcessState.ExitCode()
	close(p.done)
}

// start starts the command with both outputs in one pipe. The pipe is ours, not
// exec's, so that waiting for the program never waits for a grandchild
// that still holds it. The returned function waits for the last of the output.
func (p *Process) start(command *exec.Cmd) (drained func(), err error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	command.Stdout, command.Stderr = writer, writer
	err = command.Start()
	_ = writer.Close() // the program has its own copy
	if err != nil {
		return nil, errors.Join(err, reader.Close())
	}

	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(p.output, reader)
	}()
	return func() {
		_ = reader.SetReadDeadline(time.Now().Add(drainTime))
		<-copied
		_ = reader.Close()
	}, nil
}

// PID is the program's process ID, which is also that of its group.
func (p *Process) PID() int { return p.pid }

// Output returns what the program has written to stdout and stderr so far,
// at most the last megabyte.
func (p *Process) Output() string { return p.output.String() }

// Done is closed when the program has ended and all its output is there.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode returns the exit code of an ended program, and -1 while it runs or
// when a signal ended it.
func (p *Process) ExitCode() int {
	select {
	case <-p.done:
		return p.exitCode
	default:
		return -1
	}
}

// Signal sends a signal to the program, not to its group.
func (p *Process) Signal(signal os.Signal) error {
	number, ok := signal.(syscall.Signal)
	if !ok {
		return fmt.Errorf("signal %s: %v is not a signal of this system", p.name, signal)
	}
	if p.ended() {
		return fmt.Errorf("signal %s with %v: %w", p.name, signal, os.ErrProcessDone)
	}
	if err := syscall.Kill(p.pid, number); err != nil {
		return fmt.Errorf("signal %s with %v: %w", p.name, signal, err)
	}
	return nil
}

// Kill ends the program and its group at once. It is harmless when they have
// ended already.
func (p *Process) Kill() {
	if !p.ended() {
		// The only possible error is that no process is left.
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	}
}

// Stop asks the program to end (SIGTERM) and waits for it. When the context
// ends first, the program is killed and the error says so; either way it is
// gone when Stop returns.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) &&
		!errors.Is(err, syscall.ESRCH) {
		p.Kill()
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	p.Kill()
	<-p.done
	return fmt.Errorf("stop %s: it did not end on SIGTERM and was killed: %w", p.name, context.Cause(ctx))
}

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
