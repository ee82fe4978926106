package swarm

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// chunks makes a body of a chunk for each text, compressed as an edge does it if that is wanted.
func chunks(compressed bool, texts ...string) []byte {
	var b []byte
	add := func(c []byte) { b = fmt.Appendf(b, "%x\r\n%s\r\n", len(c), c) }
	if compressed {
		add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"))
	}
	for _, t := range texts {
		if !compressed {
			add([]byte(t))
			continue
		}
		var out bytes.Buffer
		if err := flate.StatelessDeflate(&out, []byte(t), false, nil); err != nil {
			panic(err)
		}
		add(out.Bytes())
	}
	return b
}

// read reads a body in pieces and returns what it heard.
func read(t *testing.T, r *stream, b []byte, piece int) (heard []string, err error) {
	t.Helper()
	for len(b) > 0 && err == nil {
		n := min(piece, len(b))
		r.feed(append([]byte(nil), b[:n]...)) // of its own, as a buffer that is read into again
		b = b[n:]
		var ok bool
		for ok, err = r.next(); ok && err == nil; ok, err = r.next() {
			heard = append(heard, fmt.Sprintf("%s|%s|%s", r.name, r.id, r.data))
		}
	}
	return heard, err
}

func TestStream(t *testing.T) {
	f := func(want string, texts ...string) {
		t.Helper()
		for _, compressed := range []bool{false, true} {
			for _, piece := range []int{1, 2, 3, 7, 50, 10_000} {
				s := &Swarm{buf: make([]byte, 1<<20), inflated: map[string][]byte{}}
				r := &stream{}
				if compressed {
					r.reset(s.inflateChunk)
				}
				heard, err := read(t, r, chunks(compressed, texts...), piece)
				if got := strings.Join(heard, " "); err != nil || got != want {
					t.Errorf("compressed %v, pieces of %d: %q, %v; want %q", compressed, piece, got, err, want)
				}
			}
		}
	}
	f("trade|a.1|{}", "id: a.1\nevent: trade\ndata: {}\n\n")
	f("trade|a.1|{} gap|a.2|[1]", "id: a.1\nevent: trade\ndata: {}\n\n", "id: a.2\nevent: gap\ndata: [1]\n\n")
	f("trade|a.1|{} gap|a.2|[1]", "id: a.1\nevent: trade\ndata: {}\n\nid: a.2\nevent: ga", "p\ndata: [1]\n\n") // across chunks
	f("status|a.1|x |a.1|y", "id: a.1\nevent: status\ndata: x\n\ndata: y\n\n")                                 // the id stays, the name does not
	f("|a|x\ny", "retry: 5\r\nid:a\r\ndata: x\r\n: hello\r\ndata:y\r\n\r\n")
	f("", ":\n\n", ":\n\n")
	f("|| x", "event: empty\n\nid: a\x00b\ndata:  x\n\n") // no data is no event; an id with NUL is none
	f("", "data: x\n")
}

// TestStreamEnd reads what must not be read on.
func TestStreamEnd(t *testing.T) {
	f := func(body, want string) {
		t.Helper()
		for _, piece := range []int{1, 100} {
			if _, err := read(t, new(stream), []byte(body), piece); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q in pieces of %d: %v", body, piece, err)
			}
		}
	}
	f("3\r\n:\n\n\r\n0\r\n\r\n", errEnded.Error())
	f("0\r\n\r\nmore", errEnded.Error())
	f("x\r\n", "length")
	f("\r\n", "length")
	f("-1\r\n", "length")
	f("7fffffff\r\n", "length")
	f("fffffffffffffffffffff\r\n", "length")
	f(strings.Repeat("0", 100), "without a length")
	f("3\r\n:\n\nx", "goes on")
	if _, err := read(t, new(stream), chunks(false, strings.Repeat("x", maxText), strings.Repeat("x", maxText)), 1<<20); err == nil {
		t.Error("a line without end is read on")
	}
	r := &stream{}
	r.reset((&Swarm{buf: make([]byte, 1<<20), inflated: map[string][]byte{}}).inflateChunk)
	if _, err := read(t, r, chunks(false, ":\n\n"), 100); err == nil {
		t.Error("a stream that is not compressed is read as one that is")
	}
}

func newStreams() *Swarm {
	s := &Swarm{cfg: Config{SSE: true, Channel: "trades", Topics: 3, Each: 1}, hist: schedule.NewHistogram(), total: schedule.NewHistogram(), buf: make([]byte, 1<<20), known: map[string]*known{}, measuring: true, windows: []window{{0, math.MaxInt64}}}
	if err := s.speak(); err != nil {
		panic(err)
	}
	s.symbols, _ = newSymbols(nil, s.cfg.Topics) // the lab's are good
	return s
}

