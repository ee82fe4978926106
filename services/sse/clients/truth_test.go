package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// place is where a message stands in its topic.
type place struct {
	sym string
	ep  uint32
	seq uint64
}

// truth is what a lossless WebSocket client sees, as the JSON that streams bring, without what differs by edge.
type truth struct {
	mu     sync.Mutex
	failed error
	trades map[place]string
	bars   map[place]string
	newest map[string]place // trades
	final  map[string]place // bars
}

// watch follows the symbols' trades and one-second bars until the test ends.
func watch(t *testing.T, addr string, syms []string) *truth {
	t.Helper()
	tr := &truth{trades: make(map[place]string), bars: make(map[place]string), newest: make(map[string]place), final: make(map[string]place)}
	lost := func(what string) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.failed = fmt.Errorf("the WebSocket client lost something: %s", what)
	}
	c, err := client.Dial(t.Context(), client.Config{
		URL: "ws://" + addr, Mode: client.Lossless,
		Handler: client.Handler{
			OnError:    func(_ *client.Topic, err error) { lost(err.Error()) },
			OnTradeGap: func(_ *client.Trades, m *market.TradeGap) { lost(fmt.Sprintf("%+v", m)) },
			OnBarGap:   func(_ *client.Bars, m *client.BarGap) { lost(fmt.Sprintf("%+v", m)) },
			OnTrade: func(s *client.Trades, m *market.Trade) {
				in := s.Instrument()
				tr.add(tr.trades, tr.newest, place{in.Sym, m.Epoch, m.Seq}, wire.AppendTradeJSON(nil, &in, m, 0))
			},
			OnBar: func(s *client.Bars, m *market.Bar) {
				if in := s.Instrument(); m.Final {
					tr.add(tr.bars, tr.final, place{in.Sym, m.Epoch, m.Seq}, wire.AppendBarJSON(nil, &in, m, 0))
				}
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for _, sym := range syms {
		trades, err := c.Trades(sym, 20)
		if err != nil {
			t.Fatal(err)
		}
		bars, err := c.Bars(sym, market.Second, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []interface{ Wait(context.Context) error }{trades, bars} {
			if err := s.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return tr
}

func (tr *truth) add(all map[place]string, newest map[string]place, at place, text []byte) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	all[at] = plain(text)
	newest[at.sym] = at
}

// await waits until a topic has gone on by so many trades.
func (tr *truth) await(t *testing.T, n uint64) {
	t.Helper()
	sym := symbols[0]
	from := tr.now()[false][sym].seq
	testkit.Eventually(t, time.Minute, func() error {
		if at := tr.now()[false][sym].seq; at < from+n {
			return fmt.Errorf("%s is at %d, not at %d", sym, at, from+n)
		}
		return nil
	})
}

// now is where the topics are, of trades and of bars.
func (tr *truth) now() map[bool]map[string]place {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return map[bool]map[string]place{false: maps.Clone(tr.newest), true: maps.Clone(tr.final)}
}

// plain is a message without the moment at which an edge encoded it, which stands last.
func plain(text []byte) string {
	if i := bytes.LastIndex(text, []byte(`,"out":`)); i >= 0 {
		text = text[:i]
	}
	return string(bytes.TrimSuffix(text, []byte("}")))
}

// line is what a client prints for an event.
type line struct {
	Stream int    `json:"s"`
	Event  string `json:"ev"`
	ID     string `json:"id"`
	Data   string `json:"data"`
}

// message is what is looked at in an event's data.
type message struct {
	Sym   string
	Ep    uint32
	Prev  *uint64
	Seq   uint64
	Final bool
	How   string
	Items []struct {
		Sym string
		Ep  uint32
		Seq uint64
	}
}

// follower checks one stream of a client.
type follower struct {
	truth  *truth
	bars   bool
	begun  bool
	placed bool // it has had an id, so that the next connection goes on
	at     map[string]place
	events int
	hellos int
	faults []string
}

func (f *follower) fault(format string, args ...any) {
	if len(f.faults) < 10 {
		f.faults = append(f.faults, fmt.Sprintf(format, args...))
	}
}

// take checks the next event.
func (f *follower) take(l *line) {
	var m message
	if err := json.Unmarshal([]byte(l.Data), &m); err != nil {
		f.fault("%s %q: %v", l.Event, l.Data, err)
		return
	}
	if !f.begun && l.Event != "hello" {
		f.fault("the first event is %s", l.Event)
	}
	f.begun = true
	switch l.Event {
	case "hello":
		f.hellos++
		if f.placed && m.How != "replay" {
			f.fault("hello says %s to a client that has an id: %s", m.How, l.Data)
		}
	case "snapshot":
		for _, item := range m.Items {
			if _, had := f.at[item.Sym]; had {
				f.fault("a second snapshot, without a reset: %s", l.Data)
			}
			f.at[item.Sym] = place{item.Sym, item.Ep, item.Seq}
		}
	case "trade", "bar":
		if l.Event == "trade" || m.Final {
			f.event(l, &m)
		}
	case "gap", "reset":
		f.fault("%s: %s", l.Event, l.Data)
	}
	// A client shows the last id with every event; it is new with these.
	f.placed = f.placed || l.ID != "" && l.Event != "hello"
}

// event checks that a trade or final bar follows what was, and is what others saw.
func (f *follower) event(l *line, m *message) {
	f.events++
	at, had := f.at[m.Sym]
	switch {
	case !had:
		f.fault("%s without a snapshot: %s", m.Sym, l.Data)
	case m.Prev == nil || m.Ep != at.ep || *m.Prev != at.seq || m.Seq <= at.seq:
		f.fault("%s %d/%d is followed by %s", m.Sym, at.ep, at.seq, l.Data)
	}
	f.at[m.Sym] = place{m.Sym, m.Ep, m.Seq}
	if l.ID == "" {
		f.fault("without an id: %s", l.Data)
	}
}

// compare checks what a client got against the truth, which may be a moment behind: it is called at the end.
func (f *follower) compare(lines []line) {
	f.truth.mu.Lock()
	defer f.truth.mu.Unlock()
	if f.truth.failed != nil {
		f.fault("%v", f.truth.failed)
	}
	all := f.truth.trades
	if f.bars {
		all = f.truth.bars
	}
	for _, l := range lines {
		var m message
		if json.Unmarshal([]byte(l.Data), &m) != nil || l.Event != "trade" && (l.Event != "bar" || !m.Final) {
			continue
		}
		if want, ok := all[place{m.Sym, m.Ep, m.Seq}]; !ok || want != plain([]byte(l.Data)) {
			f.fault("got %s, on the WebSocket it was %q", l.Data, want)
		}
	}
}
