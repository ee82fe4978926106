package ws

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var btc = market.Instrument{ID: 1, Sym: "BTC-USDT", Source: "sim", Symbol: "BTCUSDT", PriceScale: 2, SizeScale: 4}

const epoch = 1_700_000_000

// edge is a server that a test feeds by hand.
type edge struct {
	t       testing.TB
	s       *Server
	metrics *prometheus.Registry
	stop    context.CancelFunc
	done    chan error
	book    book.Book
	seq     uint64 // of trades
	ended   bool
	conns   []net.Conn
	roots   *x509.CertPool // set, clients speak TLS
}

func startEdge(t testing.TB, change func(*Config)) *edge {
	t.Helper()
	return newEdge(t, change).start()
}

func newEdge(t testing.TB, change func(*Config)) *edge {
	t.Helper()
	return newEdgeWith(t, zap.NewNop(), change)
}

func newEdgeWith(t testing.TB, log *zap.Logger, change func(*Config)) *edge {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Addr, cfg.Drain = "127.0.0.1:0", 100*time.Millisecond
	if change != nil {
		change(&cfg)
	}
	registry := prometheus.NewRegistry()
	s, err := New(cfg, Deps{Log: log, Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	return &edge{t: t, s: s, metrics: registry, done: make(chan error, 1)}
}

func (e *edge) start() *edge {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	go func() { e.done <- e.s.Run(ctx) }()
	select {
	case <-e.s.Listening():
	case err := <-e.done:
		e.t.Fatal(err)
	}
	e.t.Cleanup(e.end)
	return e
}

func (e *edge) end() {
	e.t.Helper()
	if e.ended {
		return
	}
	e.ended = true
	for _, c := range e.conns {
		_ = c.Close()
	}
	e.stop()
	select {
	case err := <-e.done:
		if err != nil {
			e.t.Errorf("Run: %v", err)
		}
	case <-time.After(10 * time.Second):
		e.t.Error("Run does not end")
	}
}

func (e *edge) record(t wire.Template, b []byte) {
	e.t.Helper()
	if err := e.s.mirror.Record(0, 0, t, b); err != nil {
		e.t.Fatal(err)
	}
}

func head(seq uint64) market.Head {
	now := market.FromTime(time.Now())
	return market.Head{Inst: btc.ID, Epoch: epoch, Prev: seq - 1, Seq: seq, Time: now, In: now}
}

// market makes the edge ready, with one instrument and its book.
func (e *edge) market(levels int) *edge {
	e.t.Helper()
	m := e.s.mirror
	m.Expect(1)
	m.Phase(0, stream.PhaseReset, nil)
	e.record(wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: head(1), Instrument: btc}))
	for i := range levels {
		e.book.Set(market.Bid, market.Price(100_000-i), market.Size(i+1))
		e.book.Set(market.Ask, market.Price(100_001+i), market.Size(i+1))
	}
	snap := market.Snapshot{Head: head(1), Part: 1, Parts: 1, Hash: market.Hash{Sum: e.book.Hash(), OK: true}}
	snap.Bids, snap.Asks = e.book.AppendLevels(nil, market.Bid, 0), e.book.AppendLevels(nil, market.Ask, 0)
	e.book.SetSequence(snap.Sequence())
	e.record(wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &snap))
	m.Phase(0, stream.PhaseReady, nil)
	e.beat()
	return e
}

func (e *edge) beat() {
	now := market.FromTime(time.Now())
	h := wire.OwnerHeartbeat{Time: now, Sources: []wire.SourceClock{{Source: "sim", Last: now}}}
	e.record(wire.TemplateOwnerHeartbeat, wire.AppendOwnerHeartbeat(nil, &h))
}

