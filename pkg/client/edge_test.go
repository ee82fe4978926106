package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// edge is a fake edge: it accepts connections and leaves what they say to the test. It speaks the raw WebSocket framing, so
// that a test can also break it.
type edge struct {
	t      testing.TB
	peers  chan *peer
	wg     sync.WaitGroup
	answer func(r *http.Request) string // the handshake's status line and headers; "" accepts

	mu    sync.Mutex
	dials []time.Time
	conns []net.Conn
}

func newEdge(t testing.TB) *edge {
	return &edge{t: t, peers: make(chan *peer, 100)}
}

// dial is a Config.Dial that leads to the edge by memory.
func (e *edge) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	e.mu.Lock()
	e.dials = append(e.dials, time.Now())
	e.mu.Unlock()
	e.serve(ours)
	return theirs, nil
}

// dialled lists when connections were tried, since the first.
func (e *edge) dialled() (since []time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, at := range e.dials {
		since = append(since, at.Sub(e.dials[0]))
	}
	return since
}

func (e *edge) serve(conn net.Conn) {
	e.mu.Lock()
	e.conns = append(e.conns, conn)
	e.mu.Unlock()
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		defer func() { _ = conn.Close() }()
		br := bufio.NewReader(conn)
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if e.answer != nil {
			if a := e.answer(r); a != "" {
				_, _ = io.WriteString(conn, a)
				return
			}
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]), r.Header.Get("Sec-WebSocket-Protocol"))
		p := &peer{t: e.t, conn: conn, handshake: r, requests: make(chan wire.Request, 10_000), closed: make(chan uint16, 1), gate: make(chan bool, 1)}
		p.gate <- true
		e.peers <- p
		p.read(br)
	}()
}

// stop ends what the client left open.
func (e *edge) stop() {
	e.mu.Lock()
	for _, c := range e.conns {
		_ = c.Close()
	}
	e.mu.Unlock()
	e.wg.Wait()
}

// next returns the next connection, when it has shaken hands.
func (e *edge) next() *peer {
	e.t.Helper()
	select {
	case p := <-e.peers:
		return p
	case <-time.After(5 * time.Minute):
		e.t.Fatal("no connection came")
		return nil
	}
}

// peer is the edge's end of one connection.
type peer struct {
	t         testing.TB
	conn      net.Conn
	handshake *http.Request
	requests  chan wire.Request
	closed    chan uint16 // the close code that the client sent
	gate      chan bool   // holds one element while the edge reads
}

// read takes the client's frames.
func (p *peer) read(br *bufio.Reader) {
	defer close(p.requests)
	for {
		op, payload, err := readFrame(br)
		if err != nil {
			return
		}
		p.gate <- <-p.gate
		switch op {
		case 1:
			var r wire.Request
			if err := wire.DecodeRequest(payload, &r); err != nil {
				p.t.Errorf("the client sent %s: %v", payload, err)
			}
			p.requests <- r
		case 8:
			if len(payload) >= 2 {
				p.closed <- binary.BigEndian.Uint16(payload)
			}
			return
		}
	}
}

