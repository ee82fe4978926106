package all_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/all"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/sse"
)

// answer is one of the REST API's about a topic.
type answer struct {
	Ep     uint32
	Seq    uint64
	State  string
	Book   json.RawMessage
	Trades []json.RawMessage
	Bars   []restBar
}

type restBar struct {
	T             int64
	O, H, L, C, V string
	N             uint64
	Final         bool
}

func read(t *testing.T, url string) (a answer) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", url, resp.StatusCode, body)
	}
	must(t, json.Unmarshal(body, &a))
	return a
}

// native writes records of an instrument that this test makes up.
type native struct {
	t *testing.T
	w *stream.RawWriter
	n int
}

func (n *native) write(format string, args ...any) {
	n.t.Helper()
	must(n.t, n.w.Write(&stream.Record{Key: []byte("NEW-USDT"), Value: fmt.Appendf(nil, format, args...)}))
}

func (n *native) list() {
	n.write(`{"type":"instrument","sym":"NEW-USDT","ps":2,"ss":4,"tick":"0.01","ts":%d}`, time.Now().UnixMicro())
}

func (n *native) trade(at time.Time) {
	n.n++
	n.write(`{"type":"trade","sym":"NEW-USDT","price":"%d.5","size":"0.1","side":"buy","id":"%d","ts":%d}`, 100+n.n%50, n.n, at.UnixMicro())
}

// TestFromRESTToStreams begins with answers of the REST API in a moving market, and goes on by WebSocket from where they stand:
// each message follows the one before.
func TestFromRESTToStreams(t *testing.T) {
	s := start(t, nil)
	n := &native{t: t, w: s.writer(t)}
	n.list()
	n.write(`{"type":"book","sym":"NEW-USDT","snapshot":true,"last":1,"bids":[["99","1"]],"asks":[["201","1"]],"ts":%d}`, time.Now().UnixMicro())
	ctx, stop := context.WithCancel(t.Context())
	var feeding sync.WaitGroup
	feeding.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 2; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			n.write(`{"type":"book","sym":"NEW-USDT","first":%d,"last":%[1]d,"bids":[["%[2]d.25","%[3]d"]],"asks":[["%[4]d.75","%[3]d"]],"ts":%[5]d}`,
				i, 50+i%40, i%3, 201+i%40, time.Now().UnixMicro())
			n.trade(time.Now())
		}
	})
	defer feeding.Wait()
	defer stop()
	s.waitInstrument(t, "NEW-USDT")
	def := market.Instrument{Sym: "NEW-USDT", PriceScale: 2, SizeScale: 4}
	decode := func(text []byte) *wire.Message {
		t.Helper()
		m := new(wire.Message)
		if err := wire.DecodeJSON(text, func([]byte) *market.Instrument { return &def }, m); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return m
	}
	var a answer
	if !waitFor(t, func() bool { a = read(t, "http://"+s.sse+"/v1/trades/NEW-USDT?limit=50"); return len(a.Trades) == 50 }) {
		t.Fatal("no trades")
	}
	w := dialWS(t, s.url)
	trades := read(t, "http://"+s.sse+"/v1/trades/NEW-USDT?limit=5")
	whole := read(t, "http://"+s.sse+"/v1/book/NEW-USDT?depth=0")
	at := uint64(0)
	for i, text := range trades.Trades {
		m := decode(text).Trade
		if i > 0 && m.Prev != at {
			t.Errorf("%s follows %d", text, at)
		}
		at = m.Seq
	}
	if at != trades.Seq {
		t.Errorf("the newest trade is %d, the answer's place %d", at, trades.Seq)
	}
	var local book.Book
	snap := decode(whole.Book).Snapshot
	must(t, local.Load(&snap))
	if local.Hash() != snap.Hash.Sum || local.Sequence() != (market.Sequence{Epoch: whole.Ep, Seq: whole.Seq}) {
		t.Errorf("the book has hash %x at %v, the answer says %x at %d", local.Hash(), local.Sequence(), snap.Hash.Sum, whole.Seq)
	}
	for range 3 { // let it move on
		read(t, "http://"+s.sse+"/v1/book/NEW-USDT")
	}
	w.send(fmt.Sprintf(`{"op":"sub","id":1,"topics":[{"ch":"trades","sym":"NEW-USDT","from":{"ep":%d,"seq":%d}},{"ch":"book","sym":"NEW-USDT","from":{"ep":%d,"seq":%d}}]}`,
		trades.Ep, trades.Seq, whole.Ep, whole.Seq))
	ack, seen, updates := false, 0, 0
	for seen < 200 || updates < 200 {
		m := decode(w.next())
		switch m.Kind {
		case wire.KindAck:
			ack = true
			for _, row := range m.Ack.OK {
				if row.How != wire.HowReplay {
					t.Fatalf("%+v", row)
				}
			}
			if len(m.Ack.OK) != 2 {
				t.Fatalf("%+v", m.Ack)
			}
		case wire.KindTrade:
			if m.Trade.Prev != at || !ack {
				t.Fatalf("trade %d follows %d, we have %d", m.Trade.Seq, m.Trade.Prev, at)
			}
			at = m.Trade.Seq
			seen++
		case wire.KindDelta:
			applied, err := local.Apply(&m.Delta)
			if err != nil || !applied || m.Delta.Hash.OK && local.Hash() != m.Delta.Hash.Sum {
				t.Fatalf("update %d..%d: %v, applied %v, hash %x of %x", m.Delta.Prev, m.Delta.Seq, err, applied, local.Hash(), m.Delta.Hash.Sum)
			}
			updates++
		case wire.KindSnapshot, wire.KindTradeGap:
			t.Fatalf("%+v", m)
		}
	}
	// The other way round: what REST says afterwards is not older.
	if later := read(t, "http://"+s.sse+"/v1/trades/NEW-USDT?limit=1"); later.Seq < at {
		t.Errorf("REST is at %d, the WebSocket at %d", later.Seq, at)
	}
}

