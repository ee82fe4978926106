package ws

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/broker"
)

// gate holds up what an edge reads from Kafka while it is shut, so that the edge lags.
type gate struct {
	mu   sync.Mutex
	cond *sync.Cond
	shut bool
}

func newGate() *gate {
	g := &gate{}
	g.cond = sync.NewCond(&g.mu)
	return g
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	g.cond.Broadcast()
}

func (g *gate) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut {
		g.cond.Wait()
	}
}

func (g *gate) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return gated{conn, g}, err
}

type gated struct {
	net.Conn
	gate *gate
}

func (c gated) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.gate.pass()
	return n, err
}

// fleet is several edges of one Kafka, and clients that are thrown from one to another.
type fleet struct {
	t     *testing.T
	addrs []string // of the edges that clients may dial; guarded by mu
	mu    sync.Mutex
	rnd   *rand.Rand // guarded by mu
}

// edge starts an edge and returns what stops it.
func (f *fleet) edge(cluster *stream.Cluster) (s *Server, stop func()) {
	f.t.Helper()
	cfg := DefaultConfig()
	cfg.Addr, cfg.Drain = "127.0.0.1:0", 20*time.Millisecond
	s, err := New(cfg, Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Cluster: cluster})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Listening()
	f.mu.Lock()
	f.addrs = append(f.addrs, s.Addr())
	f.mu.Unlock()
	return s, func() {
		f.mu.Lock()
		f.addrs = slices.DeleteFunc(f.addrs, func(a string) bool { return a == s.Addr() })
		f.mu.Unlock()
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("edge: %v", err)
		}
	}
}

// thrown is a client whose connection is cut again and again, and comes to a random edge each time.
type thrown struct {
	fleet *fleet
	name  string
	conn  net.Conn // guarded by fleet.mu

	c      *client.Client
	book   *client.Book
	tape   *client.Trades
	final  *client.Bars
	full   bool
	trades uint64 // sequence of the newest one; the client's own goroutine's
	bars   uint64
	ends   int
}

func (f *fleet) client(i int, mode wire.Mode) *thrown {
	f.t.Helper()
	view := []client.BookView{{}, {Millis: 100}, {Depth: 10}, {Depth: 25, Millis: 100}}[i%4]
	encoding := client.Encoding(i / 4 % 2)
	th := &thrown{fleet: f, name: fmt.Sprintf("client %d, encoding %d, %+v", i, encoding, view), full: view.Depth == 0}
	c, err := client.New(client.Config{
		URL: "ws://fleet", Encoding: encoding, Mode: mode, Dial: th.dial, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond,
		Handler: client.Handler{
			OnTrade: func(_ *client.Trades, m *market.Trade) { th.follow("trade", &th.trades, m.Seq) },
			OnBar: func(_ *client.Bars, m *market.Bar) {
				if m.Final {
					th.follow("bar", &th.bars, m.Seq)
				}
			},
			OnTradeGap: func(_ *client.Trades, m *market.TradeGap) {
				f.t.Errorf("%s: trades from %d to %d are missing", th.name, m.Prev, m.Seq)
			},
			OnBarGap: func(_ *client.Bars, m *client.BarGap) {
				f.t.Errorf("%s: bars from %d to %d are missing", th.name, m.Prev, m.Seq)
			},
			OnError: func(topic *client.Topic, err error) {
				var refused *client.RefusedError
				if !errors.As(err, &refused) {
					f.t.Errorf("%s: %v: %v", th.name, topic, err)
				}
			},
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	th.c = c
	if th.book, err = c.Book("BTC-USDT", view); err != nil {
		f.t.Fatal(err)
	}
	if th.tape, err = c.Trades("BTC-USDT", 0); err != nil {
		f.t.Fatal(err)
	}
	if th.final, err = c.Bars("BTC-USDT", market.Second, 0); err != nil {
		f.t.Fatal(err)
	}
	return th
}

func (th *thrown) follow(what string, last *uint64, seq uint64) {
	if *last != 0 && seq != *last+1 {
		th.fleet.t.Errorf("%s: %s %d follows %d", th.name, what, seq, *last)
	}
	*last = seq
}

func (th *thrown) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	f := th.fleet
	f.mu.Lock()
	addr := f.addrs[f.rnd.IntN(len(f.addrs))]
	f.mu.Unlock()
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	f.mu.Lock()
	defer f.mu.Unlock()
	th.conn = conn
	return conn, err
}

func (th *thrown) cut() {
	th.fleet.mu.Lock()
	defer th.fleet.mu.Unlock()
	if th.conn != nil {
		_ = th.conn.Close()
		th.ends++
	}
}

// bar writes a final bar.
func (o *owner) bar() {
	o.bars++
	start := market.FromTime(time.Now()).Truncate(time.Second)
	o.o.Events.Add(wire.AppendBar(nil, &market.Bar{
		Head: head(o.bars), Interval: market.Second, Start: start, Open: 1, High: 1, Low: 1, Close: 1, Volume: 1, Trades: 1, Final: true,
	}))
}

// TestResumeOnAnyEdge throws clients between an edge that is up to date, one that lags, and ones that have just started. Each
// client gets every trade and every final bar once and in order, and its book stays right without a new snapshot as long
// as it is a whole one.
func TestResumeOnAnyEdge(t *testing.T) {
	updates := 4000
	if testing.Short() {
		updates = 1500
	}
	resume(t, wire.Conflate, updates, func(i int) (lags, cuts bool) { return i%750 >= 200 && i%750 < 500, true })
}

// TestResumeBehind is the same of clients that must not miss anything, with an edge that lags further than is waited for: it
// sends those away that have seen more.
func TestResumeBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("waits longer than the edge does")
	}
	const from, quiet = 500, 1000 // those who are cut off in between come with more than the edge has, and stay
	to := quiet + int(behindTimeout/time.Millisecond) + 500
	told := resume(t, wire.Lossless, to+1000, func(i int) (lags, cuts bool) { return i >= from && i < to, i < quiet || i >= to })
	if told == 0 {
		t.Error("no client was told that an edge lags too far")
	}
}

