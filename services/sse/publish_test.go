package sse

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// crowd is clients in memory, who take everything. It counts what they are written.
type crowd struct {
	e      *edge
	writes atomic.Uint64
	size   int
	seq    uint64
	record []byte // the next trade
}

func newCrowd(t testing.TB, size int) *crowd {
	t.Helper()
	l := newEvents(t)
	l.beat()
	e := l.prepare(nil)
	e.s.hub.Start()
	t.Cleanup(e.s.hub.Close)
	v, wrong := e.s.enter(spec{channel: market.Trades, syms: []string{"BTC-USDT"}})
	if wrong != nil {
		t.Fatal(wrong.Detail)
	}
	c := &crowd{e: e, size: size}
	for range size {
		conn, err := e.s.hub.Attach(c, c)
		if err != nil {
			t.Fatal(err)
		}
		at := v.join(chunked, resume{})
		conn.Subscribe(at.log, fanout.Start{Position: at.next, Seq: at.seq}).Go()
	}
	c.record = wire.AppendTrade(nil, &market.Trade{Head: head(1, 1), Price: 100_000, Size: 5, ID: market.NumericTradeID(1)})
	return c
}

// trade publishes a trade and waits until everyone has it.
func (c *crowd) trade(t testing.TB) {
	const prev = 8 + 8 // behind the message's header, inst and epoch (tickwire.xml); seq follows it
	record := append([]byte(nil), c.record...)
	binary.LittleEndian.PutUint64(record[prev:], c.seq)
	c.seq++
	binary.LittleEndian.PutUint64(record[prev+8:], c.seq)
	want := c.writes.Load() + uint64(c.size)
	if err := c.e.s.mirror.Record(partitionOf(1), c.e.l.ends[partitionOf(1)]+int64(c.seq), wire.TemplateTrade, record); err != nil {
		t.Fatal(err)
	}
	for c.writes.Load() < want {
		runtime.Gosched()
	}
}

func (c *crowd) Write([]byte) (int, error)                      { c.writes.Add(1); return 0, nil }
func (*crowd) Flush() (int, error)                              { return 0, nil }
func (*crowd) Finish() error                                    { return nil }
func (*crowd) Close() error                                     { return nil }
func (*crowd) Lag([]fanout.Lagged, time.Duration) *fanout.Frame { return nil }
func (*crowd) Slow() *fanout.Frame                              { return nil }
func (*crowd) Closed(error)                                     {}

// TestPublishAllocations has a trade cost the same memory for one client and for a thousand.
func TestPublishAllocations(t *testing.T) {
	each := func(clients int) float64 {
		c := newCrowd(t, clients)
		for range 100 {
			c.trade(t) // until the ring and the scratch memory have their sizes
		}
		return testing.AllocsPerRun(500, func() { c.trade(t) })
	}
	one, many := each(1), each(1000)
	if many > one+2 || one > 40 {
		t.Errorf("a trade allocates %v times for a client, %v times for a thousand", one, many)
	}
}

// BenchmarkViewPublish is a trade's way through the mirror, a stream's log and the passes of its clients, without the kernel.
func BenchmarkViewPublish(b *testing.B) {
	for _, clients := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			c := newCrowd(b, clients)
			b.ReportAllocs()
			for b.Loop() {
				c.trade(b)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(clients), "ns/delivery")
		})
	}
}
