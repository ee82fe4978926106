package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness is a client that runs against a fake edge, in a bubble of fake time.
type harness struct {
	*testing.T
	edge *edge
	c    *client.Client
	note note
	err  error // what Run returned
	over chan struct{}
	stop context.CancelFunc
}

// start runs a client without a flow window, whose jitter is always j, unless tune says otherwise.
func start(t *testing.T, tune func(cfg *client.Config, n *note)) *harness {
	return startAt(t, newEdge(t), tune)
}

func startAt(t *testing.T, e *edge, tune func(cfg *client.Config, n *note)) *harness {
	h := &harness{T: t, edge: e, over: make(chan struct{})}
	cfg := client.Config{
		URL: "ws://edge", Dial: h.edge.dial, Window: -1,
		Jitter: func() float64 { return 0.5 },
		Handler: client.Handler{
			OnState:      func(s *client.Topic, st client.State) { h.note.add("%v %v", s, st) },
			OnError:      func(s *client.Topic, err error) { h.note.add("%v: %v", s, err) },
			OnDisconnect: func(err error, retry time.Duration) { h.note.add("disconnect: %v; %v", err, retry) },
		},
	}
	if tune != nil {
		tune(&cfg, &h.note)
	}
	var err error
	if h.c, err = client.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() {
		defer close(h.over)
		h.err = h.c.Run(ctx)
	}()
	return h
}

// end stops the client and checks that nothing is left.
func (h *harness) end() {
	h.Helper()
	h.stop()
	<-h.over
	h.edge.stop()
}

func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func encodings(t *testing.T, f func(t *testing.T, enc client.Encoding)) {
	t.Run("sbe", func(t *testing.T) { inBubble(t, func(t *testing.T) { f(t, client.SBE) }) })
	t.Run("json", func(t *testing.T) { inBubble(t, func(t *testing.T) { f(t, client.JSON) }) })
}

// live brings a book up: connected, subscribed, its snapshot sent.
func live(t *testing.T, s *source, tune func(cfg *client.Config, n *note)) (*harness, *peer, *client.Book) {
	h := start(t, func(cfg *client.Config, n *note) {
		if s.json {
			cfg.Encoding = client.JSON
		}
		if tune != nil {
			tune(cfg, n)
		}
	})
	b := must(h.c.Book(inst.Sym, s.view))(t)
	p := h.edge.next()
	p.hello()
	r := p.expect(wire.OpSub)
	if r.Topics[0].View != s.view || r.Topics[0].From != (market.Sequence{}) {
		t.Errorf("subscribed to %+v", r.Topics[0])
	}
	p.accept(r, s.at, wire.HowSnapshot, wire.WhyNew)
	s.send(p, s.snapshot())
	synctest.Wait()
	if b.State() != client.Live || b.StaleFor() != 0 {
		t.Fatalf("behind its snapshot the book is %v, stale for %v", b.State(), b.StaleFor())
	}
	h.note.take()
	return h, p, b
}

func TestBookFollows(t *testing.T) {
	encodings(t, func(t *testing.T, enc client.Encoding) {
		s := newSource(enc == client.JSON).fill(20)
		updates := 0
		h, p, b := live(t, s, func(cfg *client.Config, _ *note) {
			cfg.Handler.OnBook = func(b *client.Book, u *client.BookUpdate) {
				if b.Sequence() != u.Sequence() {
					t.Errorf("callback for %v while the book is at %v", u.Sequence(), b.Sequence())
				}
				if !u.Snapshot {
					updates++
				}
			}
		})
		defer h.end()
		s.same(t, b)
		for i := range 200 {
			d := s.change(i)
			s.send(p, d)
			if i%10 == 0 {
				s.send(p, d) // twice is harmless
			}
			synctest.Wait()
			s.same(t, b)
		}
		merged := s.change(300)
		merged.Prev -= 5 // overlaps what the client has
		s.send(p, merged)
		synctest.Wait()
		s.same(t, b)
		st := b.BookStats()
		if updates != 201 || st.Updates != 201 || st.Verified != 202 || st.Snapshots != 1 || st.Gaps+st.Mismatches != 0 {
			t.Errorf("%d callbacks, %+v", updates, st)
		}
		p.quiet()
		if in := b.Instrument(); in.ID != inst.ID || in.PriceScale != 2 || in.SizeScale != 5 {
			t.Errorf("instrument %+v", in)
		}
	})
}

