package load

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
)

// reader is a connection that verifies all it gets: package client does, and the reader counts.
type reader struct {
	number int
	client *client.Client
	books  []*client.Book
	views  sync.Map // of the books: *client.Book to client.BookView
	trades []*client.Trades
	topics []*client.Topic
	read   atomic.Int64 // bytes
	lost   atomic.Int64 // trades and bars that the edge said are missing
	breaks atomic.Int64 // losses that are none: another market of ours was there before
	faults atomic.Int64 // gaps, hashes and refusals, as the client reports them
	denied atomic.Int64 // of these, refusals
	why    atomic.Value // string: the last of them
}

// readers are all of a run.
type readers []*reader

// counted counts what is read.
type counted struct {
	net.Conn
	read *atomic.Int64
}

// Read implements net.Conn.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// handler has m measure what comes. Own tells that the market is ours: between a market of an earlier run and this one's first
// trade of an instrument the server sees a loss, as the numbers of the trades are others. What is lost before we came, and is
// in the history that we get, is no fault either.
func (r *reader) handler(m *meter, own bool) client.Handler {
	came := market.FromTime(time.Now())
	begun := map[*client.Trades]bool{} // of the callbacks, which come one after the other
	return client.Handler{
		OnBook: func(b *client.Book, u *client.BookUpdate) {
			view, known := r.view(b)
			switch merged := int64(u.Seq - u.Prev); {
			case u.Snapshot || !known:
			case view.Millis > 0:
				m.count(r.number, 1)
			case view.Depth > 0:
				m.record(r.number, &u.Head, 1) // what leaves the view as it is makes no message
			default:
				m.record(r.number, &u.Head, merged)
			}
		},
		OnTrade: func(topic *client.Trades, t *market.Trade) {
			begun[topic] = true
			m.record(r.number, &t.Head, 1)
		},
		OnTradeGap: func(topic *client.Trades, g *market.TradeGap) {
			if own && !begun[topic] || g.In > 0 && g.In < came {
				begun[topic] = true // there is one break of ours
				r.breaks.Add(1)
				return
			}
			r.lost.Add(max(1, g.Missed))
		},
		OnBarGap: func(_ *client.Bars, g *client.BarGap) {
			if g.In > 0 && g.In < came {
				r.breaks.Add(1)
				return
			}
			r.lost.Add(1)
		},
		OnBBO:    func(_ *client.BBO, b *market.BBO) { m.count(r.number, 1) },
		OnTicker: func(_ *client.Ticker, t *market.Ticker) { m.count(r.number, 1) },
		OnBar:    func(_ *client.Bars, b *market.Bar) { m.count(r.number, 1) },
		OnError: func(t *client.Topic, err error) {
			r.faults.Add(1)
			if _, ok := errors.AsType[*client.RefusedError](err); ok {
				r.denied.Add(1)
			}
			r.why.Store(fmt.Sprintf("client %d, %v: %v", r.number+1, t, err))
		},
	}
}

func (r *reader) book(sym string, view client.BookView) error {
	b, err := r.client.Book(sym, view)
	if err != nil {
		return err
	}
	r.views.Store(b, view)
	r.books, r.topics = append(r.books, b), append(r.topics, &b.Topic)
	return nil
}

// view is what a book was asked for; a callback may come before that is known.
func (r *reader) view(b *client.Book) (client.BookView, bool) {
	v, ok := r.views.Load(b)
	if !ok {
		return client.BookView{}, false
	}
	return v.(client.BookView), true
}

func (r *reader) trade(sym string, last int) error {
	t, err := r.client.Trades(sym, last)
	if err != nil {
		return err
	}
	r.trades, r.topics = append(r.trades, t), append(r.topics, &t.Topic)
	return nil
}

// randomView is a book's cut, merged or not.
func randomView(random *rand.Rand) client.BookView {
	return client.BookView{Depth: []uint16{10, 25, 50, 100}[random.IntN(4)], Millis: []uint16{0, 0, 100, 250, 1000}[random.IntN(5)]}
}

// everything subscribes to so many random topics.
func (r *reader) everything(random *rand.Rand, names []string, each int) error {
	for n := 0; len(r.topics) < each; n++ {
		if n > 100*each {
			return fmt.Errorf("the market has too few topics for --each %d", each)
		}
		if err := r.anything(random, names[random.IntN(len(names))]); err != nil && !errors.Is(err, client.ErrSubscribed) {
			return err
		}
	}
	return nil
}

