package sse

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/rest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), // ends within ten seconds
	)
}

const (
	epoch   = 1_700_000_000
	logName = "k7q2m4xw"
)

// The market of the tests: three instruments in two partitions.
var instruments = []market.Instrument{
	{ID: 1, Sym: "BTC-USDT", Source: "sim", Symbol: "BTCUSDT", PriceScale: 2, SizeScale: 4},
	{ID: 2, Sym: "ETH-USDT", Source: "sim", Symbol: "ETHUSDT", PriceScale: 2, SizeScale: 4},
	{ID: 3, Sym: "SOL-USDT", Source: "sim", Symbol: "SOLUSDT", PriceScale: 3, SizeScale: 2},
}

func partitionOf(inst uint32) int { return int(inst) % 2 }

// events is md.events, which edges read as far as they are let.
type events struct {
	t     testing.TB
	all   []event
	ends  [2]int64
	seqs  map[uint32]uint64
	bars  map[uint32]uint64
	edges []*edge
}

type event struct {
	partition int
	offset    int64
	template  wire.Template
	value     []byte
}

func newEvents(t testing.TB) *events {
	l := &events{t: t, seqs: make(map[uint32]uint64), bars: make(map[uint32]uint64)}
	for i := range instruments {
		l.list(&instruments[i])
	}
	return l
}

// append writes a record, and lets those edges read it that keep up.
func (l *events) append(partition int, t wire.Template, value []byte) {
	l.t.Helper()
	l.all = append(l.all, event{partition, l.ends[partition], t, value})
	l.ends[partition]++
	for _, e := range l.edges {
		if !e.held {
			e.catchUp()
		}
	}
}

func head(inst uint32, seq uint64) market.Head {
	now := market.FromTime(time.Now())
	return market.Head{Inst: inst, Epoch: epoch, Prev: seq - 1, Seq: seq, Time: now, In: now}
}

func (l *events) list(in *market.Instrument) {
	l.append(partitionOf(in.ID), wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: head(in.ID, 1), Instrument: *in}))
}

func (l *events) trade(inst uint32) {
	l.t.Helper()
	l.seqs[inst]++
	seq := l.seqs[inst]
	l.append(partitionOf(inst), wire.TemplateTrade, wire.AppendTrade(nil, &market.Trade{
		Head: head(inst, seq), Price: market.Price(100_000 + seq), Size: 5, ID: market.NumericTradeID(seq),
	}))
}

func (l *events) gap(inst uint32) {
	l.seqs[inst]++
	l.append(partitionOf(inst), wire.TemplateTradeGap, wire.AppendTradeGap(nil, &market.TradeGap{Head: head(inst, l.seqs[inst]), Why: market.Venue, Missed: 3}))
}

func (l *events) bar(inst uint32, iv market.Interval) {
	l.bars[inst]++
	seq := l.bars[inst]
	start := market.FromTime(time.Now().Add(time.Duration(seq)*iv.Duration() - 100*iv.Duration())).Truncate(iv.Duration())
	l.append(partitionOf(inst), wire.TemplateBar, wire.AppendBar(nil, &market.Bar{
		Head: head(inst, seq), Interval: iv, Start: start, Open: 1, High: 3, Low: 1, Close: 2, Volume: 7, Trades: 2, Final: true,
	}))
}

func (l *events) quote(inst uint32, bid market.Price) {
	s := market.Snapshot{Head: head(inst, uint64(len(l.all))), Part: 1, Parts: 1}
	s.Bids, s.Asks = []market.Level{{Price: bid, Size: 1}}, []market.Level{{Price: bid + 1, Size: 1}}
	l.append(partitionOf(inst), wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &s))
}

// beat tells that the market lives.
func (l *events) beat() {
	now := market.FromTime(time.Now())
	for p := range l.ends {
		l.append(p, wire.TemplateOwnerHeartbeat, wire.AppendOwnerHeartbeat(nil, &wire.OwnerHeartbeat{Time: now, Sources: []wire.SourceClock{{Source: "sim", Last: now}}}))
	}
}

// edge is a server that reads events.
type edge struct {
	t       testing.TB
	l       *events
	s       *Server
	metrics *prometheus.Registry
	read    int
	held    bool // it reads only when told to
	stop    context.CancelFunc
	done    chan error
	ending  sync.Once
}

func (l *events) edge(change func(*Config)) *edge {
	l.t.Helper()
	e := l.prepare(change)
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	go func() { e.done <- e.s.Run(ctx) }()
	select {
	case <-e.s.Listening():
	case err := <-e.done:
		l.t.Fatal(err)
	}
	l.t.Cleanup(e.end)
	return e
}