func TestBookView(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSource(false).fill(60)
		s.view = market.View{Depth: 10, Millis: 100}
		h, p, b := live(t, s, nil)
		defer h.end()
		s.same(t, b)
		// A level deeper than the view enters it when a better one goes: the edge sends both.
		d := s.change(0) // bid 10000 has a new size, ask 10001 goes
		_, asks := s.levels()
		d.Asks = append(d.Asks, asks[9])
		s.send(p, d)
		synctest.Wait()
		s.same(t, b)
		// A better level pushes the deepest out; the client cuts it by itself.
		prev := s.at.Seq
		s.at.Seq++
		s.Set(market.Ask, 10_001, 5)
		s.send(p, &market.Delta{Head: s.head(prev), View: s.view, Hash: s.hash(), Asks: []market.Level{{Price: 10_001, Size: 5}}})
		synctest.Wait()
		s.same(t, b)
		if st := b.BookStats(); st.Mismatches != 0 || st.Verified != 3 {
			t.Errorf("%+v", st)
		}
	})
}

func TestGap(t *testing.T) {
	encodings(t, func(t *testing.T, enc client.Encoding) {
		s := newSource(enc == client.JSON).fill(20)
		h, p, b := live(t, s, nil)
		defer h.end()
		s.change(1) // never sent
		s.send(p, s.change(2))
		r := p.expect(wire.OpResync)
		synctest.Wait()
		if b.State() != client.Syncing || b.Gaps() != 1 {
			t.Errorf("state %v, %d gaps", b.State(), b.Gaps())
		}
		if got := h.note.take(); got != "book:BTC-USDT: client: gap: at 1000:100, next message follows 1000:101\nbook:BTC-USDT syncing\n" {
			t.Errorf("callbacks: %s", got)
		}
		at := b.Sequence()
		s.send(p, s.change(3)) // dropped
		p.accept(r, s.at, wire.HowSnapshot, wire.WhyNew)
		s.send(p, s.change(4)) // dropped
		time.Sleep(time.Second)
		synctest.Wait()
		if b.Sequence() != at || b.StaleFor() != time.Second {
			t.Errorf("at %v, stale for %v", b.Sequence(), b.StaleFor())
		}
		s.send(p, s.snapshot())
		s.send(p, s.change(5))
		synctest.Wait()
		s.same(t, b)
		if b.State() != client.Live || b.Gaps() != 1 || h.c.Stats().Resyncs != 1 || h.c.Stats().Reconnects != 0 {
			t.Errorf("state %v, %d gaps, %+v", b.State(), b.Gaps(), h.c.Stats())
		}
		p.quiet()
	})
}

func TestMismatch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSource(false).fill(20)
		h, p, b := live(t, s, nil)
		defer h.end()
		d := s.change(1)
		d.Hash.Sum++
		s.send(p, d)
		r := p.expect(wire.OpResync)
		synctest.Wait()
		if st := b.BookStats(); b.State() != client.Syncing || st.Mismatches != 1 || st.Gaps != 0 {
			t.Errorf("state %v, %+v", b.State(), st)
		}
		if got := h.note.take(); !strings.Contains(got, "hash at 1000:101") {
			t.Errorf("callbacks: %s", got)
		}
		p.accept(r, s.at, wire.HowSnapshot, wire.WhyNew)
		bad := s.snapshot()
		bad.Hash.Sum++
		s.send(p, bad)
		r = p.expect(wire.OpResync)
		p.accept(r, s.at, wire.HowSnapshot, wire.WhyNew)
		s.send(p, s.snapshot())
		synctest.Wait()
		s.same(t, b)
		if st := b.BookStats(); b.State() != client.Live || st.Mismatches != 2 {
			t.Errorf("state %v, %+v", b.State(), st)
		}
	})
}

func TestParts(t *testing.T) {
	encodings(t, func(t *testing.T, enc client.Encoding) {
		s := newSource(enc == client.JSON).fill(20)
		h, p, b := live(t, s, nil)
		defer h.end()
		before := newSource(false).fill(20)
		s.change(1)
		s.fill(50)
		parts := s.parts(3)
		for _, m := range parts[:2] {
			s.send(p, m)
			synctest.Wait()
			before.same(t, b) // nothing of it shows
		}
		s.send(p, parts[2])
		synctest.Wait()
		s.same(t, b)
		// A part that is missing: all of them again.
		s.change(2)
		parts = s.parts(3)
		s.send(p, parts[0])
		s.send(p, parts[2])
		r := p.expect(wire.OpResync)
		p.accept(r, s.at, wire.HowSnapshot, wire.WhyNew)
		for _, m := range s.parts(4) {
			s.send(p, m)
		}
		synctest.Wait()
		s.same(t, b)
	})
}

