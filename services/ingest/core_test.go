package ingest

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/ingest/decode"
)

// t0 is when the tests' records arrive, in Kafka's time and the venue's.
const t0 = market.Time(1_700_000_000_000_000_000)

// rig drives a core and keeps what comes out.
type rig struct {
	t      testing.TB
	core   *core
	offset int64
	in     market.Time
	source string
	sess   string
	key    string
	log    []string // of the last input, rendered
	reason string
	all    [][]byte
}

func newRig(t testing.TB) *rig {
	return &rig{t: t, core: newCore(0, 1), in: t0, source: "tickwire", sess: "s1", key: "X"}
}

// feed applies one record and returns its events, rendered.
func (r *rig) feed(format string, args ...any) string {
	r.t.Helper()
	return r.raw(fmt.Sprintf(format, args...))
}

func (r *rig) raw(value string) string {
	r.reason = r.core.Apply(&input{
		Offset: r.offset, In: r.in, Key: []byte(r.key), Value: []byte(value), Source: []byte(r.source), Session: []byte(r.sess),
	})
	r.offset++
	r.log = r.log[:0]
	for i := range r.core.out.len() {
		b := r.core.out.event(i)
		r.all = append(r.all, append([]byte(nil), b...))
		r.log = append(r.log, render(r.t, b))
	}
	return strings.Join(r.log, " | ")
}

// want applies one record and compares its events, rendered.
func (r *rig) want(events string, format string, args ...any) {
	r.t.Helper()
	if got := r.feed(format, args...); got != events {
		r.t.Errorf("record %d\n got %s\nwant %s", r.offset-1, got, events)
	}
	if r.reason != "" {
		r.t.Errorf("record %d quarantined: %s", r.offset-1, r.reason)
	}
}

// refuse applies one record that must be quarantined, and compares its events.
func (r *rig) refuse(reason, events string, format string, args ...any) {
	r.t.Helper()
	got := r.feed(format, args...)
	if r.reason != reason {
		r.t.Errorf("record %d: quarantined for %q, want %q", r.offset-1, r.reason, reason)
	}
	if got != events {
		r.t.Errorf("record %d\n got %s\nwant %s", r.offset-1, got, events)
	}
}

// instrument defines X, with prices to the cent and whole sizes.
func (r *rig) instrument() {
	r.t.Helper()
	r.want("status#1 live stale/start", `{"type":"instrument","sym":"X","ps":2,"ss":0,"tick":"0.01"}`)
}

// us is a time in the records, in microseconds after t0.
func us(offset int64) int64 { return t0.Micros() + offset }

const sec = 1_000_000

func render(t failer, b []byte) string {
	t.Helper()
	tmpl, err := wire.Peek(b)
	if err != nil {
		t.Fatal(err)
	}
	h, err := wire.HeadOf(b)
	if err != nil {
		t.Fatal(err)
	}
	if h.Prev != h.Seq-1 {
		t.Errorf("prev %d before seq %d", h.Prev, h.Seq)
	}
	switch tmpl {
	case wire.TemplateBookSnapshot:
		var s market.Snapshot
		err = wire.DecodeSnapshot(b, &s)
		return check(t, err, fmt.Sprintf("book#%d %s", h.Seq, levels(s.Bids, s.Asks)))
	case wire.TemplateBookUpdate:
		var d market.Delta
		err = wire.DecodeDelta(b, &d)
		return check(t, err, fmt.Sprintf("update#%d %s", h.Seq, levels(d.Bids, d.Asks)))
	case wire.TemplateTrade:
		var tr market.Trade
		err = wire.DecodeTrade(b, &tr)
		return check(t, err, fmt.Sprintf("trade#%d %s", h.Seq, tr.ID))
	case wire.TemplateTradeGap:
		var g market.TradeGap
		err = wire.DecodeTradeGap(b, &g)
		return check(t, err, fmt.Sprintf("gap#%d %s %d", h.Seq, g.Why, g.Missed))
	case wire.TemplateBar:
		var bar market.Bar
		err = wire.DecodeBar(b, &bar)
		inc := ""
		if bar.Incomplete {
			inc = " inc"
		}
		return check(t, err, fmt.Sprintf("%s#%d n%d rev%d%s", bar.Interval, h.Seq, bar.Trades, bar.Rev, inc))
	case wire.TemplateStatus:
		var s market.Status
		err = wire.DecodeStatus(b, &s)
		why := ""
		if s.Why != market.NoReason {
			why = "/" + s.Why.String()
		}
		return check(t, err, fmt.Sprintf("status#%d %s %s%s", h.Seq, s.State, s.Book, why))
	}
	t.Fatalf("template %d: %s", tmpl, hex.EncodeToString(b))
	return ""
}

