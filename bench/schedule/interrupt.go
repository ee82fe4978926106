package schedule

import (
	"context"
	"sync"
)

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
// figures are those of the time until then; without a window there are none, and interrupt ends the context.
func Interruptible(parent context.Context) (ctx context.Context, interrupt func()) {
	ctx, cancel := context.WithCancel(parent)
	i := &interruption{cancel: cancel, cut: make(chan struct{})}
	return context.WithValue(ctx, interruptionKey{}, i), i.interrupt
}

func (i *interruption) interrupt() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.known {
		i.known = true
		close(i.cut)
	}
	if !i.open {
		i.cancel()
	}
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
		i.open = open
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
