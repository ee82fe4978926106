package swarm

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// rivalSwarm is a swarm with a client that has just sent its request, and the server's end of its connection.
func rivalSwarm(t testing.TB, protocol string, sse bool) (*Swarm, *client, *server) {
	t.Helper()
	s := &Swarm{
		cfg:  Config{Protocol: protocol, SSE: sse, Channel: "trades", JSON: true, Topics: 3, Each: 2, Token: "token", TopicName: "md.{topic}"},
		hist: schedule.NewHistogram(), total: schedule.NewHistogram(), buf: make([]byte, 1<<20), ackFD: -1, measuring: true, windows: []window{{0, math.MaxInt64}}, inflated: map[string][]byte{}, known: map[string]*known{},
	}
	s.symbols, _ = newSymbols(nil, s.cfg.Topics) // the lab's are good
	if err := s.speak(); err != nil {
		t.Fatal(err)
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = syscall.Close(fds[0]), syscall.Close(fds[1]) })
	c := &client{fd: fds[0], state: upgrading, topics: []int{1, 2}, seqs: make([]uint32, s.cfg.Topics)}
	s.clients, s.opening = append(s.clients, c), 1
	return s, c, &server{fd: fds[1]}
}

// server reads what a client has sent.
type server struct{ fd int }

// heard returns the payloads of all frames so far.
func (s *server) heard(t *testing.T) (all []string) {
	t.Helper()
	b := make([]byte, 1<<16)
	n, err := syscall.Read(s.fd, b)
	if err != nil {
		return nil // nothing has come
	}
	for b = b[:n]; len(b) > 0; {
		head, n := 2, int(b[1]&0x7F)
		if n == 126 {
			head, n = 4, int(b[2])<<8|int(b[3])
		}
		all, b = append(all, string(b[head+4:head+4+n])), b[head+4+n:]
	}
	return all
}

// open answers the request.
func open(t testing.TB, s *Swarm, c *client, headers string) {
	t.Helper()
	status := "HTTP/1.1 101 Switching Protocols\r\n"
	if s.streams != nil {
		status = "HTTP/1.1 200 OK\r\n"
	}
	if _, err := s.answered(c, []byte(status+headers+"\r\n")); err != nil {
		t.Fatal(err)
	}
}

// again cuts the client's connection and makes another one, and returns what it asks for.
func again(s *Swarm, c *client) string {
	if c.counted {
		s.ready--
	}
	c.counted, c.lost, c.state, s.opening, s.report = false, 1, upgrading, 1, Report{}
	c.part, c.acks = nil, 0
	return string(s.dialect.request(nil, c))
}

// text1 is a trade of topic 1, in JSON.
func text1(prev, seq uint64) string { return aged(prev, seq, 0) }

func aged(prev, seq uint64, age time.Duration) string {
	in := &market.Instrument{ID: 2, Sym: target.Sym(1), PriceScale: 2, SizeScale: 4}
	m := market.Trade{Head: head(prev, seq, age), Price: 1, Size: 1, Side: market.Bid}
	return string(wire.AppendTradeJSON(nil, in, &m, 0))
}

// frames makes a frame of each text; each may be split further into several frames, of so many bytes.
func frames(opcode byte, split int, texts ...string) (b []byte) {
	for _, text := range texts {
		first := opcode
		for first != 0 || len(text) > 0 {
			n := len(text)
			if split > 0 {
				n = min(n, split)
			}
			head := first
			if n == len(text) {
				head |= final
			}
			if b = append(b, head); n < 126 {
				b = append(b, byte(n))
			} else {
				b = append(b, 126, byte(n>>8), byte(n))
			}
			b, text, first = append(b, text[:n]...), text[n:], 0
		}
	}
	return b
}

