//go:build unix && !linux

package process

import "syscall"

// attributes give the program its own group. Only Linux can also tie its life to
// ours: elsewhere a program survives when its parent is killed with SIGKILL.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
