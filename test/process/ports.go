package process

import (
	"errors"
	"fmt"
	"net"
)

// FreePorts returns free TCP ports of the loopback address that no other program
// is given within the next minute.
//
// A port that is only found free may be given to another program before it is
// used, and then a wait for "something answers there" is content with the wrong one.
// So each port is left with a connection in TIME_WAIT: the kernel hands out such a port
// to no one, yet a program can bind it by number.
func FreePorts(count int) ([]int, error) {
	ports := make([]int, 0, count)
	for range count {
		port, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("find %d free ports on 127.0.0.1: %w", count, err)
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func freePort() (port int, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, listener.Close()) }()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return 0, err
	}
	accepted, err := listener.Accept()
	if err != nil {
		return 0, errors.Join(err, client.Close())
	}
	// Who closes first keeps the connection in TIME_WAIT, and that must be this side.
	err = errors.Join(accepted.Close(), client.Close())
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.Join(err, fmt.Errorf("%s is no TCP address", listener.Addr()))
	}
	return address.Port, err
}