// A new epoch may come with new scales: the client learns them before it uses anything of it.
func TestEpoch(t *testing.T) {
	encodings(t, func(t *testing.T, enc client.Encoding) {
		s := newSource(enc == client.JSON).fill(20)
		h, p, b := live(t, s, nil)
		defer h.end()
		s.at = market.Sequence{Epoch: 2000, Seq: 1}
		s.send(p, s.snapshot())
		r := p.expect(wire.OpSub)
		if r.Topics[0].From.Epoch != 1000 {
			t.Errorf("asked from %v", r.Topics[0].From)
		}
		s.send(p, s.change(1)) // before the answer: dropped
		row := rowOf(r.Topics[0].Topic, s.at, wire.HowSnapshot, wire.WhyEpoch)
		row.SizeScale = 5
		p.rows(r, row)
		s.send(p, s.snapshot())
		s.send(p, s.change(2))
		synctest.Wait()
		s.same(t, b)
		if b.Gaps() != 0 || b.State() != client.Live {
			t.Errorf("%d gaps, %v", b.Gaps(), b.State())
		}
		p.quiet()
		// The edge never goes back.
		old := newSource(s.json).fill(3)
		s.send(p, old.snapshot())
		s.send(p, old.change(1))
		synctest.Wait()
		s.same(t, b)
		p.quiet()
	})
}

func TestEdgeState(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSource(false).fill(5)
		h, p, b := live(t, s, nil)
		defer h.end()
		p.state(market.Books, market.Stale, s.at)
		synctest.Wait()
		go p.beats(3 * time.Second)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if b.State() != client.Stale || b.StaleFor() != 3*time.Second {
			t.Errorf("%v for %v", b.State(), b.StaleFor())
		}
		s.send(p, s.snapshot())
		p.state(market.Books, market.Live, s.at)
		p.state(market.Books, market.Quiet, s.at)
		p.state(market.Books, market.Halted, s.at)
		synctest.Wait()
		want := "book:BTC-USDT stale\nbook:BTC-USDT live\nbook:BTC-USDT quiet\nbook:BTC-USDT halted\n"
		if got := h.note.take(); got != want || b.StaleFor() != 0 {
			t.Errorf("states:\n%s; stale for %v", got, b.StaleFor())
		}
	})
}

// The edge repeats where a silent topic stands: twice ahead of us means that something never came.
func TestSilentLoss(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSource(false).fill(5)
		h, p, b := live(t, s, nil)
		defer h.end()
		s.change(1)
		p.state(market.Books, market.Quiet, s.at)
		synctest.Wait()
		p.quiet()
		p.state(market.Books, market.Quiet, s.at)
		p.accept(p.expect(wire.OpResync), s.at, wire.HowSnapshot, wire.WhyNew)
		s.send(p, s.snapshot())
		synctest.Wait()
		s.same(t, b)
		if b.Gaps() != 1 {
			t.Errorf("%d gaps", b.Gaps())
		}
	})
}

func TestReconnectAndResume(t *testing.T) {
	encodings(t, func(t *testing.T, enc client.Encoding) {
		s := newSource(enc == client.JSON).fill(20)
		h, p, b := live(t, s, nil)
		defer h.end()
		s.send(p, s.change(1))
		synctest.Wait()
		at := s.at
		_ = p.conn.Close()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if b.State() != client.Stale {
			t.Errorf("without a connection the book is %v", b.State())
		}
		missed := []*market.Delta{s.change(2), s.change(3)}
		p = h.edge.next()
		if got := h.edge.dialled(); got[1] != 125*time.Millisecond { // half of the least backoff
			t.Errorf("dialled at %v", got)
		}
		p.hello()
		r := p.expect(wire.OpSub)
		if r.Topics[0].From != at {
			t.Errorf("resumes from %v, want %v", r.Topics[0].From, at)
		}
		p.accept(r, s.at, wire.HowReplay, "")
		for _, d := range missed {
			s.send(p, d)
		}
		synctest.Wait()
		s.same(t, b)
		if b.State() != client.Live || b.Gaps() != 0 || b.BookStats().Snapshots != 1 {
			t.Errorf("%v, %+v", b.State(), b.BookStats())
		}
		// Another connection, whose edge can't replay: a snapshot, and updates before it don't count.
		_ = p.conn.Close()
		s.change(4)
		p = h.edge.next()
		p.hello()
		r = p.expect(wire.OpSub)
		p.accept(r, s.at, wire.HowSnapshot, wire.WhyGapTooOld)
		s.send(p, s.snapshot())
		s.send(p, s.change(5))
		synctest.Wait()
		s.same(t, b)
		if b.Gaps() != 0 || h.c.Stats().Reconnects != 2 {
			t.Errorf("%d gaps, %+v", b.Gaps(), h.c.Stats())
		}
	})
}

