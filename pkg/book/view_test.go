package book_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
)

// feed is a view as its server sees it: what each update touched, and, from the model, what the view must be after it.
type feed struct {
	depth  int
	view   *book.View
	states []state           // states[0] is the view at sequence 1
	bids   [][]market.Level  // what update i touched, to come from states[i-1] to states[i]
	asks   [][]market.Level  //
	seqs   []market.Sequence // of states
}

type state struct {
	bids, asks []market.Level
	hash       uint64
}

func newFeed(depth int, b *book.Book, m *model) *feed {
	f := &feed{depth: depth, view: book.NewView(depth)}
	f.view.Reset(b)
	f.push(m, nil, nil)
	return f
}

func (f *feed) push(m *model, bids, asks []market.Level) {
	bs, as := m.levels(market.Bid, f.depth), m.levels(market.Ask, f.depth)
	f.states = append(f.states, state{bs, as, book.HashLevels(bs, as)})
	f.bids, f.asks = append(f.bids, bids), append(f.asks, asks)
	f.seqs = append(f.seqs, m.seq)
}

// update follows the book and checks the view against the model.
func (f *feed) update(t fataler, b *book.Book, m *model) {
	t.Helper()
	before := f.states[len(f.states)-1]
	touched := f.view.Update(b)
	bids, asks := f.view.AppendChanged(nil, nil)
	if touched != (len(bids)+len(asks) > 0) {
		t.Fatalf("depth %d: touched %v, levels %v %v", f.depth, touched, bids, asks)
	}
	f.push(m, bids, asks)
	now := f.states[len(f.states)-1]
	f.check(t, now)
	checkTouched(t, market.Bid, before.bids, now.bids, bids)
	checkTouched(t, market.Ask, before.asks, now.asks, asks)
}

func (f *feed) check(t fataler, want state) {
	t.Helper()
	checkLevels(t, "view bids", f.view.AppendLevels([]market.Level{}, market.Bid), want.bids)
	checkLevels(t, "view asks", f.view.AppendLevels([]market.Level{}, market.Ask), want.asks)
	if f.view.Hash() != want.hash || f.view.Len(market.Bid) != len(want.bids) || f.view.Len(market.Ask) != len(want.asks) {
		t.Fatalf("depth %d: view hash %016x of %d + %d levels, want %016x", f.depth, f.view.Hash(), f.view.Len(0), f.view.Len(1), want.hash)
	}
}

// checkTouched: best first, each price once, at its size in the view now, and every difference of the two states in it.
func checkTouched(t fataler, side market.Side, before, now, touched []market.Level) {
	t.Helper()
	at := func(ls []market.Level, p market.Price) market.Size {
		for _, l := range ls {
			if l.Price == p {
				return l.Size
			}
		}
		return 0
	}
	for i, l := range touched {
		if i > 0 && (touched[i-1].Price > l.Price) != (side == market.Bid) {
			t.Fatalf("touched levels %v are not best first", touched)
		}
		if l.Size != at(now, l.Price) {
			t.Fatalf("touched level %v has size %d in the view", l, at(now, l.Price))
		}
	}
	for _, l := range append(slices.Clone(before), now...) {
		if at(before, l.Price) != at(now, l.Price) && !slices.ContainsFunc(touched, func(x market.Level) bool { return x.Price == l.Price }) {
			t.Fatalf("level %v changed and is not touched", l)
		}
	}
}

// client follows a feed by messages, each of which may be the union of several updates and may overlap what it has.
type client struct {
	book book.Book
	at   int // index of the state it has
}

func (c *client) join(t fataler, f *feed, at int) {
	t.Helper()
	s := market.Snapshot{Bids: f.states[at].bids, Asks: f.states[at].asks, Hash: market.Hash{Sum: f.states[at].hash, OK: true}}
	s.Epoch, s.Prev, s.Seq = f.seqs[at].Epoch, f.seqs[at].Seq, f.seqs[at].Seq
	if err := c.book.Load(&s); err != nil {
		t.Fatalf("join: %v", err)
	}
	c.at = at
}

