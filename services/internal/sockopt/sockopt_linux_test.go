package sockopt

import (
	"net"
	"syscall"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	LimitUnsent(conn, 12345)
	LimitUnanswered(conn, 30*time.Second)
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	f := func(option, want int) {
		t.Helper()
		err := raw.Control(func(fd uintptr) {
			if got, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option); err != nil || got != want {
				t.Errorf("option %d is %d, %v, want %d", option, got, err, want)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
	f(tcpNotSentLowat, 12345)
	f(tcpUserTimeout, 30_000)
	pipe, _ := net.Pipe()
	LimitUnsent(pipe, 1) // has no such thing, and does no harm
}
