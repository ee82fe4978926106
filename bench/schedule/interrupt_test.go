package schedule_test

import (
	"context"
	"testing"

	"github.com/tickwire/tickwire/bench/schedule"
)

func TestInterruptWithoutWindow(t *testing.T) {
	ctx, interrupt := schedule.Interruptible(t.Context())
	if schedule.Interrupted(ctx) || ctx.Err() != nil {
		t.Error("nobody has interrupted it")
	}
	interrupt()
	interrupt()
	if !schedule.Interrupted(ctx) || ctx.Err() == nil {
		t.Error("nothing is measured, and it goes on")
	}
}

func TestInterruptWindow(t *testing.T) {
	ctx, interrupt := schedule.Interruptible(t.Context())
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	cut, end := schedule.Window(inner)
	select {
	case <-cut:
		t.Error("nobody has interrupted it")
	default:
	}
	interrupt()
	<-cut
	if !schedule.Interrupted(inner) || ctx.Err() != nil {
		t.Errorf("%v: what is measured could not be told any more", ctx.Err())
	}
	end()
	interrupt()
	if ctx.Err() == nil {
		t.Error("it goes on behind the window")
	}
}

func TestNobodyInterrupts(t *testing.T) {
	cut, end := schedule.Window(t.Context())
	end()
	if cut != nil || schedule.Interrupted(t.Context()) {
		t.Error("interrupted")
	}
}
