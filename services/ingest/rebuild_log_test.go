package ingest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/broker"
)

// said is what the events behind a place in the log say.
type said struct {
	stale market.Reason // why a book became stale, as was said first
	gap   market.Reason // why trades are missing, as was said first
	reset bool          // a book began again
	live  bool          // and was live at the end
}

// say follows partition 0 of md.events: no numbering may jump. It sums up what comes behind the first n events.
func (x *exchange) say(n int) said {
	x.t.Helper()
	x.events.mu.Lock()
	defer x.events.mu.Unlock()
	var s said
	all := make(numbers)
	for i, b := range x.events.events[0] {
		all.follow(x.t, b)
		if i < n {
			continue
		}
		switch tmpl, _ := wire.Peek(b); tmpl {
		case wire.TemplateTradeGap:
			var g market.TradeGap
			if err := wire.DecodeTradeGap(b, &g); err != nil {
				x.t.Fatal(err)
			}
			if s.gap == 0 {
				s.gap = g.Why
			}
		case wire.TemplateBookSnapshot:
			s.reset = true
		case wire.TemplateStatus:
			var st market.Status
			if err := wire.DecodeStatus(b, &st); err != nil {
				x.t.Fatal(err)
			}
			if st.Book == market.Stale && s.stale == 0 {
				s.stale = st.Why
			}
			s.live = st.Book == market.Live
		}
	}
	return s
}

// firstLife has a process answer some input and end in good order. It returns how many events that made.
func (x *exchange) firstLife() int {
	x.t.Helper()
	p := x.start(nil)
	x.instrument("A")
	x.trades("A", 10)
	x.agree()
	p.end()
	if p.err != nil {
		x.t.Fatal(p.err)
	}
	x.events.mu.Lock()
	defer x.events.mu.Unlock()
	return len(x.events.events[0])
}

// TestTrimmed has retention take input that nobody has answered yet.
func TestTrimmed(t *testing.T) {
	x := newExchangeOn(t, broker.Config{Partitions: 1, TopicBytes: 4 << 20})
	before := x.firstLife()
	x.trades("A", 10) // this will be gone
	filler := strings.Repeat("x", 512<<10)
	for range 20 {
		x.write("NOPE", "%s", filler)
	}
	lost := int64(2 + 2*10 + 2*10)
	x.eventually("retention", func() bool {
		first, _, err := x.cluster.Offsets(context.Background(), stream.RawTopic, 0)
		return err == nil && first >= lost
	})
	p := x.start(nil)
	x.eventually("a takeover", func() bool { return p.s.Ready() == nil })
	x.instrument("A")
	x.trades("A", 5)
	want := said{stale: market.Retention, gap: market.Retention, reset: true, live: true}
	x.eventually("the book to live again", func() bool { return x.say(before) == want })
	if p.value("ingest_diverged_total") != 0 {
		t.Error("diverged")
	}
}

// TestForeignVersion has an owner with another version of the algorithm answer some input, and then ours go on.
func TestForeignVersion(t *testing.T) {
	x := newExchange(t, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	before := x.firstLife()
	x.trades("A", 10)
	if err := x.raw.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	x.answer(ctx, 2+2*10+2*10-1)
	p := x.start(nil)
	x.eventually("a takeover", func() bool { return p.s.Ready() == nil })
	x.instrument("A")
	x.trades("A", 5)
	x.eventually("the book to live again", func() bool {
		s := x.say(before)
		return s.stale == market.Upgrade && s.reset && s.live
	})
	if p.value("ingest_diverged_total") != 0 {
		t.Error("diverged")
	}
}

// answer is an owner of another version that has dealt with the input up to offset, and said nothing.
func (x *exchange) answer(ctx context.Context, offset int64) {
	x.t.Helper()
	o, err := x.cluster.TakeOver(ctx, 0, stream.OwnerOptions{Instance: "foreign", Version: Version + 1})
	if err != nil {
		x.t.Fatal(err)
	}
	if err := o.Snapshots(ctx, func(*stream.Snapshot) error { return nil }); err != nil {
		x.t.Fatal(err)
	}
	tail, err := o.Tail(ctx, 0, func(*stream.EventBatch) error { return nil })
	if err != nil || !tail.Found {
		x.t.Fatal(tail, err)
	}
	o.Start(tail.InputOffset)
	if err := o.Events.Commit(offset); err != nil {
		x.t.Fatal(err)
	}
	if err := o.Events.Heartbeat(wire.OwnerHeartbeat{Time: market.FromTime(time.Now())}); err != nil {
		x.t.Fatal(err)
	}
	if err := o.Close(ctx); err != nil {
		x.t.Fatal(err)
	}
}
