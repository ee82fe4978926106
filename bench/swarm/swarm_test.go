package swarm

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

func newSwarm(channel string, json bool) (*Swarm, *client) {
	s := &Swarm{cfg: Config{Channel: channel, JSON: json, Topics: 3, Each: 1}, hist: schedule.NewHistogram(), total: schedule.NewHistogram(), buf: make([]byte, 1<<20), ackFD: -1, measuring: true, windows: []window{{0, math.MaxInt64}}, inflated: map[string][]byte{}}
	if err := s.speak(); err != nil {
		panic(err)
	}
	s.symbols, _ = newSymbols(nil, s.cfg.Topics) // the lab's are good
	c := &client{fd: -1, state: running, counted: true, topics: []int{1}, seqs: make([]uint32, 3)}
	s.clients = append(s.clients, c)
	return s, c
}

func head(prev, seq uint64, age time.Duration) market.Head {
	return market.Head{Inst: 2, Epoch: target.Epoch, Prev: prev, Seq: seq, Time: market.FromTime(time.Now().Add(-age))}
}

// frame is a message as an edge sends it.
func frame(json bool, template wire.Template, b []byte) []byte {
	if !json {
		return fanout.NewFrame(fanout.Binary, b).Bytes()
	}
	in := &market.Instrument{ID: 2, Sym: target.Sym(1), PriceScale: 2, SizeScale: 4}
	var text []byte
	var err error
	switch template {
	case wire.TemplateTrade:
		var m market.Trade
		err = wire.DecodeTrade(b, &m)
		text = wire.AppendTradeJSON(nil, in, &m, 0)
	case wire.TemplateTradeGap:
		var m market.TradeGap
		err = wire.DecodeTradeGap(b, &m)
		text = wire.AppendTradeGapJSON(nil, in, &m, 0)
	case wire.TemplateBookSnapshot:
		var m market.Snapshot
		err = wire.DecodeSnapshot(b, &m)
		text = wire.AppendSnapshotJSON(nil, in, &m, 0)
	case wire.TemplateBookUpdate:
		var m market.Delta
		err = wire.DecodeDelta(b, &m)
		text = wire.AppendDeltaJSON(nil, in, &m, 0)
	}
	if err != nil {
		panic(err)
	}
	return fanout.NewFrame(fanout.Text, text).Bytes()
}

func trade(json bool, prev, seq uint64) []byte {
	m := market.Trade{Head: head(prev, seq, time.Second), Price: 1, Size: 1, Side: market.Bid}
	return frame(json, wire.TemplateTrade, wire.AppendTrade(nil, &m))
}

func update(json bool, prev, seq uint64) []byte {
	m := market.Delta{Head: head(prev, seq, time.Second), Bids: []market.Level{{Price: 1, Size: 1}}}
	return frame(json, wire.TemplateBookUpdate, wire.AppendDelta(nil, &m))
}

// feed hands bytes over in pieces, as the network may.
func feed(t *testing.T, s *Swarm, c *client, piece int, b []byte) {
	t.Helper()
	for len(b) > 0 {
		n := min(piece, len(b))
		rest, err := s.frames(c, append(c.part, b[:n]...))
		if err != nil {
			t.Fatal(err)
		}
		c.part = append([]byte(nil), rest...)
		b = b[n:]
	}
}

func TestTrades(t *testing.T) {
	f := func(json bool, piece int) {
		t.Helper()
		s, c := newSwarm("trades", json)
		c.seqs[1] = 7
		var b []byte
		b = append(b, trade(json, 7, 8)...)
		b = append(b, trade(json, 8, 9)...)
		b = append(b, trade(json, 8, 9)...)   // again
		b = append(b, trade(json, 10, 11)...) // 10 is missing
		gap := market.TradeGap{Head: head(11, 20, 0), Why: market.Slow, Missed: 9}
		b = append(b, frame(json, wire.TemplateTradeGap, wire.AppendTradeGap(nil, &gap))...)
		b = append(b, trade(json, 20, 21)...)
		b = append(b, fanout.NewFrame(fanout.Text, []byte(`{"ev":"hb","ts":1}`)).Bytes()...)
		feed(t, s, c, piece, b)
		r := s.report
		if r.Messages != 4 || r.Updates != 5 || r.Gaps != 1 || r.GapNotices != 1 || r.Malformed != 0 || c.seqs[1] != 21 || len(c.part) != 0 {
			t.Errorf("json %v, pieces of %d: %+v at %d", json, piece, r, c.seqs[1])
		}
		if got := s.hist.ValueAtQuantile(50); got < 990_000 || got > 1_500_000 {
			t.Errorf("age %d µs", got)
		}
	}
	for _, piece := range []int{1, 3, 50, 10_000} {
		f(false, piece)
		f(true, piece)
	}
}