// prepare makes an edge that has read everything so far.
func (l *events) prepare(change func(*Config)) *edge {
	l.t.Helper()
	cfg := DefaultConfig()
	cfg.Addr, cfg.Drain, cfg.RestRate = "127.0.0.1:0", 50*time.Millisecond, 0
	if change != nil {
		change(&cfg)
	}
	registry := prometheus.NewRegistry()
	s, err := New(cfg, Deps{Log: zap.NewNop(), Metrics: registry})
	if err != nil {
		l.t.Fatal(err)
	}
	e := &edge{t: l.t, l: l, s: s, metrics: registry, done: make(chan error, 1)}
	s.mirror.Name(func() string { return logName })
	s.mirror.Expect(2)
	for p := range 2 {
		s.mirror.Phase(p, stream.PhaseReset, nil)
	}
	e.catchUp()
	for p := range 2 {
		s.mirror.Phase(p, stream.PhaseReady, nil)
	}
	l.edges = append(l.edges, e)
	return e
}

func (e *edge) catchUp() {
	e.t.Helper()
	for ; e.read < len(e.l.all); e.read++ {
		r := e.l.all[e.read]
		if err := e.s.mirror.Record(r.partition, r.offset, r.template, r.value); err != nil {
			e.t.Fatal(err)
		}
	}
}

func (e *edge) end() {
	e.t.Helper()
	e.ending.Do(func() {
		e.held = true
		e.stop()
		select {
		case err := <-e.done:
			if err != nil {
				e.t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			e.t.Error("Run does not end")
		}
	})
}

// value is that of a metric without labels, or the sum over all labels.
func (e *edge) value(name string) (sum float64) {
	e.t.Helper()
	all, err := e.metrics.Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// reader is a client of a stream.
type reader struct {
	t    testing.TB
	conn net.Conn
	resp *http.Response
	in   *bufio.Reader
}

// message is one event as a client gets it.
type message struct {
	id, name, data string
	retry          int
}

func (e *edge) open(path string, headers ...string) *reader {
	e.t.Helper()
	conn, err := net.Dial("tcp", e.s.Addr())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = conn.Close() })
	return openOn(e.t, conn, path, headers...)
}

func openOn(t testing.TB, conn net.Conn, path string, headers ...string) *reader {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, strings.Join(append(headers, ""), "\r\n")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &reader{t, conn, resp, bufio.NewReader(resp.Body)}
}

// next reads an event; at the end of the stream it has no name.
func (r *reader) next() (m message) {
	r.t.Helper()
	m, err := r.read()
	if err != nil {
		r.t.Fatalf("%v, after %+v", err, m)
	}
	return m
}

func (r *reader) read() (m message, err error) {
	for {
		line, err := r.in.ReadString('\n')
		if err == io.EOF && line == "" && m == (message{}) { //nolint:errorlint // it comes as it is
			return m, nil
		}
		if err != nil {
			return m, fmt.Errorf("%q: %w", line, err)
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "id":
			m.id = value
		case "event":
			m.name = value
		case "data":
			m.data += value
		case "retry":
			if m.retry, err = strconv.Atoi(value); err != nil {
				return m, err
			}
		case ":":
			m.name = ":"
		case "":
			return m, nil
		default:
			return m, fmt.Errorf("a line %q", line)
		}
	}
}

func (r *reader) expect(name string) message {
	r.t.Helper()
	for {
		m := r.next()
		if m.name == name {
			return m
		}
		if m.name != "status" { // when states change depends on time
			r.t.Fatalf("%+v, want %s", m, name)
		}
	}
}

// field reads a field of an event's data.
func (m *message) field(t testing.TB, name string) string {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(m.data), &all); err != nil {
		t.Fatalf("%s: %v", m.data, err)
	}
	return strings.Trim(string(all[name]), `"`)
}

const allSymbols = "symbols=BTC-USDT,ETH-USDT,SOL-USDT"

func TestStream(t *testing.T) {
	l := newEvents(t)
	l.beat()
	l.trade(1)
	e := l.edge(nil)
	r := e.open("/v1/sse/trades?symbols=eth-usdt,BTC-USDT")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Access-Control-Allow-Origin": "*",
	} {
		if got := r.resp.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if !r.resp.Close {
		t.Error("the connection seems to be good for another request")
	}
	hello := r.next()
	if hello.name != "hello" || hello.retry < 2000 || hello.retry > 5000 || hello.field(t, "how") != "snapshot" || hello.id != "" ||
		hello.field(t, "symbols") != `["BTC-USDT","ETH-USDT"]` || hello.field(t, "proto") != "1" || hello.field(t, "rate") != "0" {
		t.Fatalf("%+v", hello)
	}
	if snap := r.next(); snap.name != "snapshot" || !strings.HasPrefix(snap.id, logName+".") || !strings.Contains(snap.data, `"sym":"BTC-USDT","ep":1700000000,"seq":1,"state":"stale","why":"start","trades":[{"ch":"trades"`) ||
		!strings.Contains(snap.data, `{"sym":"ETH-USDT","ep":0,"seq":0,"state":"stale","why":"start","trades":[]}`) {
		t.Fatalf("%+v", snap)
	}
	l.beat()
	for range 2 {
		if m := r.next(); m.name != "status" || m.field(t, "state") != "live" {
			t.Errorf("%+v", m)
		}
	}
	l.trade(2)
	l.trade(3) // of another stream
	l.trade(1)
	l.gap(1)
	for _, want := range []struct{ name, sym, seq string }{{"trade", "ETH-USDT", "1"}, {"trade", "BTC-USDT", "2"}, {"gap", "BTC-USDT", "3"}} {
		m := r.expect(want.name)
		if m.field(t, "sym") != want.sym || m.field(t, "seq") != want.seq {
			t.Errorf("%+v, want %v", m, want)
		}
		if _, p, ok := parseID(m.id); !ok || len(p.parts) != 2 {
			t.Errorf("id %q", m.id)
		}
	}
}

