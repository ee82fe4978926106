package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/broker"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// exchange is an embedded broker with a writer to md.raw and a reader of md.events.
type exchange struct {
	t       testing.TB
	addr    string
	cluster *stream.Cluster
	raw     *stream.RawWriter
	n       int
	events  eventLog
	ids     map[string]int
}

// eventLog collects what a reader of the stream sees.
type eventLog struct {
	mu     sync.Mutex
	events map[int][][]byte // by partition
	beats  map[int]int
	grown  chan struct{}
}

func (l *eventLog) Snapshot(int, *stream.Snapshot) error { return nil }

func (l *eventLog) Phase(p int, phase stream.Phase, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if phase == stream.PhaseReset {
		l.events[p] = nil
	}
}

func (l *eventLog) Batch(b *stream.EventBatch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ev stream.Event
	for b.Next(&ev) {
		if ev.Template.IsEvent() {
			l.events[b.Partition] = append(l.events[b.Partition], bytes.Clone(ev.Value))
		} else if ev.Template == 21 {
			l.beats[b.Partition]++
		}
	}
	select {
	case l.grown <- struct{}{}:
	default:
	}
	return nil
}

func newExchange(t testing.TB, partitions int) *exchange {
	t.Helper()
	return newExchangeOn(t, broker.Config{Partitions: partitions})
}