// An edge that says nothing is given up, and what it said before is stale in the meantime.
func TestSilentEdge(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSource(false).fill(5)
		h, p, b := live(t, s, nil)
		defer h.end()
		p.beats(30 * time.Second)
		if b.State() != client.Live || h.note.take() != "" {
			t.Errorf("%v while heartbeats come", b.State())
		}
		resume := p.pause() // nor does it read
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if b.State() != client.Stale || b.StaleFor() < 6*time.Second || b.StaleFor() > 8*time.Second {
			t.Errorf("%v for %v", b.State(), b.StaleFor())
		}
		if got := h.note.take(); !strings.Contains(got, client.ErrSilent.Error()) || !strings.Contains(got, "book:BTC-USDT stale") {
			t.Errorf("callbacks: %s", got)
		}
		resume()
		p = h.edge.next()
		p.hello()
		p.accept(p.expect(wire.OpSub), s.at, wire.HowReplay, "")
		synctest.Wait()
		if b.State() != client.Live || b.StaleFor() != 0 {
			t.Errorf("back: %v for %v", b.State(), b.StaleFor())
		}
	})
}

// A slow callback is not a silent edge, but what it holds up is stale.
func TestSlowCallback(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSource(false).fill(5)
		slow := false
		h, p, b := live(t, s, func(cfg *client.Config, _ *note) {
			cfg.Handler.OnBook = func(*client.Book, *client.BookUpdate) {
				if slow {
					time.Sleep(time.Minute)
				}
			}
		})
		slow = true
		s.send(p, s.change(1))
		go p.beats(time.Minute)
		time.Sleep(10 * time.Second)
		if b.State() != client.Stale {
			t.Errorf("%v with a callback that takes a minute", b.State())
		}
		time.Sleep(51 * time.Second)
		synctest.Wait()
		if b.State() != client.Live || h.c.Stats().Reconnects != 0 {
			t.Errorf("%v, %+v", b.State(), h.c.Stats())
		}
		h.end()
	})
}

func TestDrain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, p, _ := live(t, newSource(false).fill(5), nil)
		defer h.end()
		p.text(wire.AppendDrain(nil, &wire.Drain{DeadlineMs: 10_000, RetryMs: [2]uint32{20_000, 40_000}}))
		p.beats(3 * time.Second)
		p.close(wire.CloseRestart)
		h.edge.next().hello()
		if got := h.edge.dialled()[1]; got != 33*time.Second {
			t.Errorf("came back after %v, want 3 s and half way between 20 and 40 s", got)
		}
	})
}

func TestBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := start(t, func(cfg *client.Config, _ *note) {
			cfg.Jitter = func() float64 { return 0.9999 }
			cfg.MaxBackoff = 8 * time.Second
		})
		defer h.end()
		for range 9 { // an edge that accepts and closes at once is not hammered
			p := h.edge.next()
			p.hello()
			p.close(wire.CloseGoingAway)
		}
		want := []time.Duration{0, 250, 750, 1750, 3750, 7750, 15_750, 23_750, 31_750}
		for i, at := range h.edge.dialled() {
			if d := at - want[i]*time.Millisecond; d < -20*time.Millisecond || d > 20*time.Millisecond {
				t.Errorf("dial %d at %v, want about %v ms", i, at, int64(want[i]))
			}
		}
		p := h.edge.next() // one that lasts makes up for it
		p.hello()
		p.beats(15 * time.Second)
		before := time.Now()
		p.close(wire.CloseGoingAway)
		h.edge.next()
		if took := time.Since(before); took > 260*time.Millisecond {
			t.Errorf("came back after %v", took)
		}
	})
}

