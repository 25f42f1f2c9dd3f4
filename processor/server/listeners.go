package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	socketMode = 0o660 // the proxy's user reaches Bellhop through the group
	folderMode = 0o750
	// maxSocketPath is what Linux takes for the path of a Unix socket, in bytes.
	maxSocketPath = 107
	dialTimeout   = time.Second
)

// listen opens address: unix:///PATH, HOST:PORT or tcp://HOST:PORT. Beyond loopback TLS is required, because every
// process that reaches the socket can redeem tickets.
func listen(address string, secure bool) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return listenUnix(path)
	}
	address = strings.TrimPrefix(address, "tcp://")
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf(
			"--listen %s: not an address; write unix:///run/bellhop/bellhop.sock or 127.0.0.1:9903",
			address,
		)
	}
	if !secure && !loopback(host) {
		return nil, fmt.Errorf(
			"--listen %s: beyond loopback Bellhop needs mutual TLS, because every process that reaches it can redeem tickets; "+
				"add --tls-cert, --tls-key and --tls-client-ca, or listen on unix:///run/bellhop/bellhop.sock",
			address,
		)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w; choose another port, or stop what holds this one", address, err)
	}
	return listener, nil
}

// beyondLoopback reports whether an address can be reached from other machines.
func beyondLoopback(address string) bool {
	host, _, err := net.SplitHostPort(strings.TrimPrefix(address, "tcp://"))
	return !strings.HasPrefix(address, "unix://") && err == nil && !loopback(host)
}

// warnOfOpenFolder warns of a socket that any user of the machine could replace by one of its own, to which Envoy would
// then send the clients' headers.
func warnOfOpenFolder(log *slog.Logger, address string) {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok {
		return
	}
	folder := filepath.Dir(path)
	const writableByOthers = 0o002
	if info, err := os.Stat(folder); err == nil && info.Mode().Perm()&writableByOthers != 0 {
		log.Warn(
			"every user of this machine can write into the socket's folder, and put a socket of its own there", "folder", folder,
			"mode", info.Mode().Perm().String(), "hint", "chmod o-w "+folder+", or choose another --listen",
		)
	}
}

func listenUnix(path string) (net.Listener, error) {
	switch {
	case !filepath.IsAbs(path):
		return nil, fmt.Errorf(
			"--listen unix://%s: the path of a socket must be absolute: unix:///run/bellhop/bellhop.sock",
			path,
		)
	case len(path) > maxSocketPath:
		return nil, fmt.Errorf(
			"--listen unix://%s: a socket's path has at most %d bytes; choose a shorter one", path, maxSocketPath,
		)
	}
	if err := os.MkdirAll(filepath.Dir(path), folderMode); err != nil {
		return nil, fmt.Errorf(
			"--listen unix://%s: %w; make its folder writable, or choose another with --listen unix:///PATH", path, err,
		)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("--listen unix://%s: %w", path, err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf(
			"--listen unix://%s: %w; make its folder writable, or choose another with --listen unix:///PATH", path, err,
		)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("--listen unix://%s: %w", path, err), listener.Close())
	}
	return listener, nil
}

// removeStale removes the socket of a Bellhop that was killed. A socket that still answers, and a file that is not a
// socket, are left alone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w; make its folder readable, or choose another with --listen unix:///PATH", err)
	case info.Mode()&os.ModeSocket == 0:
		return errors.New("the file exists and is not a socket; move it, or choose another path")
	}
	connection, err := net.DialTimeout("unix", path, dialTimeout)
	if err == nil {
		_ = connection.Close()
		return errors.New("another process is listening there; stop it, or choose another path")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf(
			"it cannot be determined whether it is in use: %w; stop the process that uses it, or choose another path",
			err,
		)
	}
	return os.Remove(path)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
