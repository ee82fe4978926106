package fanout

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"go.uber.org/goleak"

	"github.com/tickwire/tickwire/pkg/market"
)

// counter is a topic for tests: a book whose state is sixteen registers. Its native messages are lists of (register,
// value); the writer keeps the state, the reader applies the lists.
type counter struct {
	mu    sync.Mutex
	topic *Topic
	seq   uint64
	regs  [16]uint64
	cuts  int
	pad   int // bytes added to each message
	tag   byte
}

func started(cfg Config) *Hub {
	h := New(cfg)
	h.Start()
	return h
}

func newCounter(h *Hub, kind Kind, limits Limits) *counter {
	c := &counter{}
	c.topic = h.NewTopic(kind, limits, c)
	c.topic.Label = c
	return c
}

// The messages: kind, tag, how many pairs, prev, seq, then the pairs, each of 16 bytes.
const (
	update   = 'u'
	snapshot = 's'
	gap      = 'g'
)

func (c *counter) encode(kind byte, prev, seq uint64, pairs ...uint64) []byte {
	b := append([]byte{kind, c.tag, byte(len(pairs) / 2)}, make([]byte, 16)...)
	binary.LittleEndian.PutUint64(b[3:], prev)
	binary.LittleEndian.PutUint64(b[11:], seq)
	for _, v := range pairs {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return append(b, make([]byte, c.pad)...)
}

func (c *counter) set(reg int, v uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	c.regs[reg] = v
	c.topic.Publish(NewEntry(market.Sequence{Epoch: 1, Seq: c.seq}, c.seq-1, Binary, c.encode(update, c.seq-1, c.seq, uint64(reg), v)))
}

func (c *counter) Encode(e *Entry, f Format) *Frame { return c.in(f, e.Native()) }

func (c *counter) Merge(entries []*Entry, f Format) *Frame {
	newest := map[uint64]uint64{}
	for _, e := range entries {
		p := e.Native().Payload()
		newest[binary.LittleEndian.Uint64(p[19:])] = binary.LittleEndian.Uint64(p[27:])
	}
	var pairs []uint64
	for reg, v := range newest {
		pairs = append(pairs, reg, v)
	}
	return c.in(f, NewFrame(Binary, c.encode(update, entries[0].Prev, entries[len(entries)-1].Seq.Seq, pairs...)))
}

func (c *counter) in(f Format, native *Frame) *Frame {
	if f == Native {
		return native
	}
	return NewFrame(Text, append([]byte("json:"), native.Payload()...))
}

func (c *counter) Snapshot(w Want) Snapshot {
	f := w.Format
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cuts++
	var pairs []uint64
	for reg, v := range c.regs {
		pairs = append(pairs, uint64(reg), v)
	}
	half := len(pairs) / 2
	return Snapshot{
		Frames: Chain(
			c.in(f, NewFrame(Binary, c.encode(snapshot, c.seq, c.seq, pairs[:half]...))),
			c.in(f, NewFrame(Binary, c.encode(snapshot, c.seq, c.seq, pairs[half:]...)))),
		Seq: market.Sequence{Epoch: 1, Seq: c.seq}, Next: c.topic.Next(),
	}
}

func (c *counter) Gap(after, last market.Sequence, f Format) *Frame {
	return c.in(f, NewFrame(Binary, c.encode(gap, after.Seq, last.Seq)))
}

// message is what a client reads.
type reading struct {
	op      byte
	payload []byte
}

func read(r *bufio.Reader) (reading, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return reading{}, err
	}
	n := uint64(head[1])
	var long [8]byte
	switch n {
	case 126:
		if _, err := io.ReadFull(r, long[:2]); err != nil {
			return reading{}, err
		}
		n = uint64(binary.BigEndian.Uint16(long[:]))
	case 127:
		if _, err := io.ReadFull(r, long[:]); err != nil {
			return reading{}, err
		}
		n = binary.BigEndian.Uint64(long[:])
	}
	payload := make([]byte, n)
	_, err := io.ReadFull(r, payload)
	return reading{head[0] & 0xF, payload}, err
}

// replica applies a counter's messages by the client's rule.
type replica struct {
	t       *testing.T
	regs    [16]uint64
	seq     uint64
	parts   int
	gaps    int
	updates int
	base    uint64 // of the newest snapshot
}

