package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"bellhop/test/process"
)

// maxSocketPath is what Linux takes for the path of a Unix socket, in bytes.
const maxSocketPath = 107

// layout is where everything of one stack is: its files and its addresses.
type layout struct {
	policy      string // files
	envoyConfig string
	socket      string
	socketDir   string // a folder only for the socket; empty: it is in the stack's own

	ingress      string // HOST:PORT
	egress       string
	envoyAdmin   string
	bellhopAdmin string
	vmcpPort     int
}

// newLayout reserves ports and writes the policy with the files beside it.
func newLayout(options Options) (*layout, error) {
	l := &layout{
		policy:      filepath.Join(options.Dir, "policy.yaml"),
		envoyConfig: filepath.Join(options.Dir, "envoy.yaml"),
	}
	return l, errors.Join(l.choosePorts(), l.writeFiles(options), l.chooseSocket(options.Dir))
}

func (l *layout) choosePorts() error {
	ports, err := process.FreePorts(5)
	if err != nil {
		return err
	}
	for i, address := range []*string{&l.ingress, &l.egress, &l.envoyAdmin, &l.bellhopAdmin} {
		*address = fmt.Sprintf("127.0.0.1:%d", ports[i])
	}
	l.vmcpPort = ports[4]
	return nil
}

func (l *layout) writeFiles(options Options) error {
	errs := []error{os.WriteFile(l.policy, []byte(options.Policy), 0o600)}
	for name, content := range options.Files {
		if !filepath.IsLocal(name) {
			errs = append(errs, fmt.Errorf("file %s: not a name inside the stack's folder", name))
			continue
		}
		errs = append(errs, os.WriteFile(filepath.Join(options.Dir, name), []byte(content), 0o600))
	}
	return errors.Join(errs...)
}

// chooseSocket puts the socket into the stack's folder if its path stays short
// enough there.
func (l *layout) chooseSocket(dir string) error {
	const name = "bellhop.sock"
	l.socket = filepath.Join(dir, name)
	if len(l.socket) <= maxSocketPath {
		return nil
	}
	short, err := os.MkdirTemp("", "bellhop")
	if err != nil {
		return fmt.Errorf("make a folder for Bellhop's socket: %w", err)
	}
	l.socketDir, l.socket = short, filepath.Join(short, name)
	return nil
}

// remove takes away what is not in the stack's own folder.
func (l *layout) remove() error {
	if l.socketDir == "" {
		return nil
	}
	return os.RemoveAll(l.socketDir)
}
