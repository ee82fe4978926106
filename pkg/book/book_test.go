package book_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
)

var (
	drawSide = rapid.SampledFrom(bothSides[:])
	// Mostly few prices, so that levels meet; sometimes the ends of int64.
	drawPrice = rapid.Custom(func(t *rapid.T) market.Price {
		if rapid.IntRange(0, 30).Draw(t, "kind") == 0 {
			return rapid.SampledFrom([]market.Price{math.MinInt64, math.MinInt64 + 1, -1, 0, math.MaxInt64 - 1, math.MaxInt64}).Draw(t, "end")
		}
		return market.Price(rapid.IntRange(1, 60).Draw(t, "price"))
	})
	drawSize  = rapid.SampledFrom([]market.Size{0, 0, 1, 2, 3, 1 << 40, math.MaxInt64})
	drawLevel = rapid.Custom(func(t *rapid.T) market.Level {
		return market.Level{Price: drawPrice.Draw(t, "p"), Size: drawSize.Draw(t, "s")}
	})
	drawLevels = rapid.SliceOfN(drawLevel, 0, 20)
)

func TestBookAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b book.Book
		m := newModel()
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { checkBook(t, &b, m) },
			"set": func(t *rapid.T) {
				side, l := drawSide.Draw(t, "side"), drawLevel.Draw(t, "level")
				want := m.sides[side][l.Price]
				m.set(side, l.Price, l.Size)
				if old := b.Set(side, l.Price, l.Size); old != want {
					t.Fatalf("old size %d, want %d", old, want)
				}
			},
			"apply": func(t *rapid.T) { applyDrawn(t, &b, m) },
			"load":  func(t *rapid.T) { loadDrawn(t, &b, m) },
			"replace": func(t *rapid.T) {
				bids, asks := drawLevels.Draw(t, "bids"), drawLevels.Draw(t, "asks")
				m.clear()
				m.setAll(bids, asks)
				b.Replace(bids, asks)
				if !b.Replaced() || len(b.Changes()) > 0 {
					t.Fatalf("replaced %v, changes %v", b.Replaced(), b.Changes())
				}
			},
			"clear": func(*rapid.T) {
				m.clear()
				b.Clear()
			},
			"cut": func(t *rapid.T) {
				depth := rapid.IntRange(1, 30).Draw(t, "depth")
				before := m.clone()
				m.cut(depth)
				b.BeginChanges()
				b.Cut(depth)
				checkChanges(t, &b, before, m)
			},
		})
	})
}

// applyDrawn applies an update that may be old, overlapping, the next one, or behind a gap.
func applyDrawn(t *rapid.T, b *book.Book, m *model) {
	local := int(m.seq.Seq)
	d := market.Delta{Bids: drawLevels.Draw(t, "bids"), Asks: drawLevels.Draw(t, "asks")}
	d.Epoch = m.seq.Epoch + rapid.SampledFrom([]uint32{0, 0, 0, 0, 0, 1}).Draw(t, "epoch")
	d.Prev = uint64(rapid.IntRange(max(0, local-3), local+1).Draw(t, "prev"))
	d.Seq = d.Prev + uint64(rapid.IntRange(1, 4).Draw(t, "n"))
	var wantErr error
	want := false
	switch {
	case d.Epoch != m.seq.Epoch:
		wantErr = book.ErrGap
	case d.Seq <= m.seq.Seq:
	case d.Prev > m.seq.Seq:
		wantErr = book.ErrGap
	default:
		want = true
	}
	before := m.clone()
	if want {
		m.setAll(d.Bids, d.Asks)
		m.seq = d.Sequence()
	}
	applied, err := b.Apply(&d)
	if applied != want || !errors.Is(err, wantErr) {
		t.Fatalf("apply %d..%d at %v: %v, %v; want %v, %v", d.Prev, d.Seq, before.seq, applied, err, want, wantErr)
	}
	if applied {
		checkChanges(t, b, before, m)
	}
}

