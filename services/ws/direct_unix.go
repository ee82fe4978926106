//go:build unix

package ws

import "syscall"

// readDirectly reads what is there; it is not done when there is nothing yet.
var readDirectly = func(fd uintptr, b []byte) (done bool, n int, err error) {
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
