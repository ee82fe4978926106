package all_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/venue/capture"
)

// TestRecorded takes the recordings of other venues through everything. Ingest compares each of Kraken's checksums; a wrong
// one would make its book stale, and the client would see it.
func TestRecorded(t *testing.T) {
	f := func(file string, format capture.Format, wantTrades int) {
		t.Run(string(format), func(t *testing.T) {
			reader, err := capture.Open(capture.Config{
				Format: format, Files: []string{testkit.Data(t, filepath.FromSlash(file))}, Session: "recorded-1",
			})
			must(t, err)
			defer func() { _ = reader.Close() }()
			s := start(t, nil)
			var mu sync.Mutex
			trades, stales := 0, 0
			live := make(map[string]bool)
			c, err := client.Dial(t.Context(), client.Config{URL: s.url, Mode: client.Lossless, Handler: client.Handler{
				OnTrade: func(*client.Trades, *market.Trade) {
					mu.Lock()
					trades++
					mu.Unlock()
				},
				OnTradeGap: func(topic *client.Trades, m *market.TradeGap) { t.Errorf("%v: gap %+v", topic, *m) },
				OnState: func(topic *client.Topic, st client.State) {
					if topic.Channel() != market.Books {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if st == client.Live {
						live[topic.Sym()] = true
					} else if st == client.Stale && live[topic.Sym()] && topic.Why() != market.Silent.String() {
						stales++
					}
				},
				OnError: func(topic *client.Topic, err error) { t.Errorf("%v: %v", topic, err) },
			}})
			must(t, err)
			defer func() { _ = c.Close() }()
			var books []*client.Book
			done := s.replay(t, reader, 10, func() {
				for _, in := range reader.Summary().Instruments {
					b, err := c.Book(in.Sym, client.BookView{})
					must(t, err)
					_, err = c.Trades(in.Sym, 100)
					must(t, err)
					books = append(books, b)
				}
			})
			must(t, <-done)
			log := readEvents(t, s.cluster)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			must(t, log.waitInput(ctx))
			log.check(t)
			_, err = c.Ping(ctx)
			must(t, err)
			for _, b := range books {
				st := b.BookStats()
				if st.Gaps != 0 || st.Mismatches != 0 || st.Snapshots == 0 || st.Verified != st.Updates+st.Snapshots {
					t.Errorf("%s: %+v", b.Sym(), st)
				}
			}
			got := func() int {
				mu.Lock()
				defer mu.Unlock()
				return trades
			}
			if !waitFor(t, func() bool { return got() >= wantTrades }) || got() != wantTrades {
				t.Errorf("%d trades, want %d", got(), wantTrades)
			}
			mu.Lock()
			defer mu.Unlock()
			if stales != 0 {
				t.Errorf("books became stale %d times", stales)
			}
		})
	}
	f("kraken-v1/KRAKEN.ws.50.0", capture.KrakenLines, 0)
	f("coinbase-exchange/COINBASE.ws.28.0", capture.CoinbaseLines, 107)
}
