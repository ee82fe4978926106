package ingest

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// script draws the records of a short and eventful life of a partition.
type script struct {
	t     *rapid.T
	in    []input
	now   int64 // venue time, microseconds after t0
	seq   map[string]uint64
	ids   map[string]uint64
	sess  map[string]int
	scale map[string]int
}

var scriptSyms = []string{"A", "B", "C"} // A is numbered and counts trades, B is neither, C is Binance's

func drawScript(t *rapid.T) []input {
	s := &script{
		t: t, seq: map[string]uint64{}, ids: map[string]uint64{}, sess: map[string]int{}, scale: map[string]int{},
	}
	for n := rapid.IntRange(20, 250).Draw(t, "records"); n > 0; n-- {
		s.record(rapid.SampledFrom(scriptSyms).Draw(t, "sym"))
	}
	return s.in
}

// small draws a number below n.
func (s *script) small(n int, what string) int { return rapid.IntRange(0, n-1).Draw(s.t, what) }

func (s *script) add(sym, source, format string, args ...any) {
	s.in = append(s.in, input{
		Offset: int64(len(s.in)), In: t0 + market.Time(s.now)*1000, Key: []byte(sym), Value: fmt.Appendf(nil, format, args...),
		Source: []byte(source), Session: fmt.Appendf(nil, "%s%d", sym, s.sess[sym]),
	})
}

func (s *script) record(sym string) {
	// Time mostly creeps, sometimes jumps over many bars, and trades are sometimes late.
	switch p := s.small(100, "time"); {
	case p < 60:
		s.now += int64(s.small(300_000, "creep"))
	case p < 80:
		s.now += int64(s.small(5_000_000, "step"))
	case p < 83:
		s.now += int64(s.small(7_200_000_000, "jump"))
	}
	switch p := s.small(100, "kind"); {
	case p < 8:
		if s.small(8, "rescale") == 0 {
			s.scale[sym]++
		}
		s.add(sym, "tickwire", `{"type":"instrument","sym":%q,"source":%q,"ps":%d,"ss":2}`, sym, s.source(sym), 2-s.scale[sym]%2)
	case p < 10:
		s.add(sym, "tickwire", `{"type":"status","sym":%q,"state":%q}`, sym, []string{"live", "halted", "live", "delisted"}[s.small(4, "state")])
	case p < 20:
		s.add("", "tickwire", `{"type":"clock","source":%q,"session":"x","ts":%d}`, s.source(sym), us(s.now))
	case p < 24:
		s.sess[sym]++
	case p < 28:
		s.add(sym, s.source(sym), "%s", []string{`{"type":"trade","sym":"A","pri`, `{"type":"bo`, `{"e":"trade","s":"C"}`, `]`}[s.small(4, "garbage")])
	case p < 60:
		s.trade(sym)
	case p < 70:
		s.book(sym, true)
	default:
		s.book(sym, false)
	}
}

func (s *script) source(sym string) string {
	if sym == "C" {
		return "binance"
	}
	return "tickwire"
}

func (s *script) trade(sym string) {
	id := s.ids[sym] + 1
	switch s.small(12, "id") {
	case 0:
		id += 3 // a loss
	case 1:
		id -= min(id, 2) // a duplicate
	}
	s.ids[sym] = max(s.ids[sym], id)
	at := us(s.now)
	if s.small(5, "late") == 0 {
		at -= int64(s.small(200_000_000, "by"))
	}
	price := fmt.Sprintf("1.%02d", s.small(100, "price"))
	switch sym {
	case "A":
		s.add(sym, "tickwire", `{"type":"trade","sym":"A","price":%q,"size":"0.5","id":%d,"ts":%d}`, price, id, at)
	case "B":
		s.add(sym, "tickwire", `{"type":"trade","sym":"B","price":%q,"size":"0.5","id":"n%d","ts":%d}`, price, id, at)
	case "C":
		s.add(sym, "binance", `{"e":"trade","s":"C","t":%d,"p":%q,"q":"0.5","T":%d,"m":false}`, id, price, at)
	}
}

