package scenario

import (
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/schedule"
)

// TestSettle finds where a burst is over.
func TestSettle(t *testing.T) {
	c := DefaultBurst()
	f := func(want time.Duration, disturbed int64, p99 ...int64) {
		t.Helper()
		b := burst{normal: schedule.NewHistogram(), disturbed: schedule.NewHistogram()}
		_ = b.normal.RecordValue(5_000)
		for i, us := range p99 {
			ages := schedule.NewHistogram()
			if us > 0 { // else nothing came
				_ = ages.RecordValue(us)
			}
			b.spells = append(b.spells, spell{time.Duration(i+1) * burstSample, ages})
		}
		if got := b.settle(&c); got != want || b.disturbed.TotalCount() != disturbed {
			t.Errorf("%v: over after %v with %d spells disturbed, want %v with %d", p99, got, b.disturbed.TotalCount(), want, disturbed)
		}
	}
	f(0, 0, 5_000, 9_000, 5_000, 5_000, 5_000, 5_000)                                                         // at once
	f(200*time.Millisecond, 2, 50_000, 11_000, 5_000, 5_000, 5_000, 5_000, 5_000, 5_000)                      // soon
	f(500*time.Millisecond, 5, 50_000, 5_000, 5_000, 5_000, 50_000, 5_000, 5_000, 5_000, 5_000, 5_000, 5_000) // with an echo
	f(100*time.Millisecond, 1, 50_000, 5_000, 5_000, 5_000, 5_000, 5_000, 5_000, 50_000, 5_000)               // what comes later is something else
	f(c.After, 4, 50_000, 50_000, 50_000, 50_000)                                                             // never
	f(700*time.Millisecond, 1, 0, 0, 0, 0, 0, 0, 500_000, 5_000, 5_000, 5_000, 5_000, 5_000, 5_000)           // a server that stood still is not calm
	f(c.After, 0, 0, 0, 0, 0, 0, 0)                                                                           // and who knows when nothing comes at all?
	f(c.After, 3, 5_000, 5_000, 50_000)                                                                       // not within what was looked at
}
