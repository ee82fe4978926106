package sse

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// get puts a request to a server that needs not run.
func get(t testing.TB, s *Server, target string, headers ...string) *fasthttp.Response {
	t.Helper()
	return &s.answered(t, http.MethodGet, target, headers...).Response
}

func header(r *fasthttp.Response, name string) string { return string(r.Header.Peek(name)) }

// exampleTime is when the examples of docs/PROTOCOL.md were made.
var exampleTime = time.UnixMicro(1723075200125714)

// asExample runs f with a server as the examples know it, at a time that stands as good as still.
func asExample(t *testing.T, change func(*Config), f func(t *testing.T, s *Server)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(exampleTime) - time.Second)
		cfg := DefaultConfig()
		if change != nil {
			change(&cfg)
		}
		s, err := New(cfg, Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		play(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.mirror.Run(ctx) }()
		time.Sleep(time.Until(exampleTime))
		synctest.Wait()
		f(t, s)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// play lets a server read the market of the examples.
func play(t *testing.T, s *Server) {
	t.Helper()
	m := s.mirror
	m.Expect(1)
	m.Phase(0, stream.PhaseReset, nil)
	offset := int64(0)
	record := func(tpl wire.Template, value []byte) {
		t.Helper()
		if err := m.Record(0, offset, tpl, value); err != nil {
			t.Fatal(err)
		}
		offset++
	}
	ts := market.FromTime(exampleTime.Truncate(time.Millisecond))
	at := func(inst uint32, seq uint64) market.Head {
		return market.Head{Inst: inst, Epoch: 1723000000, Prev: seq - 1, Seq: seq, Time: ts - 2_000_000, In: ts}
	}
	btc := market.Instrument{ID: 4099, Sym: "BTC-USDT", Source: "binance", Symbol: "BTCUSDT", PriceScale: 2, SizeScale: 5, TickSize: 1}
	eth := market.Instrument{ID: 4100, Sym: "ETH-USDT", Source: "binance", Symbol: "ETHUSDT", PriceScale: 2, SizeScale: 4, TickSize: 1}
	for _, in := range []market.Instrument{eth, btc} {
		record(wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: at(in.ID, 1), Instrument: in}))
	}
	snap := market.Snapshot{
		Head: at(btc.ID, 1001), Part: 1, Parts: 1,
		Bids: []market.Level{{Price: 6173763, Size: 40000}, {Price: 6173700, Size: 125000}, {Price: 6173000, Size: 1}},
		Asks: []market.Level{{Price: 6173764, Size: 300000}, {Price: 6173810, Size: 7500}},
	}
	snap.Hash = market.Hash{Sum: book.HashLevels(snap.Bids, snap.Asks), OK: true}
	record(wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &snap))
	bar := func(seq uint64, start market.Time) {
		record(wire.TemplateBar, wire.AppendBar(nil, &market.Bar{
			Head: at(btc.ID, seq), Interval: market.Minute, Start: start, Open: 6173700, High: 6173900, Low: 6173500, Close: 6173650,
			Volume: 123456789, Trades: 412, Final: true,
		}))
	}
	minute := ts.Truncate(time.Minute)
	bar(17, minute-market.Time(2*time.Minute))
	bar(18, minute-market.Time(time.Minute))
	trade := func(seq uint64, price market.Price, side market.Side) {
		record(wire.TemplateTrade, wire.AppendTrade(nil, &market.Trade{
			Head: at(btc.ID, seq), Price: price, Size: 1500, Side: side, ID: market.NumericTradeID(3739112312 + seq - 51),
		}))
	}
	trade(51, 6173763, market.Ask)
	record(wire.TemplateTradeGap, wire.AppendTradeGap(nil, &market.TradeGap{Head: at(btc.ID, 52), Why: market.Venue, Missed: 12}))
	trade(53, 6173764, market.Bid)
	m.Phase(0, stream.PhaseReady, nil)
	record(wire.TemplateOwnerHeartbeat, wire.AppendOwnerHeartbeat(nil, &wire.OwnerHeartbeat{Time: ts, Sources: []wire.SourceClock{{Source: "binance", Last: ts}}}))
}

