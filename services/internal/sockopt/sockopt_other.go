//go:build !linux

// Package sockopt sets what the kernel does with the socket of a client.
package sockopt

import (
	"net"
	"time"
)

// LimitUnsent keeps the kernel's queue short by its size, for want of a finer way.
func LimitUnsent(conn net.Conn, bytes int) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(bytes) // the kernel's default does it too
	}
}

// LimitUnanswered leaves it to the kernel when to give up a peer that does not answer.
func LimitUnanswered(net.Conn, time.Duration) {}