// follow applies the union of the updates after states[from] up to states[to].
func (c *client) follow(t fataler, f *feed, from, to int, cut bool) {
	t.Helper()
	var m book.Merge
	for i := from + 1; i <= to; i++ {
		m.Add(f.bids[i], f.asks[i])
	}
	var d market.Delta
	d.Bids, d.Asks = m.AppendLevels(nil, nil)
	if len(d.Bids)+len(d.Asks) != m.Len() {
		t.Fatalf("merge has %d levels, says %d", len(d.Bids)+len(d.Asks), m.Len())
	}
	d.Epoch, d.Prev, d.Seq = f.seqs[to].Epoch, f.seqs[from].Seq, f.seqs[to].Seq
	if applied, err := c.book.Apply(&d); !applied || err != nil {
		t.Fatalf("update %d..%d at %v: %v, %v", d.Prev, d.Seq, c.book.Sequence(), applied, err)
	}
	if cut {
		c.book.Cut(f.depth)
	}
	c.at = to
	c.check(t, f)
}

func (c *client) check(t fataler, f *feed) {
	t.Helper()
	want := f.states[c.at]
	checkLevels(t, "client bids", c.book.AppendLevels([]market.Level{}, market.Bid, 0), want.bids)
	checkLevels(t, "client asks", c.book.AppendLevels([]market.Level{}, market.Ask, 0), want.asks)
	if c.book.Hash() != want.hash {
		t.Fatalf("client hash %016x, want %016x", c.book.Hash(), want.hash)
	}
}

// drawDelta draws prices around a middle, bids and asks overlapping little, so that levels come, go, and come back.
func drawDelta(t *rapid.T, m *model, seq uint64) *market.Delta {
	level := func(lo, hi int) *rapid.Generator[[]market.Level] {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) market.Level {
			return market.Level{Price: market.Price(rapid.IntRange(lo, hi).Draw(t, "p")), Size: market.Size(rapid.IntRange(0, 2).Draw(t, "s"))}
		}), 0, 8)
	}
	d := &market.Delta{Bids: level(1, 32).Draw(t, "bids"), Asks: level(30, 60).Draw(t, "asks")}
	d.Epoch, d.Prev, d.Seq = m.seq.Epoch, m.seq.Seq, seq
	return d
}

func TestViewsAndClients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b book.Book
		m := newModel()
		m.seq = market.Sequence{Epoch: 1, Seq: 1}
		b.Replace(nil, nil)
		b.SetSequence(m.seq)
		var feeds []*feed
		for _, depth := range []int{1, 2, 3, 5, 10} {
			feeds = append(feeds, newFeed(depth, &b, m))
		}
		whole := newFeed(0, &b, m)
		feeds = append(feeds, whole)
		updates := func() {
			for _, f := range feeds {
				f.update(t, &b, m)
			}
		}
		apply := func(t *rapid.T) {
			d := drawDelta(t, m, m.seq.Seq+uint64(rapid.IntRange(1, 3).Draw(t, "step")))
			m.setAll(d.Bids, d.Asks)
			m.seq = d.Sequence()
			if applied, err := b.Apply(d); !applied || err != nil {
				t.Fatalf("apply: %v, %v", applied, err)
			}
			updates()
		}
		clients := make([]client, len(feeds))
		for i := range clients {
			clients[i].join(t, feeds[i], 0)
		}
		t.Repeat(map[string]func(*rapid.T){
			"apply": apply,
			"again": apply,
			"more":  apply,
			"replace": func(t *rapid.T) {
				d := drawDelta(t, m, m.seq.Seq+1)
				m.clear()
				m.setAll(d.Bids, d.Asks)
				m.seq = d.Sequence()
				b.Replace(d.Bids, d.Asks)
				b.SetSequence(m.seq)
				updates()
			},
			"join": func(t *rapid.T) {
				i := rapid.IntRange(0, len(feeds)-1).Draw(t, "feed")
				clients[i].join(t, feeds[i], rapid.IntRange(0, len(feeds[i].states)-1).Draw(t, "at"))
				clients[i].check(t, feeds[i])
			},
			"follow": func(t *rapid.T) {
				i := rapid.IntRange(0, len(feeds)-1).Draw(t, "feed")
				c, f := &clients[i], feeds[i]
				if c.at == len(f.states)-1 {
					t.Skip("nothing new")
				}
				from := max(0, c.at-rapid.IntRange(0, 5).Draw(t, "overlap"))
				c.follow(t, f, from, rapid.IntRange(c.at+1, len(f.states)-1).Draw(t, "to"), rapid.Bool().Draw(t, "cut"))
			},
			"reset": func(t *rapid.T) {
				f := feeds[rapid.IntRange(0, len(feeds)-1).Draw(t, "feed")]
				f.view.Reset(&b)
				f.check(t, f.states[len(f.states)-1])
				if bids, asks := f.view.AppendChanged(nil, nil); len(bids)+len(asks) > 0 {
					t.Fatalf("a reset view has touched %v %v", bids, asks)
				}
			},
		})
	})
}

