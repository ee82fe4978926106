package client

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// hot is a session behind its hello, with a book in step, to which messages can be given without a connection.
type hot struct {
	*session
	book *Book
	next market.Delta
	edge book.Book
	b    []byte
}

// deaf is a socket that takes whatever is sent.
type deaf struct{}

func (deaf) WriteMessage(gws.Opcode, []byte) error { return nil }
func (deaf) WriteClose(uint16, []byte) error       { return nil }

var hotInst = market.Instrument{ID: 4097, Sym: "BTC-USDT", PriceScale: 2, SizeScale: 5}

func newHot(t testing.TB, enc Encoding, h Handler, levels int) *hot {
	c, err := New(Config{URL: "ws://edge", Encoding: enc, Handler: h, Window: -1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Book(hotInst.Sym, BookView{})
	if err != nil {
		t.Fatal(err)
	}
	conn, _ := net.Pipe()
	s := &session{c: c, ws: deaf{}, net: &transport{Conn: conn}, hello: time.Now(), pending: map[uint64]*request{}}
	b.enter(asking)
	s.accepted(wire.OpSub, b, &wire.Row{
		Topic: b.id, Inst: hotInst.ID, PriceScale: hotInst.PriceScale, SizeScale: hotInst.SizeScale,
		Sequence: market.Sequence{Epoch: 1, Seq: 1}, How: wire.HowSnapshot,
	})
	x := &hot{session: s, book: b}
	for i := range levels {
		x.edge.Set(market.Bid, market.Price(100_000-i), 1)
		x.edge.Set(market.Ask, market.Price(100_001+i), 1)
	}
	snap := market.Snapshot{Head: market.Head{Inst: hotInst.ID, Epoch: 1, Prev: 1, Seq: 1}, Part: 1, Parts: 1}
	snap.Bids, snap.Asks = x.edge.AppendLevels(nil, market.Bid, 0), x.edge.AppendLevels(nil, market.Ask, 0)
	s.receive(true, wire.AppendSnapshot(nil, &snap))
	if b.State() != Stale && b.State() != Live { // nothing was ever heard: both are right
		t.Fatal(b.State())
	}
	x.next.Head = snap.Head
	return x
}

// update makes the next update, of 35 levels as a real one has, in place.
func (x *hot) update(i int) {
	d := &x.next
	d.Prev, d.Seq = d.Seq, d.Seq+1
	d.Bids, d.Asks = d.Bids[:0], d.Asks[:0]
	x.edge.BeginChanges()
	for k := range 35 {
		l := market.Level{Price: market.Price(100_000 - (i*13+k*7)%500), Size: market.Size((i + k) % 5)}
		d.Bids = append(d.Bids, l)
		x.edge.Set(market.Bid, l.Price, l.Size)
	}
	d.Hash = market.Hash{Sum: x.edge.Hash(), OK: true}
}

func (x *hot) sbe(i int) {
	x.update(i)
	x.b = wire.AppendDelta(x.b[:0], &x.next)
	x.receive(true, x.b)
}

func (x *hot) json(i int) {
	x.update(i)
	x.b = wire.AppendDeltaJSON(x.b[:0], &hotInst, &x.next, 0)
	x.receive(false, x.b)
}

func TestUpdatesDoNotAllocate(t *testing.T) {
	n := 0
	h := Handler{OnBook: func(_ *Book, u *BookUpdate) { n += len(u.Bids) }}
	for name, enc := range map[string]Encoding{"sbe": SBE, "json": JSON} {
		x := newHot(t, enc, h, 1000)
		step := x.sbe
		if enc == JSON {
			step = x.json
		}
		for i := range 1000 { // the book finds its size
			step(i)
		}
		i := 1000
		if allocs := testing.AllocsPerRun(1000, func() { step(i); i++ }); allocs != 0 {
			t.Errorf("%s: %v allocations per update", name, allocs)
		}
		if st := x.book.BookStats(); st.Verified != st.Updates+st.Snapshots-1 || st.Updates != uint64(i) || x.err != nil {
			t.Errorf("%s: %+v after %d updates, %v", name, st, i, x.err)
		}
	}
}

// BenchmarkUpdate takes in one update of 35 levels, from its bytes to the compared hash.
func BenchmarkUpdate(b *testing.B) {
	x := newHot(b, SBE, Handler{}, 1000)
	var frames [2][]byte // to and fro between two states
	for i := range frames {
		x.next.Bids = x.next.Bids[:0]
		for k := range 35 {
			l := market.Level{Price: market.Price(100_000 - k*7), Size: market.Size(1 + k*i)}
			x.next.Bids = append(x.next.Bids, l)
			x.edge.Set(market.Bid, l.Price, l.Size)
		}
		x.next.Hash = market.Hash{Sum: x.edge.Hash(), OK: true}
		frames[i] = wire.AppendDelta(nil, &x.next)
	}
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		f := frames[n&1]
		binary.LittleEndian.PutUint64(f[16:], n)   // prev
		binary.LittleEndian.PutUint64(f[24:], n+1) // seq
		x.receive(true, f)
	}
	if st := x.book.BookStats(); st.Updates != n || st.Verified != n {
		b.Fatalf("%+v after %d", st, n)
	}
}

// FuzzReceive gives a session whatever an edge may send.
func FuzzReceive(f *testing.F) {
	x := newHot(f, SBE, Handler{}, 3)
	x.update(1)
	f.Add(true, wire.AppendDelta(nil, &x.next))
	f.Add(false, wire.AppendDeltaJSON(nil, &hotInst, &x.next, 1))
	f.Add(false, wire.AppendHeartbeat(nil, 1))
	f.Add(false, wire.AppendDrain(nil, &wire.Drain{RetryMs: [2]uint32{1, 2}}))
	f.Add(false, wire.AppendAck(nil, &wire.Ack{ID: "1", OK: []wire.Row{{Topic: x.book.id, Inst: 1, How: wire.HowReplay}}}))
	f.Add(true, wire.AppendTrade(nil, &market.Trade{Head: x.next.Head, Price: 1, Size: 1}))
	f.Fuzz(func(t *testing.T, binary bool, b []byte) {
		x := newHot(t, SBE, Handler{}, 3)
		x.receive(binary, b)
	})
}