// resume is what TestResumeOnAnyEdge says. Plan tells by the number of an update whether one of the edges lags, and whether
// clients are cut off; updates come every millisecond, or slower. It returns how often clients were told that the edge is
// too far behind.
func resume(t *testing.T, mode wire.Mode, updates int, plan func(i int) (lags, cuts bool)) (told float64) {
	t.Helper()
	b, err := broker.Start(broker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	lag := newGate()
	open := func(dial func(context.Context, string, string) (net.Conn, error)) *stream.Cluster {
		cluster, err := stream.Open(stream.Config{Brokers: []string{b.Addr()}, Dial: dial})
		if err != nil {
			t.Fatal(err)
		}
		return cluster
	}
	cluster, lagging := open(nil), open(lag.dial)
	defer cluster.Close()
	defer lagging.Close()
	defer lag.set(false)
	o := takeOver(t, cluster)
	o.begin()
	f := &fleet{t: t, rnd: rand.New(rand.NewPCG(5, 6))}
	lead, stopLead := f.edge(cluster)
	defer stopLead()
	follower, stopFollower := f.edge(lagging)
	defer stopFollower()
	wait(t, "both edges are ready", func() bool {
		return lead.Ready() == nil && follower.Ready() == nil && lead.Mirror().Instrument("BTC-USDT") != nil
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients []*thrown
	ended := make(chan error, 8)
	for i := range 8 {
		th := f.client(i, mode)
		clients = append(clients, th)
		go func() { ended <- th.c.Run(ctx) }()
	}
	for _, th := range clients {
		if err := th.book.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	_, stopFresh := f.edge(cluster)
	for i := range updates {
		o.update(rnd)
		if i%50 == 0 {
			o.bar()
		}
		o.commit(i + 1)
		if i%100 == 0 {
			o.beat()
		}
		lags, cuts := plan(i)
		if cuts && i%40 == 0 {
			clients[rnd.IntN(len(clients))].cut()
		}
		lag.set(lags)
		if i%750 == 700 {
			stopFresh()
			_, stopFresh = f.edge(cluster)
		}
		<-tick.C
	}
	stopFresh()
	lag.set(false)
	o.beat()
	for _, th := range clients {
		wait(t, th.name+" has everything", func() bool {
			var snap market.Snapshot
			th.book.Snapshot(&snap)
			// What happens outside a depth view does not move its place.
			return th.tape.Sequence().Seq == o.seq && th.final.Sequence().Seq == o.bars &&
				(th.book.Sequence() == o.book.Sequence() || !th.full) &&
				slices.Equal(snap.Bids, o.book.AppendLevels(nil, market.Bid, int(snap.Depth)))
		})
	}
	for _, th := range clients {
		_ = th.c.Close()
		if err := <-ended; err != nil && !errors.Is(err, client.ErrClosed) {
			t.Errorf("a client ended by %v", err)
		}
	}
	for _, th := range clients {
		stats := th.book.BookStats()
		if stats.Mismatches > 0 || stats.Gaps > 0 || stats.Verified == 0 || th.full && stats.Snapshots != 1 {
			t.Errorf("%s: %+v after %d cuts", th.name, stats, th.ends)
		}
		if th.trades != o.seq || th.bars != o.bars {
			t.Errorf("%s: trades up to %d of %d, bars up to %d of %d", th.name, th.trades, o.seq, th.bars, o.bars)
		}
	}
	return testutil.ToFloat64(follower.metrics.errors.WithLabelValues(string(wire.CodeBehind)))
}
