package sse

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// canned is a connection whose peer sends n requests, and takes what comes. There is no client and no kernel in a benchmark.
type canned struct {
	text []byte
	n    int // requests still to come
	rest []byte
	each func() // before a request
}

func (c *canned) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		if c.n == 0 {
			return 0, io.EOF
		}
		if c.n--; c.each != nil {
			c.each()
		}
		c.rest = c.text
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

var peer = &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 1234}

func (*canned) Write(b []byte) (int, error)      { return len(b), nil }
func (*canned) Close() error                     { return nil }
func (*canned) LocalAddr() net.Addr              { return peer }
func (*canned) RemoteAddr() net.Addr             { return peer }
func (*canned) SetDeadline(time.Time) error      { return nil }
func (*canned) SetReadDeadline(time.Time) error  { return nil }
func (*canned) SetWriteDeadline(time.Time) error { return nil }

// bookOf200 is a server with a book of 200 levels a side; move touches the book.
func bookOf200(b *testing.B) (s *Server, move func()) {
	b.Helper()
	cfg := DefaultConfig()
	cfg.RestRate, cfg.RestBurst = 1e6, 1e6 // counted, and never refused
	s, err := New(cfg, Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	in := market.Instrument{ID: 1, Sym: "BTC-USDT", Source: "sim", Symbol: "BTCUSDT", PriceScale: 2, SizeScale: 5}
	offset := int64(0)
	record := func(t wire.Template, value []byte) {
		if err := s.mirror.Record(0, offset, t, value); err != nil {
			b.Fatal(err)
		}
		offset++
	}
	s.mirror.Expect(1)
	s.mirror.Phase(0, stream.PhaseReset, nil)
	record(wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: head(1, 1), Instrument: in}))
	snap := market.Snapshot{Head: head(1, 1), Part: 1, Parts: 1}
	for i := range 200 {
		snap.Bids = append(snap.Bids, market.Level{Price: market.Price(6173763 - i), Size: market.Size(40000 + 17*i)})
		snap.Asks = append(snap.Asks, market.Level{Price: market.Price(6173764 + i), Size: market.Size(30000 + 13*i)})
	}
	snap.Hash = market.Hash{Sum: book.HashLevels(snap.Bids, snap.Asks), OK: true}
	record(wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &snap))
	s.mirror.Phase(0, stream.PhaseReady, nil)
	seq, buf := uint64(1), []byte(nil)
	return s, func() {
		seq++
		d := market.Delta{Head: head(1, seq), Bids: []market.Level{{Price: 6173763, Size: market.Size(40000 + seq%1000)}}}
		buf = wire.AppendDelta(buf[:0], &d)
		record(wire.TemplateBookUpdate, buf)
	}
}

// BenchmarkRESTBook asks for a book of 50 levels a side: while it stands still, when it has moved before each request, and
// packed. Floor is fasthttp with a body of the same size that never changes; move is what the mirror costs to move the book.
func BenchmarkRESTBook(b *testing.B) {
	s, move := bookOf200(b)
	request := func(headers ...string) []byte {
		return []byte("GET /v1/book/BTC-USDT?depth=50 HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n")
	}
	body := get(b, s, "/v1/book/BTC-USDT?depth=50")
	etag := header(body, "ETag")
	fixed := bytes.Clone(body.Body())
	run := func(name string, handler fasthttp.RequestHandler, text []byte, each func()) {
		b.Run(name, func(b *testing.B) {
			server := &fasthttp.Server{Handler: handler, ReadBufferSize: maxHeader, NoDefaultServerHeader: true, Logger: quiet{}}
			b.ReportAllocs()
			b.SetBytes(int64(len(fixed)))
			if err := server.ServeConn(&canned{text: text, n: b.N, each: each}); err != nil {
				b.Fatal(err)
			}
		})
	}
	constant := func(ctx *fasthttp.RequestCtx) {
		ctx.SetContentType(jsonType)
		ctx.Response.SetBodyRaw(fixed)
	}
	run("floor", constant, request(), nil)
	run("cached", s.handle, request(), nil)
	run("304", s.handle, request("If-None-Match: "+etag), nil)
	run("gzip", s.handle, request("Accept-Encoding: gzip"), nil)
	run("changed", s.handle, request(), move)
	run("move", constant, request(), move)
}

// BenchmarkRESTTickers asks for the tickers of a thousand instruments, none of which has moved; and makes the list anew.
func BenchmarkRESTTickers(b *testing.B) {
	s, _ := bookOf200(b)
	for i := range 1000 {
		in := market.Instrument{ID: uint32(i + 2), Sym: fmt.Sprintf("S%d-USDT", i), Source: "sim", Symbol: strconv.Itoa(i), PriceScale: 2, SizeScale: 5}
		for _, r := range []struct {
			t     wire.Template
			value []byte
		}{
			{wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: head(in.ID, 1), Instrument: in})},
			{wire.TemplateTrade, wire.AppendTrade(nil, &market.Trade{Head: head(in.ID, 1), Price: 6173763, Size: 5})},
		} {
			if err := s.mirror.Record(0, int64(10+2*i), r.t, r.value); err != nil {
				b.Fatal(err)
			}
		}
	}
	size := len(get(b, s, "/v1/ticker").Body())
	b.Run("shared", func(b *testing.B) {
		b.SetBytes(int64(size))
		b.ReportAllocs()
		server := &fasthttp.Server{Handler: s.handle, Logger: quiet{}}
		if err := server.ServeConn(&canned{text: []byte("GET /v1/ticker HTTP/1.1\r\nHost: x\r\n\r\n"), n: b.N}); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("made", func(b *testing.B) {
		b.SetBytes(int64(size))
		b.ReportAllocs()
		for b.Loop() {
			tickersOf(s.mirror.Listed())
		}
	})
}
