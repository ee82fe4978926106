package bookview

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var btc = market.Instrument{ID: 1, Sym: "BTC-USDT", Source: "sim", Symbol: "BTCUSDT", PriceScale: 2, SizeScale: 4}

const epoch = 1_700_000_000

// edge is a real edge whose market the test makes.
type edge struct {
	t    testing.TB
	s    *ws.Server
	addr string
	stop func()

	mu     sync.Mutex
	book   book.Book
	trades uint64
}

// startEdge listens at addr, and knows the market of from, if that is given.
func startEdge(t testing.TB, addr string, from *edge) *edge {
	t.Helper()
	return startEdgeWith(t, ws.DefaultConfig(), addr, from)
}

func startEdgeWith(t testing.TB, cfg ws.Config, addr string, from *edge) *edge {
	t.Helper()
	cfg.Addr, cfg.Drain = addr, 50*time.Millisecond
	s, err := ws.New(cfg, ws.Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Listening():
	case err := <-done:
		t.Fatal(err)
	}
	e := &edge{t: t, s: s, addr: s.Addr()}
	e.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(e.stop)
	m := s.Mirror()
	m.Expect(1)
	m.Phase(0, stream.PhaseReset, nil)
	e.record(wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: head(1), Instrument: btc}))
	if from == nil {
		for i := range 200 {
			e.book.Set(market.Bid, market.Price(100_000-i), market.Size(i+1))
			e.book.Set(market.Ask, market.Price(100_001+i), market.Size(i+1))
		}
		e.book.SetSequence(market.Sequence{Epoch: epoch, Seq: 1})
	} else {
		e.book = from.book
		for range from.trades { // it has read the log: a client that comes back with any place goes on there
			e.trade()
		}
	}
	snap := market.Snapshot{Head: head(e.book.Sequence().Seq), Part: 1, Parts: 1, Hash: market.Hash{Sum: e.book.Hash(), OK: true}}
	snap.Bids, snap.Asks = e.book.AppendLevels(nil, market.Bid, 0), e.book.AppendLevels(nil, market.Ask, 0)
	e.record(wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &snap))
	m.Phase(0, stream.PhaseReady, nil)
	e.beat()
	return e
}

func (e *edge) record(t wire.Template, b []byte) {
	e.t.Helper()
	if err := e.s.Mirror().Record(0, 0, t, b); err != nil {
		e.t.Fatal(err)
	}
}

func head(seq uint64) market.Head {
	now := market.FromTime(time.Now())
	return market.Head{Inst: btc.ID, Epoch: epoch, Prev: seq - 1, Seq: seq, Time: now, In: now}
}

func (e *edge) beat() {
	now := market.FromTime(time.Now())
	h := wire.OwnerHeartbeat{Time: now, Sources: []wire.SourceClock{{Source: "sim", Last: now}}}
	e.record(wire.TemplateOwnerHeartbeat, wire.AppendOwnerHeartbeat(nil, &h))
}

// update changes some levels, near the top and far from it.
func (e *edge) update(i int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := market.Delta{Head: head(e.book.Sequence().Seq + 1)}
	for k := range 5 {
		d.Bids = append(d.Bids, market.Level{Price: market.Price(100_000 - (i*7+k*31)%150), Size: market.Size((i + k) % 4)})
		d.Asks = append(d.Asks, market.Level{Price: market.Price(100_001 + (i*5+k*17)%150), Size: market.Size((i + k) % 3)})
	}
	if _, err := e.book.Apply(&d); err != nil {
		e.t.Error(err)
	}
	d.Hash = market.Hash{Sum: e.book.Hash(), OK: true}
	e.record(wire.TemplateBookUpdate, wire.AppendDelta(nil, &d))
}

func (e *edge) trade() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trades++
	e.record(wire.TemplateTrade, wire.AppendTrade(nil, &market.Trade{
		Head: head(e.trades), Price: 100_000, Size: 12345, Side: market.Bid, ID: market.NumericTradeID(e.trades),
	}))
}

func (e *edge) sequence() market.Sequence {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.book.Sequence()
}

// run runs the program's part in the background and returns what it prints, and how it ends.
func run(t *testing.T, cfg Config) (out *buffer, stop context.CancelFunc, done chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	out, done = &buffer{}, make(chan error, 1)
	go func() { done <- Run(ctx, cfg, out) }()
	t.Cleanup(cancel)
	return out, cancel, done
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestOnce(t *testing.T) {
	e := startEdge(t, "127.0.0.1:0", nil)
	for _, json5 := range []bool{false, true} {
		cfg := DefaultConfig()
		cfg.Sym, cfg.Addr, cfg.Once, cfg.Depth, cfg.JSON = btc.Sym, e.addr, true, 10, json5
		var out bytes.Buffer
		if err := Run(t.Context(), cfg, &out); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Ch, Sym, T, H string
			Seq           uint64
			B, A          [][2]string
		}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%v in %s", err, out.String())
		}
		if got.Ch != "book" || got.Sym != btc.Sym || got.T != "s" || len(got.H) != 16 || len(got.B) != 10 || got.B[0] != [2]string{"1000", "0.0001"} {
			t.Errorf("got %s", out.String())
		}
	}
}