// TestBarsAfterRestart has an edge start anew: it serves the history that ingest has saved, without the events behind it.
func TestBarsAfterRestart(t *testing.T) {
	broker := testkit.Broker(t).Addr()
	const minutes = 400
	var before answer
	t.Run("first", func(t *testing.T) {
		s := startWith(t, []string{broker}, func(c *all.Config) { c.Ingest.SnapshotEvery = 100 * time.Millisecond })
		n := &native{t: t, w: s.writer(t)}
		n.list()
		begin := time.Now().Truncate(time.Minute).Add(-minutes * time.Minute)
		for i := range 4 * minutes {
			n.trade(begin.Add(time.Duration(i) * 15 * time.Second))
		}
		s.waitInstrument(t, "NEW-USDT")
		if !waitFor(t, func() bool {
			before = read(t, "http://"+s.sse+"/v1/bars/NEW-USDT?limit=2048&before="+fmt.Sprint(begin.Add((minutes-1)*time.Minute).UnixMicro()))
			return len(before.Bars) == minutes-1
		}) {
			t.Fatalf("%d bars", len(before.Bars))
		}
	})
	time.Sleep(1200 * time.Millisecond) // the next one reads a second of events
	cluster, err := stream.Open(stream.Config{Brokers: []string{broker}})
	must(t, err)
	defer cluster.Close()
	cfg := sse.DefaultConfig()
	cfg.Addr, cfg.Mirror.RingAge = "127.0.0.1:0", time.Second
	edge, err := sse.New(cfg, sse.Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Cluster: cluster})
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- edge.Run(ctx) }()
	defer func() {
		stop()
		must(t, <-done)
	}()
	if !waitFor(t, func() bool { return edge.Ready() == nil }) {
		t.Fatal(edge.Ready())
	}
	after := read(t, "http://"+edge.Addr()+"/v1/bars/NEW-USDT?limit=2048&before="+fmt.Sprint(before.Bars[len(before.Bars)-1].T+1))
	if len(after.Bars) != len(before.Bars) || after.Ep != before.Ep {
		t.Fatalf("%d bars, were %d", len(after.Bars), len(before.Bars))
	}
	for i := range after.Bars {
		if after.Bars[i] != before.Bars[i] {
			t.Fatalf("bar %d is %+v, was %+v", i, after.Bars[i], before.Bars[i])
		}
	}
	if n := edge.Mirror().Stats().Events.Load(); n > minutes/2 {
		t.Errorf("it read %d events: they may be where the bars come from", n)
	}
}

// wsClient is a WebSocket client of the barest kind.
type wsClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dialWS(t *testing.T, url string) *wsClient {
	t.Helper()
	addr := strings.TrimPrefix(url, "ws://")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", addr)
	must(t, err)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	must(t, err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	return &wsClient{t, conn, in}
}

// send sends a text message of at most 64 KiB, with a mask of zeros.
func (c *wsClient) send(text string) {
	c.t.Helper()
	frame := binary.BigEndian.AppendUint16([]byte{0x81, 0x80 | 126}, uint16(len(text)))
	frame = append(append(frame, 0, 0, 0, 0), text...)
	_, err := c.conn.Write(frame)
	must(c.t, err)
}

// next returns the next text message; control frames are skipped.
func (c *wsClient) next() []byte {
	c.t.Helper()
	for {
		var head [2]byte
		_, err := io.ReadFull(c.in, head[:])
		must(c.t, err)
		n := uint64(head[1])
		if size := map[byte]int{126: 2, 127: 8}[head[1]]; size > 0 {
			var long [8]byte
			_, err := io.ReadFull(c.in, long[8-size:])
			must(c.t, err)
			n = binary.BigEndian.Uint64(long[:])
		}
		payload := make([]byte, n)
		_, err = io.ReadFull(c.in, payload)
		must(c.t, err)
		if head[0] == 0x81 {
			return payload
		}
	}
}
