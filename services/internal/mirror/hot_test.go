package mirror

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// TestHotSnapshots has many subscribe to one book, while it stands still and while it moves.
func TestHotSnapshots(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 500)
		before := m.stats.Snapshots.Load()
		cut := func() uint64 { n := m.stats.Snapshots.Load() - before; before += n; return n }
		crowd := func(n int, format fanout.Format, between func()) {
			t.Helper()
			var all []*client
			for i := range n {
				c := newClient(t, h, &s.def, format)
				c.subscribe(m, topic(market.Books, "BTC-USDT"), false)
				all = append(all, c)
				if i%10 == 0 {
					between()
				}
			}
			settle()
			for _, c := range all {
				if c.err != nil {
					t.Fatal(c.err)
				}
				if err := sameView(c, s); err != nil {
					t.Fatal(err)
				}
				c.conn.Abort()
			}
		}
		crowd(200, SBE, func() {})
		if n := cut(); n != 1 {
			t.Errorf("%d snapshots in SBE for 200 subscribers, want 1", n)
		}
		crowd(200, JSON, func() {})
		if n := cut(); n != 1 {
			t.Errorf("%d snapshots in JSON for 200 subscribers, want 1", n)
		}
		crowd(300, SBE, func() { s.update(3); s.update(3); s.update(3); synctest.Wait() }) // ninety updates
		if n := cut(); n < 2 || n > 90/maxReplay+2 {
			t.Errorf("%d snapshots for 300 subscribers and 90 updates", n)
		}
		keeps := func() (n int) {
			hot := &m.Instrument("BTC-USDT").full.hot
			hot.mu.Lock()
			defer hot.mu.Unlock()
			for i := range hot.kept {
				if hot.kept[i].Frames != nil {
					n++
				}
			}
			return n
		}
		if keeps() == 0 {
			t.Error("no snapshot is kept")
		}
		time.Sleep(keepHot + 2*sweepEvery)
		if n := keeps(); n > 0 {
			t.Errorf("%d snapshots are kept that nobody asks for", n)
		}
		crowd(10, SBE, func() {})
		if n := cut(); n != 1 {
			t.Errorf("%d snapshots afterwards, want 1", n)
		}
	})
}

// BenchmarkSnapshots has 10,000 subscribers come to a book of 2,000 levels at once. It reports what each costs without the
// kernel, and how many encodings all of them together.
func BenchmarkSnapshots(b *testing.B) {
	for _, c := range []struct {
		name    string
		format  fanout.Format
		deflate bool
	}{{"sbe", SBE, false}, {"json", JSON, false}, {"deflated", JSON, true}} {
		b.Run(c.name, func(b *testing.B) {
			hub := fanout.New(fanout.Config{})
			hub.Start()
			defer hub.Close()
			m := New(DefaultConfig(), hub, zap.NewNop())
			m.Expect(1)
			sym, _ := benchmarkEvents(b, m)
			r := topic(market.Books, sym)
			const crowd = 10_000
			conns := make([]*fanout.Conn, crowd)
			counts := &counting{}
			for i := range conns {
				conn, err := hub.Attach(counts, sink{})
				if err != nil {
					b.Fatal(err)
				}
				if c.deflate {
					conn.Deflate()
				}
				conns[i] = conn
			}
			b.ResetTimer()
			for n := range b.N {
				subs := make([]*fanout.Sub, crowd)
				for i, conn := range conns {
					subs[i] = subscribeTo(b, m, Client{Conn: conn, Format: c.format}, r)
				}
				for counts.writes.Load() < uint64(n+1)*crowd {
					runtime.Gosched()
				}
				for _, s := range subs {
					s.Cancel()
				}
			}
			b.ReportMetric(float64(m.stats.Snapshots.Load())/float64(b.N), "encodings/op")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/crowd, "ns/subscriber")
		})
	}
}

func subscribeTo(b *testing.B, m *Mirror, c Client, r wire.TopicRequest) *fanout.Sub {
	b.Helper()
	s, err := m.Subscribe(c, &r)
	if err != nil {
		b.Fatal(err)
	}
	s.Sub.Go()
	return s.Sub
}

// counting counts the writes of at least a thousand bytes.
type counting struct {
	sink
	writes atomic.Uint64
}

func (c *counting) Write(b []byte) (int, error) {
	if len(b) > 1000 {
		c.writes.Add(1)
	}
	return 0, nil
}