// TestPieces has messages in several frames, with a ping between them.
func TestPieces(t *testing.T) {
	for _, split := range []int{0, 1, 100} {
		for _, piece := range []int{1, 7, 1 << 16} {
			s, c, peer := rivalSwarm(t, target.WS, false)
			open(t, s, c, "")
			b := frames(opText, split, text1(4, 5), text1(5, 6))
			b = append(b, frames(opText, split, text1(6, 7))...)
			feed(t, s, c, piece, b)
			feed(t, s, c, piece, append([]byte{opText, 1, '{'}, append(frames(9, 0, "hello"), append([]byte{final, byte(0)}, frames(opText, 0, text1(7, 8))...)...)...))
			if r := s.report; r.Messages != 4 || r.Gaps != 0 || r.Malformed != 1 || c.seqs[1] != 8 {
				t.Errorf("split at %d, pieces of %d: %+v", split, piece, r)
			}
			if got := peer.heard(t); len(got) != 1 || got[0] != "hello" {
				t.Errorf("answers %q", got)
			}
		}
	}
	for _, wrong := range [][]byte{{final, 0}, {opText, 0, opText, 0}, {opText, 0, final | opBinary, 0}} {
		s, c, _ := rivalSwarm(t, target.WS, false)
		open(t, s, c, "")
		if _, err := s.frames(c, wrong); err == nil {
			t.Errorf("%x is no message", wrong)
		}
	}
}

func TestBroadcast(t *testing.T) {
	s, c, peer := rivalSwarm(t, target.WS, false)
	s.path, s.cfg.SubscribeMessage = "/feed?x=y", `{"sub":"{topic}"}`
	if got := string(s.dialect.request(nil, c)); !strings.HasPrefix(got, "GET /feed?x=y HTTP/1.1\r\n") {
		t.Errorf("%q", got)
	}
	open(t, s, c, "")
	if got := fmt.Sprint(peer.heard(t)); got != `[{"sub":"md.S0001"} {"sub":"md.S0002"}]` || !c.counted {
		t.Errorf("%s", got)
	}
	feed(t, s, c, 50, frames(opText, 0, text1(4, 5), text1(6, 7), text1(6, 7), text1(7, 8)))
	if r := s.report; r.Messages != 3 || r.Updates != 4 || r.Gaps != 1 || r.Again != 1 || r.Malformed != 0 {
		t.Errorf("%+v", r)
	}
	again(s, c)
	s.cfg.SubscribeMessage = "all"
	open(t, s, c, "")
	if got := fmt.Sprint(peer.heard(t)); got != "[all]" {
		t.Errorf("%s", got)
	}
	feed(t, s, c, 50, frames(opText, 0, text1(20, 21)))
	if r := s.report; r.Messages != 1 || r.Gaps != 0 || r.GapNotices != 1 || !c.counted || s.ready != 1 {
		t.Errorf("%+v", r)
	}
}