// checkChanges replays the changes on the state before them.
func checkChanges(t fataler, b *book.Book, before, after *model) {
	t.Helper()
	for _, c := range b.Changes() {
		if before.sides[c.Side][c.Price] != c.Old || c.Old == c.New {
			t.Fatalf("change %+v where %d stands", c, before.sides[c.Side][c.Price])
		}
		before.set(c.Side, c.Price, c.New)
	}
	for _, side := range bothSides {
		checkLevels(t, "changes", before.levels(side, 0), after.levels(side, 0))
	}
	if b.Replaced() {
		t.Fatalf("replaced")
	}
}

// loadDrawn loads a snapshot in one or several parts; the book must stay as it is until the last.
func loadDrawn(t *rapid.T, b *book.Book, m *model) {
	next := newModel()
	next.setAll(drawLevels.Draw(t, "bids"), drawLevels.Draw(t, "asks"))
	next.seq = market.Sequence{Epoch: m.seq.Epoch + 1, Seq: rapid.Uint64Range(1, 100).Draw(t, "seq")}
	parts := rapid.IntRange(1, 4).Draw(t, "parts")
	for i, s := range split(next, parts) {
		if err := b.Load(&s); err != nil {
			t.Fatalf("part %d: %v", i+1, err)
		}
		if i < parts-1 {
			checkBook(t, b, m)
			if !b.Loading() {
				t.Fatalf("not loading after part %d", i+1)
			}
		}
	}
	*m = *next
}

// split cuts a model into snapshot parts, bids first.
func split(m *model, parts int) (ss []market.Snapshot) {
	bids, asks := m.levels(market.Bid, 0), m.levels(market.Ask, 0)
	n := (len(bids)+len(asks))/parts + 1
	for i := range parts {
		s := market.Snapshot{Part: uint16(i + 1), Parts: uint16(parts)}
		s.Epoch, s.Prev, s.Seq = m.seq.Epoch, m.seq.Seq-1, m.seq.Seq
		k := min(n, len(bids))
		s.Bids, bids = bids[:k], bids[k:]
		k = min(n-k, len(asks))
		s.Asks, asks = asks[:k], asks[k:]
		if i == parts-1 {
			s.Hash = market.Hash{Sum: m.hash(0), OK: true}
		}
		ss = append(ss, s)
	}
	return ss
}

func TestLoadRefuses(t *testing.T) {
	m := newModel()
	for i := range 30 {
		m.set(market.Bid, market.Price(100-i), 5)
		m.set(market.Ask, market.Price(101+i), 5)
	}
	m.seq = market.Sequence{Epoch: 7, Seq: 70}
	f := func(name string, want error, feed func(ss []market.Snapshot) []market.Snapshot) {
		t.Helper()
		var b book.Book
		b.Replace([]market.Level{{Price: 1, Size: 1}}, nil)
		b.SetSequence(market.Sequence{Epoch: 6, Seq: 1})
		ss := feed(split(m, 3))
		for i := range ss {
			err := b.Load(&ss[i])
			if i < len(ss)-1 && err != nil || i == len(ss)-1 && !errors.Is(err, want) {
				t.Errorf("%s: part %d: %v, want %v at the end", name, i, err, want)
			}
		}
		if b.Len(market.Bid) != 1 || b.Len(market.Ask) != 0 || b.Sequence() != (market.Sequence{Epoch: 6, Seq: 1}) || b.Loading() {
			t.Errorf("%s: the book has changed", name)
		}
	}
	f("second part first", book.ErrPart, func(ss []market.Snapshot) []market.Snapshot { return ss[1:2] })
	f("part left out", book.ErrPart, func(ss []market.Snapshot) []market.Snapshot { return []market.Snapshot{ss[0], ss[2]} })
	f("part twice", book.ErrPart, func(ss []market.Snapshot) []market.Snapshot { return []market.Snapshot{ss[0], ss[1], ss[1]} })
	f("another snapshot's part", book.ErrPart, func(ss []market.Snapshot) []market.Snapshot { ss[1].Seq++; return ss[:2] })
	f("another epoch's part", book.ErrPart, func(ss []market.Snapshot) []market.Snapshot { ss[1].Epoch++; return ss[:2] })
	f("another count", book.ErrPart, func(ss []market.Snapshot) []market.Snapshot { ss[1].Parts++; return ss[:2] })
	f("part 0 of 3", book.ErrPart, func(ss []market.Snapshot) []market.Snapshot { ss[0].Part = 0; return ss[:1] })
	f("part 2 of 1", book.ErrPart, func(ss []market.Snapshot) []market.Snapshot { ss[1].Parts = 1; return ss[1:2] })
	f("hash", book.ErrHash, func(ss []market.Snapshot) []market.Snapshot { ss[2].Hash.Sum++; return ss })
	f("lost level", book.ErrHash, func(ss []market.Snapshot) []market.Snapshot { ss[1].Asks = ss[1].Asks[1:]; return ss })
	f("order", book.ErrLevels, func(ss []market.Snapshot) []market.Snapshot { slices.Reverse(ss[0].Bids); return ss })
	f("order across parts", book.ErrLevels, func(ss []market.Snapshot) []market.Snapshot {
		ss[1].Asks, ss[2].Asks = ss[2].Asks, ss[1].Asks
		return ss
	})
	f("size 0", book.ErrLevels, func(ss []market.Snapshot) []market.Snapshot { ss[2].Asks[0].Size = 0; return ss })
	f("one part, hash", book.ErrHash, func([]market.Snapshot) []market.Snapshot {
		s := split(m, 1)
		s[0].Hash.Sum--
		return s
	})
}