func TestCloseCodes(t *testing.T) {
	f := func(code uint16, fatal bool, least time.Duration, token func(context.Context) (string, error)) {
		t.Helper()
		inBubble(t, func(t *testing.T) {
			h := start(t, func(cfg *client.Config, _ *note) { cfg.Token = token })
			defer h.end()
			b := must(h.c.Book(inst.Sym, client.BookView{}))(t)
			p := h.edge.next()
			p.hello()
			p.expect(wire.OpSub)
			p.close(code)
			if !fatal {
				h.edge.next()
				if d := h.edge.dialled()[1]; d < least {
					t.Errorf("%d: back after %v, want at least %v", code, d, least)
				}
				return
			}
			<-h.over
			var closed *client.CloseError
			if !errors.As(h.err, &closed) || closed.Code != code {
				t.Errorf("%d: Run returned %v", code, h.err)
			}
			if b.State() != client.Closed || !errors.As(b.Err(), &closed) || !errors.As(h.c.Err(), &closed) {
				t.Errorf("%d: the book is %v: %v", code, b.State(), b.Err())
			}
			if _, err := h.c.Trades(inst.Sym, 0); !errors.Is(err, client.ErrClosed) {
				t.Errorf("%d: subscribing afterwards: %v", code, err)
			}
		})
	}
	token := func(context.Context) (string, error) { return "t", nil }
	f(1000, false, 0, nil)
	f(wire.CloseGoingAway, false, 0, nil)
	f(wire.ClosePolicy, true, 0, nil)
	f(wire.CloseTooBig, true, 0, nil)
	f(wire.CloseRestart, false, 0, nil)
	f(wire.CloseAuthExpired, true, 0, nil)
	f(wire.CloseAuthExpired, false, 0, token)
	f(wire.CloseRate, false, 15*time.Second, nil)
	f(wire.CloseTooManyTopics, true, 0, nil)
	f(wire.CloseSlowConsumer, false, 0, nil)
	f(wire.CloseConnectionLimit, false, 15*time.Second, nil)
	f(4999, true, 0, nil)
}

// A client that is sent away for want of subscriptions comes back when it has one.
func TestNoSubscription(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := start(t, nil)
		defer h.end()
		p := h.edge.next()
		p.hello()
		p.close(wire.CloseNoSubscription)
		time.Sleep(time.Hour)
		if n := len(h.edge.dialled()); n != 1 {
			t.Errorf("dialled %d times", n)
		}
		must(h.c.Ticker(inst.Sym))(t)
		p = h.edge.next()
		p.hello()
		p.expect(wire.OpSub)
	})
}

func TestHandshakeRefused(t *testing.T) {
	f := func(status string, fatal bool, least time.Duration) {
		t.Helper()
		inBubble(t, func(t *testing.T) {
			e := newEdge(t)
			e.answer = func(*http.Request) string { return "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n" }
			h := startAt(t, e, nil)
			defer h.end()
			if fatal {
				<-h.over
				var shake *client.HandshakeError
				if !errors.As(h.err, &shake) || !strings.HasPrefix(status, strconv.Itoa(shake.Status)) {
					t.Errorf("%q: Run returned %v", status, h.err)
				}
				return
			}
			synctest.Wait()
			time.Sleep(least)
			if n := len(e.dialled()); n != 1 {
				t.Errorf("%q: dialled %d times within %v", status, n, least)
			}
			time.Sleep(time.Minute)
			if n := len(e.dialled()); n < 2 {
				t.Errorf("%q: did not come back", status)
			}
		})
	}
	f("401 No", true, 0)
	f("403 Forbidden", true, 0)
	f("404 Not Found", true, 0)
	f("429 Too Many Requests\r\nRetry-After: 20", false, 20*time.Second)
	f("503 Service Unavailable\r\nRetry-After: 7", false, 7*time.Second)
	f("500 Internal Server Error", false, 0)
	f("200 OK", false, 0)
	f("101 Switching Protocols\r\nX: "+strings.Repeat("x", 100_000), false, 0)
}