func newExchangeOn(t testing.TB, cfg broker.Config) *exchange {
	t.Helper()
	b := testkit.BrokerWith(t, cfg)
	x := &exchange{t: t, addr: b.Addr(), n: cfg.Partitions, ids: make(map[string]int)}
	x.cluster = x.open()
	x.events = eventLog{events: make(map[int][][]byte), beats: make(map[int]int), grown: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	if x.raw, err = x.cluster.RawWriter(ctx, stream.RawTopic, stream.RawWriterConfig{}); err != nil {
		t.Fatal(err)
	}
	// A window that goes back further than the test has the reader begin at the first event.
	reader := x.cluster.Reader(stream.ReaderConfig{ResumeWindow: time.Hour}, &x.events)
	done := make(chan struct{})
	go func() { defer close(done); _ = reader.Run(ctx) }()
	t.Cleanup(func() {
		_ = x.raw.Close(ctx)
		cancel()
		<-done
	})
	return x
}

// open makes a connection of its own, as another process has.
func (x *exchange) open() *stream.Cluster {
	x.t.Helper()
	c, err := stream.Open(stream.Config{Brokers: []string{x.addr}})
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(c.Close)
	return c
}

func (x *exchange) write(sym, format string, args ...any) {
	x.t.Helper()
	rec := stream.Record{Key: []byte(sym), Value: fmt.Appendf(nil, format, args...), Headers: []stream.Header{
		{Key: "source", Value: []byte("tickwire")}, {Key: "session", Value: []byte("s1")},
	}}
	if err := x.raw.Write(&rec); err != nil {
		x.t.Fatal(err)
	}
}

func (x *exchange) instrument(sym string) {
	x.write(sym, `{"type":"instrument","sym":%q,"ps":2,"ss":0}`, sym)
	x.write(sym, `{"type":"book","sym":%q,"snapshot":true,"bids":[["1.00",1]],"asks":[["2.00",1]],"ts":%d}`, sym, x.now())
}

func (x *exchange) now() int64 { return time.Now().UnixMicro() }

// trades writes n trades and as many updates of the book.
func (x *exchange) trades(sym string, n int) {
	for range n {
		x.ids[sym]++
		x.write(sym, `{"type":"trade","sym":%q,"price":"1.50","size":1,"id":%d,"ts":%d}`, sym, x.ids[sym], x.now())
		x.write(sym, `{"type":"book","sym":%q,"bids":[["1.%02d",%d]],"asks":[],"ts":%d}`, sym, x.ids[sym]%90, x.ids[sym], x.now())
	}
}

// process is one running service.
type process struct {
	t    testing.TB
	s    *Service
	stop context.CancelFunc
	done chan struct{}
	err  error
	reg  *prometheus.Registry
}

func (x *exchange) start(change func(*Config)) *process {
	x.t.Helper()
	cfg := DefaultConfig()
	cfg.SnapshotEvery = 200 * time.Millisecond
	cfg.Partitions = make([]int, x.n)
	for i := range cfg.Partitions {
		cfg.Partitions[i] = i
	}
	if change != nil {
		change(&cfg)
	}
	p := &process{t: x.t, done: make(chan struct{}), reg: prometheus.NewRegistry()}
	log := zaptest.NewLogger(x.t, zaptest.Level(zap.WarnLevel))
	var err error
	if p.s, err = New(cfg, Deps{Log: log, Metrics: p.reg, Cluster: x.open()}); err != nil {
		x.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	go func() { defer close(p.done); p.err = p.s.Run(ctx) }()
	x.t.Cleanup(p.end)
	return p
}

// end stops the process in good order.
func (p *process) end() {
	p.stop()
	<-p.done
}

// value sums a metric up over its labels.
func (p *process) value(name string) (sum float64) {
	p.t.Helper()
	families, err := p.reg.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// eventually waits until ok, which is asked whenever events arrive.
func (x *exchange) eventually(what string, ok func() bool) {
	x.t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-x.events.grown:
		case <-again.C:
		case <-limit.C:
			x.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// agree waits until md.events holds what a core makes of md.raw, byte for byte.
func (x *exchange) agree() {
	x.t.Helper()
	ctx := context.Background()
	if err := x.raw.Wait(ctx); err != nil {
		x.t.Fatal(err)
	}
	for p := range x.n {
		want := x.expected(p)
		x.eventually(fmt.Sprintf("events of partition %d", p), func() bool {
			x.events.mu.Lock()
			defer x.events.mu.Unlock()
			return len(x.events.events[p]) >= len(want)
		})
		x.events.mu.Lock()
		got := slices.Clone(x.events.events[p])
		x.events.mu.Unlock()
		if !slices.EqualFunc(got, want, bytes.Equal) {
			for i := range min(len(got), len(want)) {
				if !bytes.Equal(got[i], want[i]) {
					x.t.Fatalf("partition %d, event %d: %s, undisturbed %s", p, i, render(x.t, got[i]), render(x.t, want[i]))
				}
			}
			x.t.Fatalf("partition %d: %d events, undisturbed %d", p, len(got), len(want))
		}
	}
}

// expected applies a partition of md.raw to a core of its own.
func (x *exchange) expected(p int) (events [][]byte) {
	x.t.Helper()
	ctx := context.Background()
	_, end, err := x.cluster.Offsets(ctx, stream.RawTopic, p)
	if err != nil {
		x.t.Fatal(err)
	}
	c := newCore(p, x.n)
	f := x.cluster.Fetcher(stream.RawTopic, p, 0)
	defer f.Close()
	for f.Offset() < end {
		b, err := f.Next(ctx)
		if err != nil {
			x.t.Fatal(err)
		}
		var rec stream.Record
		for b.Next(&rec) {
			in := inputOf(&rec)
			c.Apply(&in)
			for i := range c.out.len() {
				events = append(events, bytes.Clone(c.out.event(i)))
			}
		}
	}
	return events
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRawToEvents(t *testing.T) {
	x := newExchange(t, 2)
	p := x.start(nil)
	for _, sym := range []string{"A", "B", "C", "D"} {
		x.instrument(sym)
		x.trades(sym, 100)
	}
	x.agree()
	if err := p.s.Ready(); err != nil {
		t.Error(err)
	}
	x.eventually("a heartbeat of each partition", func() bool {
		x.events.mu.Lock()
		defer x.events.mu.Unlock()
		return x.events.beats[0] > 0 && x.events.beats[1] > 0
	})
	x.eventually("figures", func() bool { return p.value("ingest_records_total") == 808 && p.value("ingest_instruments") == 4 })
	p.end()
	if p.err != nil {
		t.Error(p.err)
	}
}

func TestRestart(t *testing.T) {
	x := newExchange(t, 1)
	for life := range 4 {
		p := x.start(nil)
		if life == 0 {
			x.instrument("A")
		}
		x.trades("A", 50)
		x.write("B"+fmt.Sprint(life), `{"type":"instrument","sym":"B%d","ps":2,"ss":0}`, life)
		x.agree()
		if life%2 == 1 {
			x.eventually("a checkpoint", func() bool { return p.value("ingest_snapshot_bytes_total") > 0 })
		}
		p.end()
		if p.err != nil {
			t.Error(p.err)
		}
	}
}

// TestTakeover has each process taken over by the next while it works.
func TestTakeover(t *testing.T) {
	x := newExchange(t, 1)
	x.instrument("A")
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				x.trades("A", 5)
				pause(context.Background(), time.Millisecond)
			}
		}
	})
	p := x.start(nil)
	for range 4 {
		before := func() int { x.events.mu.Lock(); defer x.events.mu.Unlock(); return len(x.events.events[0]) }()
		x.eventually("events", func() bool {
			x.events.mu.Lock()
			defer x.events.mu.Unlock()
			return len(x.events.events[0]) > before+50
		})
		next := x.start(nil)
		<-p.done
		if !errors.Is(p.err, ErrFenced) || !errors.Is(p.err, stream.ErrFenced) {
			t.Errorf("the old owner ended with %v", p.err)
		}
		p = next
	}
	close(stop)
	writing.Wait()
	x.agree()
	if p.value("ingest_diverged_total") != 0 {
		t.Error("diverged")
	}
}

// TestGroup has two processes share the partitions, and one of them leave.
func TestGroup(t *testing.T) {
	x := newExchange(t, 4)
	grouped := func(c *Config) { c.Partitions, c.SessionTimeout = nil, time.Second }
	syms := []string{"A", "B", "C", "D", "E", "F", "G", "H"}
	write := func() {
		for _, sym := range syms {
			if x.ids[sym] == 0 {
				x.instrument(sym)
			}
			x.trades(sym, 20)
		}
	}
	first := x.start(grouped)
	write()
	x.agree()
	second := x.start(grouped)
	x.eventually("both have partitions", func() bool {
		return first.s.Ready() == nil && second.s.Ready() == nil && second.value("ingest_takeovers_total") > 0
	})
	write()
	x.agree()
	first.end()
	write()
	x.agree()
	if first.err != nil {
		t.Error(first.err)
	}
}

func TestQuarantineTopic(t *testing.T) {
	x := newExchange(t, 1)
	p := x.start(nil)
	x.instrument("A")
	x.write("A", `{"type":"trade","sym":"A"`)
	x.write("A", "%s", strings.Repeat("x", 200<<10))
	x.write("A", `{"type":"trade","sym":"A","price":"1.00","size":-1,"id":1,"ts":%d}`, x.now())
	x.write("NOPE", `{"type":"trade","sym":"NOPE","price":"1.00","size":1,"id":1,"ts":%d}`, x.now())
	x.trades("A", 1)
	x.agree()
	f := x.cluster.Fetcher(stream.QuarantineTopic, 0, 0)
	defer f.Close()
	var got []string
	for len(got) < 4 {
		b, err := f.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		var rec stream.Record
		for b.Next(&rec) {
			got = append(got, fmt.Sprintf("%s %s %d", rec.Key, rec.Headers[0].Value, len(rec.Value)))
		}
	}
	want := []string{"0:2 syntax 25", "0:3 syntax 65536", "0:4 size 79", "0:5 symbol 81"}
	for i := range want {
		if a, b, _ := strings.Cut(got[i], " "); a != strings.Fields(want[i])[0] || !strings.HasPrefix(b, strings.Fields(want[i])[1]) {
			t.Errorf("quarantined %q, want %q", got[i], want[i])
		}
	}
	if !strings.HasSuffix(got[1], " 65536") {
		t.Errorf("a large record is kept as %q", got[1])
	}
	x.eventually("figures", func() bool { return p.value("ingest_quarantined_total") == 4 })
}

// TestUpgrade has another version of the algorithm take over, which can't apply md.raw again.
func TestUpgrade(t *testing.T) {
	s := &situation{
		restored: &restored{core: newCore(0, 1), from: 10, events: 5, anchored: true}, snapshots: true,
		tail: stream.Tail{From: 5, Found: true, InputOffset: 20, Version: Version + 1}, first: 0, end: 30,
	}
	f := func(want plan) {
		t.Helper()
		if got := s.plan(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	f(plan{from: 21, answered: 20, rebuild: true, why: market.Upgrade})
	s.restored.from = 21 // the snapshots are of exactly the tail
	f(plan{from: 21, answered: 20})
	s.restored.from, s.tail.Version = 10, Version
	f(plan{from: 10, answered: 20})
	s.first = 10
	f(plan{from: 10, answered: 20})
	s.first = 11
	f(plan{from: 21, answered: 20, rebuild: true, why: market.Retention})
	s.first = 25
	f(plan{from: 25, answered: 24, rebuild: true, why: market.Retention})
	s.tail.From = 6
	f(plan{from: 25, answered: 24, rebuild: true, why: market.Retention, renumber: true})
	s.first, s.end = 0, 20 // md.raw was made anew
	f(plan{from: 0, answered: -1, rebuild: true, why: market.Retention, renumber: true})
	s.end = 30 // the tail is gone, md.raw is not: the replay knows the numbers
	f(plan{from: 10, answered: 20})
	s.tail.Found = false
	f(plan{from: 10, answered: 9, rebuild: true, why: market.Retention, renumber: true}) // but not how far it was
	s.snapshots, s.restored.anchored, s.first = false, false, 7
	f(plan{from: 7, answered: 6})
}

// TestStall has a loop stand still: the partition must be cut off from Kafka, which ends whatever the loop waits for.
func TestStall(t *testing.T) {
	x := newExchange(t, 1)
	reg := prometheus.NewRegistry()
	s, err := New(DefaultConfig(), Deps{Log: zap.NewNop(), Metrics: reg, Cluster: x.cluster})
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.StallTimeout = 100 * time.Millisecond
	owner, err := x.cluster.TakeOver(context.Background(), 0, stream.OwnerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := &partition{s: s, log: zap.NewNop(), owner: owner}
	p.alive.Store(1)
	done := make(chan error, 1)
	go func() {
		<-owner.Events.Done()
		done <- owner.Err()
	}()
	if err := p.watch(done); !errors.Is(err, stream.ErrClosed) {
		t.Errorf("the loop ended with %v", err)
	}
	if got := (&process{t: t, reg: reg}).value("ingest_stalls_total"); got != 1 {
		t.Errorf("%v stalls", got)
	}
}

// TestStuck has a loop that does not end even when it is cut off: the process must hear of it.
func TestStuck(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as a partition may take to close")
	}
	x := newExchange(t, 1)
	s, err := New(DefaultConfig(), Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Cluster: x.cluster})
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.StallTimeout = 100 * time.Millisecond
	owner, err := x.cluster.TakeOver(context.Background(), 0, stream.OwnerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := &partition{s: s, log: zap.NewNop(), owner: owner}
	p.alive.Store(1)
	if err := p.watch(make(chan error)); !errors.Is(err, ErrStuck) {
		t.Errorf("a loop that never ends: %v", err)
	}
}

func TestConfig(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f("", func(*Config) {})
	f("--compression", func(c *Config) { c.Compression = "rar" })
	f("comes twice", func(c *Config) { c.Partitions = []int{1, 2, 1} })
	f("negative", func(c *Config) { c.Partitions = []int{-1} })
	f("--group", func(c *Config) { c.Group = "" })
	f("--snapshot-interval", func(c *Config) { c.SnapshotEvery = 0 })
	f("--stall-timeout", func(c *Config) { c.StallTimeout = time.Second })
	f("--session-timeout", func(c *Config) { c.SessionTimeout = 0 })
}