func TestValues(t *testing.T) {
	l := newEvents(t)
	l.beat()
	l.trade(1)
	l.quote(1, 100)
	e := l.edge(nil)
	ticker := e.open("/v1/sse/ticker?symbols=BTC-USDT&rate=100ms")
	if hello := ticker.expect("hello"); hello.id != logName+".s" {
		t.Errorf("%+v", hello)
	}
	if snap := ticker.expect("snapshot"); snap.id != "" || !strings.Contains(snap.data, `"ticker":{"ch":"ticker","sym":"BTC-USDT"`) {
		t.Errorf("%+v", snap)
	}
	bbo := e.open("/v1/sse/bbo?symbols=BTC-USDT,SOL-USDT&rate=100ms")
	bbo.expect("hello")
	if snap := bbo.expect("snapshot"); !strings.Contains(snap.data, `"b":["1","0.0001"]`) || !strings.Contains(snap.data, `"bbo":null`) {
		t.Errorf("%+v", snap)
	}
	for range 5 { // within one beat or two: the newest is what counts
		l.trade(1)
		l.quote(1, 200+market.Price(l.seqs[1]))
	}
	for m := ticker.expect("ticker"); m.field(t, "seq") != "6"; m = ticker.expect("ticker") {
		if m.id != "" {
			t.Errorf("%+v", m)
		}
	}
	for m := bbo.expect("bbo"); m.field(t, "b") != `["2.06","0.0001"]`; {
		m = bbo.expect("bbo")
	}
}

func TestBars(t *testing.T) {
	l := newEvents(t)
	l.beat()
	for range 5 {
		l.bar(1, market.Minute)
	}
	e := l.edge(nil)
	r := e.open("/v1/sse/bars?symbols=BTC-USDT&rate=100ms")
	if hello := r.expect("hello"); hello.field(t, "iv") != "1m" {
		t.Errorf("%+v", hello)
	}
	snap := r.expect("snapshot")
	if strings.Count(snap.data, `"final":true`) != 2 || !strings.Contains(snap.data, `"iv":"1m","items":[{"sym":"BTC-USDT"`) {
		t.Errorf("%+v", snap)
	}
	l.bar(1, market.Minute)
	l.bar(1, market.Hour)
	l.bars[1]--
	l.bar(1, market.Minute)
	first := r.expect("bar")
	second := r.expect("bar")
	if first.field(t, "seq") != "6" || second.field(t, "seq") != "7" || first.id == "" || second.id == first.id {
		t.Errorf("%+v, %+v", first, second)
	}
	again := e.open("/v1/sse/bars?symbols=BTC-USDT&rate=100ms", "Last-Event-ID: "+first.id)
	if hello := again.expect("hello"); hello.field(t, "how") != "replay" || hello.id != first.id {
		t.Errorf("%+v", hello)
	}
	if m := again.expect("bar"); m.data != second.data {
		t.Errorf("%+v, want %+v", m, second)
	}
}

// TestResumeAnywhere takes every id of a stream to two edges: one that was there and one that has started since. Both go on
// with each trade once.
func TestResumeAnywhere(t *testing.T) {
	l := newEvents(t)
	l.beat()
	a := l.edge(nil)
	r := a.open("/v1/sse/trades?" + allSymbols)
	r.expect("hello")
	ids := []string{r.expect("snapshot").id}
	const n = 60
	var seen []message
	for i := range n {
		l.trade(uint32(1 + (i*i+i/7)%3))
		if i%10 == 0 {
			l.beat()
		}
		seen = append(seen, r.expect("trade"))
		ids = append(ids, seen[i].id)
	}
	b := l.edge(nil)
	late := b.open("/v1/sse/trades?" + allSymbols) // its own ids are others, for it has seen nothing yet
	late.expect("hello")
	ids = append(ids, late.expect("snapshot").id)
	for i, id := range ids {
		had := i
		if i == len(ids)-1 {
			had = n
		}
		for name, e := range map[string]*edge{"a": a, "b": b} {
			got := e.open("/v1/sse/trades?"+allSymbols, "Last-Event-ID: "+id)
			if hello := got.expect("hello"); hello.field(t, "how") != "replay" || hello.id != id {
				t.Fatalf("edge %s, from %s: %+v", name, id, hello)
			}
			next := map[string]int{}
			for _, m := range seen[:had] {
				next[m.field(t, "sym")]++
			}
			last := id
			for range n - had {
				m := got.expect("trade")
				sym := m.field(t, "sym")
				if next[sym]++; m.field(t, "seq") != strconv.Itoa(next[sym]) {
					t.Fatalf("edge %s, from %s: %+v, want seq %d", name, id, m, next[sym])
				}
				last = m.id
			}
			_ = got.conn.Close()
			// The last id of a replay stands for all of it.
			end := a.open("/v1/sse/trades?" + allSymbols + "&lastEventId=" + last)
			end.expect("hello")
			_ = end.conn.Close()
			if _, p, _ := parseID(last); len(p.offsets) != 2 {
				t.Fatalf("id %s", last)
			}
		}
	}
	// What comes next comes to all who have resumed, once.
	got := b.open("/v1/sse/trades?"+allSymbols, "Last-Event-ID: "+seen[n-1].id)
	got.expect("hello")
	l.trade(2)
	if m := got.expect("trade"); m.field(t, "seq") != strconv.FormatUint(l.seqs[2], 10) {
		t.Errorf("%+v", m)
	}
}

