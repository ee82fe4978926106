package sse

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/services/internal/door"
)

// linked returns both ends of a connection.
func linked(t *testing.T, crowd *door.Crowd) (ours, theirs net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if theirs, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := &socket{TCPConn: conn.(*net.TCPConn), guest: guest{crowd: crowd, place: 1, seated: true}}
	if !crowd.Enter(1) || crowd.Sit(1, 1) != door.Seated {
		t.Fatal("there is no room")
	}
	ours = c
	t.Cleanup(func() {
		_, _ = ours.Close(), theirs.Close()
	})
	if err := theirs.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func TestStrip(t *testing.T) {
	crowd := door.NewCrowd(1, 1)
	ours, theirs := linked(t, crowd)
	s := strip(ours)
	if _, ok := s.(*stripped); !ok {
		t.Fatalf("%T is left of a TCP connection", s)
	}
	if err := ours.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("package net still has it: %v", err)
	}
	w := fanout.NewWriter(s)
	if left, err := w.Write([]byte("hello")); left != 0 || err != nil {
		t.Fatalf("%d left, %v", left, err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(theirs); string(b) != "hello" || err != nil {
		t.Errorf("the peer reads %q, %v", b, err)
	}
	crowd.Enter(1)
	if crowd.Sit(1, 1) == door.Seated {
		t.Error("it is no longer counted")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if crowd.Sit(1, 1) != door.Seated {
		t.Error("it is counted still")
	}
	if err := s.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := w.Write([]byte("hello")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("written to when closed: %v", err)
	}
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	if got := strip(near); got != near {
		t.Errorf("%T is made of what has no descriptor", got)
	}
}

// TestStrippedCloses closes while others write. A write must never meet the descriptor of another connection, which takes
// the number as soon as it is free.
func TestStrippedCloses(t *testing.T) {
	crowd := door.NewCrowd(100, 0)
	for range 50 {
		ours, theirs := linked(t, crowd)
		w := fanout.NewWriter(strip(ours))
		var writing sync.WaitGroup
		writing.Go(func() {
			for {
				if left, err := w.Write([]byte("x")); err != nil || left > 0 {
					return
				}
			}
		})
		_ = w.Close()
		other, peer := linked(t, crowd)
		writing.Wait()
		if _, err := other.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		_, _ = other.Close(), theirs.Close()
		if b, err := io.ReadAll(peer); string(b) != "y" || err != nil {
			t.Fatalf("another connection was written to: %q, %v", b, err)
		}
	}
}
