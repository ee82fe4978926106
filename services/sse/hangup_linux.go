package sse

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// hangups sees peers that hang up, by an epoll instance of its own: a connection costs a place in a map, and no goroutine
// that reads. What a peer sends besides stays in the kernel, which bounds it.
type hangups struct {
	done sync.WaitGroup

	mu      sync.Mutex
	file    *os.File // the epoll instance, made for the first client
	fd      int
	clients map[uint64]*client // by number, which is never used again
}

// start makes the epoll instance, unless it has been made. When that fails, for want of descriptors perhaps, the next client
// tries again. h.mu is held.
func (h *hangups) start() error {
	if h.file != nil {
		return nil
	}
	file, fd, err := newEpoll()
	if err != nil {
		return err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return errors.Join(fmt.Errorf("epoll: %w", err), file.Close())
	}
	h.file, h.fd, h.clients = file, fd, make(map[uint64]*client)
	h.done.Go(func() { h.loop(raw) })
	return nil
}

func newEpoll() (*os.File, int, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, 0, fmt.Errorf("epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // or else the runtime does not watch it
		return nil, 0, errors.Join(fmt.Errorf("epoll: %w", err), syscall.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "epoll")
	if err := file.SetReadDeadline(time.Time{}); err != nil { // the runtime does not watch it after all
		return nil, 0, errors.Join(fmt.Errorf("epoll: %w", err), file.Close())
	}
	return file, fd, nil
}

// watch begins to watch a client. It reports false for connections that have no descriptor of their own.
func (h *hangups) watch(c *client) bool {
	tcp, ok := c.net.(interface {
		syscall.Conn
		CloseWrite() error // only what is a socket has that
	})
	if _, secure := c.net.(interface{ Handshake() error }); !ok || secure {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	h.mu.Lock()
	failed := h.start()
	if failed == nil {
		h.clients[c.number] = c
	}
	h.mu.Unlock()
	if failed != nil {
		return false
	}
	ev := syscall.EpollEvent{Events: syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(uint32(c.number)), Pad: int32(uint32(c.number >> 32))}
	err = raw.Control(func(fd uintptr) { failed = syscall.EpollCtl(h.fd, syscall.EPOLL_CTL_ADD, int(fd), &ev) })
	if err != nil {
		h.forget(c)
		return true // it is closed already, and whoever has closed it does the rest
	}
	if failed != nil {
		h.forget(c)
		return false
	}
	return true
}

// forget ends that. Closing the descriptor takes it out of the epoll instance.
func (h *hangups) forget(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c.number)
}

func (h *hangups) loop(raw syscall.RawConn) {
	events := make([]syscall.EpollEvent, 128)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && !errors.Is(err, syscall.EINTR)
		})
		if err != nil || n < 0 {
			return // closed
		}
		for _, ev := range events[:n] {
			h.mu.Lock()
			c := h.clients[uint64(uint32(ev.Fd))|uint64(uint32(ev.Pad))<<32]
			h.mu.Unlock()
			if c != nil {
				c.hangUp()
			}
		}
	}
}

func (h *hangups) close() {
	h.mu.Lock()
	file := h.file
	h.mu.Unlock()
	if file != nil {
		_ = file.Close() // ends the loop
	}
	h.done.Wait()
}
