package deliver

import (
	"context"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// longEnv, when set, has BenchmarkBlackHole take its full time: five alternating runs of 10 s each.
const longEnv = "TICKWIRE_BLACK_HOLE"

// BenchmarkBlackHole measures what 99 endpoints that answer notice of one that never does and has a hundred thousand
// deliveries waiting: the 99th percentile from an event's commit to its request, without it and with it, medians of
// alternating runs. Some hundred events a second, each for another endpoint.
func BenchmarkBlackHole(b *testing.B) {
	rounds, each, backlog := 1, 2*time.Second, 10_000
	if os.Getenv(longEnv) != "" {
		rounds, each, backlog = 5, 10*time.Second, 100_000
	}
	end := make(chan struct{})
	hole := hostile(b, func(net.Conn) { <-end })
	b.Cleanup(func() { close(end) })
	clock := &stopwatch{began: map[string]time.Time{}}
	url := sink(b, clock.got)
	prepare := func() (*store.Store, []int64) {
		st := openStore(b, b.TempDir())
		tenants := make([]int64, 99)
		for i := range tenants {
			tenants[i], _ = fill(b, st, 0, nil, url)
		}
		return st, tenants
	}
	without, tenants := prepare()
	with, tenantsWith := prepare()
	defer func() { _, _ = without.Close(), with.Close() }()
	holed, dead := fill(b, with, backlog, nil, "http://"+hole+"/hook")
	measure := func(st *store.Store, tenants []int64) time.Duration {
		s := sender(b, st, nil)
		stop := start(b, s)
		time.Sleep(time.Second)
		clock.reset()
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for i, begin := 0, time.Now(); time.Since(begin) < each; i++ {
			<-tick.C
			id := store.FormatID(store.EventPrefix, store.NewID())
			ev := store.Event{ID: id, Tenant: tenants[i%len(tenants)], Type: store.TypeAlertFired, Created: time.Now(), Body: []byte(`{"id":"` + id + `","type":"alert.fired","data":{"object":{}}}`)}
			clock.begin(id)
			if err := st.AddEvents(b.Context(), []store.Event{ev}); err != nil {
				b.Fatal(err)
			}
			clock.committed(id)
		}
		time.Sleep(500 * time.Millisecond)
		stop()
		return clock.p99(b)
	}
	b.ResetTimer()
	for range b.N {
		var healthy, beside []float64
		for range rounds {
			healthy = append(healthy, measure(without, tenants).Seconds()*1e3)
			// It is as if it had just begun not to answer.
			if _, _, err := with.EnableEndpoint(context.Background(), holed, dead[0].Num, store.HeldKept); err != nil {
				b.Fatal(err)
			}
			beside = append(beside, measure(with, tenantsWith).Seconds()*1e3)
		}
		b.Logf("ms without %.2f, with %.2f", healthy, beside)
		slices.Sort(healthy)
		slices.Sort(beside)
		b.ReportMetric(healthy[len(healthy)/2], "p99-ms-without")
		b.ReportMetric(beside[len(beside)/2], "p99-ms-with")
	}
}

// stopwatch is a receiver that takes the time of each message.
type stopwatch struct {
	mu    sync.Mutex
	began map[string]time.Time
	took  []time.Duration
}

func (w *stopwatch) begin(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began[id] = time.Now()
}

// committed lets a message's time begin now, unless it has arrived.
func (w *stopwatch) committed(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.began[id]; ok {
		w.began[id] = time.Now()
	}
}

func (w *stopwatch) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.began)
	w.took = w.took[:0]
}

func (w *stopwatch) p99(b *testing.B) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.took) < 100 || len(w.began) > 0 {
		b.Errorf("%d messages, %d are missing", len(w.took), len(w.began))
		return 0
	}
	slices.Sort(w.took)
	return w.took[len(w.took)*99/100]
}

func (w *stopwatch) got(id []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if began, ok := w.began[string(id)]; ok {
		w.took = append(w.took, time.Since(began))
		delete(w.began, string(id))
	}
}
