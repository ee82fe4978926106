package schedule

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begin := time.Now()
		if err := Pause(ctx, time.Minute); err != nil || time.Since(begin) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if err := Pause(ctx, 2*time.Hour); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

func TestSleepUntil(t *testing.T) {
	to := time.Now().Add(2*lookUp + time.Millisecond)
	if SleepUntil(t.Context(), to); time.Now().Before(to) {
		t.Errorf("awake %v too early", time.Until(to))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	to = time.Now().Add(time.Hour)
	if SleepUntil(ctx, to); !time.Now().Before(to) {
		t.Error("it has slept on behind the end of its context")
	}
}
