// Package sockopt sets what the kernel does with the socket of a client. Where that fails, the kernel's own ways hold: no
// connection is worth less for it.
package sockopt

import (
	"net"
	"syscall"
	"time"
)

// Options that package syscall does not name.
const (
	tcpUserTimeout  = 18 // TCP_USER_TIMEOUT
	tcpNotSentLowat = 25 // TCP_NOTSENT_LOWAT
)

// LimitUnsent makes the kernel take hardly more than it can send: what a slow client gets next is decided here, and fresh,
// rather than queued there.
func LimitUnsent(conn net.Conn, bytes int) { set(conn, tcpNotSentLowat, bytes) }

// LimitUnanswered makes the kernel give up a peer that has not acknowledged for so long what was sent to it.
func LimitUnanswered(conn net.Conn, d time.Duration) {
	set(conn, tcpUserTimeout, int(d.Milliseconds()))
}

func set(conn net.Conn, option, value int) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, option, value)
		})
	}
}