func TestDial(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		refused := errors.New("nobody is there")
		cfg := client.Config{URL: "ws://edge", Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refused }}
		if _, err := client.Dial(t.Context(), cfg); !errors.Is(err, refused) || !strings.Contains(err.Error(), "edge") {
			t.Errorf("nobody listens: %v", err)
		}
		e := newEdge(t)
		cfg.Dial = e.dial
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := client.Dial(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no hello: %v", err)
		}
		cancel()
		e.next()
		go func() { e.next().hello() }()
		c, err := client.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		b := must(c.Book(inst.Sym, client.BookView{}))(t)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := b.Wait(t.Context()); !errors.Is(err, client.ErrClosed) || c.Err() != nil {
			t.Errorf("after Close: %v, %v", err, c.Err())
		}
		_ = c.Close()
		e.stop()
		for _, url := range []string{"", "http://x", "ws://", "::", "localhost:8081"} {
			if _, err := client.New(client.Config{URL: url}); err == nil {
				t.Errorf("URL %q was accepted", url)
			}
		}
	})
}

// Closing waits for everything, also while the edge does not read, and says farewell when it does.
func TestClose(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, p, b := live(t, newSource(false).fill(5), nil)
		if err := h.c.Close(); err != nil {
			t.Error(err)
		}
		if code := <-p.closed; code != 1000 || h.c.Err() != nil {
			t.Errorf("farewell %d, %v", code, h.c.Err())
		}
		<-h.over
		if h.err != nil || b.State() != client.Closed || !errors.Is(b.Err(), client.ErrClosed) {
			t.Errorf("Run returned %v, the book is %v: %v", h.err, b.State(), b.Err())
		}
		h.end()
	})
	inBubble(t, func(t *testing.T) {
		h, p, _ := live(t, newSource(false).fill(5), nil)
		resume := p.pause()
		go func() { _, _ = h.c.Ticker(inst.Sym) }()
		time.Sleep(time.Second)
		begin := time.Now()
		h.stop()
		<-h.over
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("closing took %v", took)
		}
		resume()
		h.end()
	})
}

func TestGarbage(t *testing.T) {
	panics := append([]byte{0x82, 127}, bytes.Repeat([]byte{0xff}, 8)...) // gws panics over this length
	f := func(name string, b []byte, want string) {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newSource(false).fill(5)
				h, p, b1 := live(t, s, nil)
				defer h.end()
				p.raw(b)
				p = h.edge.next()
				if got := h.note.take(); !strings.Contains(got, want) {
					t.Errorf("callbacks: %s; want %q", got, want)
				}
				p.hello()
				p.accept(p.expect(wire.OpSub), s.at, wire.HowReplay, "")
				synctest.Wait()
				s.same(t, b1)
			})
		})
	}
	f("length", panics, client.ErrProtocol.Error())
	f("json", frame(1, []byte(`{"ev":`)), client.ErrProtocol.Error())
	f("sbe", frame(2, []byte{1, 2, 3}), client.ErrProtocol.Error())
	f("book", frame(2, wire.AppendDelta(nil, newSource(false).change(1))[:60]), client.ErrProtocol.Error())
	f("opcode", []byte{0x8b, 0}, "opcode")
	f("too long", append([]byte{0x82, 127}, 0, 0, 0, 0, 0, 0x20, 0, 0), "large")
	f("masked", []byte{0x81, 0x81, 1, 2, 3, 4, 5}, "disconnect")
}

func TestFirstMessage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := start(t, nil)
		defer h.end()
		h.edge.next().beat()
		h.edge.next()
		if got := h.note.take(); !strings.Contains(got, "hello") {
			t.Errorf("callbacks: %s", got)
		}
	})
}

// What a later version of the protocol adds is skipped.
func TestUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSource(false).fill(5)
		h, p, b := live(t, s, nil)
		defer h.end()
		p.text([]byte(`{"ev":"weather","ts":1}`))
		p.text([]byte(`{"ch":"rain","sym":"BTC-USDT","ep":1,"seq":1,"ts":1}`))
		p.text([]byte(`{"ch":"trades","t":"trade","sym":"ETH-USDT","ep":1,"prev":1,"seq":2,"price":"1","size":"1","ts":1}`))
		m := wire.AppendDelta(nil, s.change(0))
		later := bytes.Clone(m)
		later[2] = 99
		p.binary(later)
		p.binary(m)
		synctest.Wait()
		s.same(t, b)
		p.quiet()
	})
}

func TestRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := start(t, nil)
		defer h.end()
		b := must(h.c.Book("NO-SUCH", client.BookView{Depth: 10}))(t)
		p := h.edge.next()
		p.hello()
		p.refuse(p.expect(wire.OpSub), wire.CodeUnknownSymbol)
		var refused *client.RefusedError
		if err := b.Wait(t.Context()); !errors.As(err, &refused) || refused.Code != wire.CodeUnknownSymbol || refused.Topic != "book:NO-SUCH" {
			t.Errorf("Wait: %v", err)
		}
		// What may pass is tried again.
		tr := must(h.c.Ticker(inst.Sym))(t)
		p.refuse(p.expect(wire.OpSub), wire.CodeNotReady)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := tr.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait: %v", err)
		}
		p.beats(1500 * time.Millisecond)
		r := p.expect(wire.OpSub)
		p.text(wire.AppendError(nil, &wire.Error{ID: r.ID, Code: wire.CodeRate, Msg: "slowly"}))
		p.beats(time.Second)
		p.quiet()
		p.beats(2 * time.Second)
		p.accept(p.expect(wire.OpSub), market.Sequence{Epoch: 1, Seq: 1}, wire.HowSnapshot, wire.WhyNew)
		if err := tr.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		// The edge may end a subscription.
		p.text(wire.AppendUnsub(nil, &wire.Unsub{Topic: wire.Topic{Channel: market.Tickers, Sym: inst.Sym}, Why: "forbidden"}))
		synctest.Wait()
		if tr.State() != client.Closed || !errors.As(tr.Err(), &refused) || refused.Code != wire.CodeForbidden {
			t.Errorf("%v: %v", tr.State(), tr.Err())
		}
		// What the edge would refuse with everything beside it is not even asked.
		bad := func(_ any, err error) {
			t.Helper()
			if err == nil {
				t.Error("accepted")
			}
		}
		bad(h.c.Book("", client.BookView{}))
		bad(h.c.Book("*", client.BookView{}))
		bad(h.c.Book(inst.Sym, client.BookView{Depth: 11}))
		bad(h.c.Book(inst.Sym, client.BookView{Millis: 11}))
		bad(h.c.Trades(inst.Sym, 1001))
		bad(h.c.Bars(inst.Sym, market.Interval(9), 0))
		must(h.c.BBO(inst.Sym))(t)
		if _, err := h.c.BBO(inst.Sym); !errors.Is(err, client.ErrSubscribed) {
			t.Errorf("twice: %v", err)
		}
	})
}

func TestUnsubscribe(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSource(false).fill(5)
		h, p, b := live(t, s, nil)
		defer h.end()
		b.Unsubscribe()
		b.Unsubscribe()
		again := must(h.c.Book(inst.Sym, client.BookView{Depth: 10}))(t)
		r := p.expect(wire.OpUnsub)
		old := s.snapshot() // on its way, of the old view
		old.Seq += 5
		s.send(p, old)
		p.rows(r, wire.Row{Topic: r.Topics[0].Topic})
		p.accept(p.expect(wire.OpSub), s.at, wire.HowSnapshot, wire.WhyNew)
		s.view.Depth = 10
		s.send(p, s.snapshot())
		synctest.Wait()
		s.same(t, again)
		if b.State() != client.Closed || !errors.Is(b.Err(), client.ErrUnsubscribed) {
			t.Errorf("%v: %v", b.State(), b.Err())
		}
	})
}

// Hundreds of subscriptions go out in requests as long as the edge takes them, and as many in a second.
func TestManyTopics(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := start(t, nil)
		defer h.end()
		const n = 300
		for i := range n {
			must(h.c.Trades(fmt.Sprintf("S%d", i), 0))(t)
		}
		p := h.edge.next()
		p.text(wire.AppendHello(nil, &wire.Hello{Proto: 1, Conn: "c", Auth: "none", Limits: wire.Limits{Frame: 4096, Ops: 2}}))
		synctest.Wait()
		if got := len(p.requests); got != 2 {
			t.Errorf("%d requests at once, the edge takes 2 in a second", got)
		}
		go func() { _, _ = h.c.Ping(t.Context()) }() // stands in the queue between others
		synctest.Wait()
		must(h.c.Ticker("S0"))(t)
		topics, pings := 0, 0
		for topics < n+1 {
			r := p.request()
			if r.Op == wire.OpPing {
				pings++
				p.text(wire.AppendPong(nil, r.ID, 1))
			}
			if size := len(wire.AppendRequest(nil, &r)); size > 4096 {
				t.Errorf("a request of %d bytes", size)
			}
			topics += len(r.Topics)
			p.beat()
			synctest.Wait()
		}
		if topics != n+1 || pings != 1 {
			t.Errorf("%d topics, %d pings", topics, pings)
		}
	})
}

