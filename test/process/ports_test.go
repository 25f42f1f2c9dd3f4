package process_test

import (
	"fmt"
	"net"
	"testing"

	"bellhop/test/process"
)

func TestFreePortsAreReserved(t *testing.T) {
	const many = 500 // of about 28000, so that chance would give some of them twice
	reserved := map[int]bool{}
	ports, err := process.FreePorts(many)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range ports {
		if reserved[port] {
			t.Errorf("port %d was reserved twice", port)
		}
		reserved[port] = true
	}
	for range many {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if port := listener.Addr().(*net.TCPAddr).Port; reserved[port] {
			t.Errorf("port %d was given to somebody else", port)
		}
		_ = listener.Close()
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0]))
	if err != nil {
		t.Fatalf("who asks for a reserved port does not get it: %v", err)
	}
	_ = listener.Close()
}
