package rivals

import (
	"slices"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

func quantile(all []time.Duration, q float64) time.Duration {
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[min(len(all)-1, int(q*float64(len(all))))]
}

// stall stops everything for a while, again and again.
type stall struct {
	begin        time.Time // of the first period; the stall is at the end of each
	every, lasts time.Duration
}

// until is when what comes at a time goes on.
func (s *stall) until(at time.Time) time.Time {
	in := at.Sub(s.begin)
	if in < 0 {
		return at
	}
	if in %= s.every; in < s.every-s.lasts {
		return at
	}
	return at.Add(s.every - in)
}

// quantile is the latency that it makes of messages that are spread evenly over time: those in the stall wait for what is
// left of it, from all to nothing.
func (s *stall) quantile(q float64) time.Duration {
	stalled := s.lasts.Seconds() / s.every.Seconds()
	return time.Duration(max(0, q-(1-stalled)) / stalled * float64(s.lasts))
}

// What is measured may be so much less than what the server was slowed down by, and so much more: the publisher wakes up once
// a millisecond, and histograms have three digits. When others have kept the whole machine from this, the server knows how
// late messages really went out, and that must be measured too.
const (
	less = 4 * time.Millisecond
	more = 15 * time.Millisecond
)

// TestOmission slows a server down by what is known, and finds all of it in the percentiles. Stalls are where load generators
// go wrong that wait for an answer before they go on: they send nothing while the server stands still, and so have a single
// late message for each stall.
func TestOmission(t *testing.T) {
	const rate = 500
	// check publishes from begin on, which it tells, and compares percentiles with what they should be. It reports false when
	// they are more, which is what they should be on a machine that was too busy.
	check := func(t *testing.T, b *broadcast, to target.Config, seconds time.Duration, slow func(begin time.Time), want func(q float64) time.Duration) (calm bool) {
		t.Helper()
		calm = true
		to.Subscribe, to.Topics = b.url("ws", "/sub"), 4
		r := newRig(t, to, swarm.Config{Protocol: target.WS, Clients: 5, Each: 4})
		begin := time.Now().Add(50 * time.Millisecond)
		slow(begin)
		published := uint64(seconds.Seconds() * rate)
		r.publish(begin, rate, published)
		time.Sleep(time.Until(begin.Add(seconds)))
		all, ages := r.arrived(published)
		if all.Behind > 0 || all.Gaps+all.GapNotices+all.Again+all.Malformed > 0 || all.Messages != 5*int64(published) {
			t.Errorf("%+v", all)
		}
		for _, q := range []float64{0.5, 0.9, 0.99, 1} {
			got, made := time.Duration(ages.ValueAtQuantile(100*q))*time.Microsecond, want(q)
			late := b.late(q)
			t.Logf("p%g: %v, made %v, %v late when they went out", 100*q, got, made, late)
			if got < max(made, late)-less {
				t.Errorf("p%g is %v; the server was made %v late, and was %v", 100*q, got, made, late)
			}
			calm = calm && got <= max(made, late)+more
		}
		r.stop()
		r.end()
		return calm
	}
	// calmly does it until the machine was not too busy.
	calmly := func(t *testing.T, do func(b *broadcast) (calm bool)) {
		t.Helper()
		t.Parallel()
		for range 5 {
			if do(newBroadcast(t)) || t.Failed() {
				return
			}
		}
		t.Error("each time more was measured than the server was made late")
	}
	stalls := func(t *testing.T, b *broadcast, h *hook, to target.Config) (calm bool) {
		t.Helper()
		s := &stall{every: 2 * time.Second, lasts: 400 * time.Millisecond}
		calm = check(t, b, to, 4*time.Second, func(begin time.Time) {
			s.begin = begin
			b.slow(h, s.until)
		}, s.quantile)
		closed := b.closedLoop()
		t.Logf("a closed loop would have found a p99 of %v", closed)
		if closed > b.late(0.99)/4 {
			return false // the machine was too busy for one, and this proves nothing
		}
		return calm
	}
	t.Run("Stalls", func(t *testing.T) {
		calmly(t, func(b *broadcast) bool {
			return stalls(t, b, &b.release, target.Config{Kind: target.WS, Publish: b.url("ws", "/pub")})
		})
	})
	t.Run("SlowPublishing", func(t *testing.T) {
		calmly(t, func(b *broadcast) bool {
			return stalls(t, b, &b.taken, target.Config{Kind: target.Nchan, Publish: b.url("http", "/pub/{topic}")})
		})
	})
	t.Run("Delays", func(t *testing.T) {
		const late = 70 * time.Millisecond
		calmly(t, func(b *broadcast) bool {
			return check(t, b, target.Config{Kind: target.WS, Publish: b.url("ws", "/pub")}, 1500*time.Millisecond, func(time.Time) {
				b.slow(&b.release, func(at time.Time) time.Time { return at.Add(late) })
			}, func(float64) time.Duration { return late })
		})
	})
}