// anything subscribes to a random topic of an instrument: books most often, in any view.
func (r *reader) anything(random *rand.Rand, sym string) error {
	switch n := random.IntN(20); {
	case n < 3:
		return r.book(sym, client.BookView{})
	case n < 9:
		return r.book(sym, randomView(random))
	case n < 12:
		return r.trade(sym, random.IntN(50))
	case n < 14:
		t, err := r.client.BBO(sym)
		if err == nil {
			r.topics = append(r.topics, &t.Topic)
		}
		return err
	case n < 16:
		t, err := r.client.Ticker(sym)
		if err == nil {
			r.topics = append(r.topics, &t.Topic)
		}
		return err
	case n < 19:
		t, err := r.client.Bars(sym, market.Interval(random.IntN(market.NumIntervals)), random.IntN(100))
		if err == nil {
			r.topics = append(r.topics, &t.Topic)
		}
		return err
	}
	t, err := r.client.Status(sym)
	if err == nil {
		r.topics = append(r.topics, &t.Topic)
	}
	return err
}

// behind tells whether a reader has not got everything that was published. Books in views need not change with each update,
// and trades from before it came, at since, are none of its own.
func (r *reader) behind(p *publisher, since int64) bool {
	var s market.Snapshot
	for _, b := range r.books {
		if view, _ := r.view(b); view != (client.BookView{}) {
			continue
		}
		if b.Snapshot(&s); s.Time.Micros() < p.last[p.index[b.Sym()]].book {
			return true
		}
	}
	for _, t := range r.trades {
		newest := p.last[p.index[t.Sym()]].trade
		if last, ok := t.Last(); newest >= since && (!ok || last.Time.Micros() < newest) {
			return true
		}
	}
	return false
}

func (all readers) behind(p *publisher, since int64) (n int) {
	for _, r := range all {
		if r.behind(p, since) {
			n++
		}
	}
	return n
}

// stale counts topics that do not follow, and says of one why.
func (all readers) stale(t *trial) (n int) {
	for i, r := range all {
		for _, topic := range r.topics {
			if state := topic.State(); state != client.Live && state != client.Quiet {
				if n++; n == 1 {
					t.note("client %d: %v is %v: %s", i+1, topic, state, topic.Why())
				}
			}
		}
	}
	return n
}

func (all readers) bytes() (n int64) {
	for _, r := range all {
		n += r.read.Load()
	}
	return n
}

func (all readers) faults() (n int64) {
	for _, r := range all {
		n += r.faults.Load() + r.lost.Load()
	}
	return n
}

// close ends all connections; their callbacks have ended when it returns.
func (all readers) close() {
	for _, r := range all {
		_ = r.client.Close() // never fails
	}
}

// sum is what the clients of an encoding saw, from their connection on.
type sum struct {
	clients, topics                   int
	books, verified, gaps, mismatches uint64
	reconnects                        uint64
	lost, denied                      int64
	why                               string
}

func (x *sum) add(r *reader) {
	x.clients++
	x.topics += len(r.topics)
	stats := r.client.Stats()
	x.reconnects += stats.Reconnects
	x.lost += r.lost.Load()
	x.denied += r.denied.Load()
	for _, t := range r.topics {
		x.gaps += t.Gaps()
	}
	x.gaps -= min(x.gaps, uint64(r.breaks.Load()))
	for _, b := range r.books {
		at := b.BookStats()
		x.books += at.Updates + at.Snapshots
		x.verified += at.Verified
		x.mismatches += at.Mismatches
	}
	if why, ok := r.why.Load().(string); ok {
		x.why = why
	}
}

// measures adds to the figures.
func (x *sum) measures(t *trial, encoding client.Encoding) {
	if x.clients == 0 {
		return
	}
	for name, n := range map[string]float64{
		"gaps": float64(x.gaps), "lost": float64(x.lost), "mismatches": float64(x.mismatches), "refused": float64(x.denied), "closed": float64(x.reconnects),
		"verified": float64(x.verified), "unverified": float64(x.books - min(x.books, x.verified+x.mismatches)),
	} {
		t.figures[name] += n
	}
	name := []string{"SBE", "JSON"}[encoding]
	t.note("%s: %d clients on %d topics", name, x.clients, x.topics)
	if x.why != "" {
		t.note("%s: %s", name, x.why)
	}
}