// TestAhead resumes at an edge that has not come so far yet.
func TestAhead(t *testing.T) {
	l := newEvents(t)
	l.beat()
	a, b := l.edge(nil), l.edge(nil)
	r := a.open("/v1/sse/trades?symbols=BTC-USDT")
	r.expect("hello")
	r.expect("snapshot")
	b.held = true
	var last message
	for range 5 {
		l.trade(1)
		last = r.expect("trade")
	}
	opened := make(chan *reader)
	go func() { opened <- b.open("/v1/sse/trades?symbols=BTC-USDT", "Last-Event-ID: "+last.id) }()
	select {
	case <-opened:
		t.Fatal("an edge that is behind has answered")
	case <-time.After(200 * time.Millisecond):
	}
	b.catchUp()
	b.held = false
	got := <-opened
	if hello := got.expect("hello"); hello.field(t, "how") != "replay" {
		t.Errorf("%+v", hello)
	}
	l.trade(1)
	if m := got.expect("trade"); m.field(t, "seq") != "6" {
		t.Errorf("%+v", m)
	}
	// A place that no log has ever reached.
	beyond := position{[]int{1}, []int64{1 << 40}}
	never := a.open("/v1/sse/trades?symbols=BTC-USDT", "Last-Event-ID: "+string(beyond.appendID(nil, logName)))
	never.expect("hello")
	if m := never.expect("reset"); m.field(t, "why") != resetAhead {
		t.Errorf("%+v", m)
	}
	never.expect("snapshot")
}

func TestReset(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(func(c *Config) { c.Mirror.RingEntries = 16 })
	r := e.open("/v1/sse/trades?" + allSymbols)
	r.expect("hello")
	r.expect("snapshot")
	var ids []string
	for range 40 {
		l.trade(1)
		ids = append(ids, r.expect("trade").id)
	}
	one := position{[]int{1}, []int64{3}}
	f := func(id, why string) {
		t.Helper()
		got := e.open("/v1/sse/trades?"+allSymbols, "Last-Event-ID: "+id)
		if got.resp.StatusCode != 200 {
			t.Errorf("%s: %s", id, got.resp.Status)
		}
		hello := got.expect("hello")
		m := got.expect("reset")
		if m.field(t, "why") != why || hello.field(t, "how") != "snapshot" {
			t.Errorf("%s: %+v, want %s", id, m, why)
		}
		if hello.id != "" || m.id != "" {
			t.Errorf("%s: who is cut off before the snapshot would go on behind it: %+v, %+v", id, hello, m)
		}
		if snap := got.expect("snapshot"); !strings.Contains(snap.data, `"seq":40,"state"`) {
			t.Errorf("%s: %+v", id, snap)
		}
	}
	f(ids[0], resetTooOld)
	f(ids[22], resetTooOld)
	f("garbage", resetUnreadable)
	f("zzzzzzzz.AQEA", resetLog)
	f(string(one.appendID(nil, logName)), resetView)
	for _, id := range []string{ids[23], ids[39]} {
		got := e.open("/v1/sse/trades?"+allSymbols, "Last-Event-ID: "+id)
		if hello := got.expect("hello"); hello.field(t, "how") != "replay" {
			t.Errorf("%+v", hello)
		}
	}
}

// TestResetsShareSnapshots has many clients come back from places that can't be used.
func TestResetsShareSnapshots(t *testing.T) {
	l := newEvents(t)
	e := l.edge(nil)
	for i := range 10 {
		r := e.open("/v1/sse/ticker/all?rate=5s", "Accept-Encoding: gzip", fmt.Sprintf("Last-Event-ID: %d", i))
		r.unzip()
		r.expect("hello")
		r.expect("reset")
		r.expect("snapshot")
	}
	if n := e.value("sse_renders_total"); n != 1 {
		t.Errorf("%v renderings of one snapshot", n)
	}
}

// TestNothingToSay publishes when nothing waits: a place that a client has come to elsewhere may be one that has been read
// just now, without an event.
func TestNothingToSay(t *testing.T) {
	l := newEvents(t)
	e := l.edge(nil)
	r := e.open("/v1/sse/trades?symbols=BTC-USDT")
	r.expect("hello")
	r.expect("snapshot")
	for _, v := range e.s.views {
		v.mu.Lock()
		v.publish(nil)
		v.mu.Unlock()
	}
	l.trade(1)
	r.expect("trade")
}