func TestPing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, p, _ := live(t, newSource(false).fill(5), nil)
		go func() {
			r := p.expect(wire.OpPing)
			time.Sleep(30 * time.Millisecond)
			p.text(wire.AppendPong(nil, r.ID, 1))
		}()
		if d, err := h.c.Ping(t.Context()); d != 30*time.Millisecond || err != nil {
			t.Errorf("%v, %v", d, err)
		}
		go func() {
			p.expect(wire.OpPing)
			_ = p.conn.Close()
		}()
		if _, err := h.c.Ping(t.Context()); err == nil {
			t.Error("an answer from an edge that hung up")
		}
		h.end()
		if _, err := h.c.Ping(t.Context()); err == nil {
			t.Error("an answer without a connection")
		}
	})
}

func TestToken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := 0
		h := start(t, func(cfg *client.Config, _ *note) {
			cfg.Token = func(context.Context) (string, error) {
				if n++; n == 2 {
					return "", errors.New("no token today")
				}
				return fmt.Sprint("t", n), nil
			}
			cfg.Header = http.Header{"X-Tick": {"wire"}}
		})
		defer h.end()
		p := h.edge.next()
		if got := p.handshake.Header; got.Get("Authorization") != "Bearer t1" || got.Get("X-Tick") != "wire" || p.handshake.URL.Path != "/v1/ws" {
			t.Errorf("%s %v", p.handshake.URL, got)
		}
		p.hello()
		p.close(wire.CloseAuthExpired)
		if got := h.edge.next().handshake.Header.Get("Authorization"); got != "Bearer t3" {
			t.Errorf("token %q", got)
		}
		if got := h.note.take(); !strings.Contains(got, "no token today") {
			t.Errorf("callbacks: %s", got)
		}
	})
}

// TestTokenRenewal has the edge say that the token is about to expire.
func TestTokenRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := 0
		h := start(t, func(cfg *client.Config, _ *note) {
			cfg.Token = func(context.Context) (string, error) {
				if n++; n == 2 {
					return "", errors.New("no token now")
				}
				return fmt.Sprint("t", n), nil
			}
		})
		defer h.end()
		p := h.edge.next()
		p.hello()
		p.text(wire.AppendAuth(nil, &wire.Auth{Why: wire.WhyExpiring}))
		p.beats(4 * time.Second)
		p.quiet()
		p.beats(3 * time.Second)
		r := p.expect(wire.OpAuth)
		if r.Token != "t3" {
			t.Errorf("token %q", r.Token)
		}
		p.text(wire.AppendError(nil, &wire.Error{ID: r.ID, Code: wire.CodeNotReady}))
		p.beats(7 * time.Second)
		if r = p.expect(wire.OpAuth); r.Token != "t4" {
			t.Errorf("token %q", r.Token)
		}
		p.text(wire.AppendAck(nil, &wire.Ack{ID: r.ID}))
		p.beats(20 * time.Second)
		p.quiet()
	})
}

// A panic in a callback is the caller's: it is not swallowed with gws's.
func TestCallbackPanic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newEdge(t)
		c := must(client.New(client.Config{URL: "ws://edge", Dial: e.dial, Handler: client.Handler{
			OnConnect: func(*client.Hello) { panic("mine") },
		}}))(t)
		go func() { e.next().hello() }()
		defer func() {
			if r := recover(); r != "mine" {
				t.Errorf("recovered %v", r)
			}
			e.stop()
		}()
		_ = c.Run(t.Context())
	})
}

func TestSymbols(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newEdge(t)
		go func() {
			p := e.next()
			p.hello()
			p.expect(wire.OpFlow)
			r := p.expect(wire.OpSub)
			p.text(wire.AppendAck(nil, &wire.Ack{ID: r.ID, OK: []wire.Row{{Topic: r.Topics[0].Topic, N: 2, How: wire.HowSnapshot}}}))
			for _, sym := range []string{"ETH-USDT", "BTC-USDT"} {
				p.text(wire.AppendBBOJSON(nil, &market.Instrument{Sym: sym}, &market.BBO{Head: head(1, 0, 1)}, 0))
			}
		}()
		begin := time.Now()
		got, err := client.Symbols(t.Context(), client.Config{URL: "ws://edge", Dial: e.dial}, time.Minute)
		if fmt.Sprint(got) != "[BTC-USDT ETH-USDT]" || err != nil || time.Since(begin) > time.Second {
			t.Errorf("%v, %v after %v", got, err, time.Since(begin))
		}
		e.stop()
	})
}
