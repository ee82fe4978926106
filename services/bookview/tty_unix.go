//go:build unix

package bookview

import (
	"os"

	"golang.org/x/sys/unix"
)

// windowSize returns the size of the terminal that f is; ok is false when it is none.
func windowSize(f *os.File) (width, height int, ok bool) {
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Col == 0 || ws.Row == 0 {
		return 80, 24, false
	}
	return int(ws.Col), int(ws.Row), true
}