// TestInterruptedBatch has an edge lose a part of the log while trades wait to be sent together.
func TestInterruptedBatch(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(nil)
	r := e.open("/v1/sse/trades?symbols=BTC-USDT&rate=5s")
	r.expect("hello")
	r.expect("snapshot")
	l.trade(1)
	e.held = true
	l.trade(1)
	e.read = len(l.all) // retention has taken it
	e.s.mirror.Phase(1, stream.PhaseReset, io.ErrUnexpectedEOF)
	e.s.mirror.Phase(1, stream.PhaseReady, nil)
	e.held = false
	for range 2 * maxWaiting {
		l.trade(1)
	}
	for _, v := range e.s.views {
		v.mu.Lock()
		if n := len(v.waiting); n > maxWaiting {
			t.Errorf("%d events wait", n)
		}
		v.mu.Unlock()
	}
	if m := r.expect("trade"); m.field(t, "seq") != "1" {
		t.Errorf("%+v", m)
	}
	r.expect("reset")
	snap := r.expect("snapshot")
	if !strings.Contains(snap.data, fmt.Sprintf(`"seq":%d,"state"`, 2+2*maxWaiting)) || strings.Count(snap.data, `"t":"trade"`) != recentTrades {
		t.Errorf("%+v", snap)
	}
	l.trade(1)
	r.expect("trade")
}

// TestInterrupted has an edge lose a part of the log.
func TestInterrupted(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(nil)
	r := e.open("/v1/sse/trades?" + allSymbols)
	r.expect("hello")
	r.expect("snapshot")
	l.trade(1)
	before := r.expect("trade")
	e.held = true
	l.trade(1)
	e.read = len(l.all) // retention has taken it
	e.s.mirror.Phase(1, stream.PhaseReset, io.ErrUnexpectedEOF)
	e.s.mirror.Phase(1, stream.PhaseReady, nil)
	e.held = false
	l.trade(1)
	if m := r.expect("reset"); m.field(t, "why") != resetTooOld {
		t.Errorf("%+v", m)
	}
	if snap := r.expect("snapshot"); !strings.Contains(snap.data, `"seq":3,"state"`) {
		t.Errorf("%+v", snap)
	}
	l.trade(1)
	if m := r.expect("trade"); m.field(t, "seq") != "4" {
		t.Errorf("%+v", m)
	}
	got := e.open("/v1/sse/trades?"+allSymbols, "Last-Event-ID: "+before.id)
	got.expect("hello")
	got.expect("reset")
}

// TestSlow has a client stop reading while the log moves past it. What it reads afterwards is whole events: all up to some
// place, then a reset and a snapshot.
func TestSlow(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(nil)
	r := e.open("/v1/sse/trades?symbols=BTC-USDT")
	r.expect("hello")
	r.expect("snapshot")
	for e.value("sse_blocked_total") == 0 {
		for range 1000 {
			l.trade(1)
		}
	}
	for range 10_000 {
		l.trade(1)
	}
	last, resets := 0, 0
	for last < int(l.seqs[1]) {
		switch m := r.next(); m.name {
		case "trade":
			if m.field(t, "seq") != strconv.Itoa(last+1) {
				t.Fatalf("%+v behind %d", m, last)
			}
			last++
		case "reset":
			resets++
			snap := r.expect("snapshot")
			var body struct{ Items []struct{ Seq int } }
			if err := json.Unmarshal([]byte(snap.data), &body); err != nil || body.Items[0].Seq <= last || m.field(t, "why") != "slow" {
				t.Fatalf("%v %+v %s behind %d", err, m, snap.data, last)
			}
			last = body.Items[0].Seq
		case "status":
		default:
			t.Fatalf("%+v", m)
		}
	}
	if resets == 0 {
		t.Error("it has missed nothing")
	}
}

// TestStalled has a client that never reads: it is closed.
func TestStalled(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(func(c *Config) { c.stall = 300 * time.Millisecond })
	r := e.open("/v1/sse/trades?symbols=BTC-USDT")
	r.expect("hello")
	for e.s.open() > 0 {
		for range 1000 {
			l.trade(1)
		}
		time.Sleep(10 * time.Millisecond) // the clock must move
	}
	if _, err := io.Copy(io.Discard, r.resp.Body); err == nil {
		t.Error("the stream of a client that stalled has ended cleanly")
	}
}

// TestHangUp counts clients that leave without a word, while nothing is sent.
func TestHangUp(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(nil)
	for name, leave := range map[string]func(*net.TCPConn) error{
		"fin":  (*net.TCPConn).Close,
		"half": (*net.TCPConn).CloseWrite,
		"rst": func(c *net.TCPConn) error {
			if err := c.SetLinger(0); err != nil {
				return err
			}
			return c.Close()
		},
	} {
		r := e.open("/v1/sse/trades?symbols=BTC-USDT")
		r.expect("hello")
		r.expect("snapshot")
		if n := e.s.open(); n != 1 {
			t.Fatalf("%d streams", n)
		}
		began := time.Now()
		if err := leave(r.conn.(*net.TCPConn)); err != nil {
			t.Fatal(err)
		}
		for e.s.open() > 0 {
			if time.Since(began) > time.Second {
				t.Fatalf("%s: not noticed", name)
			}
			time.Sleep(time.Millisecond)
		}
	}
	e.s.viewsMu.Lock()
	for _, v := range e.s.views {
		if v.clients != 0 {
			t.Errorf("%d clients", v.clients)
		}
	}
	e.s.viewsMu.Unlock()
	if e.value("sse_streams_ended_total") != 3 {
		t.Error("not counted")
	}
}