func (r *replica) apply(p []byte) {
	prev, seq := binary.LittleEndian.Uint64(p[3:]), binary.LittleEndian.Uint64(p[11:])
	switch p[0] {
	case snapshot:
		if r.parts++; r.parts == 2 {
			r.parts = 0
		}
		r.seq, r.base = seq, seq
	case gap:
		if prev != r.seq {
			r.t.Fatalf("gap after %d, local %d", prev, r.seq)
		}
		r.gaps++
		r.seq = seq
		return
	default:
		if r.parts != 0 {
			r.t.Fatal("an update between the parts of a snapshot")
		}
		if prev > r.seq {
			r.t.Fatalf("update %d follows %d, local %d", seq, prev, r.seq)
		}
		r.updates++
		r.seq = max(r.seq, seq)
	}
	pairs := p[19:]
	for i := range int(p[2]) {
		r.regs[binary.LittleEndian.Uint64(pairs[16*i:])] = binary.LittleEndian.Uint64(pairs[16*i+8:])
	}
}

// recorder is a connection's owner.
type recorder struct {
	mu     sync.Mutex
	merged int
	lags   int
	closed chan error
}

func newRecorder() *recorder { return &recorder{closed: make(chan error, 1)} }

func (r *recorder) Lag(topics []Lagged, _ time.Duration) *Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lags++
	for _, l := range topics {
		r.merged += l.Merged
	}
	return NewFrame(Text, []byte("lag"))
}

func (r *recorder) Slow() *Frame     { return NewFrame(Close, []byte{0x0F, 0xA8}) }
func (r *recorder) Closed(err error) { r.closed <- err }

// pair is a TCP connection with small buffers on the server's side.
func pair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	client, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.(*net.TCPConn).SetWriteBuffer(8 << 10); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	return server, client
}

func attach(t testing.TB, h *Hub, conn net.Conn) (*Conn, *recorder) {
	t.Helper()
	r := newRecorder()
	c, err := h.Attach(NewWriter(conn), r)
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

func start(c *Conn, t *Topic, s Start) *Sub {
	sub := c.Subscribe(t, s)
	sub.Go()
	return sub
}

func TestEveryReaderEndsWithTheSameState(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := started(Config{Shards: 2})
	defer h.Close()
	f := func(kind Kind, format Format, lossless bool, readPause time.Duration) {
		t.Helper()
		c := newCounter(h, kind, Limits{Entries: 64})
		if lossless {
			c.topic.limits.Entries = 1 << 20
		}
		server, client := pair(t)
		conn, _ := attach(t, h, server)
		c.mu.Lock()
		sub := conn.Subscribe(c.topic, Start{Format: format, Lossless: lossless, Snapshot: kind == Merge, Position: c.topic.Next()})
		c.mu.Unlock()
		sub.Go()
		const n = 20_000
		go func() {
			rnd := rand.New(rand.NewPCG(1, 2))
			for i := range n {
				c.set(rnd.IntN(16), uint64(i))
			}
		}()
		r := &replica{t: t}
		in := bufio.NewReader(client)
		for r.seq < n || r.parts > 0 {
			m, err := read(in)
			if err != nil {
				t.Fatal(err)
			}
			if string(m.payload) == "lag" {
				continue
			}
			if format != Native {
				m.payload = m.payload[len("json:"):]
			}
			r.apply(m.payload)
			if readPause > 0 && r.updates%100 == 0 {
				time.Sleep(readPause)
			}
		}
		c.mu.Lock()
		want := c.regs
		c.mu.Unlock()
		if kind == Merge && r.regs != want {
			t.Errorf("got %v, want %v", r.regs, want)
		}
		if (lossless || kind == Log && r.gaps == 0) && uint64(r.updates) != n-r.base {
			t.Errorf("%d updates after %d, want all %d", r.updates, r.base, n)
		}
		sub.Cancel()
	}
	f(Merge, Native, false, 0)
	f(Merge, 1, false, 0)
	f(Merge, Native, false, time.Millisecond)
	f(Merge, Native, true, 0)
	f(Log, Native, false, 0)
	f(Log, 1, false, time.Millisecond)
}

// TestStoppedReader publishes for a client that does not read: nothing grows, and what it gets afterwards is the present.
func TestStoppedReader(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := started(Config{MaxPass: 4 << 10})
	defer h.Close()
	book, state, log := newCounter(h, Merge, Limits{Entries: 128}), newCounter(h, State, Limits{}), newCounter(h, Log, Limits{Entries: 128})
	for _, c := range []*counter{book, log} {
		c.pad = 1000
	}
	book.tag, log.tag = 'b', 'l'
	server, client := pair(t)
	conn, rec := attach(t, h, server)
	start(conn, book.topic, Start{Snapshot: true})
	start(conn, state.topic, Start{})
	start(conn, log.topic, Start{Position: 1})
	const n = 30_000 // more than the kernel's buffers hold
	for i := range n {
		book.set(i%16, uint64(i))
		log.set(0, uint64(i))
		state.topic.SetValue(NewEntry(market.Sequence{Epoch: 1, Seq: uint64(i + 1)}, uint64(i), Text, fmt.Appendf(nil, "v%d", i)))
	}
	conn.mu.Lock()
	if n := conn.marked.len(); n > 3 || len(conn.control) > 0 {
		t.Errorf("%d marked, %d control messages held", n, len(conn.control))
	}
	conn.mu.Unlock()
	books, logs := &replica{t: t}, &replica{t: t}
	in := bufio.NewReader(client)
	seen, lagged := "", false
	for books.seq < n || logs.seq < n || seen != fmt.Sprintf("v%d", n-1) || !lagged {
		m, err := read(in)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case string(m.payload) == "lag":
			lagged = true
		case m.op == byte(Text):
			seen = string(m.payload)
		case m.payload[1] == book.tag:
			books.apply(m.payload)
		default:
			logs.apply(m.payload)
		}
	}
	if books.regs != book.regs {
		t.Errorf("got %v, want %v", books.regs, book.regs)
	}
	if logs.gaps == 0 {
		t.Error("no gap message")
	}
	if rec.merged == 0 || h.Stats().Conflated.Load() == 0 || h.Stats().Blocked.Load() == 0 {
		t.Errorf("%d merged by the notices, %d counted", rec.merged, h.Stats().Conflated.Load())
	}
}

func TestFlowWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(Config{})
		defer h.Close()
		server, client := net.Pipe()
		defer func() { _ = client.Close() }()
		conn, _ := attach(t, h, server)
		got := make(chan reading, 100_000)
		go func() {
			in := bufio.NewReader(client)
			for {
				m, err := read(in)
				if err != nil {
					close(got)
					return
				}
				got <- m
			}
		}()
		c := newCounter(h, Merge, Limits{Entries: 1 << 16})
		c.pad = 965 // a message of 1,000 bytes
		start(conn, c.topic, Start{Snapshot: true})
		synctest.Wait()
		r := &replica{t: t}
		total := 0
		drain := func() (data int) {
			synctest.Wait()
			for len(got) > 0 {
				m := <-got
				total += len(m.payload)
				if m.op == byte(Binary) {
					r.apply(m.payload)
					data += len(m.payload)
				}
			}
			return data
		}
		drain()
		if err := conn.Ack(1); err == nil {
			t.Error("an acknowledgement without a window")
		}
		conn.SetWindow(4096, NewFrame(Text, []byte("ok")))
		drain()
		total = 0
		for i := range 1000 {
			c.set(i%16, uint64(i))
			synctest.Wait()
		}
		if n := drain(); n < 4096 || n > 4096+1000 {
			t.Errorf("%d bytes passed a window of 4096", n)
		}
		h.SetBeat(Heartbeat, NewFrame(Text, []byte("beat")))
		conn.Beat(Heartbeat)
		if drain(); len(got) != 0 {
			t.Error("data passed a closed window")
		}
		if err := conn.Ack(int64(total) + 1); err == nil {
			t.Error("acknowledged more than was sent")
		}
		if err := conn.Ack(int64(total)); err != nil {
			t.Error(err)
		}
		if drain(); r.regs != c.regs || r.seq != 1000 {
			t.Errorf("after the window opened: at %d: %v, want %v", r.seq, r.regs, c.regs)
		}
		// A window that grows does not make the acks of the small one too many.
		for range 17 {
			if err := conn.Ack(int64(total)); err != nil {
				t.Fatal(err)
			}
		}
		conn.SetWindow(1<<20, NewFrame(Text, []byte("ok")))
		drain()
		for i := range 16 {
			if err := conn.Ack(int64(total)); err != nil {
				t.Fatalf("ack %d in the new window: %v", i, err)
			}
		}
		conn.Abort()
	})
}