func TestToken(t *testing.T) {
	key, entry := testkit.NewKey(t, "me", auth.Scope{Channels: []string{"book"}})
	server := ws.DefaultConfig()
	server.Edge.Auth.Mode = "required"
	_, server.Edge.Auth.KeysFile = testkit.Keys(t, "keys:\n"+entry)
	e := startEdgeWith(t, server, "127.0.0.1:0", nil)
	f := func(token, want string) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.Sym, cfg.Addr, cfg.Once, cfg.Token = btc.Sym, e.addr, true, token
		err := Run(t.Context(), cfg, io.Discard)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	f(key, "")
	f("", "TICKWIRE_TOKEN")
	f(key+"x", "does not take the token: this is no token")
}

func TestErrors(t *testing.T) {
	e := startEdge(t, "127.0.0.1:0", nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := ln.Addr().String()
	_ = ln.Close()
	f := func(sym, addr string, want ...string) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.Sym, cfg.Addr, cfg.Once = sym, addr, true
		err := Run(t.Context(), cfg, io.Discard)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s at %s: %v; want %q in it", sym, addr, err, w)
			}
		}
	}
	f("BTC-USDT", free, "nothing listens at "+free, "tickwire all", "--addr")
	f("NO-SUCH", e.addr, "NO-SUCH", "no such instrument", "BTC-USDT")
	f("BTC-USDT", "ws://"+e.addr+"/elsewhere", "404")
	f("", e.addr, "name an instrument")
	f("BTC-USDT", "", "--addr")
	cmd := Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(nil)
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "tickwire book BTC-USDT") {
		t.Errorf("without a symbol: %v", err)
	}
}

// lyingProxy stands before an edge and, when told to, changes the hashes it passes on.
type lyingProxy struct{ lie atomic.Bool }