// TestDrain ends an edge with streams of all forms: each ends by a goodbye, and as its form should.
func TestDrain(t *testing.T) {
	l := newEvents(t)
	l.beat()
	descriptors := openDescriptors(t)
	e := l.edge(nil)
	var all []*reader
	for i := range 20 {
		headers := []string{}
		if i%2 == 0 {
			headers = append(headers, "Accept-Encoding: gzip")
		}
		r := e.open("/v1/sse/trades?symbols=BTC-USDT&rate=100ms", headers...)
		if i%2 == 0 {
			r.unzip()
		}
		r.expect("hello")
		all = append(all, r)
	}
	l.trade(1)
	for _, r := range all {
		r.expect("snapshot")
		r.expect("trade")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.end()
	}()
	retries := map[int]bool{}
	for _, r := range all {
		m := r.expect("goodbye")
		if m.retry < 5000 || m.retry > 30000 || m.field(t, "retry_ms") != strconv.Itoa(m.retry) || m.field(t, "why") != "drain" {
			t.Errorf("%+v", m)
		}
		retries[m.retry] = true
		if end := r.next(); end != (message{}) {
			t.Errorf("%+v behind the goodbye", end)
		}
		_ = r.conn.Close()
	}
	<-done
	if len(retries) < 15 {
		t.Errorf("%d different retries", len(retries))
	}
	if n := e.s.open(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
	if n := openDescriptors(t); n > descriptors {
		t.Errorf("%d descriptors are left", n-descriptors)
	}
}

// TestSentAwayAtOnce sends clients away before anything has been written to them.
func TestSentAwayAtOnce(t *testing.T) {
	l := newEvents(t)
	e := l.edge(func(c *Config) { c.Flush = 300 * time.Millisecond })
	e.open(tickerPath).expect("hello") // from now on, nothing is written for a while
	conn := e.dial()
	if _, err := io.WriteString(conn, "GET "+tickerPath+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	wait(t, "it is a stream", func() bool { return e.s.open() == 2 })
	e.s.clientsMu.Lock()
	c := e.s.clients[1]
	e.s.clientsMu.Unlock()
	c.part("age")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t, conn, resp, bufio.NewReader(resp.Body)}
	r.expect("hello")
	r.expect("goodbye")
}

// TestDrainLatecomers has streams begin while an edge ends: none is just cut off.
func TestDrainLatecomers(t *testing.T) {
	l := newEvents(t)
	e := l.edge(func(c *Config) { c.Drain = 500 * time.Millisecond })
	first := e.open(tickerPath)
	first.expect("hello")
	v, _ := e.s.enter(spec{channel: market.Tickers, syms: []string{"BTC-USDT"}, rate: time.Second}) // it leaves by itself
	server, peer := net.Pipe()
	defer func() { _ = peer.Close() }()
	e.s.draining.Store(true) // and then it is taken
	c := &client{s: e.s, view: v, net: server, grant: e.s.access.Anonymous()}
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(peer)
		got <- b
	}()
	if err := e.s.attach(c, v.join(chunked, resume{}), nil); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Contains(b, []byte("goodbye")) {
		t.Errorf("%s", b)
	}
	c.hangUp()
}

// openDescriptors counts those of this process, where the system tells.
func openDescriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// unzip reads a compressed stream, up to the end that RFC 1952 asks for.
func (r *reader) unzip() {
	r.t.Helper()
	if got := r.resp.Header.Get("Content-Encoding"); got != "gzip" {
		r.t.Fatalf("Content-Encoding %q", got)
	}
	r.in = bufio.NewReader(newUnzipper(r.t, r.resp.Body))
}

func TestAge(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(func(c *Config) { c.MaxAge = 100 * time.Millisecond })
	for _, headers := range [][]string{nil, {"Accept-Encoding: gzip"}} {
		r := e.open("/v1/sse/ticker/all", headers...)
		if headers != nil {
			r.unzip()
		}
		r.expect("hello")
		r.expect("snapshot")
		if m := r.expect("goodbye"); m.field(t, "why") != "age" || m.retry < 1000 || m.retry > 3000 || r.next() != (message{}) {
			t.Errorf("%+v", m)
		}
	}
}

