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
	file *os.File
	fd   int
	done sync.WaitGroup

	mu      sync.Mutex
	clients map[uint64]*client // by number, which is never used again
}

func newHangups() (*hangups, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // or else the runtime does not watch it
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), syscall.Close(fd))
	}
	h := &hangups{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), clients: make(map[uint64]*client)}
	raw, err := h.file.SyscallConn()
	if err == nil {
		err = h.file.SetReadDeadline(time.Time{}) // fails when the runtime does not watch it after all
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), h.file.Close())
	}
	h.done.Go(func() { h.loop(raw) })
	return h, nil
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
	h.clients[c.number] = c
	h.mu.Unlock()
	failed := error(nil)
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
	_ = h.file.Close() // ends the loop
	h.done.Wait()
}