func (s *script) book(sym string, snapshot bool) {
	bid := fmt.Sprintf("1.%02d", s.small(60, "bid"))
	ask := fmt.Sprintf("1.%02d", 50+s.small(50, "ask")) // crosses now and then
	size := s.small(4, "size")
	first := s.seq[sym] + 1
	switch s.small(15, "seq") {
	case 0:
		first += 2 // a gap
	case 1, 2:
		first -= min(first, 2) // an overlap, or old
	}
	last := first + uint64(s.small(3, "covers"))
	s.seq[sym] = max(s.seq[sym], last)
	at := us(s.now)
	switch {
	case sym == "C" && snapshot:
		s.add(sym, "binance", `{"lastUpdateId":%d,"bids":[[%q,"1"]],"asks":[[%q,"1"]]}`, last-uint64(s.small(2, "age")), bid, ask)
	case sym == "C":
		s.add(sym, "binance", `{"e":"depthUpdate","E":%d,"s":"C","U":%d,"u":%d,"b":[[%q,"%d"]],"a":[[%q,"%d"]]}`,
			at/1000, first, last, bid, size, ask, size)
	case sym == "A":
		s.add(sym, "tickwire", `{"type":"book","sym":"A","snapshot":%v,"first":%d,"last":%d,"bids":[[%q,%d]],"asks":[[%q,%d]],"ts":%d}`,
			snapshot, first, last, bid, size, ask, size, at)
	default:
		s.add(sym, "tickwire", `{"type":"book","sym":"B","snapshot":%v,"bids":[[%q,%d]],"asks":[[%q,%d]],"ts":%d}`,
			snapshot, bid, size, ask, size, at)
	}
}

// undisturbed applies all records once and returns the events, and how many there are after each record.
func undisturbed(in []input) (events [][]byte, upTo []int) {
	c := newCore(0, 1)
	for i := range in {
		c.Apply(&in[i])
		for n := range c.out.len() {
			events = append(events, bytes.Clone(c.out.event(n)))
		}
		upTo = append(upTo, len(events))
	}
	return events, upTo
}

// world is Kafka as far as a partition's owner can see it, durable and in memory.
type world struct {
	events   [][]byte // md.events
	answered int64    // the newest input offset in it
	found    bool     // there is a batch
	stored   []stream.Snapshot
}

// newest is what stream.Owner.Snapshots gives.
func (w *world) newest() []stream.Snapshot {
	type id struct {
		inst  uint32
		kind  uint8
		block uint8
	}
	best := make(map[id]stream.Snapshot)
	for _, s := range w.stored {
		k := id{s.Inst, s.Kind, s.Block}
		if old, ok := best[k]; !ok || s.Kind >= stream.KindBars && s.Kind < stream.KindCheckpoint || s.EventsOffset >= old.EventsOffset {
			s.Version = Version
			best[k] = s
		}
	}
	var list []stream.Snapshot
	for _, s := range best {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b stream.Snapshot) int {
		return cmp.Or(cmp.Compare(a.Inst, b.Inst), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Block, b.Block))
	})
	return list
}

// owner is one process's life: what it has on the way is lost when it dies.
type owner struct {
	w         *world
	core      *core
	next      int64 // input
	pending   []group
	waiting   []stream.Snapshot // until everything pending so far is durable
	after     []int             // of waiting: how many of pending, counted from the start of the life
	acked     int               // of pending, since the start of the life
	committed int
}

type group struct {
	offset int64
	events [][]byte
}

