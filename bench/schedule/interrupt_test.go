package schedule_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

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
	if err := schedule.Wait(inner, cut, 0); err != nil {
		t.Error(err)
	}
	interrupt()
	<-cut
	if !schedule.Interrupted(inner) || ctx.Err() != nil {
		t.Errorf("%v: what is measured could not be told any more", ctx.Err())
	}
	if err := schedule.Wait(inner, cut, time.Hour); !errors.Is(err, schedule.ErrCut) {
		t.Error(err)
	}
	end()
	if ctx.Err() == nil {
		t.Error("it goes on behind the window")
	}
}

func TestInterruptTwice(t *testing.T) {
	ctx, interrupt := schedule.Interruptible(t.Context())
	_, end := schedule.Window(ctx)
	defer end()
	interrupt()
	interrupt()
	if ctx.Err() == nil {
		t.Error("the user does not want to wait, and it goes on")
	}
}

// TestWrapUp: what hangs while it is to tell what it has measured is ended.
func TestWrapUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := schedule.Interruptible(t.Context())
		_, end := schedule.Window(ctx)
		defer end()
		interrupt()
		time.Sleep(schedule.WrapUp - time.Nanosecond)
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("it ends too soon")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if ctx.Err() == nil {
			t.Error("it goes on for ever")
		}
	})
}

func TestNobodyInterrupts(t *testing.T) {
	cut, end := schedule.Window(t.Context())
	end()
	if cut != nil || schedule.Interrupted(t.Context()) {
		t.Error("interrupted")
	}
}
