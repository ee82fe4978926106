package schedule

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrCut is why something that would have been measured has not been: the user has interrupted the run.
var ErrCut = errors.New("cut short")

// WrapUp is how long an interrupted run may take to tell what it has measured.
const WrapUp = 30 * time.Second

// interruption is the user's wish that a run ends before its time.
type interruption struct {
	cancel context.CancelFunc
	cut    chan struct{} // closed when it is known

	mu    sync.Mutex
	known bool
	open  bool // a window can be cut short
}

type interruptionKey struct{}

// Interruptible makes a context for a run that its user may interrupt. What is being measured in a Window then ends early, and its
// figures are those of the time until then. Without a window there are none, and the context ends; as it does WrapUp later, or when
// interrupt is called again.
func Interruptible(parent context.Context) (ctx context.Context, interrupt func()) {
	ctx, cancel := context.WithCancel(parent)
	i := &interruption{cancel: cancel, cut: make(chan struct{})}
	return context.WithValue(ctx, interruptionKey{}, i), i.interrupt
}

func (i *interruption) interrupt() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known || !i.open {
		i.cancel()
	}
	if i.known {
		return
	}
	i.known = true
	close(i.cut)
	time.AfterFunc(WrapUp, i.cancel)
}

// Window says that something is measured from now on that can be cut short: cut is closed when it is to be. What follows until
// end, when the last messages arrive, is not interrupted. Windows don't overlap. Without Interruptible cut is nil.
func Window(ctx context.Context) (cut <-chan struct{}, end func()) {
	i, ok := ctx.Value(interruptionKey{}).(*interruption)
	if !ok {
		return nil, func() {}
	}
	set := func(open bool) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.open = open; !open && i.known {
			i.cancel()
		}
	}
	set(true)
	return i.cut, func() { set(false) }
}

// Interrupted tells whether the user wants the run to end: no further one begins.
func Interrupted(ctx context.Context) bool {
	i, ok := ctx.Value(interruptionKey{}).(*interruption)
	if !ok {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.known
}

// Wait is Pause, and ends with ErrCut when cut is closed.
func Wait(ctx context.Context, cut <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-cut:
		return ErrCut
	case <-timer.C:
		return nil
	}
}
