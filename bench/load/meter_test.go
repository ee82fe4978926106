package load

import (
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// TestMeter: what was due in the window and comes behind it is late, and was not delivered meanwhile.
func TestMeter(t *testing.T) {
	f := func(change func(m *meter), due, from, to time.Duration, updates, timed int64) {
		t.Helper()
		m := newMeter(false)
		change(m)
		now := time.Now()
		m.open(now.Add(from), now.Add(to))
		m.record(1, &market.Head{Time: market.FromTime(now.Add(due))}, 3)
		m.collect()
		if m.total.updates != updates || m.total.latency.TotalCount() != timed {
			t.Errorf("due %v, window %v to %v: %d updates, %d latencies; want %d and %d", due, from, to, m.total.updates, m.total.latency.TotalCount(), updates, timed)
		}
	}
	plain := func(*meter) {}
	f(plain, -time.Second, -2*time.Second, time.Minute, 3, 1)      // in time
	f(plain, -3*time.Second, -4*time.Second, -2*time.Second, 0, 1) // too late
	f(plain, -3*time.Second, -2*time.Second, time.Minute, 3, 0)    // from before
	f(plain, -5*time.Second, -4*time.Second, -3*time.Second, 0, 0) // neither
	f(func(m *meter) { m.whole = true }, -3*time.Second, -4*time.Second, -2*time.Second, 3, 1)
	f(func(m *meter) { m.arrival = true }, -3*time.Second, -2*time.Second, time.Minute, 3, 1)
}