func (e *edge) update(price market.Price, size market.Size) {
	e.t.Helper()
	d := market.Delta{Head: head(e.book.Sequence().Seq + 1), Bids: []market.Level{{Price: price, Size: size}}}
	if _, err := e.book.Apply(&d); err != nil {
		e.t.Fatal(err)
	}
	d.Hash = market.Hash{Sum: e.book.Hash(), OK: true}
	e.record(wire.TemplateBookUpdate, wire.AppendDelta(nil, &d))
}

func (e *edge) trade() {
	e.t.Helper()
	e.seq++
	e.record(wire.TemplateTrade, wire.AppendTrade(nil, &market.Trade{Head: head(e.seq), Price: 100_000, Size: 5, ID: market.NumericTradeID(e.seq)}))
}

// peer is a WebSocket client that can do wrong.
type peer struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	msg  wire.Message
	text []byte // of the last message, when it was one

	packed int // compressed messages read
}

const key = "dGhlIHNhbXBsZSBub25jZQ=="

func upgradeRequest(path, headers string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
		key + "\r\n" + headers + "\r\n"
}

func (e *edge) dial() *peer {
	e.t.Helper()
	conn, err := net.Dial("tcp", e.s.Addr())
	if err != nil {
		e.t.Fatal(err)
	}
	e.conns = append(e.conns, conn)
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		e.t.Fatal(err)
	}
	return &peer{t: e.t, conn: conn, in: bufio.NewReader(conn)}
}

// connect upgrades and reads hello.
func (e *edge) connect(protocol string) *peer {
	e.t.Helper()
	p := e.dial()
	if e.roots != nil {
		p.secure(e.roots)
	}
	p.upgrade(protocol)
	p.expect(wire.KindHello)
	return p
}

