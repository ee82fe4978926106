package ws

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/services/internal/door"
)

// TestDescriptors compares an accepted descriptor with what package net makes of one.
func TestDescriptors(t *testing.T) {
	for _, network := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		t.Run(network, func(t *testing.T) {
			plain, err := new(net.ListenConfig).Listen(t.Context(), "tcp", network)
			if err != nil {
				t.Skip(err)
			}
			ln := own(plain)
			if _, ok := ln.(*descriptors); !ok {
				t.Fatalf("%T", ln)
			}
			client, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			addressed(t, conn, client)
			delayless(t, conn)
			talk(t, conn, client)
			waiting := make(chan error, 1)
			go func() {
				_, err := ln.Accept()
				waiting <- err
			}()
			if err := ln.Close(); err != nil {
				t.Error(err)
			}
			if err := <-waiting; !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept after the end: %v", err)
			}
			if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", client.RemoteAddr().String()); err == nil {
				t.Error("the port is still open")
			}
		})
	}
}

func addressed(t *testing.T, conn, client net.Conn) {
	t.Helper()
	whole := func(a net.Addr) netip.AddrPort {
		p := a.(*net.TCPAddr).AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	if got, want := whole(conn.RemoteAddr()), whole(client.LocalAddr()); got != want {
		t.Errorf("remote %v, want %v", got, want)
	}
	if got, want := whole(conn.LocalAddr()), whole(client.RemoteAddr()); got != want {
		t.Errorf("local %v, want %v", got, want)
	}
	if got, want := door.PeerOf(conn), whole(client.LocalAddr()).Addr(); got != want {
		t.Errorf("peer %v, want %v", got, want)
	}
}

func delayless(t *testing.T, conn net.Conn) {
	t.Helper()
	err := conn.(descriptor).do(func(fd int) {
		if v, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY); err != nil || v == 0 {
			t.Errorf("TCP_NODELAY is %d, %v", v, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// talk says something both ways, waits in vain, ends the writing side and then all.
func talk(t *testing.T, conn, client net.Conn) {
	t.Helper()
	f := func(from, to net.Conn, text string) {
		t.Helper()
		if _, err := from.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
			t.Fatalf("%q, %v, want %q", got, err, text)
		}
	}
	f(client, conn, "hello")
	f(conn, client, "welcome")
	var timeout net.Error
	for range 2 { // it passes, when the deadline is another one
		if err := conn.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) ||
			!errors.As(err, &timeout) || !timeout.Timeout() || !timeout.Temporary() { //nolint:staticcheck // TLS asks for it
			t.Fatalf("after the deadline: %#v", err)
		}
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		f(client, conn, "again")
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF { //nolint:errorlint // as it is
		t.Fatalf("behind the end: %d, %v", n, err)
	}
	f(client, conn, "the other way is open")
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF { //nolint:errorlint // as it is
		t.Fatalf("behind the client's end: %d, %v", n, err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err == nil {
		t.Error("closed for writing after the end")
	}
}