// TestWindowIgnored is a client that opens a window and never acknowledges: after ten minutes it is closed.
func TestWindowIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(Config{})
		defer h.Close()
		server, client := net.Pipe()
		conn, rec := attach(t, h, server)
		done := make(chan []byte)
		go func() {
			all, _ := io.ReadAll(client)
			done <- all
		}()
		c := newCounter(h, Merge, Limits{Entries: 64})
		c.pad = 1000
		start(conn, c.topic, Start{Snapshot: true})
		conn.SetWindow(4096, NewFrame(Text, []byte("ok")))
		begin := time.Now()
		for time.Since(begin) < 11*time.Minute {
			c.set(1, 1)
			h.SetBeat(Heartbeat, NewFrame(Text, []byte("beat")))
			conn.Beat(Heartbeat)
			time.Sleep(time.Second)
		}
		if err := <-rec.closed; !errors.Is(err, ErrClosed) {
			t.Errorf("closed by %v", err)
		}
		if all := <-done; string(all[len(all)-4:]) != "\x88\x02\x0f\xa8" {
			t.Errorf("ends with %q, want the close frame", all[len(all)-4:])
		}
	})
}

func TestLosslessIsNeverSilentlyBehind(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := started(Config{})
	defer h.Close()
	c := newCounter(h, Merge, Limits{Entries: 64})
	c.pad = 8000
	server, client := pair(t)
	conn, rec := attach(t, h, server)
	start(conn, c.topic, Start{Snapshot: true, Lossless: true})
	for i := range 2000 {
		c.set(0, uint64(i))
	}
	in := bufio.NewReader(client)
	lag := false
	for {
		m, err := read(in)
		if err != nil {
			t.Fatal(err)
		}
		lag = lag || string(m.payload) == "lag"
		if m.op == byte(Close) {
			break
		}
	}
	if err := <-rec.closed; !errors.Is(err, ErrClosed) || !lag {
		t.Errorf("closed by %v, lag notice %v", err, lag)
	}
}

func TestAfter(t *testing.T) {
	h := started(Config{})
	defer h.Close()
	c := newCounter(h, Log, Limits{Entries: 10})
	for range 25 {
		c.set(0, 1)
	}
	f := func(epoch uint32, seq, wantNext uint64, want bool) {
		t.Helper()
		next, ok := c.topic.After(market.Sequence{Epoch: epoch, Seq: seq})
		if ok != want || ok && next != wantNext {
			t.Errorf("after %d:%d: %d %v; want %d %v", epoch, seq, next, ok, wantNext, want)
		}
	}
	f(1, 14, 0, false)
	f(1, 15, 16, true)
	f(1, 20, 21, true)
	f(1, 25, 26, true)
	f(1, 26, 0, false)
	f(0, 20, 0, false)
	f(2, 20, 0, false)
	if got := c.topic.Back(3); got != 23 {
		t.Errorf("three back: %d", got)
	}
	if got := c.topic.Back(300); got != 16 {
		t.Errorf("300 back: %d", got)
	}
	c.topic.Clear(market.Sequence{Epoch: 3, Seq: 7})
	f(1, 25, 0, false)
	f(3, 7, 27, true)
}

func TestRingBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(Config{})
		defer h.Close()
		c := newCounter(h, Log, Limits{Entries: 1000, Bytes: 50_000, Age: time.Minute})
		c.pad = 1000
		for range 200 {
			c.set(0, 1)
		}
		if c.topic.bytes > 50_000 || c.topic.next-c.topic.first < 30 {
			t.Errorf("%d bytes in %d entries", c.topic.bytes, c.topic.next-c.topic.first)
		}
		e := c.topic.at(c.topic.first + 1)
		c.topic.frame(e, 1)
		c.topic.Expire()
		if c.topic.bytes > 50_000 {
			t.Errorf("%d bytes with a second encoding", c.topic.bytes)
		}
		time.Sleep(2 * time.Minute)
		c.topic.Expire()
		if n := c.topic.next - c.topic.first; n != 1 {
			t.Errorf("%d entries left after two minutes", n)
		}
	})
}

// TestControlIsBounded is a client that asks and asks and never reads the answers.
func TestControlIsBounded(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := started(Config{MaxControl: 64 << 10})
	defer h.Close()
	server, _ := pair(t)
	conn, rec := attach(t, h, server)
	answer := NewFrame(Text, make([]byte, 1000))
	for range 100_000 {
		conn.Send(answer)
		select {
		case err := <-rec.closed:
			if !errors.Is(err, ErrSlow) {
				t.Errorf("closed by %v", err)
			}
			return
		default:
		}
	}
	t.Error("100 MB of answers were taken")
}

