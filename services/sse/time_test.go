package sse

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
)

// inBubble runs a test of an edge on a fake clock, over connections in memory.
func inBubble(t *testing.T, change func(*Config), test func(t *testing.T, l *events, e *edge, open func(path string, headers ...string) *reader)) {
	t.Helper()
	inBubbleOn(t, change, func(t *testing.T, l *events, e *edge, ln *fasthttputil.InmemoryListener) {
		test(t, l, e, func(path string, headers ...string) *reader {
			conn, err := ln.Dial()
			if err != nil {
				t.Fatal(err)
			}
			r := openOn(t, conn, path, headers...)
			if err := conn.SetDeadline(time.Now().Add(48 * time.Hour)); err != nil {
				t.Fatal(err)
			}
			return r
		})
	})
}

// inBubbleOn is inBubble for tests that dial by themselves.
func inBubbleOn(t *testing.T, change func(*Config), test func(t *testing.T, l *events, e *edge, ln *fasthttputil.InmemoryListener)) {
	t.Helper()
	warm(t)
	synctest.Test(t, func(t *testing.T) {
		l := newEvents(t)
		l.beat()
		e := l.prepare(change)
		ln := fasthttputil.NewInmemoryListener()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { e.done <- e.s.Serve(ctx, ln) }()
		test(t, l, e, ln)
		cancel()
		if err := <-e.done; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // fasthttp's workers sleep, and then end
	})
}

// warm starts fasthttp's clock, which never ends, outside of any bubble.
func warm(t *testing.T) {
	t.Helper()
	ln := fasthttputil.NewInmemoryListener()
	s := &fasthttp.Server{Handler: func(*fasthttp.RequestCtx) {}, Logger: quiet{}}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	conn, err := ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	r := openOn(t, conn, "/")
	_ = r.conn.Close()
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Log(err) // the listener is closed, however it says so
	}
}

// TestHeartbeats waits in a silent market.
func TestHeartbeats(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, l *events, _ *edge, open func(string, ...string) *reader) {
		plain := open("/v1/sse/trades?symbols=BTC-USDT")
		plain.expect("hello")
		plain.expect("snapshot")
		visible := open("/v1/sse/trades?symbols=BTC-USDT&hb=event")
		visible.expect("hello")
		first := visible.expect("snapshot").id
		began := time.Now()
		expect := func(r *reader, name string, after time.Duration) message {
			t.Helper()
			m := r.expect(name)
			if passed := time.Since(began); passed < after || passed > after+2*time.Second {
				t.Errorf("%s after %v, want %v", name, passed, after)
			}
			return m
		}
		expect(plain, ":", 15*time.Second)
		beat := expect(visible, "hb", 15*time.Second)
		if beat.id != first || !strings.HasPrefix(beat.data, `{"ts":`) {
			t.Errorf("%+v", beat)
		}
		l.trade(2) // of the other partition
		l.gap(3)
		if m := expect(visible, "hb", 30*time.Second); m.id == first {
			t.Errorf("the place has grown old: %+v", m)
		}
		l.trade(1)
		plain.expect(":")
		plain.expect("trade")
		visible.expect("trade")
		_ = plain.conn.Close()
		_ = visible.conn.Close()
		time.Sleep(time.Second)
	})
}

// TestAges lets streams live as long as they may by default: half an hour, give or take a fifth.
func TestAges(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, _ *events, _ *edge, open func(string, ...string) *reader) {
		began := time.Now()
		var ages []time.Duration
		for range 10 {
			r := open("/v1/sse/ticker/all?rate=5s")
			for {
				if m := r.next(); m.name == "goodbye" {
					break
				}
			}
			ages = append(ages, time.Since(began))
			began = time.Now()
			_ = r.conn.Close()
		}
		least, most := ages[0], ages[0]
		for _, a := range ages {
			least, most = min(least, a), max(most, a)
		}
		if least < 24*time.Minute || most > 36*time.Minute+time.Second || most-least < time.Minute {
			t.Errorf("%v", ages)
		}
	})
}

// TestLongStream outlives every timeout of a request.
func TestLongStream(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxAge = 0 }, func(t *testing.T, l *events, e *edge, open func(string, ...string) *reader) {
		r := open("/v1/sse/trades?symbols=BTC-USDT")
		r.expect("hello")
		r.expect("snapshot")
		for range 100 {
			for range 10 {
				if m := r.next(); m.name != ":" && m.name != "status" {
					t.Fatalf("%+v", m)
				}
			}
			l.trade(1)
			for m := r.next(); m.name != "trade"; m = r.next() {
				if m.name != "status" && m.name != ":" {
					t.Fatalf("%+v", m)
				}
			}
		}
		if n := e.s.open(); n != 1 {
			t.Errorf("%d streams", n)
		}
		_ = r.conn.Close()
		time.Sleep(time.Second)
	})
}

// TestLinger keeps a stream's log for those who come back, and forgets it when nobody does.
func TestLinger(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, _ *events, e *edge, open func(string, ...string) *reader) {
		r := open("/v1/sse/trades?symbols=BTC-USDT")
		r.expect("hello")
		_ = r.conn.Close()
		time.Sleep(20 * time.Second)
		if n := e.value("sse_views"); n != 1 {
			t.Errorf("%v views", n)
		}
		time.Sleep(20 * time.Second)
		if n := e.value("sse_views"); n != 0 {
			t.Errorf("%v views", n)
		}
	})
}
