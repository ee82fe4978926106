package deliver

import (
	"errors"
	"math"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// TestManyDead: endpoints that never answer, each with a backlog, leave the one that does room in memory.
func TestManyDead(t *testing.T) {
	f := func(name string, dead, batch int, known bool, after time.Duration) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			m := newMemory(endpoint(1, "http://well.example/"))
			for n := range dead {
				ep := endpoint(int64(n+2), "http://dead.example/")
				ep.Batch = batch
				if known {
					ep.Health.FailingSince = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when bubbles begin
				}
				m.endpoints[ep.Num] = &ep
			}
			faked(t, m, func(r *http.Request) (*http.Response, error) {
				if r.URL.Host == "well.example" {
					return reply(200), nil
				}
				<-r.Context().Done()
				return nil, r.Context().Err()
			}, func(t *testing.T, s *Sender) {
				for n := range dead {
					m.add(int64(n+2), 3*max(batch, 4), nil)
				}
				start(t, s)
				time.Sleep(after)
				for i := range 10 {
					m.add(1, 1, nil)
					time.Sleep(1500 * time.Millisecond)
					if n := m.count(store.DeliveryDelivered); n != i+1 {
						t.Fatalf("%d of %d delivered", n, i+1)
					}
				}
			})
		})
	}
	f("known to be dead", 4000, 1, true, 2*time.Minute)
	f("full batches, not known yet", 120, 100, false, 2*time.Second)
}

// TestChangedWhileRead: what was read for a configuration that is not the endpoint's any more is read again at once.
func TestChangedWhileRead(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	for n := range 4000 { // so that a poll is seldom
		ep := endpoint(int64(n+2), "http://idle.example/")
		m.endpoints[ep.Num] = &ep
	}
	faked(t, m, func(*http.Request) (*http.Response, error) { return reply(200), nil }, func(t *testing.T, s *Sender) {
		start(t, s)
		time.Sleep(time.Minute)
		for i := range 5 {
			m.mu.Lock()
			m.endpoints[1].Version++
			m.mu.Unlock()
			m.add(1, 1, nil)
			time.Sleep(2 * time.Second)
			if n := m.count(store.DeliveryDelivered); n != i+1 {
				t.Fatalf("%d of %d delivered", n, i+1)
			}
		}
	})
}

// TestEnabledAnew: whoever enables an endpoint ends the pause that it asked for, be it enabled already.
func TestEnabledAnew(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	var well atomic.Bool
	faked(t, m, func(*http.Request) (*http.Response, error) {
		if well.Load() {
			return reply(200), nil
		}
		return reply(503, "Retry-After", "86400"), nil
	}, func(t *testing.T, s *Sender) {
		start(t, s)
		m.add(1, 1, nil)
		time.Sleep(time.Minute)
		well.Store(true)
		m.mu.Lock()
		for _, j := range m.byNum {
			j.Delivery.NextAt = time.Now()
		}
		m.mu.Unlock()
		m.change(1, func(ep *store.Endpoint) { ep.Health = store.Health{} })
		time.Sleep(time.Minute)
		if n := m.count(store.DeliveryDelivered); n != 1 {
			t.Error("still paused")
		}
	})
}

// TestRateOfNothing: a rate that lets nothing go for longer than a time can tell costs no timer that runs all the time.
func TestRateOfNothing(t *testing.T) {
	for _, rate := range []float64{1e-9, 1e-12, 1e-300, math.SmallestNonzeroFloat64} {
		ep := endpoint(1, "http://example.com/")
		ep.Rate = rate
		m := newMemory(ep)
		faked(t, m, func(*http.Request) (*http.Response, error) { return reply(200), nil }, func(t *testing.T, s *Sender) {
			start(t, s)
			m.add(1, 3, nil)
			time.Sleep(time.Minute)
			s.mu.Lock()
			defer s.mu.Unlock()
			now := time.Now()
			if at := s.lanes[1].rateAt(now); at.Sub(now) < time.Minute {
				t.Errorf("%v: again after %v", rate, at.Sub(now))
			}
		})
	}
}