// TestExamplesOfREST holds golden files, and with them the examples of docs/PROTOCOL.md, to what the server answers, and both
// to the OpenAPI document.
func TestExamplesOfREST(t *testing.T) {
	doc := readDocument(t)
	got := map[string][]byte{}
	asExample(t, nil, func(t *testing.T, s *Server) {
		f := func(name, path, target string, status int) {
			t.Helper()
			r := get(t, s, target)
			if r.StatusCode() != status {
				t.Errorf("%s: %d %s", target, r.StatusCode(), r.Body())
			}
			doc.Check(t, "get", path, r)
			if name != "" {
				got[name] = fmt.Appendf(nil, "GET %s\n\n%s\n", target, r.Body())
			}
		}
		f("instruments.txt", "/v1/instruments", "/v1/instruments", 200)
		f("book.txt", "/v1/book/{sym}", "/v1/book/BTC-USDT?depth=10", 200)
		f("book-none.txt", "/v1/book/{sym}", "/v1/book/ETH-USDT", 200)
		f("last-trades.txt", "/v1/trades/{sym}", "/v1/trades/BTC-USDT?limit=2", 200)
		f("tickers.txt", "/v1/ticker", "/v1/ticker", 200)
		f("history.txt", "/v1/bars/{sym}", "/v1/bars/BTC-USDT?iv=1m&limit=1", 200)
		f("", "/v1/time", "/v1/time", 200)
		f("", "/v1/streams", "/v1/streams", 200)
		f("", "/v1/ticker/{sym}", "/v1/ticker/BTC-USDT", 200)
		f("", "/v1/trades/{sym}", "/v1/trades/NO-SUCH", 404)
		f("problem.txt", "/v1/book/{sym}", "/v1/book/BTC-USDT?depth=20", 400)
	})
	checkExamples(t, "rest", got)
}

func TestHeaders(t *testing.T) {
	asExample(t, nil, func(t *testing.T, s *Server) {
		f := func(target, caching string) {
			t.Helper()
			r := get(t, s, target)
			want := map[string]string{
				"Cache-Control": caching, "Access-Control-Allow-Origin": "*", "RateLimit-Limit": "100", "Content-Type": jsonType,
				"Access-Control-Expose-Headers": exposed,
			}
			if r.StatusCode() != 200 {
				want["Content-Type"] = "application/problem+json"
			}
			for name, want := range want {
				if got := header(r, name); got != want {
					t.Errorf("%s: %s is %q, want %q", target, name, got, want)
				}
			}
			if etag := header(r, "ETag"); (caching == "no-store") != (etag == "") {
				t.Errorf("%s: ETag %q", target, etag)
			}
		}
		for _, target := range []string{"/v1/instruments", "/v1/book/BTC-USDT", "/v1/trades/BTC-USDT", "/v1/ticker", "/v1/ticker/BTC-USDT", "/v1/bars/BTC-USDT", "/v1/streams"} {
			f(target, "no-cache")
		}
		f("/v1/time", "no-store")
		f("/v1/book/NO-SUCH", "no-store")
		f("/v1/book/BTC-USDT?depth=7", "no-store")
	})
	asExample(t, func(c *Config) { c.RestRate = 0 }, func(t *testing.T, s *Server) {
		if r := get(t, s, "/v1/time"); header(r, "RateLimit-Limit") != "" {
			t.Error("a limit where there is none")
		}
	})
}

