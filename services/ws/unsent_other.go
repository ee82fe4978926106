//go:build !linux

package ws

import "net"

// limitUnsent keeps the kernel's queue short by its size, for want of a finer way.
func limitUnsent(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(unsentBytes) // the kernel's default does it too
	}
}