// TestReadsFailWhenDisabled: the sender asks how an endpoint stands that it has disabled, but not all the time.
func TestReadsFailWhenDisabled(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	var asked atomic.Int64
	var broken atomic.Bool
	m.reading = func() error {
		if !broken.Load() {
			return nil
		}
		asked.Add(1)
		time.Sleep(time.Millisecond)
		return errors.New("broken")
	}
	m.finish = func(o []store.Outcome) error {
		broken.Store(o[0].Disable != "")
		return nil
	}
	faked(t, m, func(*http.Request) (*http.Response, error) { return reply(410), nil }, func(t *testing.T, s *Sender) {
		start(t, s)
		m.add(1, 1, nil)
		time.Sleep(time.Minute)
		if n := asked.Load(); n < 10 || n > 100 {
			t.Errorf("asked %d times in a minute", n)
		}
		broken.Store(false)
	})
}

// TestNobodyTold: an endpoint of which no news has come is found all the same, with what is due for it.
func TestNobodyTold(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	faked(t, m, func(*http.Request) (*http.Response, error) { return reply(200), nil }, func(t *testing.T, s *Sender) {
		start(t, s)
		time.Sleep(time.Minute)
		m.mu.Lock()
		ep := endpoint(2, "http://example.com/")
		m.endpoints[2] = &ep
		m.mu.Unlock()
		m.silent.Store(true)
		m.add(2, 3, nil)
		time.Sleep(30 * time.Second)
		if n := m.count(store.DeliveryDelivered); n != 3 {
			t.Errorf("%d of 3 delivered", n)
		}
	})
}

// TestNewsWhileRead: what changes while an endpoint's configuration is being read is not forgotten over it.
func TestNewsWhileRead(t *testing.T) {
	ep := endpoint(1, "http://example.com/")
	ep.Rate = 1
	m := newMemory(ep)
	m.read = func() { time.Sleep(time.Second) }
	faked(t, m, func(*http.Request) (*http.Response, error) { return reply(200), nil }, func(t *testing.T, s *Sender) {
		start(t, s)
		m.add(1, 1000, nil)
		time.Sleep(10 * time.Second)
		m.change(1, func(ep *store.Endpoint) { ep.Rate = 2 })
		time.Sleep(time.Second / 2)
		m.change(1, func(ep *store.Endpoint) { ep.State = store.EndpointDisabled })
		time.Sleep(5 * time.Second)
		before := m.count(store.DeliveryDelivered)
		time.Sleep(time.Minute)
		if after := m.count(store.DeliveryDelivered); before == 0 || after != before {
			t.Errorf("%d delivered, and %d a minute after the endpoint was disabled", before, after)
		}
	})
}

// TestNewsWhileTaken: nor what changes while a slot's endpoints are being read.
func TestNewsWhileTaken(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"), endpoint(2, "http://example.com/"))
	m.listed = func() { time.Sleep(time.Second) }
	faked(t, m, func(*http.Request) (*http.Response, error) { return reply(200), nil }, func(t *testing.T, s *Sender) {
		m.silent.Store(true)
		m.add(1, 10, nil)
		m.add(2, 10, nil)
		m.silent.Store(false)
		start(t, s)
		time.Sleep(time.Second / 2)
		m.change(1, func(ep *store.Endpoint) { ep.State = store.EndpointDisabled })
		time.Sleep(time.Minute)
		if n := m.count(store.DeliveryDelivered); n != 10 {
			t.Errorf("%d delivered, 10 are for the endpoint that was not disabled", n)
		}
	})
}

// TestGoneWhileRead: we disable an endpoint while its configuration is being read, and ask once more how it stands. If that were
// forgotten we would look for it without end, and this test would not end either.
func TestGoneWhileRead(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	var asked atomic.Int64
	m.read = func() {
		asked.Add(1)
		time.Sleep(time.Second)
	}
	faked(t, m, func(*http.Request) (*http.Response, error) {
		time.Sleep(1500 * time.Millisecond)
		return reply(410), nil
	}, func(t *testing.T, s *Sender) {
		start(t, s)
		time.Sleep(10 * time.Second)
		m.add(1, 1, nil) // read until 11 s, and sent until 12.5 s
		time.Sleep(2 * time.Second)
		m.tell(1) // read until 13 s
		time.Sleep(time.Minute)
		if n := asked.Load(); n < 3 || n > 100 {
			t.Errorf("asked %d times", n)
		}
		m.change(1, m.enable)
		m.add(1, 1, nil)
		time.Sleep(time.Minute)
		if got := m.types(); len(got) != 2 {
			t.Errorf("events %v: it was to be tried again, and disabled again", got)
		}
	})
}