func TestParameters(t *testing.T) {
	asExample(t, func(c *Config) { c.RestRate = 0 }, func(t *testing.T, s *Server) {
		f := func(target string, status int, code, param string) {
			t.Helper()
			r := get(t, s, target)
			var p rest.Problem
			if r.StatusCode() != 200 {
				if err := json.Unmarshal(r.Body(), &p); err != nil {
					t.Errorf("%s: %s: %v", target, r.Body(), err)
				}
			}
			if r.StatusCode() != status || p.Code != code || p.Param != param || status != 200 && (p.Status != status || p.Title == "" || p.Detail == "") {
				t.Errorf("%s: %d %s; want %d %s %q", target, r.StatusCode(), r.Body(), status, code, param)
			}
		}
		good := func(target string) { t.Helper(); f(target, 200, "", "") }
		bad := func(target, param string) { t.Helper(); f(target, 400, "bad_request", param) }
		for _, depth := range []int{0, 10, 25, 50, 100} {
			good(fmt.Sprintf("/v1/book/BTC-USDT?depth=%d", depth))
		}
		for _, wrong := range []string{"1", "", "010", "+10", "10.0", "-10", "1e1", "ten", " 10", "10%00", "99999999999999999999"} {
			bad("/v1/book/BTC-USDT?depth="+wrong, "depth")
		}
		bad("/v1/book/BTC-USDT?depth=10&depth=10", "depth")
		bad("/v1/book/BTC-USDT?Depth=10", "Depth")
		bad("/v1/book/BTC-USDT?depth", "depth")
		bad("/v1/book/BTC-USDT?depth=10&limit=5", "limit")
		bad("/v1/book/BTC-USDT?"+strings.Repeat("x", 100), strings.Repeat("x", 40))
		good("/v1/trades/BTC-USDT?limit=1")
		good("/v1/trades/BTC-USDT?limit=1000")
		bad("/v1/trades/BTC-USDT?limit=0", "limit")
		bad("/v1/trades/BTC-USDT?limit=1001", "limit")
		for _, iv := range intervals() {
			good("/v1/bars/BTC-USDT?iv=" + iv)
		}
		bad("/v1/bars/BTC-USDT?iv=2m", "iv")
		good("/v1/bars/BTC-USDT?limit=2048&before=0")
		bad("/v1/bars/BTC-USDT?limit=2049", "limit")
		good("/v1/bars/BTC-USDT?before=9000000000000000")
		bad("/v1/bars/BTC-USDT?before=9000000000000001", "before")
		bad("/v1/bars/BTC-USDT?before=-1", "before")
		bad("/v1/ticker?sym=BTC-USDT", "sym")
		bad("/v1/time?x=1", "x")
		bad("/v1/streams?x=1", "x")
		bad("/v1/instruments?x=1", "x")
		good("/v1/ticker/BTC-USDT?")
		good("/v1/ticker/BTC%2DUSDT")
		f("/v1/ticker/btc-usdt", 404, "unknown_symbol", "sym")
		f("/v1/ticker/", 404, "unknown_symbol", "sym")
		f("/v1/ticker/BTC-USDT/x", 404, "unknown_symbol", "sym")
		f("/v1/book", 404, "bad_request", "")
		f("/v1/time/x", 404, "bad_request", "")
		f("/v1/", 404, "bad_request", "")
		f("/v1/books/BTC-USDT", 404, "bad_request", "")
		f("/", 404, "bad_request", "")
	})
}