func TestCentrifugo(t *testing.T) {
	s, c, peer := rivalSwarm(t, target.Centrifugo, false)
	if got := string(s.dialect.request(nil, c)); !strings.HasPrefix(got, "GET /connection/websocket HTTP/1.1\r\n") {
		t.Errorf("%q", got)
	}
	open(t, s, c, "")
	push := func(offset, prev, seq uint64) string {
		return fmt.Sprintf(`{"push":{"channel":"md.S0001","pub":{"data":%s,"offset":%d}}}`, text1(prev, seq), offset)
	}
	feed(t, s, c, 9, frames(opText, 0, `{"id":1,"connect":{"client":"x","version":"6","ping":25,"pong":true}}`))
	want := []string{
		`{"id":1,"connect":{"token":"token"}}`,
		`{"id":2,"subscribe":{"channel":"md.S0001"}}` + "\n" + `{"id":3,"subscribe":{"channel":"md.S0002"}}`,
	}
	if got := peer.heard(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q", got)
	}
	feed(t, s, c, 9, frames(opText, 0,
		`{"id":2,"subscribe":{"recoverable":true,"epoch":"abc","offset":10}}`+"\n"+push(11, 4, 5)+"\n",
		`{"id":3,"subscribe":{}}`, "{}", push(12, 5, 6)+"\n{}\n"+push(13, 6, 7), `{"push":{"channel":"md.S0001","join":{}}}`))
	if r := s.report; r.Messages != 3 || r.Gaps+r.Malformed != 0 || !c.counted || c.marks[0] != (mark{"abc", 13}) {
		t.Errorf("%+v, %+v", r, c.marks)
	}
	if got := fmt.Sprint(peer.heard(t)); got != "[{} {}]" {
		t.Errorf("pongs: %s", got)
	}

	again(s, c)
	open(t, s, c, "")
	feed(t, s, c, 9, frames(opText, 0, `{"id":1,"connect":{}}`))
	if got := peer.heard(t); !strings.Contains(got[1], `{"id":2,"subscribe":{"channel":"md.S0001","recover":true,"epoch":"abc","offset":13}}`) {
		t.Errorf("%q", got)
	}
	feed(t, s, c, 9, frames(opText, 0, `{"id":3,"subscribe":{}}`,
		`{"id":2,"subscribe":{"epoch":"abc","offset":13,"recovered":true,"publications":[{"data":`+text1(7, 8)+`,"offset":14},{"data":`+text1(8, 9)+`,"offset":15}]}}`))
	if r := s.report; r.Messages != 2 || r.Gaps+r.GapNotices+r.Malformed != 0 || !c.counted || c.marks[0].offset != 15 {
		t.Errorf("%+v, %+v", r, c.marks)
	}

	again(s, c)
	open(t, s, c, "")
	feed(t, s, c, 9, frames(opText, 0, `{"id":1,"connect":{}}`+"\n"+`{"id":2,"subscribe":{"epoch":"def","offset":99,"recovered":false}}`+"\n"+`{"id":3,"subscribe":{}}`, push(100, 70, 71), "{}"))
	if r := s.report; r.Messages != 1 || r.Gaps != 0 || r.GapNotices != 1 || !c.counted || c.marks[0] != (mark{"def", 100}) {
		t.Errorf("%+v, %+v", r, c.marks)
	}
	for _, wrong := range []string{
		`{"id":2,"error":{"code":103,"message":"permission denied"}}`, `{"id":2,"subscribe":{}}`, `{"id":9,"subscribe":{}}`, "hello",
		`{"push":{"channel":"x","unsubscribe":{"code":2500}}}`, `{"push":{"disconnect":{"code":3000}}}`, `{"push":1}`,
	} {
		if _, err := s.frames(c, frames(opText, 0, wrong)); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}

// msg is an operation of NATS.
func msg(text string) string { return fmt.Sprintf("MSG md.S0001 1 %d\r\n%s\r\n", len(text), text) }

func TestNATS(t *testing.T) {
	for _, split := range []int{1, 5, 100, 10_000} {
		s, c, peer := rivalSwarm(t, target.NATS, false)
		say := func(text string) {
			t.Helper()
			for len(text) > 0 {
				n := min(split, len(text))
				feed(t, s, c, 1<<16, frames(opBinary, 0, text[:n]))
				text = text[n:]
			}
		}
		open(t, s, c, "")
		say("INFO {\"server_id\":\"x\"} \r\n")
		if got := peer.heard(t); len(got) != 1 || !strings.Contains(got[0], `"auth_token":"token"}`+"\r\nSUB md.S0001 1\r\nSUB md.S0002 2\r\nPING\r\n") {
			t.Errorf("%q", got)
		}
		if say("PING\r\n+OK\r\nPONG\r\n"); !c.counted || c.state != running {
			t.Error("a client that has its pong is not ready")
		}
		if got := fmt.Sprintf("%q", peer.heard(t)); got != `["PONG\r\n"]` {
			t.Errorf("%s", got)
		}
		say(msg(text1(4, 5)) + msg(text1(5, 6)) + "PING\r\n" + msg(text1(6, 7)) + "INFO {}\r\n" + msg("nonsense\r\nin two lines"))
		if r := s.report; r.Messages != 3 || r.Gaps != 0 || r.Malformed != 1 || c.seqs[1] != 7 || len(c.held) != 0 {
			t.Errorf("split at %d: %+v", split, r)
		}
		again(s, c)
		open(t, s, c, "")
		say("INFO {}\r\nPONG\r\n" + msg(text1(8, 9)))
		if r := s.report; r.Messages != 1 || r.Gaps != 0 || r.GapNotices != 1 || !c.counted {
			t.Errorf("%+v", r)
		}
	}
	for _, wrong := range []string{
		"-ERR 'Authorization Violation'\r\n", "HELLO\r\n", "MSG a 1 x\r\n", "MSG a 1 \r\n", "MSG a 1 99999999999999999999\r\n", "MSG a 1 3\r\nabcdef\r\n",
		strings.Repeat("x", maxControl),
	} {
		s, c, _ := rivalSwarm(t, target.NATS, false)
		open(t, s, c, "")
		if err := s.sockets.message(c, opBinary, []byte(wrong), 0); err == nil {
			t.Errorf("%.40q is taken", wrong)
		}
	}
}

// TestMercure has a hub that keeps a history, and one that does not.
func TestMercure(t *testing.T) {
	s, c, _ := rivalSwarm(t, target.Mercure, true)
	s.cfg.TopicName = "https://x/{topic}?y"
	if got := string(s.dialect.request(nil, c)); got != "GET /.well-known/mercure?topic=https%3A%2F%2Fx%2FS0001%3Fy&topic=https%3A%2F%2Fx%2FS0002%3Fy HTTP/1.1\r\nAccept: text/event-stream" {
		t.Errorf("%q", got)
	}
	const chunked = "transfer-encoding: chunked\r\n"
	event := func(id int, prev, seq uint64) string {
		return fmt.Sprintf("id: urn:uuid:%d\ndata: %s\n\n", id, text1(prev, seq))
	}
	take := func(texts ...string) {
		t.Helper()
		if err := s.take(c, chunks(false, texts...)); err != nil {
			t.Fatal(err)
		}
	}
	open(t, s, c, chunked)
	take(":\n", event(1, 4, 5), event(2, 5, 6)+event(3, 6, 7), ":\n", "data: hello\n\n")
	if r := s.report; r.Messages != 3 || r.Gaps != 0 || r.Malformed != 1 || !c.counted {
		t.Errorf("%+v", r)
	}
	if got := again(s, c); !strings.HasSuffix(got, "\r\nLast-Event-ID: urn:uuid:3") {
		t.Errorf("%q", got)
	}
	open(t, s, c, chunked+"Last-Event-ID: urn:uuid:3\r\n")
	take(event(4, 7, 8))
	if r := s.report; r.Messages != 1 || r.Gaps+r.GapNotices != 0 {
		t.Errorf("%+v", r)
	}
	again(s, c)
	open(t, s, c, chunked+"Last-Event-ID: earliest\r\n")
	take(event(9, 20, 21))
	if r := s.report; r.Messages != 1 || r.Gaps != 0 || r.GapNotices != 1 {
		t.Errorf("%+v", r)
	}
}

func TestNchan(t *testing.T) {
	s, c, _ := rivalSwarm(t, target.Nchan, false)
	s.path = "/sub/{topic}?x"
	if got := string(s.dialect.request(nil, c)); !strings.HasPrefix(got, "GET /sub/md.S0001,md.S0002?x HTTP/1.1\r\n") || !strings.HasSuffix(got, "\r\nSec-WebSocket-Protocol: ws+meta.nchan") {
		t.Errorf("%q", got)
	}
	open(t, s, c, "Sec-WebSocket-Protocol: ws+meta.nchan\r\n")
	meta := func(id, text string) string { return "id: " + id + "\ncontent-type: application/json\n\n" + text }
	feed(t, s, c, 20, frames(opText, 0, meta("1:0", aged(1, 2, time.Minute)), meta("2:[0],-", text1(4, 5)), meta("2:[1],-", text1(5, 6)), "id: 3:0\nnonsense"))
	if r := s.report; r.Messages != 2 || r.Gaps != 0 || r.Malformed != 1 || !c.counted {
		t.Errorf("%+v", r)
	}
	if got := again(s, c); !strings.Contains(got, "\r\nLast-Event-ID: 2:[1],-\r\n") {
		t.Errorf("%q", got)
	}
	open(t, s, c, "sec-websocket-protocol: ws+meta.nchan\r\n")
	feed(t, s, c, 20, frames(opText, 0, meta("2:[2],-", text1(6, 7)), meta("2:[3],-", text1(8, 9)))) // 8 has been dropped
	if r := s.report; r.Messages != 2 || r.Gaps != 1 || r.GapNotices != 0 {
		t.Errorf("%+v", r)
	}

	s, c, _ = rivalSwarm(t, target.Nchan, true)
	s.path = "/sub/{topic}"
	open(t, s, c, "Content-Type: text/event-stream; charset=utf-8\r\n") // no chunks
	body := ": hi\n\nid: 2:0\ndata: " + text1(4, 5) + "\n\nid: 2:1\ndata: " + text1(5, 6) + "\n\n"
	for _, b := range []string{body[:30], body[30:200], body[200:]} {
		if err := s.take(c, []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.report; r.Messages != 2 || r.Malformed != 0 {
		t.Errorf("%+v", r)
	}
	if got := again(s, c); !strings.Contains(got, "\r\nLast-Event-ID: 2:1\r\nAccept: text/event-stream") {
		t.Errorf("%q", got)
	}
}

func TestUnknownProtocol(t *testing.T) {
	for _, cfg := range []Config{{Protocol: "x"}, {Protocol: "x", SSE: true}, {Protocol: target.NATS, SSE: true}, {Protocol: target.Mercure}} {
		s := &Swarm{cfg: cfg}
		if err := s.speak(); err == nil {
			t.Errorf("%+v is spoken", cfg)
		}
	}
}

// FuzzCentrifugo feeds the dialect what no server should send: it must not panic.
func FuzzCentrifugo(f *testing.F) {
	f.Add([]byte(`{"push":{"channel":"md.S0001","pub":{"data":{"sym":"S0001"},"offset":3}}}`+"\n{}"), true)
	f.Add([]byte(`{"id":1,"connect":{}}`), false)
	f.Add([]byte(`{"id":2,"subscribe":{"publications":[{"data":{}}]}}`), true)
	f.Fuzz(func(t *testing.T, b []byte, subscribed bool) {
		s, c, _ := rivalSwarm(t, target.Centrifugo, false)
		open(t, s, c, "")
		if subscribed {
			if err := s.sockets.message(c, opText, []byte(`{"id":1,"connect":{}}`), 0); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.sockets.message(c, opText, b, 0)
	})
}

// FuzzNATS feeds operations in one message and in two: it must not panic, do the same both times, and keep no more than it
// was given.
func FuzzNATS(f *testing.F) {
	f.Add([]byte("INFO {}\r\nPONG\r\n"+msg(text1(4, 5))), 20)
	f.Add([]byte("MSG a 1 5\r\nhello\r\nPING\r\n"), 12)
	f.Add([]byte("MSG a 1 99999999999\r\n"), 5)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		hear := func(pieces ...[]byte) (Report, state, bool) {
			s, c, _ := rivalSwarm(t, target.NATS, false)
			open(t, s, c, "")
			for _, p := range pieces {
				if err := s.sockets.message(c, opBinary, bytes.Clone(p), 0); err != nil {
					return s.report, c.state, false
				}
			}
			if len(c.held) > len(b) {
				t.Fatal("more is kept than there was")
			}
			return s.report, c.state, true
		}
		cut = min(max(0, cut), len(b))
		one, stateOne, good := hear(b)
		two, stateTwo, fine := hear(b[:cut], b[cut:])
		if good != fine || good && (one != two || stateOne != stateTwo) {
			t.Fatalf("in one piece %+v, %v; in two %+v, %v", one, good, two, fine)
		}
	})
}

// FuzzNchan feeds messages with and without what is around them: it must not panic.
func FuzzNchan(f *testing.F) {
	f.Add([]byte("id: 1:0\ncontent-type: x\n\n{}"))
	f.Add([]byte("id: \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, c, _ := rivalSwarm(t, target.Nchan, false)
		open(t, s, c, "")
		if err := s.sockets.message(c, opText, b, 0); err != nil {
			t.Fatal(err)
		}
	})
}

// BenchmarkCentrifugo is what a publication costs a client once it is read.
func BenchmarkCentrifugo(b *testing.B) {
	s, c, _ := rivalSwarm(b, target.Centrifugo, false)
	c.marks = make([]mark, 2)
	benchmark(b, s, c, `{"push":{"channel":"md.S0001","pub":{"data":`+text1(0, 1)+`,"offset":13}}}`)
}

// BenchmarkNATS is what a message costs that comes in two pieces.
func BenchmarkNATS(b *testing.B) {
	s, c, _ := rivalSwarm(b, target.NATS, false)
	m := msg(text1(0, 1))
	benchmark(b, s, c, m[:30], m[30:])
}

func benchmark(b *testing.B, s *Swarm, c *client, messages ...string) {
	c.state, c.counted = running, true
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		c.seqs[1] = 0
		for _, m := range messages {
			buf = append(buf[:0], m...)
			if err := s.sockets.message(c, opText, buf, 0); err != nil {
				b.Fatal(err)
			}
		}
	}
	if s.report.Messages == 0 || s.report.Malformed+s.report.Gaps > 0 {
		b.Fatalf("%+v", s.report)
	}
}
