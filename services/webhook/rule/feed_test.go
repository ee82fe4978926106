package rule_test

import (
	"slices"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

// fataler is a test, or one of rapid's.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// epoch is when the made-up logs begin: the start of a minute.
var epoch = market.FromTime(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))

// feed makes the records of a partition.
type feed struct {
	t      fataler
	now    market.Time // log clock of the next record
	events []stream.Event
	insts  map[uint32]*source
}

// source is what the feed knows of an instrument.
type source struct {
	status market.Status
	book   book.Book
	bseq   uint64
	tseq   uint64
}

func newFeed(t fataler) *feed {
	return &feed{t: t, now: epoch, insts: make(map[uint32]*source)}
}

func (f *feed) add(t wire.Template, value []byte) {
	f.events = append(f.events, stream.Event{Offset: int64(len(f.events)), Time: f.now.Truncate(time.Millisecond), Template: t, Value: value})
}

func (f *feed) pass(d time.Duration) { f.now += market.Time(d) }

func (f *feed) head(inst uint32, seq *uint64) market.Head {
	*seq++
	return market.Head{Inst: inst, Epoch: f.insts[inst].status.Epoch, Prev: *seq - 1, Seq: *seq, Time: f.now}
}

// define adds an instrument with scales 2 and 3, whose book is stale.
func (f *feed) define(inst uint32) {
	s := &source{}
	s.status.Epoch = 1
	f.insts[inst] = s
	s.status.Instrument = market.Instrument{ID: inst, Sym: "SYM-" + string(rune('A'+inst%26)), Source: "test", Symbol: "S", PriceScale: 2, SizeScale: 3}
	s.status.Book, s.status.Why = market.Stale, market.Start
	f.status(inst, func(*market.Status) {})
}

func (f *feed) status(inst uint32, change func(*market.Status)) {
	s := &f.insts[inst].status
	was := s.Epoch
	change(s)
	if s.Epoch != was {
		s.Seq, f.insts[inst].bseq, f.insts[inst].tseq = 0, 0, 0
	}
	s.Head = f.head(inst, &s.Seq)
	f.add(wire.TemplateStatus, wire.AppendStatus(nil, s))
}

func (f *feed) trade(inst uint32, price market.Price, size market.Size) {
	f.tradeAt(inst, price, size, f.now)
}

func (f *feed) tradeAt(inst uint32, price market.Price, size market.Size, at market.Time) {
	t := market.Trade{Head: f.head(inst, &f.insts[inst].tseq), Price: price, Size: size, ID: market.NumericTradeID(f.insts[inst].tseq)}
	t.Time = at
	f.add(wire.TemplateTrade, wire.AppendTrade(nil, &t))
}

func (f *feed) tradeGap(inst uint32) {
	g := market.TradeGap{Head: f.head(inst, &f.insts[inst].tseq), Why: market.Venue, Missed: 1}
	f.add(wire.TemplateTradeGap, wire.AppendTradeGap(nil, &g))
}

func (f *feed) beat() {
	f.add(wire.TemplateOwnerHeartbeat, wire.AppendOwnerHeartbeat(nil, &wire.OwnerHeartbeat{}))
}

// levels makes levels of size 1.
func levels(prices ...market.Price) (l []market.Level) {
	for _, p := range prices {
		l = append(l, market.Level{Price: p, Size: 1})
	}
	return l
}

// snapshot replaces the book, in so many parts.
func (f *feed) snapshot(inst uint32, parts uint16, bids, asks []market.Level) {
	in := f.insts[inst]
	in.book.Replace(bids, asks)
	s := market.Snapshot{Head: f.head(inst, &in.bseq), Parts: parts}
	in.book.SetSequence(s.Sequence())
	for part := range parts {
		s.Part, s.Bids, s.Asks, s.Hash = part+1, nil, nil, market.Hash{}
		s.Bids, bids = share(bids, int(parts-part))
		s.Asks, asks = share(asks, int(parts-part))
		if s.Part == parts {
			s.Hash = market.Hash{Sum: in.book.Hash(), OK: true}
		}
		f.add(wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &s))
	}
}

func share(l []market.Level, of int) (mine, rest []market.Level) {
	n := len(l) / of
	return l[:n], l[n:]
}

// update changes levels.
func (f *feed) update(inst uint32, bids, asks []market.Level) {
	in := f.insts[inst]
	for _, l := range bids {
		in.book.Set(market.Bid, l.Price, l.Size)
	}
	for _, l := range asks {
		in.book.Set(market.Ask, l.Price, l.Size)
	}
	d := market.Delta{Head: f.head(inst, &in.bseq), Hash: market.Hash{Sum: in.book.Hash(), OK: true}, Bids: bids, Asks: asks}
	f.add(wire.TemplateBookUpdate, wire.AppendDelta(nil, &d))
}

// live says that the book is good.
func (f *feed) live(inst uint32) {
	f.status(inst, func(s *market.Status) { s.Book, s.Why = market.Live, market.NoReason })
}

func (f *feed) stale(inst uint32) {
	f.status(inst, func(s *market.Status) { s.Book, s.Why = market.Stale, market.Venue })
}

// bench is a partition that takes in a feed as it grows.
type bench struct {
	*feed
	p    *rule.Partition
	done int
	out  rule.Output
}

func newBench(t testing.TB) *bench { return &bench{feed: newFeed(t), p: rule.NewPartition()} }

// run applies what the feed has made since, and returns what came of it.
func (b *bench) run() *rule.Output {
	b.t.Helper()
	b.out.Reset()
	for ; b.done < len(b.events); b.done++ {
		must(b.t, b.p.Apply(&b.events[b.done], &b.out))
	}
	return &b.out
}

var scales = rule.Scales{Price: 2, Size: 3}

func spec(t fataler, text string) rule.Spec {
	t.Helper()
	s, err := rule.Parse([]byte(text), scales)
	must(t, err)
	return s
}

// rule adds a new rule on instrument 1.
func (b *bench) rule(id int64, text string) rule.Valid {
	b.t.Helper()
	v, err := b.p.Add(id, 1, spec(b.t, text), rule.State{})
	must(b.t, err)
	return v
}

// fires runs and wants exactly these rules to have fired, in this order.
func (b *bench) fires(want ...int64) []rule.Fire {
	b.t.Helper()
	var got []int64
	for _, f := range b.run().Fires {
		got = append(got, f.Rule)
	}
	if !slices.Equal(got, want) {
		b.t.Fatalf("fired %v, want %v", got, want)
	}
	return b.out.Fires
}