func TestDeliveryDoesNotAllocate(t *testing.T) {
	h := started(Config{})
	defer h.Close()
	topic := h.NewTopic(Log, Limits{Entries: 64}, nil)
	sinks := make([]*sink, 100)
	for i := range sinks {
		sinks[i] = &sink{}
		conn, err := h.Attach(sinks[i], newRecorder())
		if err != nil {
			t.Fatal(err)
		}
		start(conn, topic, Start{Position: 1})
	}
	payload := make([]byte, 154)
	seq := uint64(0)
	publish := func() {
		seq++
		topic.Publish(NewEntry(market.Sequence{Epoch: 1, Seq: seq}, seq-1, Binary, payload))
		for _, s := range sinks {
			s.wait(seq)
		}
	}
	for range 100 {
		publish()
	}
	// An entry and its bytes are allocated for each message, nothing for each of the hundred deliveries.
	if n := testing.AllocsPerRun(100, publish); n > 3 {
		t.Errorf("%v allocations for a message to 100 subscribers", n)
	}
}

// TestWritingDoesNotAllocate is the same down to the kernel, over sockets.
func TestWritingDoesNotAllocate(t *testing.T) {
	if raced {
		t.Skip("a sync.Pool forgets on purpose while the race detector watches")
	}
	h := started(Config{})
	defer h.Close()
	topic := h.NewTopic(Log, Limits{Entries: 64}, nil)
	const conns = 20
	read := make(chan struct{}, conns)
	for range conns {
		server, client := pair(t)
		conn, _ := attach(t, h, server)
		start(conn, topic, Start{Position: 1})
		go func() {
			b := make([]byte, 158)
			for {
				if _, err := io.ReadFull(client, b); err != nil {
					return
				}
				read <- struct{}{}
			}
		}()
	}
	payload := make([]byte, 154)
	seq := uint64(0)
	publish := func() {
		seq++
		topic.Publish(NewEntry(market.Sequence{Epoch: 1, Seq: seq}, seq-1, Binary, payload))
		for range conns {
			<-read
		}
	}
	for range 100 {
		publish()
	}
	if n := testing.AllocsPerRun(100, publish); n > 3 {
		t.Errorf("%v allocations for a message to %d sockets", n, conns)
	}
}

// sink counts the frames of 158 bytes that it is written.
type sink struct {
	mu sync.Mutex
	n  uint64
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	s.n += uint64(len(b)) / 158
	s.mu.Unlock()
	return 0, nil
}
func (s *sink) Flush() (int, error) { return 0, nil }
func (s *sink) Finish() error       { return nil }
func (s *sink) Close() error        { return nil }

func (s *sink) wait(n uint64) {
	for {
		s.mu.Lock()
		done := s.n >= n
		s.mu.Unlock()
		if done {
			return
		}
		runtime.Gosched()
	}
}

// BenchmarkDeliver publishes to subscribers that take everything: what a delivery costs without the kernel.
func BenchmarkDeliver(b *testing.B) {
	for _, subscribers := range []int{10, 1000} {
		b.Run(fmt.Sprint(subscribers), func(b *testing.B) {
			h := started(Config{})
			defer h.Close()
			topic := h.NewTopic(Log, Limits{Entries: 1024}, nil)
			sinks := make([]*sink, subscribers)
			for i := range sinks {
				sinks[i] = &sink{}
				conn, err := h.Attach(sinks[i], newRecorder())
				if err != nil {
					b.Fatal(err)
				}
				start(conn, topic, Start{Position: 1})
			}
			payload := make([]byte, 154)
			b.ReportAllocs()
			seq := uint64(0)
			for b.Loop() {
				seq++
				topic.Publish(NewEntry(market.Sequence{Epoch: 1, Seq: seq}, seq-1, Binary, payload))
				sinks[subscribers-1].wait(max(seq, 8) - 7) // at most eight in flight
			}
			for _, s := range sinks {
				s.wait(seq)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*subscribers), "ns/delivery")
		})
	}
}

// len counts the list, and ends, since each subscription is in it once.
func (l *list) len() (n int) {
	for s := l.first; s != nil; s = s.next {
		n++
	}
	return n
}