// secure begins TLS.
func (p *peer) secure(roots *x509.CertPool) {
	p.conn = tls.Client(p.conn, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	p.in = bufio.NewReader(p.conn)
}

func (p *peer) upgrade(protocol string) {
	p.t.Helper()
	offer := ""
	if protocol != "" {
		offer = "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	p.write([]byte(upgradeRequest("/v1/ws", offer)))
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		p.t.Fatalf("upgrade: %v %v", resp.Status, resp.Header)
	}
	if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != protocol {
		p.t.Fatalf("subprotocol %q, want %q", got, protocol)
	}
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// masked is a client's frame.
func masked(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n > 0xFFFF:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	case n > 125:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = append(b, 0x80|byte(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

func (p *peer) send(text string) { p.t.Helper(); p.write(masked(0x81, []byte(text))) }

// frame reads one frame.
func (p *peer) frame() (op byte, payload []byte, err error) {
	var h [10]byte
	if _, err := io.ReadFull(p.in, h[:2]); err != nil {
		return 0, nil, err
	}
	n := int(h[1])
	switch n {
	case 126:
		_, err = io.ReadFull(p.in, h[2:4])
		n = int(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(p.in, h[2:10])
		n = int(binary.BigEndian.Uint64(h[2:]))
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(p.in, payload)
	if h[0]&rsv1 != 0 && err == nil {
		p.packed++
		payload, err = io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	}
	return h[0] & 0xF, payload, err
}

// next reads the next message other than heartbeats.
func (p *peer) next() wire.Kind {
	p.t.Helper()
	for {
		op, b, err := p.frame()
		if err != nil {
			p.t.Fatal(err)
		}
		switch op {
		case opText:
			p.text = b
			err = wire.DecodeJSON(b, func([]byte) *market.Instrument { return &btc }, &p.msg)
		case opBinary:
			p.text = nil
			err = wire.DecodeSBE(b, &p.msg)
		case opPing:
			p.write(masked(0x80|opPong, b))
			continue
		default:
			p.t.Fatalf("frame %d %q", op, b)
		}
		if err != nil {
			p.t.Fatalf("%q: %v", b, err)
		}
		if p.msg.Kind != wire.KindHeartbeat {
			return p.msg.Kind
		}
	}
}

func (p *peer) expect(k wire.Kind) *wire.Message {
	p.t.Helper()
	if got := p.next(); got != k {
		p.t.Fatalf("got message kind %d %s, want kind %d", got, p.text, k)
	}
	return &p.msg
}

// skipTo reads until a message of that kind.
func (p *peer) skipTo(k wire.Kind) *wire.Message {
	p.t.Helper()
	for p.next() != k {
	}
	return &p.msg
}

func (p *peer) expectError(code wire.Code) {
	p.t.Helper()
	if m := p.expect(wire.KindError); m.Error.Code != code {
		p.t.Errorf("error %+v, want %s", m.Error, code)
	}
}

// closed reads up to the close frame and returns its code, then sees the connection end.
func (p *peer) closed() int {
	p.t.Helper()
	for {
		op, b, err := p.frame()
		if err != nil {
			p.t.Fatalf("no close frame: %v", err)
		}
		if op != opClose {
			continue
		}
		if _, err := p.conn.Write(masked(0x80|opClose, b)); err == nil {
			if _, err := io.Copy(io.Discard, p.in); err != nil {
				p.t.Logf("after the close frame: %v", err)
			}
		}
		if len(b) < 2 {
			return 1005
		}
		return int(binary.BigEndian.Uint16(b))
	}
}

func TestBook(t *testing.T) {
	f := func(protocol, view string, depth int) {
		t.Helper()
		e := startEdge(t, nil).market(200)
		defer e.end()
		p := e.connect(protocol)
		p.send(`{"op":"sub","id":7,"topics":[{"ch":"book","sym":"BTC-USDT"` + view + `}]}`)
		row := p.expect(wire.KindAck).Ack.OK[0]
		if p.msg.Ack.ID != "7" || row.Inst != 1 || row.PriceScale != 2 || row.Sequence.Seq != 1 || row.How != "snapshot" || row.Why != "new" {
			t.Errorf("%+v", p.msg.Ack)
		}
		var local book.Book
		apply := func() {
			t.Helper()
			var err error
			switch p.next() {
			case wire.KindSnapshot:
				err = local.Load(&p.msg.Snapshot)
			case wire.KindDelta:
				if _, err = local.Apply(&p.msg.Delta); err == nil && local.Hash() != p.msg.Delta.Hash.Sum {
					t.Errorf("hash at %d", p.msg.Delta.Seq)
				}
			case wire.KindTopicStatus:
			default:
				t.Fatalf("%s", p.text)
			}
			if err != nil {
				t.Fatal(err)
			}
			local.Cut(depth)
		}
		apply()
		for i := range 50 {
			e.update(market.Price(100_000-i%5), market.Size(1000+i))
		}
		for local.Sequence() != e.book.Sequence() {
			apply()
		}
		if got, want := local.AppendLevels(nil, market.Bid, 0), e.book.AppendLevels(nil, market.Bid, depth); len(got) != len(want) || got[0] != want[0] {
			t.Errorf("%d levels from %v, want %d from %v", len(got), got[0], len(want), want[0])
		}
		p.send(`{"op":"resync","id":8,"topics":[{"ch":"book","sym":"BTC-USDT"}]}`)
		p.skipTo(wire.KindAck)
		p.skipTo(wire.KindSnapshot)
	}
	f(wire.SubprotocolJSON, "", 0)
	f(wire.SubprotocolSBE, "", 0)
	f("", `,"depth":10`, 10)
	f(wire.SubprotocolSBE, `,"depth":25,"ms":100`, 25)
	f(wire.SubprotocolJSON, `,"ms":100`, 0)
}

func TestChannels(t *testing.T) {
	e := startEdge(t, nil).market(5)
	for range 20 {
		e.trade()
	}
	p := e.connect("")
	p.send(`{"op":"sub","id":"a","topics":[{"ch":"trades","sym":"BTC-USDT","last":3},{"ch":"ticker","sym":"BTC-USDT"},{"ch":"bbo","sym":"*"},` +
		`{"ch":"status","sym":"BTC-USDT"},{"ch":"bars","sym":"BTC-USDT","iv":"1m","history":10},{"ch":"book","sym":"NO"},{"ch":"nonsense","sym":"BTC-USDT"}]}`)
	ack := p.expect(wire.KindAck).Ack
	if len(ack.OK) != 5 || ack.OK[2].N != 1 || len(ack.Errs) != 2 || ack.Errs[0].Code != wire.CodeUnknownSymbol || ack.Errs[1].Code != wire.CodeUnknownChannel || ack.ID != `"a"` {
		t.Fatalf("%s", p.text)
	}
	seen := map[wire.Kind]int{}
	for range 7 {
		seen[p.next()]++
	}
	if seen[wire.KindTrade] != 3 || seen[wire.KindTicker] != 1 || seen[wire.KindBBO] != 1 || seen[wire.KindStatus] != 1 || seen[wire.KindBar] != 1 {
		t.Errorf("%v", seen)
	}
	p.send(`{"op":"list","id":1}`)
	if rows := p.skipTo(wire.KindAck).Ack.OK; len(rows) != 5 || rows[0].Sequence.Seq != 20 {
		t.Errorf("%s", p.text)
	}
	p.send(`{"op":"unsub","id":2,"topics":[{"ch":"trades","sym":"BTC-USDT"},{"ch":"bbo","sym":"*"},{"ch":"ticker","sym":"BTC-USDT"},{"ch":"bars","sym":"BTC-USDT","iv":"1m"},{"ch":"book","sym":"BTC-USDT"}]}`)
	if rows := p.skipTo(wire.KindAck).Ack.OK; len(rows) != 5 {
		t.Errorf("%s", p.text)
	}
	e.trade()
	e.update(100_000, 77)
	p.send(`{"op":"ping","id":3}`)
	for k := p.next(); k != wire.KindPong; k = p.next() {
		if k != wire.KindTopicStatus {
			t.Errorf("after unsub: %s", p.text)
		}
	}
	p.send(`{"op":"auth","id":4,"token":"x"}`)
	if p.skipTo(wire.KindAck); p.msg.Ack.ID != "4" {
		t.Errorf("%s", p.text)
	}
	p.send(`{"op":"resync","id":5,"topics":[{"ch":"book","sym":"BTC-USDT"}]}`)
	if errs := p.skipTo(wire.KindAck).Ack.Errs; len(errs) != 1 || errs[0].Code != wire.CodeBadRequest {
		t.Errorf("%s", p.text)
	}
}

func TestNotReady(t *testing.T) {
	e := startEdge(t, nil)
	if e.s.Ready() == nil {
		t.Error("ready without a market")
	}
	p := e.connect("")
	p.send(`{"op":"sub","id":1,"topics":[{"ch":"book","sym":"BTC-USDT"},{"ch":"bbo","sym":"*"}]}`)
	errs := p.expect(wire.KindAck).Ack.Errs
	if len(errs) != 2 || errs[0].Code != wire.CodeNotReady || errs[1].Code != wire.CodeNotReady {
		t.Errorf("%s", p.text)
	}
}

func TestRepeatedAndReplacedSubscriptions(t *testing.T) {
	e := startEdge(t, func(c *Config) { c.MaxTopics = 2 }).market(50)
	p := e.connect("")
	sub := func(topic string) *wire.Ack {
		t.Helper()
		p.send(`{"op":"sub","id":1,"topics":[` + topic + `]}`)
		return &p.skipTo(wire.KindAck).Ack
	}
	sub(`{"ch":"book","sym":"BTC-USDT"}`)
	p.expect(wire.KindSnapshot)
	sub(`{"ch":"book","sym":"BTC-USDT"}`)
	p.skipTo(wire.KindSnapshot)
	sub(`{"ch":"book","sym":"BTC-USDT","depth":10}`)
	if s := p.skipTo(wire.KindSnapshot).Snapshot; s.Depth != 10 || len(s.Bids) != 10 {
		t.Errorf("%s", p.text)
	}
	sub(`{"ch":"trades","sym":"BTC-USDT"}`)
	e.trade()
	p.skipTo(wire.KindTrade)
	if row := sub(`{"ch":"trades","sym":"BTC-USDT"}`).OK[0]; row.How != wire.HowReplay {
		t.Errorf("repeated trades: %+v", row)
	}
	e.trade()
	if p.skipTo(wire.KindTrade); p.msg.Trade.Seq != 2 {
		t.Errorf("trade %d", p.msg.Trade.Seq)
	}
	if a := sub(`{"ch":"bbo","sym":"BTC-USDT"}`); len(a.Errs) != 1 || a.Errs[0].Code != wire.CodeTooManyTopics {
		t.Errorf("%s", p.text)
	}
}

func TestBehind(t *testing.T) {
	e := startEdge(t, nil).market(5)
	p := e.connect("")
	p.send(fmt.Sprintf(`{"op":"sub","id":1,"topics":[{"ch":"book","sym":"BTC-USDT","from":{"ep":%d,"seq":1000}}]}`, epoch))
	if row := p.expect(wire.KindAck).Ack.OK[0]; row.How != wire.HowReplay {
		t.Errorf("%+v", row)
	}
	if errs := p.skipTo(wire.KindAck).Ack.Errs; len(errs) != 1 || errs[0].Code != wire.CodeBehind {
		t.Errorf("%s", p.text)
	}
}

func TestBadRequests(t *testing.T) {
	e := startEdge(t, func(c *Config) { c.OpsBurst = 12; c.Ops = 0.001 }).market(5)
	p := e.connect("")
	f := func(text string, code wire.Code) {
		t.Helper()
		p.send(text)
		p.expectError(code)
	}
	f(`not json`, wire.CodeBadJSON)
	f(`{"op":"sub"`, wire.CodeBadJSON)
	f(`{"op":"dance","id":1}`, wire.CodeUnknownOp)
	f(`{"op":"sub","id":1,"topics":[{"ch":"book","sym":"BTC-USDT","depth":11}]}`, wire.CodeBadRequest)
	f(`{"op":"sub","id":1}`, wire.CodeBadRequest)
	f(`{"op":"ack","bytes":5}`, wire.CodeBadRequest)
	f(`[]`, wire.CodeBadJSON)
	p.write(masked(0x82, []byte{1, 2, 3}))
	p.expectError(wire.CodeBadRequest)
	p.send(`{"op":"ping","id":1}`)
	p.expect(wire.KindPong)
	for range 3 {
		f(`{"op":"dance","id":1}`, wire.CodeUnknownOp)
	}
	f(`{"op":"dance","id":1}`, wire.CodeRate)
	for range 120 {
		p.send(`{"op":"ping"}`)
	}
	if code := p.closed(); code != wire.CloseRate {
		t.Errorf("closed by %d, want %d", code, wire.CloseRate)
	}
}

// TestHostileFrames are clients that try to break the server. It must say why it closes, and go on serving others.
func TestHostileFrames(t *testing.T) {
	e := startEdge(t, nil).market(5)
	f := func(name string, want int, attack func(p *peer)) {
		t.Helper()
		p := e.connect("")
		attack(p)
		if code := p.closed(); code != want {
			t.Errorf("%s: closed by %d, want %d", name, code, want)
		}
	}
	raw := func(b ...byte) func(*peer) { return func(p *peer) { p.t.Helper(); _, _ = p.conn.Write(b) } }
	f("a 64-bit length with the top bit set", 1002, raw(0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4))
	f("a 64-bit length of an exabyte", 1009, raw(0x81, 0xFF, 0x0F, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4))
	f("4 MB", 1009, func(p *peer) { _, _ = p.conn.Write(masked(0x81, make([]byte, 4<<20))) })
	f("RSV1", 1002, raw(0xC1, 0x80, 0, 0, 0, 0))
	f("RSV2", 1002, raw(0xA1, 0x80, 0, 0, 0, 0))
	f("RSV3 on a ping", 1002, raw(0x99, 0x80, 0, 0, 0, 0))
	f("no mask", 1002, raw(0x81, 0x01, 'x'))
	f("unknown opcode", 1002, raw(0x83, 0x80, 0, 0, 0, 0))
	f("fragmented ping", 1002, raw(0x09, 0x80, 0, 0, 0, 0))
	f("long ping", 1002, func(p *peer) { p.write(masked(0x89, make([]byte, 126))) })
	f("continuation of nothing", 1002, raw(0x80, 0x80, 0, 0, 0, 0))
	f("message within a message", 1002, raw(0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0))
	f("empty continuations", 1008, func(p *peer) {
		p.write(masked(0x01, nil))
		_, _ = p.conn.Write(bytes.Repeat(masked(0x00, nil), 100_000))
	})
	f("a message in pieces that is too long", 1009, func(p *peer) {
		p.write(masked(0x01, make([]byte, 2000)))
		_, _ = p.conn.Write(bytes.Repeat(masked(0x00, make([]byte, 2000)), 3))
	})
	f("ping flood", 1008, func(p *peer) { _, _ = p.conn.Write(bytes.Repeat(masked(0x89, nil), 10_000)) })
	f("pong flood", 1008, func(p *peer) { _, _ = p.conn.Write(bytes.Repeat(masked(0x8A, nil), 100_000)) })
	f("text that is not UTF-8", 1007, func(p *peer) { p.write(masked(0x81, []byte{0xFF, 0xFE})) })
	f("a farewell", 1000, func(p *peer) { p.write(masked(0x88, []byte{0x03, 0xE8})) })
	f("a farewell with a bad code", 1002, func(p *peer) { p.write(masked(0x88, []byte{0x03, 0xEE})) })

	p := e.connect("")
	p.write(masked(0x01, []byte(`{"op":"ping",`)))
	p.write(masked(0x89, []byte("hi")))
	if op, b, err := p.frame(); op != opPong || string(b) != "hi" || err != nil {
		t.Errorf("ping within a message: %d %q %v", op, b, err)
	}
	p.write(masked(0x80, []byte(`"id":9}`)))
	if p.expect(wire.KindPong); p.msg.ID != "9" {
		t.Errorf("%s", p.text)
	}
}

func TestHandshake(t *testing.T) {
	e := startEdge(t, nil).market(5)
	f := func(request string, status int, want string) {
		t.Helper()
		p := e.dial()
		_, _ = p.conn.Write([]byte(request))
		resp, err := http.ReadResponse(p.in, nil)
		if err != nil {
			t.Errorf("%.60q: %v", request, err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status || !strings.Contains(string(body), want) {
			t.Errorf("%.60q: %d %q, want %d %q", request, resp.StatusCode, body, status, want)
		}
	}
	get := func(headers string) string { return upgradeRequest("/v1/ws", headers) }
	f(upgradeRequest("/other", ""), 404, "/v1/ws")
	f("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, "/v1/ws")
	f("GET /v1/ws HTTP/1.1\r\nHost: x\r\n\r\n", 426, "WebSocket client")
	f(strings.Replace(get(""), "GET", "POST", 1), 405, "GET")
	f(strings.Replace(get(""), "HTTP/1.1", "HTTP/1.0", 1), 426, "")
	f(strings.Replace(get(""), "Version: 13", "Version: 8", 1), 426, "13")
	f(strings.Replace(get(""), key, "short", 1), 400, "Key")
	f("NONSENSE\r\n\r\n", 400, "")
	f(get("X: "+strings.Repeat("x", 20<<10)+"\r\n"), 431, "too large")
	f(get(strings.Repeat("X-Many: y\r\n", 5000)), 431, "too large")
	f(get("Sec-WebSocket-Protocol: unknown\r\n"), 101, "")
	f(get("Sec-WebSocket-Extensions: permessage-deflate\r\n"), 101, "")

	// The client's order decides, and tokens beside it do not matter.
	p := e.dial()
	p.write([]byte(get("Sec-WebSocket-Protocol: bearer.abc, x\r\nSec-WebSocket-Protocol: tickwire.v1.sbe, tickwire.v1.json\r\n")))
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil || resp.Header.Get("Sec-WebSocket-Protocol") != wire.SubprotocolSBE || resp.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("negotiated %v %v", resp.Header, err)
	}

	// A frame that comes together with the handshake is not lost.
	p = e.dial()
	p.write(append([]byte(get("")), masked(0x81, []byte(`{"op":"ping","id":1}`))...))
	if _, err := http.ReadResponse(p.in, nil); err != nil {
		t.Fatal(err)
	}
	p.expect(wire.KindHello)
	p.expect(wire.KindPong)
}

func TestDrain(t *testing.T) {
	e := startEdge(t, func(c *Config) { c.Drain = 300 * time.Millisecond }).market(5)
	var peers []*peer
	for range 10 {
		peers = append(peers, e.connect(""))
	}
	begin := time.Now()
	e.stop()
	for _, p := range peers {
		if d := p.skipTo(wire.KindDrain).Drain; d.DeadlineMs != 300 || d.RetryMs[1] == 0 {
			t.Errorf("%+v", d)
		}
		if code := p.closed(); code != wire.CloseRestart {
			t.Errorf("closed by %d", code)
		}
	}
	if spread := time.Since(begin); spread < 200*time.Millisecond {
		t.Errorf("all closed within %v", spread)
	}
	if e.s.Ready() == nil {
		t.Error("ready while draining")
	}
	e.end()
}

// TestClientThatNeverReads keeps the server's memory bounded and everybody else served.
func TestClientThatNeverReads(t *testing.T) {
	e := startEdge(t, nil).market(500)
	testStoppedClient(t, e, e.dial())
}

func TestClientThatNeverReadsTLS(t *testing.T) {
	cert, keyFile, pool := testkit.Certificate(t)
	e := startEdge(t, func(c *Config) { c.Edge.TLSCert, c.Edge.TLSKey = cert, keyFile }).market(500)
	p := e.dial()
	e.roots = pool
	p.secure(pool)
	testStoppedClient(t, e, p)
}

func testStoppedClient(t *testing.T, e *edge, p *peer) {
	t.Helper()
	p.upgrade(wire.SubprotocolSBE)
	p.expect(wire.KindHello)
	p.send(`{"op":"sub","id":1,"topics":[{"ch":"book","sym":"BTC-USDT"},{"ch":"trades","sym":"BTC-USDT"}]}`)
	p.expect(wire.KindAck)
	other := e.connect("")
	other.send(`{"op":"sub","id":1,"topics":[{"ch":"trades","sym":"BTC-USDT"}]}`)
	other.expect(wire.KindAck)
	const n = 30_000
	for i := range n {
		e.update(market.Price(100_000-i%300), market.Size(1+i))
		e.trade()
		if i%1000 == 0 {
			for other.msg.Trade.Seq < uint64(i) {
				other.skipTo(wire.KindTrade)
			}
		}
	}
	var local book.Book
	lag, gaps, last := false, 0, uint64(0)
	for local.Sequence() != e.book.Sequence() || last < n || !lag {
		var err error
		switch p.next() {
		case wire.KindSnapshot:
			err = local.Load(&p.msg.Snapshot)
		case wire.KindDelta:
			if _, err = local.Apply(&p.msg.Delta); err == nil && local.Sequence().Seq == p.msg.Delta.Seq && local.Hash() != p.msg.Delta.Hash.Sum {
				t.Fatalf("hash at %d", p.msg.Delta.Seq)
			}
		case wire.KindTrade:
			if p.msg.Trade.Prev != last {
				t.Fatalf("trade follows %d, local %d", p.msg.Trade.Prev, last)
			}
			last = p.msg.Trade.Seq
		case wire.KindTradeGap:
			if p.msg.TradeGap.Prev != last || p.msg.TradeGap.Why != market.Slow {
				t.Fatalf("gap %+v, local %d", p.msg.TradeGap, last)
			}
			gaps++
			last = p.msg.TradeGap.Seq
		case wire.KindLag:
			lag = true
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if gaps == 0 {
		t.Errorf("%d trades fit into the ring", n)
	}
}

func TestTLS(t *testing.T) {
	cert, keyFile, pool := testkit.Certificate(t)
	e := startEdge(t, func(c *Config) { c.Edge.TLSCert, c.Edge.TLSKey = cert, keyFile }).market(50)
	e.roots = pool
	p := e.connect(wire.SubprotocolSBE)
	p.send(`{"op":"sub","id":1,"topics":[{"ch":"book","sym":"BTC-USDT"}]}`)
	p.expect(wire.KindAck)
	var local book.Book
	if err := local.Load(&p.expect(wire.KindSnapshot).Snapshot); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		e.update(market.Price(100_000-i%30), market.Size(1+i))
	}
	for local.Sequence() != e.book.Sequence() {
		if p.next() == wire.KindDelta {
			if _, err := local.Apply(&p.msg.Delta); err != nil || local.Hash() != p.msg.Delta.Hash.Sum {
				t.Fatalf("at %d: %v", p.msg.Delta.Seq, err)
			}
		}
	}
	p.write(masked(0x88, []byte{0x03, 0xE8}))
	if code := p.closed(); code != 1000 {
		t.Errorf("closed by %d", code)
	}
}

func TestConfig(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		cfg := DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s named", err, want)
		}
	}
	f("--ws-addr", func(c *Config) { c.Addr = "nonsense" })
	f("--tls-cert", func(c *Config) { c.Edge.TLSCert = "x" })
	f("--ws-max-message", func(c *Config) { c.MaxMessage = 1 << 30 })
	f("--ws-ops", func(c *Config) { c.Ops = 0 })
	f("--ring-age", func(c *Config) { c.Mirror.RingAge = 0 })
}

const crowdTopics, crowdInstruments = 20, 200

// crowdRequest subscribes to trades, best prices, tickers and bars of some instruments.
func crowdRequest(i int) []byte {
	b := []byte(`{"op":"sub","id":1,"topics":[`)
	for k := range crowdTopics {
		if k > 0 {
			b = append(b, ',')
		}
		sym := (i*7 + k*13) % crowdInstruments
		switch k % 4 {
		case 0:
			b = fmt.Appendf(b, `{"ch":"trades","sym":"S%d"}`, sym)
		case 1:
			b = fmt.Appendf(b, `{"ch":"bbo","sym":"S%d"}`, sym)
		case 2:
			b = fmt.Appendf(b, `{"ch":"ticker","sym":"S%d"}`, sym)
		default:
			b = fmt.Appendf(b, `{"ch":"bars","iv":"1m","sym":"S%d"}`, sym)
		}
	}
	return append(b, "]}"...)
}

// instruments makes the edge ready with n instruments, S0, S1, ….
func (e *edge) instruments(n int) *edge {
	e.t.Helper()
	e.s.mirror.Expect(1)
	e.s.mirror.Phase(0, stream.PhaseReset, nil)
	for i := range n {
		def := btc
		def.ID, def.Sym = uint32(i+1), fmt.Sprintf("S%d", i)
		h := head(1)
		h.Inst = def.ID
		e.record(wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: h, Instrument: def}))
	}
	e.s.mirror.Phase(0, stream.PhaseReady, nil)
	return e
}
