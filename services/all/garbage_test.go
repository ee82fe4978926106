package all_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/all"
)

// TestGarbage throws bad records between those of a living market. Each is quarantined with its reason and said in the
// stream: the book becomes stale, the connector asks for it anew, and it is live again, in the same numbering.
func TestGarbage(t *testing.T) {
	s := startWith(t, nil, func(cfg *all.Config) { cfg.Market = all.DefaultMarket() })
	const sym = "BTC-USDT"
	s.waitInstrument(t, sym)
	states := make(chan client.State, 1024)
	gaps := make(chan string, 1024)
	c, err := client.Dial(t.Context(), client.Config{URL: s.url, Handler: client.Handler{
		OnState: func(topic *client.Topic, st client.State) {
			if topic.Channel() == 0 {
				states <- st
			}
		},
		OnError: func(topic *client.Topic, err error) {
			var refused *client.RefusedError
			if errors.As(err, &refused) {
				t.Errorf("%v: %v", topic, err)
			}
			gaps <- err.Error()
		},
	}})
	must(t, err)
	defer func() { _ = c.Close() }()
	b, err := c.Book(sym, client.BookView{})
	must(t, err)
	must(t, b.Wait(t.Context()))
	wait(t, states, client.Live)
	w := s.writer(t)
	for i, value := range [][]byte{
		[]byte(`{"type":"book","sym":"BTC-USDT","bids":[["61737.63","0.4"`),
		[]byte(`{"type":"book","sym":"BTC-USDT","bids":[["NaN","1"]],"asks":[],"ts":1}`),
		[]byte(`{"type":"book","sym":"BTC-USDT","bids":[["1.00","-1"]],"asks":[],"ts":1}`),
		[]byte(`{"type":"book","sym":"BTC-USDT","bids":7,"asks":[],"ts":1}`),
		append([]byte(`{"type":"book","sym":"BTC-USDT","junk":"`), bytes.Repeat([]byte("x"), 10<<20)...),
	} {
		must(t, w.Write(&stream.Record{Key: []byte(sym), Value: value, Headers: []stream.Header{
			{Key: "source", Value: []byte("tickwire")}, {Key: "session", Value: fmt.Appendf(nil, "bad-%d", i)},
		}}))
	}
	wait(t, states, client.Stale)
	if !waitFor(t, func() bool { return b.State() == client.Live }) {
		t.Fatalf("the book is %v", b.State())
	}
	if st := b.BookStats(); st.Gaps != 0 || st.Mismatches != 0 || len(gaps) != 0 {
		t.Errorf("the client saw %+v, and %d errors", st, len(gaps))
	}
	f := s.cluster.Fetcher(s.cluster.Topics().Quarantine, 0, 0)
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	reasons := map[string]int{}
	for found := 0; found < 5; {
		batch, err := f.Next(ctx)
		must(t, err)
		var rec stream.Record
		for batch.Next(&rec) {
			found++
			for _, h := range rec.Headers {
				if h.Key == "reason" {
					reasons[string(h.Value)]++
				}
			}
			if len(rec.Value) > 64<<10 {
				t.Errorf("%d bytes of a bad record were kept", len(rec.Value))
			}
		}
	}
	t.Logf("quarantined: %v", reasons)
	if reasons["syntax"] < 2 || len(reasons) < 3 {
		t.Errorf("reasons: %v", reasons)
	}
}
