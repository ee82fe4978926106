package client_test

import (
	"context"
	"fmt"
	"net"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Follow a book, and print its best prices.
func Example() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{
		URL:  "ws://127.0.0.1:8081",
		Dial: exampleEdge, // leave this out to dial a real one, such as `tickwire all` starts
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }()

	b, err := c.Book("BTC-USDT", client.BookView{Depth: 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := b.Wait(ctx); err != nil { // complete, or refused
		fmt.Println(err)
		return
	}
	in := b.Instrument()
	bid, ask := b.BBO()
	fmt.Printf("%s is %v: bid %s, ask %s\n", in.Sym, b.State(),
		market.AppendFixed(nil, bid.Price, in.PriceScale), market.AppendFixed(nil, ask.Price, in.PriceScale))
	// Output: BTC-USDT is live: bid 100, ask 100.01
}

// Trades come once and in order; what is missing is said.
func ExampleHandler() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := client.New(client.Config{
		URL:  "ws://127.0.0.1:8081",
		Dial: exampleEdge,
		Handler: client.Handler{
			OnTrade: func(t *client.Trades, m *market.Trade) {
				in := t.Instrument()
				fmt.Printf("%s %s @ %s\n", t.Sym(), market.AppendFixed(nil, m.Size, in.SizeScale), market.AppendFixed(nil, m.Price, in.PriceScale))
			},
			OnTradeGap: func(t *client.Trades, m *market.TradeGap) {
				fmt.Printf("%s: %d trades are missing (%v)\n", t.Sym(), m.Missed, m.Why)
				cancel()
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := c.Trades("BTC-USDT", 0); err != nil {
		fmt.Println(err)
		return
	}
	if err := c.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// BTC-USDT 0.0002 @ 100
	// BTC-USDT: 3 trades are missing (venue)
}

// exampleEdge leads to an edge that has one book and one trade.
func exampleEdge(ctx context.Context, network, addr string) (net.Conn, error) {
	e := newEdge(nil)
	go func() {
		p := <-e.peers
		p.hello()
		for r := range p.requests {
			switch r.Op {
			case wire.OpFlow:
				p.text(wire.AppendAck(nil, &wire.Ack{ID: r.ID, Window: r.Window}))
			case wire.OpSub:
				s := newSource(false).fill(10)
				s.view = r.Topics[0].View
				p.rows(r, rowOf(r.Topics[0].Topic, s.at, wire.HowSnapshot, wire.WhyNew))
				if r.Topics[0].Channel == market.Books {
					s.send(p, s.snapshot())
					continue
				}
				p.binary(wire.AppendTrade(nil, &market.Trade{Head: head(1000, 100, 101), Price: 10_000, Size: 20, Side: market.Bid}))
				p.binary(wire.AppendTradeGap(nil, &market.TradeGap{Head: head(1000, 101, 102), Why: market.Venue, Missed: 3}))
			}
		}
	}()
	return e.dial(ctx, network, addr)
}