// TestOneRendering has many clients in every form that there is: each chunk is rendered once for each form, each snapshot
// too, whatever their number.
func TestOneRendering(t *testing.T) {
	f := func(path string, trades int, clients map[form]int) {
		t.Helper()
		l := newEvents(t)
		l.beat()
		e := l.edge(nil)
		defer e.end()
		var all []*reader
		for kind, n := range clients {
			for range n {
				var r *reader
				switch kind {
				case chunked:
					r = e.open(path)
				case gzipped:
					r = e.open(path, "Accept-Encoding: gzip")
					r.unzip()
				case bare:
					r = e.openOld(path)
				}
				r.expect("hello")
				r.expect("snapshot")
				all = append(all, r)
			}
		}
		rendered, chunks := e.value("sse_renders_total"), e.value("sse_chunks_total")
		if rendered != float64(len(clients)) {
			t.Errorf("%s: %v renderings of a snapshot in %d forms", path, rendered, len(clients))
		}
		for range trades {
			l.trade(1)
		}
		for _, r := range all {
			for range trades {
				r.expect("trade")
			}
		}
		rendered, chunks = e.value("sse_renders_total")-rendered, e.value("sse_chunks_total")-chunks
		if chunks == 0 || rendered != chunks*float64(len(clients)) {
			t.Errorf("%s: %v renderings of %v chunks for %v clients", path, rendered, chunks, clients)
		}
		for _, r := range all {
			_ = r.conn.Close() // so that nobody is waited for
		}
	}
	f("/v1/sse/trades?symbols=BTC-USDT", 10, map[form]int{chunked: 50})
	f("/v1/sse/trades?symbols=BTC-USDT", 10, map[form]int{chunked: 1, bare: 20})
	f("/v1/sse/trades?symbols=BTC-USDT&rate=100ms", 200, map[form]int{chunked: 20, gzipped: 20, bare: 5})
	f("/v1/sse/trades?symbols=BTC-USDT&rate=100ms", 200, map[form]int{chunked: 1, gzipped: 1, bare: 1})
}

// openOld opens a stream by HTTP/1.0.
func (e *edge) openOld(path string) *reader {
	e.t.Helper()
	conn, err := net.Dial("tcp", e.s.Addr())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		e.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n", path); err != nil {
		e.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		e.t.Fatal(err)
	}
	return &reader{e.t, conn, resp, bufio.NewReader(resp.Body)}
}

// TestOneCompression has plain and compressed clients of one stream: each chunk is rendered once for either, whatever their
// number.
func TestOneCompression(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(nil)
	var all []*reader
	for i := range 40 {
		var headers []string
		if i%2 == 0 {
			headers = append(headers, "Accept-Encoding: gzip")
		}
		r := e.open("/v1/sse/trades?symbols=BTC-USDT&rate=100ms", headers...)
		if i%2 == 0 {
			r.unzip()
		}
		r.expect("hello")
		r.expect("snapshot")
		all = append(all, r)
	}
	renders, chunks := e.value("sse_renders_total"), e.value("sse_chunks_total")
	for range 5 {
		for range 20 {
			l.trade(1)
		}
		for _, r := range all {
			for range 20 {
				r.expect("trade")
			}
		}
	}
	renders, chunks = e.value("sse_renders_total")-renders, e.value("sse_chunks_total")-chunks
	if chunks < 5 || chunks > 20 || renders != 2*chunks {
		t.Errorf("%v chunks, %v renderings", chunks, renders)
	}
}

func TestOldHTTP(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(nil)
	r := e.openOld("/v1/sse/trades?symbols=BTC-USDT&rate=100")
	if resp := r.resp; resp.Proto != "HTTP/1.0" || len(resp.TransferEncoding) > 0 || !resp.Close || resp.Header.Get("Content-Encoding") != "" {
		t.Errorf("%+v", resp)
	}
	r.expect("hello")
	r.expect("snapshot")
	l.trade(1)
	r.expect("trade")
	go e.end()
	r.expect("goodbye")
	if m := r.next(); m != (message{}) {
		t.Errorf("%+v", m)
	}
}