func (p *lyingProxy) listen(t *testing.T, to string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(server, client)
				_ = server.Close()
			})
			wg.Go(func() {
				p.copy(client, server)
				_ = client.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func (p *lyingProxy) copy(to, from net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if at := bytes.Index(b[:n], []byte(`"h":"`)); at >= 0 && at+5 < n && p.lie.Load() {
			b[at+5] = map[bool]byte{true: '1', false: '0'}[b[at+5] == '0']
		}
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

func TestVerify(t *testing.T) {
	e := startEdge(t, "127.0.0.1:0", nil)
	cfg := DefaultConfig()
	cfg.Sym, cfg.Addr, cfg.Verify, cfg.Every = btc.Sym, e.addr, true, 50*time.Millisecond
	out, stop, done := run(t, cfg)
	eventually(t, "a first line", func() bool { return strings.Contains(out.String(), "1 hashes verified") })
	for i := range 500 {
		e.update(i)
	}
	eventually(t, "all updates", func() bool { return strings.Contains(out.String(), "at "+e.sequence().String()) })
	if got := out.String(); !strings.Contains(got, "0 gaps, 0 mismatches") {
		t.Errorf("printed\n%s", got)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("ended by its user: %v", err)
	}
	var liar lyingProxy
	cfg.Addr, cfg.JSON = liar.listen(t, e.addr), true
	out, _, done = run(t, cfg)
	eventually(t, "a first line", func() bool { return strings.Contains(out.String(), "1 hashes verified") })
	liar.lie.Store(true)
	e.update(501)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "hash") || !strings.Contains(out.String(), "1 mismatches") {
		t.Errorf("a wrong hash: %v\n%s", err, out.String())
	}
}

func TestLines(t *testing.T) {
	e := startEdge(t, "127.0.0.1:0", nil)
	e.trade()
	cfg := DefaultConfig()
	cfg.Sym, cfg.Addr = btc.Sym, e.addr
	out, stop, done := run(t, cfg)
	eventually(t, "a line with the trade", func() bool {
		return strings.Contains(out.String(), "BTC-USDT live  bid 0.0001 @ 1000.00  ask 0.0001 @ 1000.01  spread 0.01") &&
			strings.Contains(out.String(), "last bought 1.2345 @ 1000.00")
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("printed\n%s", out)
	}
}

// Every view of the edge's book equals the client's own, in both encodings, for clients that come at any time, and while
// one edge is replaced by another.
func TestClientsAgainstTheEdge(t *testing.T) {
	first := startEdge(t, "127.0.0.1:0", nil)
	var mu sync.Mutex
	var faults []string
	var trades []uint64
	var clients []*client.Client
	var books []*client.Book
	join := func(i int) {
		enc := client.Encoding(i % 2)
		cfg := client.Config{URL: "ws://" + first.addr, Encoding: enc, Compress: i%3 == 0, MinBackoff: 5 * time.Millisecond, MaxBackoff: 50 * time.Millisecond}
		cfg.Handler.OnError = func(s *client.Topic, err error) {
			mu.Lock()
			defer mu.Unlock()
			faults = append(faults, fmt.Sprint(s, err))
		}
		if i == 0 {
			cfg.Handler.OnTrade = func(_ *client.Trades, m *market.Trade) {
				mu.Lock()
				defer mu.Unlock()
				trades = append(trades, m.Seq)
			}
		}
		c, err := client.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		view := client.BookView{Depth: []uint16{0, 10, 25, 50, 100}[i%5], Millis: []uint16{0, 100, 250, 0}[i%4]}
		b, err := c.Book(btc.Sym, view)
		if err != nil {
			t.Fatal(err)
		}
		books = append(books, b)
		if i == 0 {
			if _, err := c.Trades(btc.Sym, 10); err != nil {
				t.Fatal(err)
			}
		}
	}
	e := first
	n := 0
	for i := range 20 {
		join(i)
		for range 100 {
			e.update(n)
			if n%10 == 0 {
				e.trade()
			}
			n++
		}
		if i == 10 { // another edge takes its place, and more happens before the clients are back
			e.stop()
			e = startEdge(t, first.addr, e)
			for range 50 {
				e.update(n)
				n++
			}
		}
		e.beat()
	}
	for i, b := range books {
		eventually(t, fmt.Sprintf("client %d at the end", i), func() bool {
			var got market.Snapshot
			b.Snapshot(&got)
			e.mu.Lock()
			defer e.mu.Unlock()
			depth := int(got.Depth)
			want := book.HashLevels(e.book.AppendLevels(nil, market.Bid, depth), e.book.AppendLevels(nil, market.Ask, depth))
			return got.Hash.Sum == want && b.State() == client.Live
		})
		if st := b.BookStats(); st.Gaps+st.Mismatches > 0 || st.Verified == 0 {
			t.Errorf("client %d: %+v", i, st)
		}
	}
	for _, c := range clients {
		_ = c.Close()
	}
	if len(faults) > 0 {
		t.Errorf("faults: %v", faults)
	}
	for i, seq := range trades {
		if i > 0 && seq != trades[i-1]+1 {
			t.Errorf("trade %d after %d", seq, trades[i-1])
		}
	}
	if len(trades) == 0 {
		t.Error("no trades")
	}
}

func TestRender(t *testing.T) {
	p := picture{
		in: btc, status: "live", good: true, at: market.Sequence{Epoch: 17, Seq: 1001}, rate: 123.4, depth: [2]int{200, 150},
		bids: []market.Level{{Price: 100_000, Size: 5000}, {Price: 99_999, Size: 10_000}},
		asks: []market.Level{{Price: 100_001, Size: 20_000}},
		now:  market.FromMicros(5_000_000), traded: true,
		trade: market.Trade{Head: market.Head{Time: market.FromMicros(2_500_000)}, Price: 100_000, Size: 7, Side: market.Ask},
	}
	var b bytes.Buffer
	p.render(&b, 60, 9)
	text := b.String()
	for _, code := range []string{home, bold, dim, red, green, plain, "\x1b[K", below} {
		text = strings.ReplaceAll(text, code, "")
	}
	want := strings.Join([]string{
		"BTC-USDT  live  17:1001  123 updates/s",
		"last sold 0.0007 @ 1000.00, 2.5s ago",
		"",
		"         1000.01           2.0000 ==========================",
		"      spread 0.01",
		"         1000.00           0.5000 ======",
		"          999.99           1.0000 =============",
		"200 bids, 150 asks; 0 gaps, 0 mismatches; Ctrl-C ends",
		"",
	}, "\r\n")
	if text != want {
		t.Errorf("drawn\n%s\nwant\n%s", text, want)
	}
	for _, size := range [][2]int{{1, 1}, {0, 0}, {10, 3}, {300, 200}} {
		b.Reset()
		p.render(&b, size[0], size[1])
		for _, line := range strings.Split(b.String(), "\r\n") {
			for _, code := range []string{home, bold, dim, red, green, plain, "\x1b[K", below} {
				line = strings.ReplaceAll(line, code, "")
			}
			if len(line) > size[0] {
				t.Errorf("on %v: %q is %d wide", size, line, len(line))
			}
		}
	}
}

func TestMeter(t *testing.T) {
	var m meter
	now := time.Now()
	m.turn(now.Unix())
	m.counts[0] = 30
	if got := m.rate(now); got != 30 {
		t.Errorf("in the first second: %v", got)
	}
	if got := m.rate(now.Add(2 * time.Second)); got != 15 {
		t.Errorf("after two seconds: %v", got)
	}
	if got := m.rate(now.Add(time.Hour)); got != 0 {
		t.Errorf("after an hour: %v", got)
	}
}
