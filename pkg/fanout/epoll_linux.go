package fanout

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// epoll is the poller for file descriptors on Linux: an epoll instance of the hub's own, for the runtime's does not tell
// anybody but a goroutine. The instance is itself a descriptor that the runtime watches, so that waiting for it costs no
// thread, and closing it ends the wait.
type epoll struct {
	hub  *Hub
	file *os.File
	fd   int // file's; valid until close
	done sync.WaitGroup
}

func newDescriptorPoller(h *Hub) (poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // or else the runtime does not watch it
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), syscall.Close(fd))
	}
	e := &epoll{hub: h, fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	raw, err := e.file.SyscallConn()
	if err == nil {
		err = e.file.SetReadDeadline(time.Time{}) // fails when the runtime does not watch it after all
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), e.file.Close())
	}
	e.done.Go(func() { e.loop(raw) })
	return e, nil
}

// watch asks for one event when c's descriptor can be written to, or is broken. The descriptor is registered when it is
// first full, and stays so, disarmed by each event, until closing it takes it out.
func (e *epoll) watch(c *Conn) error {
	op := syscall.EPOLL_CTL_ADD
	if c.registered {
		op = syscall.EPOLL_CTL_MOD
	}
	c.registered = true
	event := syscall.EpollEvent{Events: syscall.EPOLLOUT | syscall.EPOLLONESHOT, Fd: int32(c.id), Pad: int32(c.id >> 32)}
	var failed error
	err := c.writer.(described).descriptor().Control(func(fd uintptr) {
		failed = syscall.EpollCtl(e.fd, op, int(fd), &event)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (e *epoll) loop(raw syscall.RawConn) {
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
			if c := e.hub.parking.take(uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32); c != nil {
				c.shard.add(c)
			}
		}
	}
}

func (e *epoll) close() {
	_ = e.file.Close() // ends the loop; nothing can be lost by it
	e.done.Wait()
}