func TestLoadBeginsAnew(t *testing.T) {
	m, other := newModel(), newModel()
	m.set(market.Bid, 10, 1)
	m.set(market.Ask, 12, 1)
	other.set(market.Bid, 20, 3)
	m.seq, other.seq = market.Sequence{Epoch: 1, Seq: 5}, market.Sequence{Epoch: 1, Seq: 4}
	var b book.Book
	ss := split(m, 2)
	for _, s := range []*market.Snapshot{&split(other, 2)[0], &ss[0], &ss[1]} {
		if err := b.Load(s); err != nil {
			t.Fatal(err)
		}
	}
	checkBook(t, &b, m)
	whole := split(other, 1)[0]
	whole.Part, whole.Parts = 0, 0 // absent on the wire
	if err := b.Load(&whole); err != nil {
		t.Fatal(err)
	}
	checkBook(t, &b, other)
}

// A deep book under changes everywhere in it, so that both ends of the ladders run out of room, many times.
func TestDeepBook(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var b book.Book
	m := newModel()
	for round := range 60 {
		switch round % 20 {
		case 13:
			b.Cut(500)
			m.cut(500)
		case 17:
			b.Clear()
			m.clear()
		}
		// Rounds move away from the first prices in turn in both directions.
		base := 1_000_000 + (round%7-3)*1500
		for range 1500 {
			side := bothSides[rng.IntN(2)]
			p, s := market.Price(base+rng.IntN(3000)), market.Size(rng.IntN(4))
			b.Set(side, p, s)
			m.set(side, p, s)
		}
		b.BeginChanges()
		checkBook(t, &b, m)
	}
}

func TestReplaceTakesLevelsAsSets(t *testing.T) {
	var b book.Book
	b.Replace([]market.Level{{Price: 5, Size: 1}, {Price: 7, Size: 2}, {Price: 5, Size: 3}, {Price: 7, Size: 0}}, []market.Level{{Price: 9, Size: 1}, {Price: 8, Size: 1}})
	m := newModel()
	m.set(market.Bid, 5, 3)
	m.set(market.Ask, 8, 1)
	m.set(market.Ask, 9, 1)
	checkBook(t, &b, m)
}

func TestHugeUpdateIsForgotten(t *testing.T) {
	var b book.Book
	for i := range 5000 {
		b.Set(market.Bid, market.Price(i+1), 1)
	}
	if len(b.Changes()) != 5000 {
		t.Fatalf("%d changes", len(b.Changes()))
	}
	b.BeginChanges()
	if len(b.Changes()) != 0 || cap(b.Changes()) > 1024 {
		t.Errorf("keeps room for %d changes", cap(b.Changes()))
	}
}