// TestMarkedList: subscriptions come in the order in which they were marked, each once, and marking takes no memory. What was
// taken out holds on to nothing.
func TestMarkedList(t *testing.T) {
	h := New(Config{}) // not started: nothing is taken from the lists
	defer h.Close()
	conn, err := h.Attach(discard{}, newRecorder())
	if err != nil {
		t.Fatal(err)
	}
	topics, subs := make([]*Topic, 20), make([]*Sub, 20)
	for i := range topics {
		topics[i] = h.NewTopic(Log, Limits{Entries: 4}, nil)
		subs[i] = conn.Subscribe(topics[i], Start{})
		subs[i].state.Store(idle)
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(len(topics))
	notice := NewFrame(Text, []byte("silent"))
	allocs := testing.AllocsPerRun(10, func() {
		for range 2 { // the second time they are marked already
			for _, i := range order {
				topics[i].SetNotice(notice)
			}
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations to mark them all", allocs)
	}
	for range 2 {
		got := conn.marked.moveTo(nil)
		if len(got) != len(order) || conn.marked != (list{}) {
			t.Fatalf("%d in the list, want %d; %+v left", len(got), len(order), conn.marked)
		}
		for i, s := range got {
			if s != subs[order[i]] || s.next != nil {
				t.Fatalf("place %d is another one's, or it holds on to the next: %v", i, s.next != nil)
			}
			if _, ok := s.unmark(); !ok {
				t.Fatalf("place %d is not marked", i)
			}
		}
		slices.Reverse(order)
		for _, i := range order {
			topics[i].SetNotice(notice)
		}
	}
}

// TestConnsComeAndGo ends connections in any order: those that are left are counted, and are the ones that the hub ends.
func TestConnsComeAndGo(t *testing.T) {
	h := started(Config{})
	conns, recs := make([]*Conn, 100), make([]*recorder, 100)
	for i := range conns {
		recs[i] = newRecorder()
		var err error
		if conns[i], err = h.Attach(discard{}, recs[i]); err != nil {
			t.Fatal(err)
		}
	}
	gone := rand.New(rand.NewPCG(1, 2)).Perm(len(conns))[:70]
	var ending sync.WaitGroup
	for _, i := range gone {
		ending.Go(conns[i].Abort)
		ending.Go(conns[i].Abort) // ends it once
	}
	ending.Wait()
	if n := h.Conns(); n != 30 {
		t.Errorf("%d connections are left", n)
	}
	h.Close()
	if n := h.Conns(); n != 0 {
		t.Errorf("%d connections are left in the end", n)
	}
	for i, rec := range recs {
		select {
		case err := <-rec.closed:
			if !errors.Is(err, ErrAborted) {
				t.Errorf("connection %d: %v", i, err)
			}
		default:
			t.Errorf("connection %d has not heard of its end", i)
		}
	}
}

// TestFarPositions lets a topic's positions pass the size of a cursor while it has subscribers that keep up, one that does not,
// and those that begin before it, behind it, and with what has long left the ring.
func TestFarPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(Config{})
		defer h.Close()
		c := newCounter(h, Log, Limits{Entries: 8})
		const edge = 1 << 32
		c.topic.first, c.topic.next = edge-10, edge-10 // as after so many entries
		type follower struct {
			replica
			in *bufio.Reader
		}
		begin := func(position, has uint64) *follower {
			server, client := net.Pipe()
			conn, _ := attach(t, h, server)
			start(conn, c.topic, Start{Position: position, Seq: market.Sequence{Epoch: 1, Seq: has}})
			return &follower{replica{t: t, seq: has}, bufio.NewReader(client)}
		}
		follow := func(f *follower) *follower {
			go func() {
				for {
					m, err := read(f.in)
					if err != nil {
						return
					}
					f.apply(m.payload)
				}
			}()
			return f
		}
		pause := func() {
			time.Sleep(20 * time.Millisecond) // of the fake clock: what is stuck is tried again
			synctest.Wait()
		}
		present, stopped := follow(begin(edge-10, 0)), begin(edge-10, 0)
		for i := range 8 {
			c.set(0, uint64(i))
			pause()
		}
		before := follow(begin(0, 0))
		pause()
		for i := range 8 {
			c.set(0, uint64(i))
			pause()
		}
		within, beyond, long := follow(begin(edge-1, 9)), follow(begin(edge+3, 13)), follow(begin(0, 0))
		pause()
		c.set(0, 100)
		pause()
		follow(stopped)
		pause()
		f := func(name string, got *follower, updates, gaps int) {
			t.Helper()
			if got.updates != updates || got.gaps != gaps || got.seq != 17 || got.regs[0] != 100 {
				t.Errorf("%s: %d updates and %d gaps, want %d and %d; at %d", name, got.updates, got.gaps, updates, gaps, got.seq)
			}
		}
		f("keeps up", present, 17, 0)
		f("does not read", stopped, 9, 1)
		f("begins at 0 before the edge", before, 17, 0)
		f("begins before the edge", within, 8, 0)
		f("begins behind the edge", beyond, 4, 0)
		f("begins at 0 behind the edge", long, 9, 1)
	})
}