// TestRequests are those that do not become streams.
func TestRequests(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(func(c *Config) { c.MaxViews = 2 })
	f := func(method, path string, status int, code, param string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+e.s.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		var p rest.Problem
		if code != "" && (resp.Header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(body, &p) != nil) {
			t.Errorf("%s %s: %s", method, path, body)
		}
		if resp.StatusCode != status || p.Code != code || p.Param != param {
			t.Errorf("%s %s: %s %s", method, path, resp.Status, body)
		}
	}
	f("GET", "/v1/sse/trades?symbols=NO-SUCH", 404, "unknown_symbol", "symbols")
	f("GET", "/v1/sse/trades?symbols=BTC-USDT%0d%0aid:7", 400, "bad_request", "symbols")
	f("GET", "/v1/sse/trades?symbols=BTC-USDT&rate=1", 400, "bad_request", "rate")
	f("GET", "/v1/sse/nothing", 404, "unknown_channel", "")
	f("DELETE", "/v1/sse/trades?symbols=BTC-USDT", 405, "bad_request", "")
	f("HEAD", "/v1/sse/trades?symbols=BTC-USDT", 200, "", "")
	f("OPTIONS", "/v1/sse/trades?symbols=BTC-USDT", 204, "", "")
	e.open("/v1/sse/trades?symbols=ETH-USDT").expect("hello")
	e.open("/v1/sse/trades?symbols=SOL-USDT").expect("hello") // in the place of what HEAD asked about
	f("HEAD", "/v1/sse/bbo?symbols=BTC-USDT", 503, "", "")
	if m := e.open("/v1/sse/bbo?symbols=BTC-USDT").expect("goodbye"); m.field(t, "why") != "overload" {
		t.Errorf("%+v", m)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func TestNotReady(t *testing.T) {
	l := newEvents(t)
	e := l.edge(nil)
	f := func(path string) {
		t.Helper()
		if r := e.open(path, asJSON); r.resp.StatusCode != 503 {
			t.Error(r.resp.Status)
		}
		if m := e.open(path).expect("goodbye"); m.field(t, "why") != "overload" {
			t.Errorf("%+v", m)
		}
	}
	e.s.mirror.Expect(3)
	f("/v1/sse/trades?symbols=NO-SUCH")
	f("/v1/sse/ticker/all")
	if err := e.s.Ready(); err == nil {
		t.Error("ready without a partition")
	}
	nameless := newEvents(t)
	e = nameless.edge(nil)
	e.s.mirror.Name(func() string { return "" })
	f("/v1/sse/trades?symbols=BTC-USDT")
}

// TestTooManyPolls has one poll wait where there may be one.
func TestTooManyPolls(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(func(c *Config) { c.MaxPolls = 1 })
	const path = "/v1/sse/ticker?symbols=BTC-USDT"
	go func() {
		for len(e.s.polling) == 0 {
			time.Sleep(time.Millisecond)
		}
		r := e.open(path, "Accept: application/json")
		if r.resp.StatusCode != 503 || r.resp.Header.Get("Retry-After") != "1" {
			t.Error(r.resp.Status)
		}
		l.trade(1)
	}()
	if r := e.open(path+"&after="+logName+".s", "Accept: application/json"); r.resp.StatusCode != 200 {
		t.Error(r.resp.Status)
	}
}

// TestNewInstrument lists an instrument while a stream of all is open.
func TestNewInstrument(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(nil)
	r := e.open("/v1/sse/ticker/all?rate=100ms")
	r.expect("hello")
	r.expect("snapshot")
	l.list(&market.Instrument{ID: 11, Sym: "A\"B\nid: 7", Source: "sim", Symbol: "x", PriceScale: 2, SizeScale: 2})
	odd := e.open("/v1/sse/ticker/all?rate=250ms")
	odd.expect("hello")
	if snap := odd.expect("snapshot"); snap.id != "" || !json.Valid([]byte(snap.data)) || !strings.Contains(snap.data, `{"sym":"A\"B\nid: 7",`) {
		t.Errorf("%+v", snap)
	}
	l.list(&market.Instrument{ID: 9, Sym: "NEW-USDT", Source: "sim", Symbol: "NEWUSDT", PriceScale: 2, SizeScale: 2})
	l.trade(9)
	if m := r.expect("ticker"); m.field(t, "sym") != "NEW-USDT" {
		t.Errorf("%+v", m)
	}
}

func TestPoll(t *testing.T) {
	l := newEvents(t)
	l.beat()
	l.trade(1)
	e := l.edge(nil)
	get := func(path string) (body struct {
		ID     string
		Reset  string
		Items  []map[string]json.RawMessage
		Events []struct {
			Ev   string
			Data struct{ Seq int }
		}
	},
	) {
		t.Helper()
		r := e.open(path, "Accept: application/json")
		if err := json.NewDecoder(r.resp.Body).Decode(&body); err != nil || r.resp.StatusCode != 200 || r.resp.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: %v, %v", path, r.resp.Status, err)
		}
		_ = r.conn.Close()
		return body
	}
	const path = "/v1/sse/trades?symbols=BTC-USDT,ETH-USDT"
	now := get(path)
	if len(now.Items) != 2 || now.ID == "" {
		t.Fatalf("%+v", now)
	}
	if same := get(path + "&wait=0&after=" + now.ID); same.ID != now.ID || len(same.Events) != 0 || same.Reset != "" {
		t.Fatalf("%+v", same)
	}
	l.trade(1)
	l.trade(2)
	two := get(path + "&after=" + now.ID)
	if len(two.Events) != 2 || two.Events[0].Ev != "trade" {
		t.Fatalf("%+v", two)
	}
	waited := make(chan int)
	go func() {
		events := get(path + "&wait=20s&after=" + two.ID).Events
		waited <- events[0].Data.Seq
	}()
	select {
	case <-waited:
		t.Fatal("it has not waited")
	case <-time.After(100 * time.Millisecond):
	}
	l.trade(1)
	if seq := <-waited; seq != 3 {
		t.Errorf("seq %d", seq)
	}
	if old := get(path + "&after=garbage"); old.Reset != resetUnreadable || len(old.Items) != 2 {
		t.Errorf("%+v", old)
	}
	if r := e.open(path+"&wait=90s", "Accept: application/json"); r.resp.StatusCode != 400 {
		t.Error(r.resp.Status)
	}
	if v := get("/v1/sse/ticker?symbols=BTC-USDT&rate=100ms"); v.ID != logName+".s" || !bytes.Contains(v.Items[0]["ticker"], []byte(`"last"`)) {
		t.Errorf("%+v", v)
	}
}