// The depths that are offered, over a deep book that wanders, with joins and unions at random.
func TestOfferedDepths(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var b book.Book
	m := newModel()
	m.seq = market.Sequence{Epoch: 1, Seq: 1}
	b.SetSequence(m.seq)
	var feeds []*feed
	for _, depth := range []int{10, 25, 50, 100} {
		feeds = append(feeds, newFeed(depth, &b, m))
	}
	clients := make([]client, 3*len(feeds))
	for i := range clients {
		clients[i].join(t, feeds[i%len(feeds)], 0)
	}
	mid := 10_000
	for range 800 {
		mid += rng.IntN(7) - 3
		var d market.Delta
		d.Epoch, d.Prev, d.Seq = 1, m.seq.Seq, m.seq.Seq+1
		for range rng.IntN(30) {
			off := 1 + int(rng.ExpFloat64()*40)
			d.Bids = append(d.Bids, market.Level{Price: market.Price(mid - off), Size: market.Size(rng.IntN(3))})
			d.Asks = append(d.Asks, market.Level{Price: market.Price(mid + off), Size: market.Size(rng.IntN(3))})
		}
		m.setAll(d.Bids, d.Asks)
		m.seq = d.Sequence()
		if applied, err := b.Apply(&d); !applied || err != nil {
			t.Fatal(applied, err)
		}
		for _, f := range feeds {
			f.update(t, &b, m)
		}
		randomClient(t, rng, clients, feeds)
	}
}

func randomClient(t fataler, rng *rand.Rand, clients []client, feeds []*feed) {
	i := rng.IntN(len(clients))
	c, f := &clients[i], feeds[i%len(feeds)]
	newest := len(f.states) - 1
	if c.at == newest || rng.IntN(20) == 0 {
		c.join(t, f, newest-rng.IntN(min(newest, 10)))
		return
	}
	from := max(0, c.at-rng.IntN(5))
	c.follow(t, f, from, c.at+1+rng.IntN(newest-c.at), rng.IntN(2) == 0)
}

// A level that was pushed out and deleted outside must not survive at a client that gets both as one update.
func TestPushedOutLevelLeaves(t *testing.T) {
	var b book.Book
	m := newModel()
	set := func(p market.Price, s market.Size) {
		b.BeginChanges()
		b.Set(market.Bid, p, s)
		m.set(market.Bid, p, s)
		m.seq.Seq++
	}
	set(10, 1)
	set(9, 1)
	f := newFeed(2, &b, m)
	var c client
	c.join(t, f, 0)
	for _, l := range []market.Level{{Price: 11, Size: 1}, {Price: 9, Size: 0}, {Price: 11, Size: 0}, {Price: 8, Size: 4}} {
		set(l.Price, l.Size)
		f.update(t, &b, m)
	}
	if len(f.bids[2]) != 0 {
		t.Errorf("a deletion outside the view sends %v", f.bids[2])
	}
	c.follow(t, f, 0, 3, false)
	c.follow(t, f, 2, 4, false)
}

func TestMergeKeepsTheNewestSize(t *testing.T) {
	var m book.Merge
	m.Add([]market.Level{{Price: 5, Size: 1}, {Price: 6, Size: 1}}, []market.Level{{Price: 8, Size: 2}})
	m.Add([]market.Level{{Price: 5, Size: 0}}, []market.Level{{Price: 7, Size: 3}, {Price: 8, Size: 2}})
	bids, asks := m.AppendLevels(nil, nil)
	checkLevels(t, "bids", bids, []market.Level{{Price: 6, Size: 1}, {Price: 5, Size: 0}})
	checkLevels(t, "asks", asks, []market.Level{{Price: 7, Size: 3}, {Price: 8, Size: 2}})
	if m.Len() != 4 {
		t.Errorf("%d levels", m.Len())
	}
	m.Reset()
	if m.Len() != 0 {
		t.Errorf("%d levels after Reset", m.Len())
	}
}