// takeOver does what partition.recover does.
func (w *world) takeOver(t failer, in []input) *owner {
	snaps := w.newest()
	r, err := restore(0, 1, snaps, 0)
	if err != nil {
		t.Fatal(err)
	}
	var left tail
	for _, b := range w.events[r.events:] {
		tmpl, err := wire.Peek(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := left.add(tmpl, b); err != nil {
			t.Fatal(err)
		}
	}
	do := (&situation{
		restored: r, snapshots: len(snaps) > 0, first: 0, end: int64(len(in)),
		tail: stream.Tail{From: r.events, Found: w.found, InputOffset: w.answered, Version: Version},
	}).plan()
	if do.rebuild {
		t.Fatalf("rebuild because of %v", do.why)
	}
	for i := do.from; i <= do.answered; i++ {
		r.core.Apply(&in[i])
	}
	if err := left.verify(r.core); err != nil {
		t.Fatal(err)
	}
	r.core.offset = max(r.core.offset, do.answered)
	return &owner{w: w, core: r.core, next: do.answered + 1}
}

func (o *owner) step(in []input) {
	o.core.Apply(&in[o.next])
	var events [][]byte
	for n := range o.core.out.len() {
		events = append(events, bytes.Clone(o.core.out.event(n)))
	}
	if len(events) > 0 {
		o.pending = append(o.pending, group{o.next, events})
		o.committed++
	}
	o.next++
}

// ack makes the first n pending groups durable, and with them the snapshots that waited for no more.
func (o *owner) ack(n int) {
	for _, g := range o.pending[:n] {
		o.w.events = append(o.w.events, g.events...)
		o.w.answered, o.w.found = g.offset, true
	}
	o.pending = o.pending[n:]
	o.acked += n
	if len(o.pending) == 0 && o.next > 0 && o.w.found { // a heartbeat would say so
		o.w.answered = o.next - 1
	}
}

// store makes the first n of the snapshots durable that may be.
func (o *owner) store(n int) {
	for n > 0 && len(o.waiting) > 0 && o.after[0] <= o.acked {
		o.w.stored = append(o.w.stored, o.waiting[0])
		o.waiting, o.after = o.waiting[1:], o.after[1:]
		n--
	}
}

func (o *owner) queue(list ...stream.Snapshot) {
	for _, s := range list {
		o.waiting = append(o.waiting, s)
		o.after = append(o.after, o.committed)
	}
}

// dice draws a number below n.
type dice func(n int) int

func (o *owner) save(roll dice) {
	acked := int64(len(o.w.events))
	for _, it := range o.core.list {
		if it.saved < 0 || it.dirty && roll(2) == 0 {
			list, saved := o.core.snapshots(it, acked)
			o.queue(list...)
			saved()
		}
	}
	if roll(2) == 0 {
		o.queue(o.core.saveCheckpoint(acked))
	}
}

// disturbed applies the records by owners that die at random moments, with random parts of what was on the way lost, and
// wants the very bytes of an undisturbed run.
func disturbed(t failer, in []input, roll dice) *world {
	t.Helper()
	want, _ := undisturbed(in)
	w := &world{answered: -1}
	o := w.takeOver(t, in)
	for o.next < int64(len(in)) {
		o.step(in)
		switch p := roll(100); {
		case p < 30:
			o.ack(len(o.pending))
			o.store(len(o.waiting))
		case p < 45:
			o.save(roll)
		case p < 50: // dies
			o.ack(roll(len(o.pending) + 1))
			o.store(roll(len(o.waiting) + 1))
			o = w.takeOver(t, in)
		}
	}
	o.ack(len(o.pending))
	if len(w.events) != len(want) {
		t.Fatalf("%d events, undisturbed %d", len(w.events), len(want))
	}
	for i := range want {
		if !bytes.Equal(w.events[i], want[i]) {
			t.Fatalf("event %d differs:\n%s\n%s", i, render(t, w.events[i]), render(t, want[i]))
		}
	}
	return w
}

func TestCrashAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawScript(t)
		if len(in) > 0 {
			disturbed(t, in, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "roll") })
		}
	})
}

// TestCrashAcrossBlocks has more bars than the blocks of md.snapshots hold, and late trades for bars of every age.
func TestCrashAcrossBlocks(t *testing.T) {
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a test's dice
		s := &script{ids: map[string]uint64{}, sess: map[string]int{}}
		s.add("A", "tickwire", `{"type":"instrument","sym":"A","ps":2,"ss":2}`)
		for i := range 2800 {
			s.now += 1_000_000
			at := us(s.now)
			if random.IntN(10) == 0 {
				at -= random.Int64N(min(s.now, 2_000_000_000))
			}
			s.add("A", "tickwire", `{"type":"trade","sym":"A","price":"1.%02d","size":"0.5","id":%d,"ts":%d}`, random.IntN(100), i+1, at)
		}
		w := disturbed(t, s.in, random.IntN)
		blocks := 0
		for _, snap := range w.stored {
			if snap.Kind == stream.KindBars {
				blocks++
			}
		}
		if blocks <= stream.BarBlocks {
			t.Errorf("seed %d: only %d blocks were written", seed, blocks)
		}
	}
}

// TestSameBytes applies the same input twice.
func TestSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawScript(t)
		a, _ := undisturbed(in)
		b, _ := undisturbed(in)
		if !slices.EqualFunc(a, b, bytes.Equal) {
			t.Fatal("the same input gave other events")
		}
	})
}