func TestBook(t *testing.T) {
	f := func(json bool) {
		t.Helper()
		s, c := newSwarm("book", json)
		snapshot := market.Snapshot{Head: head(5, 5, 0), Part: 1, Parts: 1, Bids: []market.Level{{Price: 1, Size: 1}}}
		b := frame(json, wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &snapshot))
		b = append(b, update(json, 5, 6)...)
		b = append(b, update(json, 4, 9)...)   // merged: an overlap is no gap
		b = append(b, update(json, 9, 9)...)   // old
		b = append(b, update(json, 10, 12)...) // a gap
		again := market.Snapshot{Head: head(12, 12, time.Hour), Part: 2, Parts: 2, Bids: []market.Level{{Price: 1, Size: 1}}}
		b = append(b, frame(json, wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &again))...)
		feed(t, s, c, 40, b)
		if r := s.report; r.Messages != 3 || r.Updates != 7 || r.Gaps != 1 || r.Malformed != 0 || c.seqs[1] != 12 {
			t.Errorf("json %v: %+v at %d", json, r, c.seqs[1])
		}
	}
	f(false)
	f(true)
}

// TestAcknowledgements has two clients of one topic: a message counts when both have it.
func TestAcknowledgements(t *testing.T) {
	s, a := newSwarm("trades", false)
	s.cfg.Topics, s.arrived = 1, make([]int, 16)
	b := &client{fd: -1, state: running, counted: true, seqs: make([]uint32, 3)}
	s.clients = append(s.clients, b)
	for seq := uint64(1); seq <= 40; seq++ {
		feed(t, s, a, 100, trade(false, seq-1, seq))
		if s.all != seq-1 {
			t.Fatalf("%d messages count, one client has %d", s.all, seq)
		}
		feed(t, s, b, 100, trade(false, seq-1, seq))
		if s.all != seq {
			t.Fatalf("%d messages count, both clients have %d", s.all, seq)
		}
	}
}

func TestSplitTopics(t *testing.T) {
	for published := range uint64(50) {
		sum := uint64(0)
		for topic := range 7 {
			sum += target.Last("trades", 7, topic, published)
		}
		if sum != published {
			t.Fatalf("%d published, %d on topics", published, sum)
		}
	}
}

// FuzzFrames feeds the frame reader what no server should send: it must not panic, and keep no more than it was given.
func FuzzFrames(f *testing.F) {
	f.Add(trade(false, 1, 2), false)
	f.Add(update(true, 1, 2), true)
	f.Add([]byte{0x82, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1}, false)
	f.Add([]byte{0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, false)
	f.Fuzz(func(t *testing.T, b []byte, json bool) {
		s, c := newSwarm("book", json)
		rest, err := s.frames(c, b)
		if err == nil && len(rest) > len(b) {
			t.Fatal("more is left than there was")
		}
	})
}

// BenchmarkFrames is what a message costs a client once it is read.
func BenchmarkFrames(b *testing.B) {
	s, c := newSwarm("book", false)
	frame := update(false, 0, 1)
	seq := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		seq = (seq + 1) % (1 << 31)
		binary.LittleEndian.PutUint64(frame[2+16:], seq-1)
		binary.LittleEndian.PutUint64(frame[2+24:], seq)
		if _, err := s.frames(c, frame); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFramesJSON is the same in JSON.
func BenchmarkFramesJSON(b *testing.B) {
	s, c := newSwarm("book", true)
	frame := update(true, 1_000_000_000, 1_000_000_001)
	prev, next := bytes.Index(frame, []byte(`"prev":`))+7, bytes.Index(frame, []byte(`"seq":`))+6
	c.seqs[1] = 1_000_000_000
	seq := uint64(1_000_000_000)
	b.ReportAllocs()
	for b.Loop() {
		strconv.AppendUint(frame[:prev], seq, 10)
		seq++
		strconv.AppendUint(frame[:next], seq, 10)
		if _, err := s.frames(c, frame); err != nil {
			b.Fatal(err)
		}
	}
	if s.report.Malformed+s.report.Gaps > 0 || s.report.Messages == 0 {
		b.Fatalf("%+v", s.report)
	}
}

// TestLateCounts: what was due while it was measured counts, however late it comes, and what was due before does not.
func TestLateCounts(t *testing.T) {
	f := func(aged bool, want ...int64) {
		t.Helper()
		s, c := newSwarm("trades", false)
		s.cfg.Aged, c.seqs[1] = aged, 6
		s.windows = []window{{1_000, 2_000}}
		var got []int64
		for i, due := range []int64{500, 1_500, 1_999, 2_500} {
			s.hist.Reset()
			s.measuring = i < 2
			s.follow(c, message{topic: 1, prev: uint64(6 + i), seq: uint64(7 + i), due: due}, 5_000)
			got = append(got, s.hist.TotalCount())
		}
		if !slices.Equal(got, want) || s.report.Messages != 2 {
			t.Errorf("%v, want %v; %d messages", got, want, s.report.Messages)
		}
	}
	f(false, 0, 1, 1, 0)
	f(true, 1, 1, 0, 0)
}
