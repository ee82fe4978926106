package store_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// onEach runs a benchmark on each database, with the durability that it has in service.
func onEach(b *testing.B, bench func(b *testing.B, s *store.Store)) {
	b.Run("sqlite", func(b *testing.B) { bench(b, open(b, store.Config{Dir: benchDir(b), Ephemeral: true})) })
	b.Run("postgres", func(b *testing.B) {
		postgres.once.Do(func() { postgres.server, postgres.err = testkit.StartPostgres("fsync=on") })
		bench(b, open(b, store.Config{URL: onPostgres(b), Ephemeral: true}))
	})
}

// benchDir is a folder on a real disk.
func benchDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("TICKWIRE_BENCH_DIR"), "store")
	must(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// BenchmarkOutbox is the way of a delivery: fired, found due, delivered, all of it durable. One operation is one delivery.
func BenchmarkOutbox(b *testing.B) {
	for _, batch := range []int{1, 10, 100, 1000} {
		b.Run("batch="+strconv.Itoa(batch), func(b *testing.B) {
			onEach(b, func(b *testing.B, s *store.Store) { outbox(b, s, batch) })
		})
	}
}

func outbox(b *testing.B, s *store.Store, batch int) {
	ctx := b.Context()
	tn := tenant(b, s)
	e := endpoint(b, s, tn, nil)
	as := alerts(b, s, tn, 1000)
	l := lease(b, s, store.KindPartition, 1)[0]
	activate(b, s, l)
	slot := lease(b, s, store.KindSlot, store.Slots)[store.SlotOf(e.Num)]
	body := []byte(`{"id":"evt_0000000000000_1","type":"alert.fired","data":"` + strings.Repeat("x", 500) + `"}`)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	for seq, left := 1, b.N; left > 0; seq++ {
		n := min(batch, left)
		left -= n
		c := store.Commit{Lease: l, LogID: "log", Offset: int64(seq)}
		for i := range n {
			ev := fire(as[i], uint32(seq))
			ev.Body = body
			c.Fires = append(c.Fires, ev)
			c.Evals = append(c.Evals, store.EvalUpdate{Alert: as[i].Num, Eval: store.Eval{ArmSeq: uint32(seq), Blob: []byte("0123456789abcdef")}})
		}
		must(b, s.Commit(ctx, &c))
		jobs, _, err := s.Due(ctx, e.Num, time.Now(), nil, n)
		must(b, err)
		if len(jobs) != n {
			b.Fatalf("%d jobs, want %d", len(jobs), n)
		}
		outcomes := make([]store.Outcome, n)
		for i, j := range jobs {
			outcomes[i] = store.Outcome{
				Delivery: j.Delivery.Num, Endpoint: e.Num, State: store.DeliveryDelivered,
				Attempt: store.Attempt{At: time.Now(), Took: time.Millisecond, Code: 200, Response: "ok"},
			}
		}
		must(b, s.Finish(ctx, slot, outcomes))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkStorm commits 100,000 fires at once.
func BenchmarkStorm(b *testing.B) {
	onEach(b, func(b *testing.B, s *store.Store) {
		const fires = 100_000
		tn := tenant(b, s)
		endpoint(b, s, tn, nil)
		var as []*store.Alert
		l := lease(b, s, store.KindPartition, 1)[0]
		for range fires / 1000 {
			as = append(as, alerts(b, s, tn, 1000)...)
			activate(b, s, l)
		}
		body := []byte(`{"data":"` + strings.Repeat("x", 600) + `"}`)
		rand.Shuffle(len(as), func(i, j int) { as[i], as[j] = as[j], as[i] }) // thresholds have an order of their own
		for seq := 1; b.Loop(); seq++ {
			c := store.Commit{Lease: l, LogID: "log", Offset: int64(seq)}
			for _, a := range as {
				ev := fire(a, uint32(seq))
				ev.Body = body
				c.Fires = append(c.Fires, ev)
				c.Evals = append(c.Evals, store.EvalUpdate{Alert: a.Num, Eval: store.Eval{ArmSeq: uint32(seq), Blob: []byte("0123456789abcdef")}})
			}
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			grown := peak()
			began := time.Now()
			must(b, s.Commit(b.Context(), &c))
			took := time.Since(began)
			rss := grown()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/fires, "B/fire")
			b.ReportMetric(float64(rss)/(1<<20), "MiB-RSS-grown")
			b.ReportMetric(fires/took.Seconds(), "fires/s")
		}
	})
}

// BenchmarkCreate makes alerts one by one, as the API does for several callers at once. What comes together is committed
// together.
func BenchmarkCreate(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run("callers="+strconv.Itoa(callers), func(b *testing.B) {
			onEach(b, func(b *testing.B, s *store.Store) {
				tn := tenant(b, s)
				b.ResetTimer()
				var g errgroup.Group
				for c := range callers {
					g.Go(func() error {
						for i := c; i < b.N; i += callers {
							a := &store.Alert{Name: "a", Sym: "BTC-USDT", Inst: 7, Rule: `{"series":"last"}`}
							if err := s.CreateAlerts(b.Context(), tn, []*store.Alert{a}, nil); err != nil {
								return err
							}
						}
						return nil
					})
				}
				must(b, g.Wait())
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "alerts/s")
			})
		})
	}
}

// peak returns what tells by how much the resident memory has grown meanwhile, at its greatest.
func peak() func() int64 {
	before, most := residentBytes(), int64(0)
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-tick.C:
				most = max(most, residentBytes())
			case <-end:
				return
			}
		}
	}()
	return func() int64 {
		close(end)
		<-done
		return most - before
	}
}

// residentBytes is what the process holds in memory; 0 where that can't be asked.
func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

// cpuTime is what this process has used, which a busy machine changes little.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