func TestRESTNotReady(t *testing.T) {
	s, err := New(DefaultConfig(), Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	doc := readDocument(t)
	for _, path := range []string{"/v1/instruments", "/v1/book/{sym}", "/v1/trades/{sym}", "/v1/ticker", "/v1/ticker/{sym}", "/v1/bars/{sym}"} {
		r := get(t, s, strings.ReplaceAll(path, "{sym}", "BTC-USDT"))
		if r.StatusCode() != 503 || !strings.Contains(string(r.Body()), `"not_ready"`) || header(r, "Retry-After") != "1" {
			t.Errorf("%s: %d %s", path, r.StatusCode(), r.Body())
		}
		doc.Check(t, "get", path, r)
	}
	for _, path := range []string{"/v1/time", "/v1/streams", "/openapi.yaml"} {
		if r := get(t, s, path); r.StatusCode() != 200 {
			t.Errorf("%s: %d", path, r.StatusCode())
		}
	}
}

func TestConditional(t *testing.T) {
	asExample(t, func(c *Config) { c.RestRate = 0 }, func(t *testing.T, s *Server) {
		doc := readDocument(t)
		for _, path := range []string{"/v1/instruments", "/v1/book/{sym}", "/v1/trades/{sym}", "/v1/ticker", "/v1/ticker/{sym}", "/v1/bars/{sym}", "/v1/streams", "/openapi.yaml"} {
			target := strings.ReplaceAll(path, "{sym}", "BTC-USDT")
			etag := header(get(t, s, target), "ETag")
			for _, match := range []string{etag, strings.TrimPrefix(etag, "W/"), `"a", ` + etag, "*"} {
				r := get(t, s, target, "If-None-Match: "+match)
				if r.StatusCode() != 304 || len(r.Body()) > 0 || header(r, "ETag") != etag || header(r, "Cache-Control") != "no-cache" || header(r, "Access-Control-Allow-Origin") != "*" {
					t.Errorf("%s with %s: %d, %s", target, match, r.StatusCode(), r.Header.String())
				}
				if path != openapiPath {
					doc.Check(t, "get", path, r)
				}
			}
			if r := get(t, s, target, `If-None-Match: W/"other"`); r.StatusCode() != 200 {
				t.Errorf("%s with another tag: %d", target, r.StatusCode())
			}
		}
		trades := header(get(t, s, "/v1/trades/BTC-USDT"), "ETag")
		h := market.Head{Inst: 4099, Epoch: 1723000000, Prev: 53, Seq: 54, Time: market.FromTime(exampleTime)}
		if err := s.mirror.Record(0, 100, wire.TemplateTrade, wire.AppendTrade(nil, &market.Trade{Head: h, Price: 5, Size: 5})); err != nil {
			t.Fatal(err)
		}
		if r := get(t, s, "/v1/trades/BTC-USDT", "If-None-Match: "+trades); r.StatusCode() != 200 {
			t.Errorf("after a trade: %d", r.StatusCode())
		}
		if r := get(t, s, "/v1/book/BTC-USDT", "If-None-Match: "+trades); r.StatusCode() != 200 {
			t.Errorf("another path's tag: %d", r.StatusCode())
		}
	})
}

// TestLists has many ask for a list: it is made for all of them, and anew after a moment.
func TestLists(t *testing.T) {
	asExample(t, func(c *Config) { c.RestRate = 0 }, func(t *testing.T, s *Server) {
		f := func(path string, change func()) {
			t.Helper()
			before := header(get(t, s, path), "ETag")
			change()
			if r := get(t, s, path, "If-None-Match: "+before); r.StatusCode() != 304 {
				t.Errorf("%s: %d within a moment", path, r.StatusCode())
			}
			time.Sleep(listAge)
			if r := get(t, s, path, "If-None-Match: "+before); r.StatusCode() != 200 {
				t.Errorf("%s: %d afterwards", path, r.StatusCode())
			}
		}
		f("/v1/ticker", func() {
			h := market.Head{Inst: 4099, Epoch: 1723000000, Prev: 53, Seq: 54, Time: market.FromTime(exampleTime)}
			if err := s.mirror.Record(0, 100, wire.TemplateTrade, wire.AppendTrade(nil, &market.Trade{Head: h, Price: 5, Size: 5})); err != nil {
				t.Fatal(err)
			}
		})
		f("/v1/instruments", func() {
			in := market.Instrument{ID: 4101, Sym: "NEW-USDT", Source: "binance", Symbol: "NEWUSDT", PriceScale: 2, SizeScale: 5}
			h := market.Head{Inst: 4101, Epoch: 1723000000, Seq: 1, Time: market.FromTime(exampleTime)}
			if err := s.mirror.Record(0, 101, wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: h, Instrument: in})); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func TestGzip(t *testing.T) {
	asExample(t, nil, func(t *testing.T, s *Server) {
		f := func(target, accept string, want bool) {
			t.Helper()
			plain, r := get(t, s, target), get(t, s, target, "Accept-Encoding: "+accept)
			body := r.Body()
			if packed := header(r, "Content-Encoding") == "gzip"; packed != want {
				t.Errorf("%s, %s: packed %v", target, accept, packed)
			} else if packed {
				z, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if body, err = io.ReadAll(z); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(plain.Body(), body) {
				t.Errorf("%s, %s: another body", target, accept)
			}
			if header(r, "Vary") != "Accept-Encoding" || header(r, "ETag") != header(plain, "ETag") {
				t.Errorf("%s: %s", target, r.Header.String())
			}
		}
		f("/v1/streams", "gzip", true)
		f("/v1/streams", "br;q=1.0, gzip;q=0.5", true)
		f("/v1/streams", "gzip;q=0", false)
		f("/v1/streams", "identity", false)
		f("/v1/book/BTC-USDT", "gzip", false) // too short
	})
}

func TestMethods(t *testing.T) {
	e := newEvents(t).edge(nil)
	client := &http.Transport{DisableCompression: true}
	defer client.CloseIdleConnections()
	f := func(method, path string, status int) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+e.s.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status || method == http.MethodHead && len(body) > 0 {
			t.Errorf("%s %s: %d %q", method, path, resp.StatusCode, body)
		}
		return resp
	}
	for _, path := range []string{"/v1/book/BTC-USDT", "/v1/streams", "/openapi.yaml"} {
		got, head := f(http.MethodGet, path, 200), f(http.MethodHead, path, 200)
		for _, name := range []string{"Content-Type", "ETag", "Cache-Control"} {
			if got.Header.Get(name) != head.Header.Get(name) {
				t.Errorf("%s: HEAD has %s %q", path, name, head.Header.Get(name))
			}
		}
		if head.ContentLength != got.ContentLength || head.ContentLength < 80 {
			t.Errorf("%s: HEAD has length %d, GET %d", path, head.ContentLength, got.ContentLength)
		}
		if f(http.MethodPut, path, 405).Header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: 405 without Allow", path)
		}
		f(http.MethodOptions, path, 204)
	}
}

// TestDiscovery asks for everything that /v1/streams tells.
func TestDiscovery(t *testing.T) {
	asExample(t, func(c *Config) { c.RestRate = 0 }, func(t *testing.T, s *Server) {
		var d discovered
		if err := json.Unmarshal(get(t, s, "/v1/streams").Body(), &d); err != nil {
			t.Fatal(err)
		}
		if len(d.REST) != len(endpoints) || len(d.Streams) != 6 {
			t.Errorf("%d of %d endpoints, %d streams", len(d.REST), len(endpoints), len(d.Streams))
		}
		for _, p := range d.REST {
			path, query, _ := strings.Cut(strings.ReplaceAll(p.URL, "{sym}", "BTC-USDT"), "{?")
			names := strings.FieldsFunc(query, func(r rune) bool { return r == ',' || r == '}' })
			if len(names) != len(p.Params) {
				t.Errorf("%s has %d parameters", p.URL, len(p.Params))
			}
			if r := get(t, s, path); r.StatusCode() != 200 {
				t.Errorf("%s: %d", path, r.StatusCode())
			}
			for i, q := range p.Params {
				values := q.Values
				if q.Values == nil {
					values = []string{strconv.FormatInt(q.Min, 10), strconv.FormatInt(q.Max, 10)}
				}
				if q.Default != "" {
					values = append(values, q.Default)
				}
				for _, v := range values {
					if r := get(t, s, path+"?"+names[i]+"="+v); r.StatusCode() != 200 {
						t.Errorf("%s?%s=%s: %d", path, names[i], v, r.StatusCode())
					}
				}
			}
		}
		for _, p := range d.Streams {
			if p.Kind != "sse" {
				if p.URL != "/v1/ws" || len(p.Ch) != market.NumChannels || p.Sub[0] != wire.SubprotocolJSON {
					t.Errorf("%+v", p)
				}
				continue
			}
			path, _, _ := strings.Cut(strings.TrimPrefix(p.URL, "/v1/sse/"), "{?")
			for _, q := range p.Params {
				for _, v := range append(slices.Clone(q.Values), q.Default) {
					_, wrong := parseSpec(path, func(name string) string {
						switch {
						case name == q.Name:
							return v
						case name == "symbols" && !strings.HasSuffix(path, "/all"):
							return "BTC-USDT"
						}
						return ""
					})
					if wrong != nil && (!q.Required || v != "") {
						t.Errorf("%s with %s=%s: %+v", path, q.Name, v, wrong)
					}
				}
			}
		}
	})
	f := func(url string, find func() string, want string) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.WSURL = url
		s, err := New(cfg, Deps{Log: zap.NewNop(), WebSocket: find})
		if err != nil {
			t.Fatal(err)
		}
		if body := get(t, s, "/v1/streams").Body(); !bytes.Contains(body, []byte(`"url":"`+want+`"`)) {
			t.Errorf("%s is not in %s", want, body)
		}
	}
	f("", nil, "/v1/ws")
	f("", func() string { return "ws://127.0.0.1:5/v1/ws" }, "ws://127.0.0.1:5/v1/ws")
	f("wss://market.example/v1/ws", func() string { return "ws://127.0.0.1:5/v1/ws" }, "wss://market.example/v1/ws")
}

// TestBarsBack pages back through history as docs/PROTOCOL.md says.
func TestBarsBack(t *testing.T) {
	l := newEvents(t)
	l.beat()
	for range 250 {
		l.bar(1, market.Minute)
	}
	e := l.prepare(func(c *Config) { c.RestRate = 0 })
	var all []int64
	before := ""
	for {
		var a struct {
			Seq  uint64
			Bars []struct {
				T     int64
				Seq   uint64
				Final bool
			}
		}
		r := get(t, e.s, "/v1/bars/BTC-USDT?limit=60"+before)
		if err := json.Unmarshal(r.Body(), &a); err != nil {
			t.Fatalf("%s: %v", r.Body(), err)
		}
		var page []int64
		for _, b := range a.Bars {
			if !b.Final || b.Seq != a.Seq || a.Seq != 250 {
				t.Errorf("%+v in an answer at %d", b, a.Seq)
			}
			page = append(page, b.T)
		}
		if all = append(page, all...); len(page) < 60 {
			break
		}
		before = fmt.Sprint("&before=", page[0])
	}
	if len(all) != 250 || !slices.IsSorted(all) {
		t.Errorf("%d bars", len(all))
	}
}

func TestRateLimit(t *testing.T) {
	asExample(t, func(c *Config) { c.RestRate, c.RestBurst = 2, 5 }, func(t *testing.T, s *Server) {
		doc := readDocument(t)
		for i := range 5 {
			r := get(t, s, "/v1/time")
			if r.StatusCode() != 200 || header(r, "RateLimit-Limit") != "5" || header(r, "RateLimit-Remaining") != strconv.Itoa(4-i) {
				t.Errorf("request %d: %d\n%s", i, r.StatusCode(), r.Header.String())
			}
		}
		r := get(t, s, "/v1/book/BTC-USDT")
		if r.StatusCode() != 429 || header(r, "Retry-After") != "1" || header(r, "RateLimit-Remaining") != "0" || header(r, "RateLimit-Reset") != "3" ||
			!bytes.Contains(r.Body(), []byte(`"rate"`)) || header(r, "Cache-Control") != "no-store" {
			t.Errorf("beyond: %d %s\n%s", r.StatusCode(), r.Body(), r.Header.String())
		}
		doc.Check(t, "get", "/v1/book/{sym}", r)
		time.Sleep(1100 * time.Millisecond)
		for i, want := range []int{200, 200, 429} {
			if r := get(t, s, "/v1/time"); r.StatusCode() != want {
				t.Errorf("request %d a second later: %d", i, r.StatusCode())
			}
		}
	})
}

func TestRequestMetrics(t *testing.T) {
	l := newEvents(t)
	e := l.prepare(func(c *Config) { c.RestBurst = 3; c.RestRate = 0.001 })
	for _, target := range []string{"/v1/book/BTC-USDT", "/v1/book/NO-SUCH", "/v1/book/BTC-USDT?depth=3", "/v1/book/ETH-USDT", "/v1/nothing/here", "/any\x00thing"} {
		get(t, e.s, target)
	}
	all, err := e.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range all {
		for _, m := range family.GetMetric() {
			labels := ""
			for _, p := range m.GetLabel() {
				labels += " " + p.GetValue()
			}
			switch family.GetName() {
			case "sse_requests_total":
				got = append(got, fmt.Sprint(labels[1:], " ", m.GetCounter().GetValue()))
			case "sse_request_seconds":
				got = append(got, fmt.Sprint("seconds", labels, " ", m.GetHistogram().GetSampleCount()))
			case "sse_rate_limited_total":
				got = append(got, fmt.Sprint("limited ", m.GetCounter().GetValue()))
			}
		}
	}
	slices.Sort(got)
	want := []string{"200 /v1/book/{sym} 1", "400 /v1/book/{sym} 1", "404 /v1/book/{sym} 1", "404 other 2", "429 /v1/book/{sym} 1", "limited 1", "seconds /v1/book/{sym} 4", "seconds other 2"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestRESTTokens asks as somebody who may have one channel of some instruments.
func TestRESTTokens(t *testing.T) {
	s, _ := asking(t, "required", "", nil)
	play(t, s)
	doc := readDocument(t)
	bearer := func(scope string) string { return "Authorization: Bearer " + testkit.Token("desk", time.Hour, scope) }
	f := func(path, sym, scope string, status int, contains string) {
		t.Helper()
		target := strings.ReplaceAll(path, "{sym}", sym)
		var headers []string
		if scope != "" {
			headers = append(headers, bearer(scope))
		}
		path, _, _ = strings.Cut(path, "?")
		r := get(t, s, target, headers...)
		if r.StatusCode() != status || !strings.Contains(string(r.Body()), contains) {
			t.Errorf("%s with %s: %d %s; want %d %s", target, scope, r.StatusCode(), r.Body(), status, contains)
		}
		doc.Check(t, "get", path, r)
	}
	const some = `{"channels":["ticker","book"],"symbols":["BTC-*"],"depth":25,"ms":250}`
	f("/v1/ticker/{sym}", "BTC-USDT", some, 200, `"ticker":{`)
	f("/v1/ticker/{sym}", "BTC-NONE", some, 404, "unknown_symbol")
	f("/v1/ticker/{sym}", "ETH-USDT", some, 403, "forbidden")
	f("/v1/ticker/{sym}", "ETH-NONE", some, 403, "forbidden") // whether there is one or not
	f("/v1/trades/{sym}", "BTC-USDT", some, 403, "channel")
	f("/v1/bars/{sym}", "BTC-USDT", some, 403, "channel")
	f("/v1/book/{sym}?depth=25", "BTC-USDT", some, 200, `"depth":25`)
	f("/v1/book/{sym}", "BTC-USDT", some, 403, "depth")
	f("/v1/book/{sym}?depth=0", "BTC-USDT", some, 403, "depth")
	f("/v1/ticker", "", some, 200, `{"items":[{"ch":"ticker","sym":"BTC-USDT"`)
	f("/v1/instruments", "", some, 200, `{"items":[{"sym":"BTC-USDT"`)
	for _, path := range []string{"/v1/ticker", "/v1/instruments"} {
		if r := get(t, s, path, bearer(some)); bytes.Contains(r.Body(), []byte("ETH")) || header(r, "Cache-Control") != "private, no-cache" {
			t.Errorf("%s: %s\n%s", path, r.Body(), r.Header.String())
		}
	}
	f("/v1/ticker", "", `{"channels":["book"]}`, 403, "channel")
	f("/v1/instruments", "", `{"channels":["bars"]}`, 200, "ETH-USDT")
	for _, path := range []string{"/v1/instruments", "/v1/book/{sym}", "/v1/trades/{sym}", "/v1/ticker", "/v1/ticker/{sym}", "/v1/bars/{sym}"} {
		f(path, "BTC-USDT", "", 401, "auth_required")
	}
	f("/v1/time", "", "", 200, "")
	f("/v1/streams", "", "", 200, `"auth":"required"`)
	ticket := s.ticket(t, testkit.Token("desk", time.Hour, some))
	f("/v1/ticker/{sym}?ticket="+ticket, "BTC-USDT", "", 200, "")
	f("/v1/ticker/{sym}?ticket="+ticket, "BTC-USDT", "", 401, "ticket")
}

// TestPayers has one place ask by good and bad tokens, and without.
func TestPayers(t *testing.T) {
	s, _ := asking(t, "required", "", func(c *Config) { c.RestRate, c.RestBurst = 0.001, 10 })
	play(t, s)
	f := func(status, n int, headers ...string) {
		t.Helper()
		for range n {
			if r := get(t, s, "/v1/ticker/BTC-USDT", headers...); r.StatusCode() != status {
				t.Fatalf("%v: %d %s", headers, r.StatusCode(), r.Body())
			}
		}
	}
	desk := "Authorization: Bearer " + testkit.Token("desk", time.Hour, "")
	f(200, 4, desk)
	f(200, 6, "Authorization: Bearer "+testkit.Token("desk", 2*time.Hour, "")) // the same subject
	f(429, 1, desk)
	f(200, 10, "Authorization: Bearer "+testkit.Token("other", time.Hour, ""))
	const elsewhere = "X-Forwarded-For: 203.0.113.9" // no proxy of ours said so
	f(401, 10, "Authorization: Bearer "+testkit.Token("desk", -time.Hour, ""), elsewhere)
	f(429, 1, "Authorization: Bearer "+testkit.Token("desk", -time.Hour, ""))
	f(429, 1)
	f(429, 1, "Authorization: Bearer "+testkit.Token("third", time.Hour, "")) // it is not even looked at
}

// TestStreamsPay opens streams until the bucket is empty: a browser is asked to come back, others hear of their error.
func TestStreamsPay(t *testing.T) {
	l := newEvents(t)
	e := l.edge(func(c *Config) { c.RestRate, c.RestBurst = 0.001, 3 })
	for range 3 {
		e.open("/v1/sse/trades?symbols=BTC-USDT").expect("hello")
	}
	if m := e.open("/v1/sse/trades?symbols=BTC-USDT").expect("goodbye"); m.field(t, "why") != "overload" || m.retry < 5000 {
		t.Errorf("%+v", m)
	}
	for range 2 {
		r := e.open("/v1/sse/trades?symbols=BTC-USDT", "Accept: application/json")
		if r.resp.StatusCode != 429 || r.resp.Header.Get("Retry-After") == "" {
			t.Errorf("%d %v", r.resp.StatusCode, r.resp.Header)
		}
	}
	if n := e.value("sse_rate_limited_total"); n != 3 {
		t.Errorf("%g requests were limited", n)
	}
}

// FuzzREST asks for anything. Whatever it is, the answer is JSON, and says what was wrong with the request.
func FuzzREST(f *testing.F) {
	l := newEvents(f)
	l.beat()
	l.trade(1)
	l.quote(1, 100)
	s := l.prepare(nil).s
	for i := range endpoints {
		f.Add(strings.ReplaceAll(endpoints[i].path, "{sym}", "BTC-USDT")[len("/v1/"):])
	}
	for _, path := range []string{"book/BTC-USDT?depth=10&depth=10", "bars/BTC-USDT?iv=1m&limit=5&before=%31", "ticker/%00", "trades/?limit=1", "//book//x", "book/../time", "?", "time?%zz=%"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if strings.Contains(path, "sse") {
			t.Skip("that may be a stream")
		}
		r := get(t, s, "/v1/"+path)
		if !json.Valid(r.Body()) {
			t.Fatalf("%d %q", r.StatusCode(), r.Body())
		}
		var p rest.Problem
		switch code := r.StatusCode(); {
		case code == 200:
		case code != 400 && code != 404 && code != 405: // of tickets
			t.Fatalf("%d %s", code, r.Body())
		default:
			if err := json.Unmarshal(r.Body(), &p); err != nil || p.Status != code || p.Code == "" || p.Detail == "" || p.Title == "" {
				t.Fatalf("%d %s: %v", code, r.Body(), err)
			}
		}
	})
}