func readFrame(br *bufio.Reader) (op byte, payload []byte, err error) {
	var h [14]byte
	if _, err = io.ReadFull(br, h[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1] & 0x7f)
	switch n {
	case 126:
		_, err = io.ReadFull(br, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(br, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	if err != nil {
		return 0, nil, err
	}
	var mask [4]byte
	if _, err = io.ReadFull(br, mask[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(br, payload)
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
	return h[0] & 15, payload, err
}

func frame(op byte, payload []byte) []byte {
	b := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// pause keeps the edge from reading on until the returned func is called.
func (p *peer) pause() (resume func()) {
	<-p.gate
	return func() { p.gate <- true }
}

// raw writes bytes as they are; a client that is gone is no failure.
func (p *peer) raw(b []byte) { _, _ = p.conn.Write(b) }

func (p *peer) text(b []byte)   { p.raw(frame(1, b)) }
func (p *peer) binary(b []byte) { p.raw(frame(2, b)) }

func (p *peer) close(code uint16) {
	p.raw(frame(8, binary.BigEndian.AppendUint16(nil, code)))
}

func (p *peer) hello() {
	p.text(wire.AppendHello(nil, &wire.Hello{Proto: wire.Proto, Conn: "c1", Auth: "none"}))
}

func (p *peer) beat() { p.text(wire.AppendHeartbeat(nil, market.FromTime(time.Now()))) }

// beats keeps the connection alive for d.
func (p *peer) beats(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		p.beat()
		time.Sleep(min(time.Second, time.Until(end)))
	}
}

// request returns the next request that is not an ack.
func (p *peer) request() wire.Request {
	p.t.Helper()
	for {
		select {
		case r, ok := <-p.requests:
			if !ok {
				p.t.Fatal("the client hung up instead of asking")
			}
			if r.Op != wire.OpAck {
				return r
			}
		case <-time.After(5 * time.Minute):
			p.t.Fatal("no request came")
		}
	}
}

// expect returns the next request and checks what it asks for.
func (p *peer) expect(op wire.Op) wire.Request {
	p.t.Helper()
	r := p.request()
	if r.Op != op {
		p.t.Fatalf("the client sent %v, want %v", r.Op, op)
	}
	return r
}

// quiet checks that the client asks for nothing.
func (p *peer) quiet() {
	p.t.Helper()
	for {
		select {
		case r, ok := <-p.requests:
			if ok && r.Op == wire.OpAck {
				continue
			}
			p.t.Fatalf("the client sent %+v (open %v), want nothing", r, ok)
		default:
			return
		}
	}
}

// rowOf is the row that accepts a topic.
func rowOf(t wire.Topic, at market.Sequence, how, why string) wire.Row {
	return wire.Row{Topic: t, Inst: inst.ID, PriceScale: inst.PriceScale, SizeScale: inst.SizeScale, Sequence: at, State: market.Live, How: how, Why: why}
}

// accept answers a request about one topic.
func (p *peer) accept(r wire.Request, at market.Sequence, how, why string) {
	p.t.Helper()
	if len(r.Topics) != 1 {
		p.t.Fatalf("request with %d topics, want 1", len(r.Topics))
	}
	p.rows(r, rowOf(r.Topics[0].Topic, at, how, why))
}

func (p *peer) rows(r wire.Request, rows ...wire.Row) {
	p.text(wire.AppendAck(nil, &wire.Ack{ID: r.ID, OK: rows}))
}

func (p *peer) refuse(r wire.Request, code wire.Code) {
	p.text(wire.AppendAck(nil, &wire.Ack{ID: r.ID, Errs: []wire.RowError{{Topic: r.Topics[0].Topic, Code: code, Msg: "no"}}}))
}

func (p *peer) state(ch market.Channel, s market.State, at market.Sequence) {
	p.text(wire.AppendTopicStatusJSON(nil, &wire.TopicStatus{Topic: wire.Topic{Channel: ch, Sym: inst.Sym}, State: s, Sequence: at}))
}

var inst = market.Instrument{ID: 4097, Sym: "BTC-USDT", PriceScale: 2, SizeScale: 5}

// source is the edge's book: the slow, obvious truth, and the messages about it.
type source struct {
	book.Book
	view market.View
	at   market.Sequence
	json bool
}

func newSource(json bool) *source {
	return &source{at: market.Sequence{Epoch: 1000, Seq: 100}, json: json}
}

func (s *source) send(p *peer, v any) {
	switch m := v.(type) {
	case *market.Snapshot:
		if s.json {
			p.text(wire.AppendSnapshotJSON(nil, &inst, m, 1))
		} else {
			p.binary(wire.AppendSnapshot(nil, m))
		}
	case *market.Delta:
		if s.json {
			p.text(wire.AppendDeltaJSON(nil, &inst, m, 1))
		} else {
			p.binary(wire.AppendDelta(nil, m))
		}
	}
}

func (s *source) head(prev uint64) market.Head {
	return market.Head{Inst: inst.ID, Epoch: s.at.Epoch, Prev: prev, Seq: s.at.Seq, Time: market.FromMicros(int64(s.at.Seq))}
}

// levels are the view's.
func (s *source) levels() (bids, asks []market.Level) {
	return s.AppendLevels(nil, market.Bid, int(s.view.Depth)), s.AppendLevels(nil, market.Ask, int(s.view.Depth))
}

func (s *source) hash() market.Hash {
	return market.Hash{Sum: book.HashLevels(s.levels()), OK: true}
}

func (s *source) snapshot() *market.Snapshot {
	m := &market.Snapshot{Head: s.head(s.at.Seq), View: s.view, Hash: s.hash(), Part: 1, Parts: 1}
	m.Bids, m.Asks = s.levels()
	return m
}

// parts is the snapshot in n parts.
func (s *source) parts(n int) (parts []*market.Snapshot) {
	all := s.snapshot()
	cut := func(l []market.Level, i int) []market.Level { return l[len(l)*i/n : len(l)*(i+1)/n] }
	for i := range n {
		m := *all
		m.Part, m.Parts = uint16(i+1), uint16(n)
		m.Bids, m.Asks = cut(all.Bids, i), cut(all.Asks, i)
		if i < n-1 {
			m.Hash = market.Hash{}
		}
		parts = append(parts, &m)
	}
	return parts
}

// change moves the book on by one update of one level a side.
func (s *source) change(i int) *market.Delta {
	prev := s.at.Seq
	s.at.Seq++
	d := &market.Delta{View: s.view, Head: s.head(prev)}
	d.Bids = []market.Level{{Price: market.Price(10_000 - i%50), Size: market.Size(1 + i%7)}}
	d.Asks = []market.Level{{Price: market.Price(10_001 + i%50), Size: market.Size(i % 7)}}
	s.BeginChanges()
	s.Set(market.Bid, d.Bids[0].Price, d.Bids[0].Size)
	s.Set(market.Ask, d.Asks[0].Price, d.Asks[0].Size)
	d.Hash = s.hash()
	return d
}

func (s *source) fill(n int) *source {
	for i := range n {
		s.Set(market.Bid, market.Price(10_000-i), market.Size(100+i))
		s.Set(market.Ask, market.Price(10_001+i), market.Size(100+i))
	}
	return s
}

// same checks that a local book is the source's.
func (s *source) same(t testing.TB, b *client.Book) {
	t.Helper()
	var got market.Snapshot
	b.Snapshot(&got)
	if got.Hash != s.hash() || got.Sequence() != s.at {
		t.Errorf("local book at %v with hash %x, the edge's is at %v with %x", got.Sequence(), got.Hash.Sum, s.at, s.hash().Sum)
	}
	bids, asks := s.levels()
	if fmt.Sprint(got.Bids, got.Asks) != fmt.Sprint(bids, asks) {
		t.Errorf("local levels\n%v\n%v\nthe edge's\n%v\n%v", got.Bids, got.Asks, bids, asks)
	}
}

// note is what callbacks said, in order.
type note struct {
	mu    sync.Mutex
	lines []string
}

func (n *note) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

// take returns the lines since the last take.
func (n *note) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b bytes.Buffer
	for _, l := range n.lines {
		fmt.Fprintln(&b, l)
	}
	n.lines = nil
	return b.String()
}