// TestSubSize keeps a subscription in its size class: an edge has hundreds of thousands of them. And a connection in its own.
func TestSubSize(t *testing.T) {
	if size := unsafe.Sizeof(Sub{}); size > 64 {
		t.Errorf("a Sub has %d bytes", size)
	}
	if size := unsafe.Sizeof(Conn{}); size > 176 {
		t.Errorf("a Conn has %d bytes", size)
	}
}

// BenchmarkMarket is what a delivery costs without the kernel in the market's shape: 200 topics, 1,000 connections on 20 random
// ones each. In each round as many messages are published as come between two flushes.
func BenchmarkMarket(b *testing.B) {
	for _, messages := range []int{1, 25, 100} {
		b.Run(fmt.Sprint(messages), func(b *testing.B) {
			const conns, topics, each = 1000, 200, 20
			h := started(Config{})
			defer h.Close()
			all := make([]*Topic, topics)
			for i := range all {
				all[i] = h.NewTopic(Log, Limits{Entries: 1024}, nil)
			}
			rnd := rand.New(rand.NewPCG(1, 2))
			subscribers := make([]uint64, topics)
			for range conns {
				conn, err := h.Attach(discard{}, newRecorder())
				if err != nil {
					b.Fatal(err)
				}
				for _, t := range rnd.Perm(topics)[:each] {
					subscribers[t]++
					start(conn, all[t], Start{Position: 1})
				}
			}
			payload := make([]byte, 150)
			seqs := make([]uint64, topics)
			want := h.Stats().Frames.Load()
			b.ReportAllocs()
			for b.Loop() {
				for range messages {
					t := rnd.IntN(topics)
					seqs[t]++
					want += subscribers[t]
					all[t].Publish(NewEntry(market.Sequence{Epoch: 1, Seq: seqs[t]}, seqs[t]-1, Binary, payload))
				}
				for h.Stats().Frames.Load() < want {
					runtime.Gosched()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(want), "ns/delivery")
		})
	}
}

// discard takes everything.
type discard struct{}

func (discard) Write([]byte) (int, error) { return 0, nil }
func (discard) Flush() (int, error)       { return 0, nil }
func (discard) Finish() error             { return nil }
func (discard) Close() error              { return nil }

// TestBeats: only the newest beat is sent, once; it passes a closed window as far as control messages do; a connection that does
// nothing but beat keeps no memory for it.
func TestBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(Config{})
		defer h.Close()
		server, client := net.Pipe()
		conn, _ := attach(t, h, server)
		beat := func(b Beat, text string) {
			h.SetBeat(b, NewFrame(Text, []byte(text)))
			conn.Beat(b)
			synctest.Wait()
		}
		c := newCounter(h, Log, Limits{Entries: 64})
		start(conn, c.topic, Start{Position: 1})
		c.set(1, 1)
		synctest.Wait()
		for i := range 5 { // the pipe is full with what came first
			beat(Heartbeat, fmt.Sprint("beat ", i))
		}
		beat(Pulse, "pulse")
		in := bufio.NewReader(client)
		var got []string
		for range 3 {
			m, err := read(in)
			if err != nil {
				t.Fatal(err)
			}
			if m.op == byte(Text) {
				got = append(got, string(m.payload))
			}
		}
		if want := []string{"beat 4", "pulse"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		go func() { _, _ = io.Copy(io.Discard, in) }()
		beat(Heartbeat, "beat 5")
		conn.mu.Lock()
		defer conn.mu.Unlock()
		if conn.marked != (list{}) || conn.jam != nil || cap(conn.control) != 0 || conn.due != 0 {
			t.Errorf("it keeps %d marked, a jam: %t, room for %d control messages, beats %b",
				conn.marked.len(), conn.jam != nil, cap(conn.control), conn.due)
		}
	})
}
