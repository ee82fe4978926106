package schedule

import (
	"context"
	"syscall"
	"time"
)

// lookUp is how long a sleep in the kernel lasts at most, in which an end of the context is not seen.
const lookUp = 50 * time.Millisecond

// SleepUntil sleeps until then, or until ctx ends; in the kernel, for threads that publish. The runtime's timers are up to a
// millisecond late when the process is idle, and that would count as the system's latency; a thread that the kernel wakes is
// late by some tens of microseconds.
func SleepUntil(ctx context.Context, t time.Time) {
	for wait := time.Until(t); wait > 0 && ctx.Err() == nil; wait = time.Until(t) {
		ts := syscall.NsecToTimespec(int64(min(wait, lookUp)))
		_ = syscall.Nanosleep(&ts, nil) // cut short by a signal, the loop goes on
	}
}

// Pause waits for a while, or until ctx ends, and then returns why it did.
func Pause(ctx context.Context, d time.Duration) error { return Wait(ctx, nil, d) }
