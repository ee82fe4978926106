package ws

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/broker"
)

// owner writes one partition of md.events as ingest does.
type owner struct {
	t    *testing.T
	o    *stream.Owner
	book book.Book
	seq  uint64 // of trades
	bars uint64 // sequence of final ones
}

func takeOver(t *testing.T, cluster *stream.Cluster) *owner {
	t.Helper()
	o, err := cluster.TakeOver(t.Context(), 0, stream.OwnerOptions{Instance: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := o.Close(ctx); err != nil {
			t.Errorf("close owner: %v", err)
		}
	})
	if err := o.Snapshots(t.Context(), func(*stream.Snapshot) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Tail(t.Context(), 0, func(*stream.EventBatch) error { return nil }); err != nil {
		t.Fatal(err)
	}
	o.Start(-1)
	return &owner{t: t, o: o}
}

func (o *owner) commit(input int) {
	o.t.Helper()
	if err := o.o.Events.Commit(int64(input)); err != nil {
		o.t.Fatal(err)
	}
	o.o.Events.Flush()
}

func (o *owner) begin() {
	o.o.Events.Add(wire.AppendStatus(nil, &market.Status{Head: head(1), Instrument: btc}))
	for i := range 300 {
		o.book.Set(market.Bid, market.Price(100_000-i), market.Size(i+1))
		o.book.Set(market.Ask, market.Price(100_001+i), market.Size(i+1))
	}
	snap := market.Snapshot{Head: head(1), Part: 1, Parts: 1, Hash: market.Hash{Sum: o.book.Hash(), OK: true}}
	snap.Bids, snap.Asks = o.book.AppendLevels(nil, market.Bid, 0), o.book.AppendLevels(nil, market.Ask, 0)
	o.book.SetSequence(snap.Sequence())
	o.o.Events.Add(wire.AppendSnapshot(nil, &snap))
	o.commit(0)
}

func (o *owner) update(rnd *rand.Rand) {
	d := market.Delta{Head: head(o.book.Sequence().Seq + 1)}
	for range 5 {
		d.Bids = append(d.Bids, market.Level{Price: market.Price(100_000 - rnd.IntN(120)), Size: market.Size(rnd.IntN(4))})
	}
	if _, err := o.book.Apply(&d); err != nil {
		o.t.Fatal(err)
	}
	d.Hash = market.Hash{Sum: o.book.Hash(), OK: true}
	o.o.Events.Add(wire.AppendDelta(nil, &d))
	o.seq++
	o.o.Events.Add(wire.AppendTrade(nil, &market.Trade{Head: head(o.seq), Price: 100_000, Size: 1, ID: market.NumericTradeID(o.seq)}))
}

func (o *owner) beat() {
	now := market.FromTime(time.Now())
	if err := o.o.Events.Heartbeat(wire.OwnerHeartbeat{Time: now, Sources: []wire.SourceClock{{Source: "sim", Last: now}}}); err != nil {
		o.t.Fatal(err)
	}
}

// TestFromKafka runs the whole way from md.events to the books of the Go client, with clients that join at any time.
func TestFromKafka(t *testing.T) {
	b, err := broker.Start(broker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	cluster, err := stream.Open(stream.Config{Brokers: []string{b.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cfg := DefaultConfig()
	cfg.Addr, cfg.Drain = "127.0.0.1:0", 100*time.Millisecond
	s, err := New(cfg, Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Cluster: cluster})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Listening()
	o := takeOver(t, cluster)
	o.begin()

	var clients []*client.Client
	var books []*client.Book
	var trades []*client.Trades
	ended := make(chan error, 100)
	join := func(rnd *rand.Rand) {
		c, err := client.New(client.Config{URL: "ws://" + s.Addr(), Encoding: client.Encoding(rnd.IntN(2)), Handler: client.Handler{
			OnError: func(topic *client.Topic, err error) { t.Errorf("%v: %v", topic, err) },
		}})
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- c.Run(ctx) }()
		book, err := c.Book("BTC-USDT", client.BookView{Depth: []uint16{0, 10, 100}[rnd.IntN(3)], Millis: []uint16{0, 100}[rnd.IntN(2)]})
		if err != nil {
			t.Fatal(err)
		}
		tape, err := c.Trades("BTC-USDT", 10)
		if err != nil {
			t.Fatal(err)
		}
		clients, books, trades = append(clients, c), append(books, book), append(trades, tape)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.Ready() != nil || s.Mirror().Instrument("BTC-USDT") == nil {
		<-tick.C
	}
	for i := range 2000 {
		if i%200 == 0 {
			o.beat()
			join(rnd)
		}
		o.update(rnd)
		o.commit(i + 1)
		<-tick.C
	}
	o.beat()
	equal := func(b *client.Book) bool {
		var snap market.Snapshot
		b.Snapshot(&snap)
		return snap.Seq > 1 && slices.Equal(snap.Bids, o.book.AppendLevels(nil, market.Bid, int(snap.Depth))) &&
			slices.Equal(snap.Asks, o.book.AppendLevels(nil, market.Ask, int(snap.Depth)))
	}
	deadline := time.Now().Add(10 * time.Second)
	for i, b := range books {
		for !equal(b) || trades[i].Sequence().Seq != o.seq {
			if time.Now().After(deadline) {
				t.Fatalf("client %d: book at %v (%+v), trades at %v; want %v and %d", i, b.Sequence(), b.BookStats(), trades[i].Sequence(), o.book.Sequence(), o.seq)
			}
			<-tick.C
		}
		if st := b.BookStats(); st.Mismatches > 0 || st.Gaps > 0 || st.Verified == 0 || trades[i].Gaps() > 0 {
			t.Errorf("client %d: %+v, %d gaps in its trades", i, st, trades[i].Gaps())
		}
		if b.State() != client.Live {
			t.Errorf("client %d: the book is %v", i, b.State())
		}
	}
	for _, c := range clients {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	stop()
	for range clients {
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, client.ErrClosed) {
			t.Errorf("a client ended by %v", err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
