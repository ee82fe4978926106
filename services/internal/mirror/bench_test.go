package mirror

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

var nopLog = zap.NewNop()

// loop repeats recorded updates for ever. They toggle the same levels, without a hash, so that only the sequence differs.
type loop struct {
	updates [][]byte
	n       int
	seq     uint64
}

const seqAt = 8 + 4 + 4 // of prev, behind the message header, inst and epoch; seq follows it

func (l *loop) next() []byte {
	b := l.updates[l.n%len(l.updates)]
	l.n++
	binary.LittleEndian.PutUint64(b[seqAt:], l.seq)
	l.seq++
	binary.LittleEndian.PutUint64(b[seqAt+8:], l.seq)
	return b
}

// benchmarkEvents makes an instrument of 1,000 levels a side, and updates of 35 levels each.
func benchmarkEvents(b *testing.B, m *Mirror) (sym string, l *loop) {
	b.Helper()
	def := market.Instrument{ID: 1, Sym: "BTC-USDT", Source: "sim", Symbol: "BTCUSDT", PriceScale: 2, SizeScale: 4}
	head := market.Head{Inst: 1, Epoch: epoch, Seq: 1, Time: market.FromMicros(1e15), In: market.FromMicros(1e15)}
	record := func(t wire.Template, value []byte) {
		if err := m.Record(0, 0, t, value); err != nil {
			b.Fatal(err)
		}
	}
	record(wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: head, Instrument: def}))
	snap := market.Snapshot{Head: head, Part: 1, Parts: 1}
	for i := range 1000 {
		snap.Bids = append(snap.Bids, market.Level{Price: market.Price(100_000 - i), Size: 5})
		snap.Asks = append(snap.Asks, market.Level{Price: market.Price(100_001 + i), Size: 5})
	}
	snap.Hash = market.Hash{Sum: book.HashLevels(snap.Bids, snap.Asks), OK: true}
	record(wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &snap))
	m.Phase(0, stream.PhaseReady, nil)
	l = &loop{seq: 1}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 64 {
		d := market.Delta{Head: head}
		for range 35 {
			level := market.Level{Price: market.Price(100_000 - rnd.IntN(200)), Size: market.Size(rnd.IntN(3))}
			if rnd.IntN(2) == 0 {
				d.Bids = append(d.Bids, level)
			} else {
				level.Price = 200_001 - level.Price
				d.Asks = append(d.Asks, level)
			}
		}
		l.updates = append(l.updates, wire.AppendDelta(nil, &d))
	}
	return def.Sym, l
}

// sink takes everything.
type sink struct{}

func newSink(b *testing.B, h *fanout.Hub) *fanout.Conn {
	b.Helper()
	c, err := h.Attach(sink{}, sink{})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func (sink) Write([]byte) (int, error)                        { return 0, nil }
func (sink) Flush() (int, error)                              { return 0, nil }
func (sink) Finish() error                                    { return nil }
func (sink) Close() error                                     { return nil }
func (sink) Lag([]fanout.Lagged, time.Duration) *fanout.Frame { return nil }
func (sink) Slow() *fanout.Frame                              { return nil }
func (sink) Closed(error)                                     {}