func check(t failer, err error, text string) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func levels(bids, asks []market.Level) string {
	var b strings.Builder
	for i, side := range [][]market.Level{bids, asks} {
		b.WriteByte("ba"[i])
		for _, l := range side {
			fmt.Fprintf(&b, " %d:%d", l.Price, l.Size)
		}
		if i == 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func TestBookNumbered(t *testing.T) {
	r := newRig(t)
	r.instrument()
	book := func(snapshot bool, first, last int, bid string, size int) string {
		return fmt.Sprintf(`{"type":"book","sym":"X","snapshot":%v,"first":%d,"last":%d,"bids":[[%q,%d]],"asks":[],"ts":%d}`,
			snapshot, first, last, bid, size, us(0))
	}
	r.want("", "%s", book(false, 9, 9, "1.00", 5))   // held
	r.want("", "%s", book(false, 10, 11, "1.01", 6)) // held
	r.want("", "%s", book(true, 0, 7, "0.50", 1))    // too old for what is held
	// The snapshot is of before the second update held, and includes the first.
	r.want("book#1 b 101:6 50:1 a | status#2 live live", "%s", book(true, 0, 9, "0.50", 1))
	r.want("", "%s", book(false, 10, 11, "1.01", 6))                   // old
	r.want("update#2 b 102:1 a", "%s", book(false, 11, 12, "1.02", 1)) // overlap
	r.want("", "%s", book(false, 13, 13, "1.02", 1))                   // changes nothing
	r.want("", "%s", book(true, 0, 12, "7.77", 1))                     // older than the book
	r.want("status#3 live stale/venue", "%s", book(false, 15, 15, "1.03", 1))
	r.want("", "%s", book(false, 16, 16, "1.04", 1))
	r.want("", "%s", book(true, 0, 13, "7.77", 1)) // does not reach what is held
	r.want("book#3 b 104:1 103:1 50:9 a | status#4 live live", "%s", book(true, 0, 14, "0.50", 9))
	r.want("book#4 b 50:9 a", "%s", book(true, 0, 20, "0.50", 9)) // newer: resets
	r.want("", "%s", book(true, 0, 20, "0.50", 9))                // equal, and the same
	r.want("status#5 live stale/mismatch | book#5 b 50:8 a | status#6 live live", "%s", book(true, 0, 20, "0.50", 8))
	if got := r.core.stats; got.duplicates != 2 || got.outdated != 3 || got.mismatches != 1 {
		t.Errorf("%+v", got)
	}
}

func TestBookSessions(t *testing.T) {
	r := newRig(t)
	r.instrument()
	book := func(last int, extra string) string {
		return fmt.Sprintf(`{"type":"book","sym":"X","last":%d%s,"bids":[["1.%02d",1]],"asks":[],"ts":%d}`, last, extra, last, us(0))
	}
	r.want("book#1 b 101:1 a | status#2 live live", "%s", book(1, `,"snapshot":true`))
	r.sess = "s2" // continues: proof enough
	r.want("update#2 b 102:1 a", "%s", book(2, ""))
	r.sess = "s1" // a straggler of the closed session
	r.want("", "%s", book(3, ""))
	r.sess = "s3" // jumps
	r.want("status#3 live stale/session", "%s", book(9, ""))
	r.want("", "%s", book(10, ""))
	r.want("book#3 b 110:1 109:1 108:1 a | status#4 live live", "%s", book(8, `,"snapshot":true`))
	r.sess = "s4" // numbers begin anew
	r.want("status#5 live stale/session", "%s", book(1, ""))
	r.want("", "%s", book(3, "")) // a gap: what came before it is of no use
	r.want("", "%s", book(1, `,"snapshot":true`))
	r.want("book#4 b 103:1 102:1 a | status#6 live live", "%s", book(2, `,"snapshot":true`))
}

func TestBookUnnumbered(t *testing.T) {
	r := newRig(t)
	r.instrument()
	book := func(kind, bid string, size int) string {
		return fmt.Sprintf(`{"type":"book","sym":"X"%s,"bids":[[%q,%d]],"asks":[["9.00",1]],"ts":%d}`, kind, bid, size, us(0))
	}
	const snapshot = `,"snapshot":true`
	r.want("", "%s", book("", "1.00", 1))
	r.want("book#1 b 100:1 a 900:1 | status#2 live live", "%s", book(snapshot, "1.00", 1))
	r.want("update#2 b 100:0 a", "%s", book("", "1.00", 0))
	r.sess = "s2"
	r.want("status#3 live stale/session", "%s", book("", "1.00", 1))
	r.want("book#3 b 100:1 a 900:1 | status#4 live live", "%s", book(snapshot, "1.00", 1))
	r.sess = "s1"
	r.want("", "%s", book("", "2.00", 1))
	r.want("", "%s", book(snapshot, "2.00", 1))
	r.sess = "s2"
	r.want("status#5 live stale/crossed", "%s", book("", "9.00", 1))
	r.want("", "%s", book(snapshot, "9.50", 1))
	r.want("book#4 b 100:1 a 900:1 | status#6 live live", "%s", book(snapshot, "1.00", 1))
	// A price that comes twice in an update counts once, with the later size.
	r.want("update#5 b 200:7 a", `{"type":"book","sym":"X","bids":[["2.00",5],["1.00",1],["2.00",7]],"asks":[],"ts":%d}`, us(0))
}

func TestTradesCounted(t *testing.T) {
	r := newRig(t)
	r.instrument()
	trade := func(id int) string {
		return fmt.Sprintf(`{"type":"trade","sym":"X","price":"1.00","size":1,"id":%d,"ts":%d}`, id, us(0))
	}
	r.want("trade#1 0", "%s", trade(0))
	r.want("", "%s", trade(0))
	r.want("trade#2 1", "%s", trade(1))
	r.want("gap#3 venue 2 | trade#4 4", "%s", trade(4))
	r.sess = "s2"
	r.want("trade#5 5", "%s", trade(5)) // consecutive: nothing was missed
	r.sess = "s3"
	r.want("", "%s", trade(5))
	r.want("gap#6 session 1 | trade#7 7", "%s", trade(7))
	// What quarantine took was said already, and is not said again.
	r.refuse("price", "gap#8 quarantine -1", `{"type":"trade","sym":"X","price":"-1","size":1,"id":8,"ts":%d}`, us(0))
	r.want("trade#9 9", "%s", trade(9))
	r.refuse("price", "gap#10 quarantine -1", `{"type":"trade","sym":"X","price":"-1","size":1,"id":10,"ts":%d}`, us(0))
	r.want("gap#11 venue 2 | trade#12 12", "%s", trade(12))
	// A second space of ids within a session is left out, in a new one it takes over.
	r.want("", `{"type":"trade","sym":"X","price":"1.00","size":1,"id":"a","ts":%d}`, us(0))
	r.sess = "s4"
	r.want("gap#13 session -1 | trade#14 a", `{"type":"trade","sym":"X","price":"1.00","size":1,"id":"a","ts":%d}`, us(0))
}

func TestTradesNamed(t *testing.T) {
	r := newRig(t)
	r.instrument()
	trade := func(id string) string {
		return fmt.Sprintf(`{"type":"trade","sym":"X","price":"1.00","size":1,"id":%q,"ts":%d}`, id, us(0))
	}
	r.want("trade#1 a", "%s", trade("a"))
	r.want("", "%s", trade("a"))
	r.sess = "s2"
	r.want("gap#2 session -1", "%s", trade("a"))
	r.want("trade#3 b", "%s", trade("b"))
	for i := range recentIDs - 1 {
		r.feed("%s", trade(fmt.Sprint("n", i)))
	}
	r.want("", "%s", trade("b"))               // the oldest that is remembered
	r.want("trade#4099 a", "%s", trade("a"))   // forgotten
	r.want("", "%s", trade("n0"))              //
	r.want("trade#4100 b", "%s", trade("b"))   // forgotten for a
	r.want("", "%s", trade("n1"))              //
	r.want("trade#4101 n0", "%s", trade("n0")) //
	r.want("", "%s", trade("n4094"))           // never forgotten yet
}

func TestBarsAndClocks(t *testing.T) {
	r := newRig(t)
	r.instrument()
	trade := func(id int, at int64) string {
		return fmt.Sprintf(`{"type":"trade","sym":"X","price":"1.00","size":1,"id":%d,"ts":%d}`, id, us(at))
	}
	clock := func(source string, at int64) string {
		return fmt.Sprintf(`{"type":"clock","source":%q,"session":"s1","ts":%d}`, source, us(at))
	}
	r.in = t0 + 3*60*sec*1000
	r.want("trade#1 1", "%s", trade(1, 0))
	r.want("", "%s", clock("other", 100*sec))
	r.want("", "%s", clock("tickwire", 3*sec-1))
	r.want("1s#1 n1 rev0", "%s", clock("tickwire", 3*sec))
	r.want("trade#2 2 | 1s#2 n2 rev1", "%s", trade(2, 1)) // late
	r.want("gap#3 venue 1 | trade#4 4", "%s", trade(4, 4*sec))
	// The bars end before the trade that ends them, in order of their ends.
	r.want("1s#3 n1 rev0 inc | trade#5 5", "%s", trade(5, 10*sec))
	r.want("1s#4 n1 rev0 | 1m#1 n4 rev0 inc", "%s", clock("tickwire", 62*sec))
	r.in = t0
	r.refuse("future", "", "%s", clock("tickwire", 60*sec+1))
	r.refuse("future", "gap#6 quarantine -1", "%s", trade(6, 60*sec+1))
}

func TestInstrumentLife(t *testing.T) {
	r := newRig(t)
	r.instrument()
	r.want("", `{"type":"instrument","sym":"X","ps":2,"ss":0,"tick":"0.01"}`)
	r.want("status#2 live stale/start", `{"type":"instrument","sym":"X","ps":2,"ss":0,"tick":"0.05"}`)
	r.want("book#1 b 100:1 a | status#3 live live", `{"type":"book","sym":"X","snapshot":true,"bids":[["1.00",1]],"ts":%d}`, us(0))
	r.want("trade#1 7", `{"type":"trade","sym":"X","price":"1.00","size":1,"id":7,"ts":%d}`, us(0))
	r.want("status#4 halted live", `{"type":"status","sym":"X","state":"halted"}`)
	r.want("", `{"type":"status","sym":"X","state":"halted"}`)
	r.want("status#5 live live", `{"type":"status","sym":"X","state":"live"}`)

	epoch := r.core.list[0].epoch
	bars := "1s#1 n1 rev0 | 1m#1 n1 rev0 | 15m#1 n1 rev0 | 5m#1 n1 rev0 | 1h#1 n1 rev0 | 1d#1 n1 rev0 | 4h#1 n1 rev0"
	r.want(bars+" | status#1 live stale/start | book#1 b a", `{"type":"instrument","sym":"X","ps":3,"ss":0}`)
	if got := r.core.list[0].epoch; got != epoch+1 {
		t.Errorf("epoch %d after %d within the same second", got, epoch)
	}
	r.want("trade#1 8", `{"type":"trade","sym":"X","price":"1.000","size":1,"id":8,"ts":%d}`, us(1))
	r.want("book#2 b 1001:1 a | status#2 live live", `{"type":"book","sym":"X","snapshot":true,"bids":[["1.001",1]],"ts":%d}`, us(0))

	r.want(bars+" | status#3 delisted stale/silent", `{"type":"status","sym":"X","state":"delisted"}`)
	r.want("", `{"type":"trade","sym":"X","price":"1.000","size":1,"id":9,"ts":%d}`, us(1))
	r.want("", `{"type":"book","sym":"X","snapshot":true,"bids":[["1.001",1]],"ts":%d}`, us(0))
	r.refuse("price", "", `{"type":"trade","sym":"X","price":"x","size":1,"id":9,"ts":%d}`, us(1))
	r.want("status#4 live stale/start", `{"type":"instrument","sym":"X","ps":3,"ss":0}`)

	r.refuse("source", "", `{"type":"instrument","sym":"X","ps":3,"ss":0,"source":"kraken"}`)
	r.key = "Y"
	r.refuse("conflict", "", `{"type":"instrument","sym":"Y","symbol":"X","ps":3,"ss":0}`)
	r.refuse("symbol", "", `{"type":"instrument","sym":"Z","ps":3,"ss":0}`)
	r.want("status#1 live stale/start", `{"type":"instrument","sym":"Y","ps":3,"ss":0}`)
	if got := r.core.list[1].def.ID; got != 2*partitionSlots {
		t.Errorf("second instrument is number %d", got)
	}
}

// TestGarbage is everything that a broken or hostile producer may write, each with its reason and what is said to be lost.
func TestGarbage(t *testing.T) {
	r := newRig(t)
	r.instrument()
	live := func() {
		r.t.Helper()
		r.feed(`{"type":"book","sym":"X","snapshot":true,"bids":[["1.00",1]],"ts":%d}`, us(0))
		if r.core.list[0].feed.state != market.Live {
			t.Fatal("no book")
		}
	}
	// f wants the book to become stale, trades to have a gap, or both.
	f := func(reason, lost, value string) {
		t.Helper()
		live()
		r.raw(value)
		var got []string
		for _, e := range r.log {
			name, _, _ := strings.Cut(e, "#")
			got = append(got, name)
		}
		if r.reason != reason || strings.Join(got, "+") != lost {
			t.Errorf("%.80s: quarantined for %q, events %v; want %q, %s", value, r.reason, r.log, reason, lost)
		}
	}
	const book, trades, both = "status", "gap", "status+gap"
	ts := fmt.Sprint(us(0))
	f("syntax", trades, `{"type":"trade","sym":"X","pri`)
	f("syntax", both, `{"type":"tra`)
	f("syntax", both, ``)
	f("syntax", both, `not json`)
	f("syntax", both, strings.Repeat("x", 10<<20))
	f("syntax", trades, `{"type":"trade","sym":"X","price":NaN,"size":1,"id":1,"ts":`+ts+`}`)
	f("price", trades, `{"type":"trade","sym":"X","price":"NaN","size":1,"id":1,"ts":`+ts+`}`)
	f("price", trades, `{"type":"trade","sym":"X","price":"-1","size":1,"id":1,"ts":`+ts+`}`)
	f("size", trades, `{"type":"trade","sym":"X","price":"1","size":-1,"id":1,"ts":`+ts+`}`)
	f("size", book, `{"type":"book","sym":"X","bids":[["1",-1]],"ts":`+ts+`}`)
	f("scale", book, `{"type":"book","sym":"X","bids":[["1.001",1]],"ts":`+ts+`}`)
	f("type", book, `{"type":"book","sym":"X","bids":[[{},1]],"ts":`+ts+`}`)
	f("type", trades, `{"type":"trade","sym":"X","price":"1","size":1,"id":1,"ts":"noon"}`)
	f("id", trades, `{"type":"trade","sym":"X","price":"1","size":1,"id":-1,"ts":`+ts+`}`)
	f("symbol", trades, `{"type":"trade","sym":"Y","price":"1","size":1,"id":1,"ts":`+ts+`}`)
	f("field", trades, `{"type":"trade","sym":"X","size":1,"id":1,"ts":`+ts+`}`)
	f("unsupported", both, `{"type":"candle","sym":"X"}`)
	f("future", trades, fmt.Sprintf(`{"type":"trade","sym":"X","price":"1","size":1,"id":1,"ts":%d}`, us(61*sec)))
	f("future", book, fmt.Sprintf(`{"type":"book","sym":"X","bids":[["1",1]],"ts":%d}`, us(61*sec)))
	f("value", "", `{"type":"status","sym":"X","state":"odd"}`)
	f("scale", "", `{"type":"instrument","sym":"X","ps":99,"ss":0}`)
	live()
	r.source = "binance"
	r.refuse("source", "status#"+fmt.Sprint(r.core.list[0].status.Seq+1)+" live stale/quarantine",
		`{"lastUpdateId":1,"bids":[["1.00","1"]],"asks":[]}`)
	r.source = "nyse"
	r.raw(`{}`)
	if r.reason != "source" {
		t.Errorf("unknown source: %q", r.reason)
	}
	r.source = "tickwire"
	f("", "", `{"type":"clock","source":"tickwire","session":"s1","ts":`+ts+`}`)

	r.key = "NOPE"
	r.refuse("symbol", "", `{"type":"trade","sym":"NOPE","price":"1","size":1,"id":1,"ts":%s}`, ts)
	r.refuse("syntax", "", `{"type":"trade",`)
	r.key = "X"
	live()
}

func TestPartition(t *testing.T) {
	r := newRig(t)
	r.core = newCore(1, 2)
	for _, sym := range []string{"A", "B", "C", "D"} {
		r.key = sym
		r.feed(`{"type":"instrument","sym":%q,"ps":2,"ss":0}`, sym)
		ours := stream.PartitionOf([]byte(sym), 2) == 1
		if ours != (r.reason == "") || !ours && r.reason != "partition" {
			t.Errorf("%s: ours %v, reason %q", sym, ours, r.reason)
		}
	}
	for i, it := range r.core.list {
		if it.def.ID != uint32(i+1)*partitionSlots+1 {
			t.Errorf("instrument %d has number %d", i, it.def.ID)
		}
	}
}

func TestTooLarge(t *testing.T) {
	r := newRig(t)
	r.instrument()
	side := func(from, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,["%d.00",1]`, from+i)
		}
		return "[" + b.String()[1:] + "]"
	}
	book := func(kind, bids, asks string) {
		r.feed(`{"type":"book","sym":"X"%s,"bids":%s,"asks":%s,"ts":%d}`, kind, bids, asks, us(0))
	}
	book(`,"snapshot":true`, side(1, maxBookLevels/2), side(1_000_000, maxBookLevels/2))
	parts := (maxBookLevels + market.MaxSnapshotLevels - 1) / market.MaxSnapshotLevels
	if r.reason != "" || len(r.log) != parts+1 {
		t.Fatalf("reason %q, %d events", r.reason, len(r.log))
	}
	for _, b := range r.all {
		if len(b) >= 256<<10 {
			t.Errorf("a frame of %d bytes", len(b))
		}
	}
	if n := len(r.core.out.buf); n > maxOutputBytes {
		t.Errorf("%d bytes out", n)
	}
	book("", side(500_000, 1), "[]")
	if r.reason != "too_large" || r.core.list[0].feed.state != market.Stale {
		t.Errorf("one level too many: %q", r.reason)
	}
	book(`,"snapshot":true`, side(1, maxBookLevels/2+1), side(1_000_000, maxBookLevels/2))
	if r.reason != "too_large" {
		t.Errorf("snapshot with one level too many: %q", r.reason)
	}
	book(`,"snapshot":true`, side(1, 1), "[]")
	book("", side(1, wire.MaxFrameLevels+2), "[]")
	if !strings.HasPrefix(r.log[0], "book#") {
		t.Errorf("an update too large for a frame must be a snapshot: %.40s", r.log[0])
	}
}

// failer is what rendering needs of a test, be it testing's or rapid's.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func TestKrakenDepthAndChecksum(t *testing.T) {
	r := newRig(t)
	r.want("status#1 live stale/start", `{"type":"instrument","sym":"X","source":"kraken","symbol":"X/USD","ps":1,"ss":1}`)
	r.source = "kraken"
	at := fmt.Sprintf("%d.%06d", us(0)/sec, us(0)%sec)
	level := func(price, size string) string { return fmt.Sprintf(`[%q,%q,%q]`, price, size, at) }
	r.want("", `{"event":"subscriptionStatus","channelName":"book-2","pair":"X/USD","status":"subscribed"}`)
	r.want("book#1 b 10:10 9:10 a 20:10 21:10 | status#2 live live",
		`[1,{"as":[%s,%s],"bs":[%s,%s]},"book-2","X/USD"]`, level("2.0", "1.0"), level("2.1", "1.0"), level("1.0", "1.0"), level("0.9", "1.0"))
	sum := func(bids, asks []market.Level) uint32 { return decode.KrakenChecksum(bids, asks) }
	// The third bid pushes the worst out of the depth, of which the venue says nothing.
	good := sum([]market.Level{{Price: 11, Size: 20}, {Price: 10, Size: 10}}, []market.Level{{Price: 20, Size: 10}, {Price: 21, Size: 10}})
	r.want("update#2 b 11:20 9:0 a", `[1,{"b":[%s],"c":"%d"},"book-2","X/USD"]`, level("1.1", "2.0"), good)
	// What is pushed out at once was never there.
	r.want("", `[1,{"b":[%s],"c":"%d"},"book-2","X/USD"]`, level("0.5", "2.0"), good)
	r.want("status#3 live stale/checksum", `[1,{"b":[%s],"c":"%d"},"book-2","X/USD"]`, level("1.1", "3.0"), good)
	r.want("", `[1,{"b":[%s],"c":"%d"},"book-2","X/USD"]`, level("1.1", "2.0"), good)
	r.want("book#3 b 10:10 a 20:10 | status#4 live live", `[1,{"as":[%s],"bs":[%s]},"book-2","X/USD"]`, level("2.0", "1.0"), level("1.0", "1.0"))
}
