package deliver

import (
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// faked runs a test in a bubble, with a sender whose requests are answered by f.
func faked(t *testing.T, m *memory, f func(*http.Request) (*http.Response, error), test func(t *testing.T, s *Sender)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m.queued = make(chan int64, 1024) // of the bubble
		s := sender(t, m, nil)
		s.client = &http.Client{Transport: round(f), CheckRedirect: s.client.CheckRedirect}
		test(t, s)
	})
}

func TestDelivers(t *testing.T) {
	var mu sync.Mutex
	bodies := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if err := accepts(r, b); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		bodies[r.Header.Get("webhook-id")] = string(b)
	}))
	defer server.Close()
	m := newMemory(endpoint(1, server.URL), endpoint(2, server.URL), endpoint(3, server.URL))
	m.add(1, 500, nil)
	start(t, sender(t, m, nil))
	m.add(2, 500, nil)
	m.add(3, 1, nil)
	testkit.Eventually(t, 20*time.Second, func() error {
		if n := m.count(store.DeliveryDelivered); n != 1001 {
			return errors.New("not all delivered")
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	for _, j := range m.byNum {
		if bodies[j.Event.ID] != string(j.Event.Body) {
			t.Fatalf("%s: %s", j.Event.ID, bodies[j.Event.ID])
		}
	}
	if len(m.attempts) != 1001 {
		t.Errorf("%d attempts", len(m.attempts))
	}
}

// TestBackoff goes through both profiles, attempt by attempt, against an endpoint that never takes anything.
func TestBackoff(t *testing.T) {
	f := func(profile store.Profile, attempts int, total time.Duration) {
		t.Helper()
		ep := endpoint(1, "http://example.com/")
		ep.Profile = profile
		m := newMemory(ep)
		var at []time.Time
		faked(t, m, func(*http.Request) (*http.Response, error) {
			at = append(at, time.Now())
			return reply(500), nil
		}, func(t *testing.T, s *Sender) {
			s.poll = time.Hour
			start(t, s)
			num := m.add(1, 1, nil)[0]
			time.Sleep(total*13/10 + time.Hour)
			if d := m.delivery(num); d.State != store.DeliveryExhausted || d.Attempts != attempts {
				t.Errorf("%s: %+v", profile, d)
			}
			if len(at) != attempts {
				t.Fatalf("%s: %d attempts", profile, len(at))
			}
			for i, wait := range profiles[profile] {
				most := wait*12/10 + 50*time.Millisecond
				if i+1 >= breakerFails { // the breaker may hold an attempt back by a minute and a bit
					most = max(most, 75*time.Second)
				}
				if got := at[i+1].Sub(at[i]); got < wait*8/10 || got > most {
					t.Errorf("%s: attempt %d came after %v, want about %v", profile, i+2, got, wait)
				}
			}
			if !slices.Contains(m.types(), store.TypeDeliveryExhausted) {
				t.Errorf("%s: events %v", profile, m.types())
			}
		})
	}
	f(store.ProfileRealtime, 9, 4*time.Hour+21*time.Minute+21*time.Second)
	f(store.ProfileStandard, 10, 75*time.Hour+35*time.Minute+5*time.Second)
}

func TestJitter(t *testing.T) {
	low, high := time.Hour, time.Duration(0)
	for range 10_000 {
		d := jitter(time.Minute)
		low, high = min(low, d), max(high, d)
	}
	if low < 48*time.Second || low > 49*time.Second || high > 72*time.Second || high < 71*time.Second {
		t.Errorf("from %v to %v", low, high)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	f := func(text string, want time.Duration) {
		t.Helper()
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	f("", 0)
	f("0", 0)
	f(" 17 ", 17*time.Second)
	f("86400", 24*time.Hour)
	f("86401", 24*time.Hour)
	f("99999999999999999999999", 24*time.Hour)
	f("-5", 0)
	f("1.5", 0)
	f("soon", 0)
	f("Wed, 06 May 2026 07:09:09 GMT", time.Minute)
	f("Wed, 06 May 2026 07:00:00 GMT", 0)
	f("Wed, 06 May 2054 07:00:00 GMT", 24*time.Hour)
	f("Wednesday, 06-May-26 07:09:09 GMT", time.Minute)
}

// TestRetryAfterPauses: what an endpoint asks for holds for all that goes to it, and for nobody else.
func TestRetryAfterPauses(t *testing.T) {
	m := newMemory(endpoint(1, "http://one.example/"), endpoint(2, "http://two.example/"))
	var mu sync.Mutex
	var asked, again, other time.Time
	faked(t, m, func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Host == "two.example" {
			other = time.Now()
			return reply(204), nil
		}
		if asked.IsZero() {
			asked = time.Now()
			return reply(503, "Retry-After", "7200"), nil
		}
		if again.IsZero() {
			again = time.Now()
		}
		return reply(200), nil
	}, func(t *testing.T, s *Sender) {
		start(t, s)
		m.add(1, 1, nil)
		time.Sleep(time.Minute)
		m.add(1, 50, nil)
		m.add(2, 1, nil)
		time.Sleep(10 * time.Second)
		mu.Lock()
		if n := m.readsOf(1); n > 3 || other.IsZero() {
			t.Errorf("%d reads of the paused endpoint's queue; the other got its own at %v", n, other)
		}
		mu.Unlock()
		time.Sleep(2*time.Hour + time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if wait := again.Sub(asked); wait < 2*time.Hour || wait > 2*time.Hour+2*time.Second {
			t.Errorf("again after %v", wait)
		}
		if n := m.count(store.DeliveryDelivered); n != 52 {
			t.Errorf("%d delivered", n)
		}
	})
}

func TestGoneDisables(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	var requests atomic.Int64
	faked(t, m, func(*http.Request) (*http.Response, error) {
		if requests.Add(1) <= 3 {
			return reply(200), nil
		}
		return reply(410), nil
	}, func(t *testing.T, s *Sender) {
		start(t, s)
		m.add(1, 100, nil)
		time.Sleep(time.Hour)
		if ep := m.endpoints[1]; ep.State != store.EndpointDisabled || ep.Why != "gone" {
			t.Errorf("%s, %s", ep.State, ep.Why)
		}
		if requests.Load() > 3+10 || m.count(store.DeliveryHeld) != 97 {
			t.Errorf("%d requests; %d held", requests.Load(), m.count(store.DeliveryHeld))
		}
		if got := m.types(); !slices.Equal(got, []string{store.TypeEndpointDisabled}) || m.events[0].ID != store.FormatID(store.EventPrefix, 1<<60+1) {
			t.Errorf("events %v: %+v", got, m.events)
		}
		// Enabled again, what was held is queued by the store, and goes out.
		requests.Store(-1000)
		m.change(1, m.enable)
		time.Sleep(time.Minute)
		if n := m.count(store.DeliveryDelivered); n != 100 {
			t.Errorf("%d delivered", n)
		}
	})
}

// TestInFlightAndRate: never more requests at a time than the endpoint takes, nor more in a second.
func TestInFlightAndRate(t *testing.T) {
	ep := endpoint(1, "http://example.com/")
	ep.MaxInFlight = 7
	m := newMemory(ep)
	var flying, most, total atomic.Int64
	faked(t, m, func(*http.Request) (*http.Response, error) {
		n := flying.Add(1)
		for {
			old := most.Load()
			if n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		time.Sleep(100 * time.Millisecond)
		flying.Add(-1)
		total.Add(1)
		return reply(200), nil
	}, func(t *testing.T, s *Sender) {
		stop := start(t, s)
		m.add(1, 700, nil)
		time.Sleep(5 * time.Second)
		if most.Load() != 7 || total.Load() < 330 || total.Load() > 350 {
			t.Errorf("%d at a time, %d in five seconds", most.Load(), total.Load())
		}
		m.change(1, func(ep *store.Endpoint) { ep.Rate = 5 })
		time.Sleep(2 * time.Second) // until it has been noticed
		before := total.Load()
		time.Sleep(20 * time.Second)
		if n := total.Load() - before; math.Abs(float64(n)-100) > 3 {
			t.Errorf("%d in 20 s, at 5 a second", n)
		}
		stop()
	})
}

// TestFair: an endpoint with a backlog takes turns with one that gets an event now and then, though there is room for very
// few requests.
func TestFair(t *testing.T) {
	m := newMemory(endpoint(1, "http://one.example/"), endpoint(2, "http://two.example/"))
	var worst atomic.Int64
	faked(t, m, func(r *http.Request) (*http.Response, error) {
		time.Sleep(10 * time.Millisecond)
		if r.URL.Host == "two.example" {
			m.mu.Lock()
			worst.Store(max(worst.Load(), int64(time.Since(m.byNum[m.last].Delivery.Created))))
			m.mu.Unlock()
		}
		return reply(200), nil
	}, func(t *testing.T, s *Sender) {
		s.cfg.InFlight = 2
		start(t, s)
		m.add(1, 10_000, nil)
		for range 20 {
			time.Sleep(time.Second)
			m.add(2, 1, func(_ int, j *store.Job) { j.Delivery.Created = time.Now() })
		}
		time.Sleep(time.Second)
		if d := time.Duration(worst.Load()); d == 0 || d > 25*time.Millisecond {
			t.Errorf("the other endpoint waited %v", d)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.most > maxPage {
			t.Errorf("%d read at once", m.most)
		}
	})
}

// TestBreaker: an endpoint that never answers is asked now and then, and nothing of it is read meanwhile. When it is well
// again, everything goes out.
func TestBreaker(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	var dead atomic.Bool
	dead.Store(true)
	var requests atomic.Int64
	faked(t, m, func(r *http.Request) (*http.Response, error) {
		requests.Add(1)
		if dead.Load() {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		return reply(200), nil
	}, func(t *testing.T, s *Sender) {
		start(t, s)
		m.add(1, 1000, nil)
		time.Sleep(5 * time.Minute)
		requests.Store(0)
		reads := m.readsOf(1)
		time.Sleep(time.Hour)
		reads = m.readsOf(1) - reads
		if n := int(requests.Load()); n < 40 || n > 60 || reads > 2*n {
			t.Errorf("%d requests, %d reads in an hour", n, reads)
		}
		if got := m.types(); !slices.Equal(got, []string{store.TypeEndpointFailing}) {
			t.Errorf("events %v", got)
		}
		dead.Store(false)
		time.Sleep(4 * time.Hour)
		if n := m.count(store.DeliveryDelivered); n != 1000 {
			t.Errorf("%d delivered", n)
		}
		if got := m.types(); !slices.Equal(got, []string{store.TypeEndpointFailing, store.TypeEndpointRecovered}) {
			t.Errorf("events %v", got)
		}
	})
}

func TestDisabledAfterDays(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	faked(t, m, func(*http.Request) (*http.Response, error) { return reply(500), nil }, func(t *testing.T, s *Sender) {
		s.poll = time.Hour
		start(t, s)
		for day := range 8 {
			m.add(1, 3, nil)
			time.Sleep(24 * time.Hour)
			m.mu.Lock()
			state := m.endpoints[1].State
			m.mu.Unlock()
			if (state == store.EndpointDisabled) != (day >= 5) {
				t.Errorf("day %d: %s", day, state)
			}
		}
		if ep := m.endpoints[1]; ep.Why != "failing" {
			t.Error(ep.Why)
		}
	})
}

// TestOrder: the deliveries of a key go out one after the other, also when one has to be tried again; other keys go on.
func TestOrder(t *testing.T) {
	ep := endpoint(1, "http://example.com/")
	ep.Ordering = store.OrderAlert
	m := newMemory(ep)
	var mu sync.Mutex
	got := map[int64][]string{}
	failed := map[string]int{}
	keys := map[string]int64{}
	faked(t, m, func(r *http.Request) (*http.Response, error) {
		time.Sleep(time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("webhook-id")
		if failed[id]++; failed[id] <= 2 && id[len(id)-1] == '5' {
			return reply(500), nil
		}
		got[keys[id]] = append(got[keys[id]], id)
		return reply(200), nil
	}, func(t *testing.T, s *Sender) {
		start(t, s)
		m.add(1, 300, func(i int, j *store.Job) {
			j.Delivery.Key = int64(i%3 + 1)
			keys[j.Event.ID] = j.Delivery.Key
		})
		time.Sleep(time.Hour)
		if n := m.count(store.DeliveryDelivered); n != 300 {
			t.Errorf("%d delivered", n)
		}
		for key, ids := range got {
			if len(ids) != 100 || !slices.IsSorted(ids) {
				t.Errorf("key %d: %v", key, ids)
			}
		}
	})
}

// TestBatches: deliveries that shared a request share it at each attempt.
func TestBatches(t *testing.T) {
	ep := endpoint(1, "http://example.com/")
	ep.Batch, ep.MaxInFlight = 10, 2
	m := newMemory(ep)
	bodies := map[string]string{}
	requests := map[string]int{}
	var mu sync.Mutex
	faked(t, m, func(r *http.Request) (*http.Response, error) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if err := accepts(r, b); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("webhook-id")
		if requests[id]++; requests[id] > 1 && bodies[id] != string(b) {
			t.Errorf("%s: %s, before %s", id, b, bodies[id])
		}
		bodies[id] = string(b)
		if requests[id] < 3 {
			return reply(500), nil
		}
		return reply(200), nil
	}, func(t *testing.T, s *Sender) {
		stop := start(t, s)
		m.add(1, 95, nil)
		time.Sleep(3 * time.Second)
		stop()
		s = sender(t, m, nil) // another one goes on with the same batches
		s.client = &http.Client{Transport: round(func(r *http.Request) (*http.Response, error) {
			b, err := io.ReadAll(r.Body)
			if id := r.Header.Get("webhook-id"); err != nil || bodies[id] != "" && bodies[id] != string(b) {
				t.Errorf("%s: %s, before %s", id, b, bodies[id])
			}
			return reply(200), nil
		})}
		start(t, s)
		time.Sleep(3 * time.Hour)
		if n := m.count(store.DeliveryDelivered); n != 95 {
			t.Errorf("%d delivered", n)
		}
	})
}

// TestOutboxFails: outcomes that can't be committed are kept until they can, and nothing is sent twice.
func TestOutboxFails(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	var requests atomic.Int64
	faked(t, m, func(*http.Request) (*http.Response, error) {
		requests.Add(1)
		return reply(200), nil
	}, func(t *testing.T, s *Sender) {
		broken := true
		m.finish = func([]store.Outcome) error {
			if broken {
				return errors.New("disk full")
			}
			return nil
		}
		start(t, s)
		m.add(1, 10_000, nil)
		time.Sleep(time.Minute)
		if n := requests.Load(); n < 100 || n > maxPending+100 {
			t.Errorf("%d requests without a commit", n)
		}
		m.mu.Lock()
		broken = false
		m.mu.Unlock()
		time.Sleep(time.Minute)
		if n := m.count(store.DeliveryDelivered); n != 10_000 || requests.Load() != 10_000 {
			t.Errorf("%d delivered by %d requests", n, requests.Load())
		}
	})
}

// TestFenced: a sender whose lease is gone stops sending for that slot.
func TestFenced(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	var requests atomic.Int64
	faked(t, m, func(*http.Request) (*http.Response, error) {
		requests.Add(1)
		return reply(200), nil
	}, func(t *testing.T, s *Sender) {
		m.finish = func([]store.Outcome) error { return store.ErrFenced }
		ctx, cancel := contextFor(t)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Second)
		m.add(1, 10_000, nil)
		time.Sleep(time.Minute)
		if n := requests.Load(); n == 0 || n > 300 {
			t.Errorf("%d requests", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestCancelInFlight: a delivery that is cancelled while its request is on its way is not tried again.
func TestCancelInFlight(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	var requests atomic.Int64
	faked(t, m, func(*http.Request) (*http.Response, error) {
		requests.Add(1)
		time.Sleep(time.Second)
		return reply(500), nil
	}, func(t *testing.T, s *Sender) {
		start(t, s)
		num := m.add(1, 1, nil)[0]
		time.Sleep(500 * time.Millisecond)
		m.mu.Lock()
		m.byNum[num].Delivery.State = store.DeliveryCancelled
		m.mu.Unlock()
		m.tell(1)
		time.Sleep(24 * time.Hour)
		if d := m.delivery(num); requests.Load() != 1 || d.State != store.DeliveryCancelled || d.Attempts != 1 {
			t.Errorf("%d requests, %+v", requests.Load(), d)
		}
		// Sent again, it is a new round, marked as asked for.
		m.mu.Lock()
		d := &m.byNum[num].Delivery
		d.State, d.Round, d.Manual, d.NextAt = store.DeliveryQueued, 0, true, time.Now()
		m.mu.Unlock()
		m.tell(1)
		time.Sleep(2 * time.Second)
		m.mu.Lock()
		defer m.mu.Unlock()
		if last := m.attempts[len(m.attempts)-1]; last.N != 2 || !last.Manual {
			t.Errorf("%+v", last)
		}
	})
}

// TestCancelRead: a delivery that is cancelled after it was read, behind others that take long, is not sent.
func TestCancelRead(t *testing.T) {
	ep := endpoint(1, "http://example.com/")
	ep.MaxInFlight = 1
	m := newMemory(ep)
	var requests atomic.Int64
	faked(t, m, func(*http.Request) (*http.Response, error) {
		requests.Add(1)
		time.Sleep(5 * time.Second)
		return reply(200), nil
	}, func(t *testing.T, s *Sender) {
		start(t, s)
		nums := m.add(1, 5, nil)
		time.Sleep(7 * time.Second)
		m.mu.Lock()
		for _, num := range nums[2:] {
			m.byNum[num].Delivery.State = store.DeliveryCancelled
		}
		m.mu.Unlock()
		m.tell(1)
		time.Sleep(time.Minute)
		if requests.Load() != 2 || m.count(store.DeliveryDelivered) != 2 {
			t.Errorf("%d requests", requests.Load())
		}
	})
}

// TestStop: at the end requests on their way have a moment. What is cut then is no attempt; the next sender makes it.
func TestStop(t *testing.T) {
	m := newMemory(endpoint(1, "http://quick.example/"), endpoint(2, "http://slow.example/"))
	faked(t, m, func(r *http.Request) (*http.Response, error) {
		wait := time.Second
		if r.URL.Host == "slow.example" {
			wait = 10 * time.Second
		}
		select {
		case <-time.After(wait):
			return reply(200), nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}, func(t *testing.T, s *Sender) {
		stop := start(t, s)
		quick, slow := m.add(1, 1, nil)[0], m.add(2, 1, nil)[0]
		time.Sleep(100 * time.Millisecond)
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > drainTime+time.Second {
			t.Errorf("stopped after %v", took)
		}
		if d := m.delivery(quick); d.State != store.DeliveryDelivered {
			t.Errorf("%+v", d)
		}
		if d := m.delivery(slow); d.State != store.DeliveryQueued || d.Attempts != 0 {
			t.Errorf("%+v", d)
		}
	})
}

// TestSickCrowd: many endpoints that do not answer leave those that do in peace, though there are places for few requests.
func TestSickCrowd(t *testing.T) {
	var eps []store.Endpoint
	for i := range int64(200) {
		eps = append(eps, endpoint(i+2, "http://dead.example/"))
	}
	m := newMemory(append(eps, endpoint(1, "http://well.example/"))...)
	var mu sync.Mutex
	var took []time.Duration
	began := map[string]time.Time{}
	faked(t, m, func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "well.example" {
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began[r.Header.Get("webhook-id")]))
			return reply(200), nil
		}
		<-r.Context().Done()
		return nil, r.Context().Err()
	}, func(t *testing.T, s *Sender) {
		s.cfg.InFlight = 50
		start(t, s)
		for i := range eps {
			m.add(eps[i].Num, 100, nil)
		}
		time.Sleep(time.Minute) // until it is known who is dead
		for range 300 {
			mu.Lock()
			m.add(1, 1, func(_ int, j *store.Job) { began[j.Event.ID] = time.Now() })
			mu.Unlock()
			time.Sleep(time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		if slices.Sort(took); len(took) != 300 || took[len(took)*99/100] > 10*time.Millisecond {
			t.Errorf("%d delivered, the slowest after %v", len(took), took[len(took)-1])
		}
	})
}

// TestSparseFailures: failures that lie far apart do not make days of failure.
func TestSparseFailures(t *testing.T) {
	m := newMemory(endpoint(1, "http://example.com/"))
	faked(t, m, func(*http.Request) (*http.Response, error) { return reply(500), nil }, func(t *testing.T, s *Sender) {
		s.poll = time.Hour
		start(t, s)
		for range 5 {
			m.add(1, 1, nil)
			time.Sleep(48 * time.Hour)
		}
		if n := m.count(store.DeliveryExhausted); n != 5 || m.endpoints[1].State != store.EndpointEnabled {
			t.Errorf("%d exhausted, %s", n, m.endpoints[1].State)
		}
	})
}

// TestMetrics: whatever goes on, the number of series stays the same.
func TestMetrics(t *testing.T) {
	var eps []store.Endpoint
	for i := range int64(40) {
		eps = append(eps, endpoint(i+1, "http://example.com/"))
	}
	m := newMemory(eps...)
	var n atomic.Int64
	faked(t, m, func(*http.Request) (*http.Response, error) {
		return reply([]int{200, 204, 404, 500, 503, 410}[n.Add(1)%6]), nil
	}, func(t *testing.T, s *Sender) {
		reg := prometheus.NewRegistry()
		var err error
		if s.metrics, err = newMetrics(reg, s); err != nil {
			t.Fatal(err)
		}
		series := func() (total int, attempts float64) {
			t.Helper()
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				total += len(f.GetMetric())
				for _, metric := range f.GetMetric() {
					if f.GetName() == "webhook_attempts_total" {
						attempts += metric.GetCounter().GetValue()
					}
				}
			}
			return total, attempts
		}
		before, _ := series()
		start(t, s)
		for i := range eps {
			m.add(eps[i].Num, 10, nil)
		}
		time.Sleep(time.Hour)
		m.mu.Lock()
		want := len(m.attempts)
		m.mu.Unlock()
		if after, attempts := series(); after != before || attempts != float64(want) || want == 0 {
			t.Errorf("%d series, before %d; %v attempts counted, %d made", after, before, attempts, want)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("17")
	f.Add("Wed, 06 May 2026 07:09:09 GMT")
	f.Add("999999999999999999999")
	f.Fuzz(func(t *testing.T, text string) {
		if d := retryAfter(http.Header{"Retry-After": {text}}, time.Unix(1_800_000_000, 0)); d < 0 || d > maxRetryAfter {
			t.Errorf("%q: %v", text, d)
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add([]byte("a\x1b[31m\r\n\xff\u202e"), 10)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		n = min(max(n, 0), 4096)
		got := printable(b, n)
		if !utf8.ValidString(got) || len(got) > 3*n || strings.ContainsFunc(got, func(r rune) bool { return r != '\uFFFD' && !unicode.IsPrint(r) }) {
			t.Errorf("%q: %q", b, got)
		}
	})
}
