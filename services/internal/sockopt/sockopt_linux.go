// Package sockopt sets what the kernel does with the socket of a client. Where that fails, the kernel's own ways hold: no
// connection is worth less for it.
package sockopt

import (
	"net"
	"syscall"
)

// tcpNotSentLowat is TCP_NOTSENT_LOWAT, which package syscall does not name.
const tcpNotSentLowat = 25

// LimitUnsent makes the kernel take hardly more than it can send: what a slow client gets next is decided here, and fresh,
// rather than queued there.
func LimitUnsent(conn net.Conn, bytes int) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, bytes)
		})
	}
}
