//go:build linux && (amd64 || arm64)

package ws

import (
	"syscall"
	"unsafe"
)

// readable tells whether there is something to read, or the connection has ended. Who waits for that needs no buffer. It is
// the system call itself because what lies around it elsewhere takes too much of the stack.
var readable = func(fd uintptr) bool {
	for {
		var b byte
		_, _, err := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, //nolint:gosec // a byte to look at
			syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		if err != syscall.EINTR {
			return err != syscall.EAGAIN
		}
	}
}

// readDirectly reads what is there; it is not done when there is nothing yet.
func readDirectly(fd uintptr, b []byte) (done bool, n int, err error) {
	for {
		n, err = syscall.Read(int(fd), b)
		switch err {
		case nil:
			return true, n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false, 0, nil
		default:
			return true, 0, err
		}
	}
}
