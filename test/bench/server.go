package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"bellhop/test/process"
)

// server is one of those that are compared.
type server struct {
	name    string
	socket  string
	running *process.Process
	bellhop bool
}

// startServers starts the do-nothing servers, and one Bellhop for each policy of the kinds. They stop with stop.
func startServers(ctx context.Context, o options, dir string) (servers map[string]*server, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	servers = map[string]*server{}
	stop = func() {
		for _, s := range servers {
			s.running.Kill()
			<-s.running.Done()
		}
	}
	start := func(key, name, program string, bellhop bool, env []string, args ...string) {
		if err != nil {
			return
		}
		s := &server{name: name, socket: filepath.Join(dir, key+".sock"), bellhop: bellhop}
		args = append(args, map[bool]string{true: "--listen=unix://", false: "--socket="}[bellhop]+s.socket)
		s.running, err = process.Start(process.Options{Name: key, Path: program, Args: args, Env: env, Dir: dir})
		if err == nil {
			servers[key] = s
			err = s.wait(ctx)
		}
	}
	start("default", "default", self, false, nil, doNothing)
	start("tuned", "tuned", self, false, []string{"GOGC=400"}, doNothing, "--tuned")
	for _, k := range kinds() {
		file := filepath.Join(dir, k.name+".yaml")
		if err == nil {
			err = os.WriteFile(file, []byte(k.policy), 0o600)
		}
		start("bellhop-"+k.name, "bellhop", o.bellhop, true, nil,
			"serve", "--policy", file, "--admin=", "--drain-delay=0s", "--store-bytes", strconv.Itoa(storeBytes(o)))
	}
	if err != nil {
		stop()
	}
	return servers, stop, err
}

// storeBytes is room for the captures that the store is to hold, and the default at least.
func storeBytes(o options) int { return max(64<<20, o.captures*360) }

// wait waits until the socket is there.
func (s *server) wait(ctx context.Context) error {
	for end := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(s.socket); err == nil {
			return nil
		}
		select {
		case <-s.running.Done():
			return fmt.Errorf("%s has ended: %s", s.name, s.running.Output())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not listen: %s", s.name, s.running.Output())
		}
	}
}

// clockTick is the unit of /proc's times, in Hz: USER_HZ is 100 on every Linux that Go supports.
const clockTick = 100

// cpu is the CPU time that the server has used, in user and system.
func (s *server) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.running.PID()))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), ") ") // the program's name may hold spaces
	fields := strings.Fields(after)
	const user, system = 11, 12 // proc(5): utime and stime, counted from the state
	if len(fields) <= system {
		return 0, fmt.Errorf("%s: unknown form of /proc/PID/stat", s.name)
	}
	var ticks int64
	for _, field := range []string{fields[user], fields[system]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTick, nil
}

// rss is the memory that the server occupies, in bytes.
func (s *server) rss() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.running.PID()))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("%s: unknown form of /proc/PID/statm", s.name)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// command is the client's process for one turn.
func command(ctx context.Context, s *server, k kind, calls, fill int) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, self, load, "--socket", s.socket, "--kind", k.name, "--calls", strconv.Itoa(calls),
		"--fill", strconv.Itoa(fill), "--check="+strconv.FormatBool(s.bellhop)), nil
}