// TestWhole reads text that is whole events at once, and other text as it comes, and hears the same.
func TestWhole(t *testing.T) {
	s := newStreams()
	hear := func(pieces ...string) Report {
		t.Helper()
		s.report = Report{}
		c := &client{fd: -1, state: running, counted: true, topics: []int{1}, seqs: []uint32{0, 7, 0}}
		s.measuring = true
		for _, p := range pieces {
			if err := s.events(c, []byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		if got := string(c.stream.id); got != string(target.AppendEventID(nil, 14)) {
			t.Errorf("ends at %q", got)
		}
		return s.report
	}
	text := ":\n\n" + happening("trade", 11, 7, 8) + happening("trade", 12, 9, 10) + "event: status\ndata: {}\n\n" + happening("gap", 14, 10, 12)
	body := string(chunks(false, text))
	want := hear(body)
	if want.Messages != 2 || want.Gaps != 1 || want.GapNotices != 1 || len(s.known) != 1 {
		t.Errorf("%+v, %d texts known", want, len(s.known))
	}
	for cut := range body {
		if got := hear(body[:cut], body[cut:]); got != want {
			t.Fatalf("cut at %d: %+v, want %+v", cut, got, want)
		}
	}
}

// TestInflate compares with a reader of the standard library.
func TestInflate(t *testing.T) {
	text := strings.Repeat("event: trade\ndata: {}\n\n", 40)
	b := bytes.Buffer{}
	b.WriteString("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
	if err := flate.StatelessDeflate(&b, []byte(text), false, nil); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, len(text))
	if _, err := z.Read(want); err != nil {
		t.Fatal(err)
	}
	s := &Swarm{buf: make([]byte, 1<<20), inflated: map[string][]byte{}}
	got, err := s.inflateChunk(b.Bytes()[10:])
	if err != nil || string(got) != text || !bytes.HasPrefix(got, bytes.TrimRight(want, "\x00")) {
		t.Errorf("%q, %v", got, err)
	}
}

// happening is the event of a trade or a gap, at a place in the log.
func happening(name string, offset, prev, seq uint64) string {
	in := &market.Instrument{ID: 2, Sym: target.Sym(1), PriceScale: 2, SizeScale: 4}
	m := market.Trade{Head: head(prev, seq, 0), Price: 1, Size: 1, Side: market.Bid}
	text := wire.AppendTradeJSON(nil, in, &m, 0)
	if name == "gap" {
		text = wire.AppendTradeGapJSON(nil, in, &market.TradeGap{Head: head(prev, seq, 0), Why: market.Slow, Missed: 9}, 0)
	}
	return fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", target.AppendEventID(nil, offset), name, text)
}

func TestEvents(t *testing.T) {
	s := newStreams()
	c := &client{fd: -1, state: upgrading, topics: []int{1}, seqs: make([]uint32, 3)}
	s.clients, s.opening = append(s.clients, c), 1
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	body := chunks(false,
		"retry: 2000\nid: "+string(target.AppendEventID(nil, 10))+"\nevent: hello\ndata: {\"proto\":1,\"how\":\"snapshot\"}\n\n",
		"id: "+string(target.AppendEventID(nil, 10))+"\nevent: snapshot\ndata: {\"ch\":\"trades\",\"items\":[{\"sym\":\"S0001\",\"ep\":1,\"seq\":7,\"state\":\"live\",\"trades\":[]}]}\n\n",
		":\n\n",
		happening("trade", 11, 7, 8)+happening("trade", 12, 8, 9),
		happening("trade", 14, 8, 9),   // again
		happening("trade", 15, 10, 11), // 10 is missing
		happening("trade", 15, 11, 12), // a place that it had
		happening("gap", 16, 12, 20),
		happening("trade", 17, 20, 21),
		"event: status\ndata: {}\n\n", "event: nonsense\ndata: {}\n\n",
	)
	rest, err := s.answered(c, []byte(head+string(body)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.take(c, rest); err != nil {
		t.Fatal(err)
	}
	r := s.report
	if r.Messages != 5 || r.Updates != 6 || r.Again != 1 || r.Gaps != 1 || r.GapNotices != 1 || r.Malformed != 2 || c.seqs[1] != 21 || !c.counted || s.ready != 1 || s.opening != 0 {
		t.Errorf("%+v at %d, %d ready", r, c.seqs[1], s.ready)
	}

	// The connection ends, and the next one goes on where it was.
	c.counted, c.lost, c.state, s.opening, s.ready = false, 1, upgrading, 1, 0
	if got := string(s.dialect.request(nil, c)); !strings.HasSuffix(got, "\r\nLast-Event-ID: "+string(target.AppendEventID(nil, 17))) || !strings.Contains(got, "symbols=S0001&") {
		t.Errorf("%q", got)
	}
	s.report = Report{}
	body = chunks(false, "id: "+string(target.AppendEventID(nil, 17))+"\nevent: hello\ndata: {\"how\":\"replay\"}\n\n", happening("trade", 18, 21, 22))
	if rest, err = s.answered(c, []byte(head+string(body))); err == nil {
		err = s.take(c, rest)
	}
	if r := s.report; err != nil || r.Messages != 1 || r.Gaps != 0 || r.GapNotices != 0 || r.Malformed != 0 || !c.counted {
		t.Errorf("%v, %+v", err, r)
	}
	if err := s.take(c, chunks(false, "event: reset\ndata: {\"why\":\"slow\"}\n\n", "event: goodbye\ndata: {\"why\":\"drain\"}\n\n")); err == nil || s.report.GapNotices != 1 {
		t.Errorf("sent away without notice: %v, %+v", err, s.report)
	}
}

// TestCompression has a server that does not compress, or does so unasked.
func TestCompression(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"
	f := func(wanted bool, more, body, want string) {
		t.Helper()
		s := newStreams()
		s.cfg.Deflate = wanted
		c := &client{fd: -1, state: upgrading, topics: []int{1}, seqs: make([]uint32, 3)}
		rest, err := s.answered(c, append([]byte(head+more+"\r\n"), chunks(false, body)...))
		if err == nil {
			err = s.take(c, rest)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	f(true, "", "event: hello\ndata: {\"how\":\"snapshot\"}\n\n", "not compressed")
	f(true, "", "event: goodbye\ndata: {\"why\":\"overload\"}\n\n", "overload")
	f(false, "Content-Encoding: gzip\r\n", "", "nobody has asked")
}

func TestPlace(t *testing.T) {
	for _, offset := range []uint64{0, 1, 127, 128, 1 << 40} {
		if got, ok := placeOf(target.AppendEventID(nil, offset)); !ok || got != offset {
			t.Errorf("%d, %v, want %d", got, ok, offset)
		}
	}
	for _, id := range []string{"", "x", "x.", "x.s", "x.AQ", "x.AQE", "x.!!!!", "x." + strings.Repeat("A", 300)} {
		if got, ok := placeOf([]byte(id)); ok {
			t.Errorf("%q leads to %d", id, got)
		}
	}
}

// FuzzStream feeds the reader what no server should send, in one piece and in two: it must not panic, hear the same both
// times, and keep no more than it was given.
func FuzzStream(f *testing.F) {
	f.Add(chunks(false, happening("trade", 1, 1, 2), ":\n\n"), 5, false)
	f.Add(chunks(true, happening("trade", 1, 1, 2)), 30, true)
	f.Add([]byte("ffffffff\r\n"), 3, false)
	f.Add([]byte("5;x=y\r\ndata:\r\n2\r\n\n\n\r\n0\r\n\r\n"), 8, false)
	f.Fuzz(func(t *testing.T, b []byte, cut int, compressed bool) {
		hear := func(pieces ...[]byte) (string, string) {
			s := &Swarm{buf: make([]byte, 1<<20), inflated: map[string][]byte{}}
			r := &stream{}
			if compressed {
				r.reset(s.inflateChunk)
			}
			var heard []string
			for _, p := range pieces {
				h, err := read(t, r, p, max(1, len(p)))
				heard = append(heard, h...)
				if err != nil {
					return strings.Join(heard, "\n"), err.Error()
				}
			}
			if !compressed && len(r.line)+len(r.data)+len(r.whole) > len(b) {
				t.Fatal("more is kept than there was")
			}
			return strings.Join(heard, "\n"), ""
		}
		cut = min(max(0, cut), len(b))
		one, err := hear(b)
		two, again := hear(b[:cut], b[cut:])
		if one != two || (err == "") != (again == "") {
			t.Fatalf("in one piece %q, %s; in two %q, %s", one, err, two, again)
		}
	})
}

// BenchmarkEvents is what an event costs a client once it is read.
func BenchmarkEvents(b *testing.B) {
	s := newStreams()
	c := &client{fd: -1, state: running, counted: true, topics: []int{1}, seqs: make([]uint32, 3)}
	chunk := chunks(false, happening("trade", 1, 0, 1))
	b.ReportAllocs()
	for b.Loop() {
		c.seqs[1], c.place = 0, 0
		if err := s.events(c, chunk); err != nil {
			b.Fatal(err)
		}
	}
	if s.report.Malformed+s.report.Gaps > 0 {
		b.Fatalf("%+v", s.report)
	}
}
