package streamtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/broker"
)

// env is a Kafka cluster that the suite runs against.
type env struct {
	brokers  []string
	replicas int
	config   stream.Config // TLS and SASL
}

// market opens a Cluster with topics of its own, so that the tests of one env do not meet.
func (e *env) market(t *testing.T, partitions int) *stream.Cluster {
	t.Helper()
	suffix := fmt.Sprintf(".%08x", rand.Uint32()) //nolint:gosec // a name
	topics := stream.Topics{
		Raw: stream.RawTopic + suffix, Events: stream.EventsTopic + suffix,
		Snapshots: stream.SnapshotsTopic + suffix, Quarantine: stream.QuarantineTopic + suffix,
	}
	c := e.open(t, topics)
	plan := stream.Plan(topics, stream.PlanOptions{Partitions: partitions, Replicas: e.replicas})
	if err := c.CreateTopics(testContext(t), plan); err != nil {
		t.Fatal(err)
	}
	return c
}

func (e *env) open(t *testing.T, topics stream.Topics) *stream.Cluster {
	t.Helper()
	cfg := e.config
	cfg.Brokers, cfg.Topics = e.brokers, topics
	c, err := stream.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// suite is what every cluster must pass.
func suite(t *testing.T, e *env) {
	t.Run("raw", func(t *testing.T) { testRaw(t, e) })
	t.Run("compression", func(t *testing.T) { testCompression(t, e) })
	t.Run("out of range", func(t *testing.T) { testOutOfRange(t, e) })
	t.Run("owner", func(t *testing.T) { testOwner(t, e) })
	t.Run("live zombie", func(t *testing.T) { testLiveZombie(t, e) })
	t.Run("reader", func(t *testing.T) { testReader(t, e) })
	t.Run("fenced by readers", func(t *testing.T) { testFencedReader(t, e) })
	t.Run("group", func(t *testing.T) { testGroup(t, e) })
	t.Run("shared fetch", func(t *testing.T) { testSharedFetch(t, e) })
	t.Run("shared produce", func(t *testing.T) { testSharedProduce(t, e) })
}

func TestEmbedded(t *testing.T) {
	b, err := broker.Start(broker.Config{NoTopics: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	e := &env{brokers: []string{b.Addr()}, replicas: 1}
	suite(t, e)
	t.Run("check", func(t *testing.T) { testCheck(t, e, false) })
}

// TestInside speaks to the embedded broker as a process does that has started it: through memory.
func TestInside(t *testing.T) {
	b, err := broker.Start(broker.Config{NoTopics: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	suite(t, &env{brokers: []string{b.Addr()}, replicas: 1, config: stream.Config{Dial: b.Dial}})
}

// readAll reads a partition from offset to end and calls fn with each record.
func readAll(t *testing.T, f *stream.Fetcher, end int64, fn func(*stream.Record)) {
	t.Helper()
	ctx := testContext(t)
	var rec stream.Record
	for f.Offset() < end {
		b, err := f.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for b.Next(&rec) {
			fn(&rec)
		}
		if err := b.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func testRaw(t *testing.T, e *env) {
	ctx := testContext(t)
	c := e.market(t, 4)
	topic := c.Topics().Raw
	w, err := c.RawWriter(ctx, topic, stream.RawWriterConfig{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 5000
	before := market.FromMillis(time.Now().UnixMilli())
	headers := []stream.Header{{Key: "source", Value: []byte("binance")}, {Key: "session", Value: nil}}
	for i := range n {
		rec := stream.Record{Key: fmt.Appendf(nil, "SYM-%d", i%50), Value: fmt.Appendf(nil, "value %d", i), Headers: headers}
		if err := w.Write(&rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteTo(3, &stream.Record{Value: []byte("clock")}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
	seen := 0
	next := make(map[string]int)
	for p := range 4 {
		first, end, err := c.Offsets(ctx, topic, p)
		if err != nil || first != 0 {
			t.Fatal(first, end, err)
		}
		f := c.Fetcher(topic, p, 0)
		offset := int64(0)
		readAll(t, f, end, func(rec *stream.Record) {
			if rec.Offset != offset || rec.Time < before || rec.Time > before+market.Time(time.Minute) {
				t.Fatalf("record %d at %v, want %d after %v", rec.Offset, rec.Time, offset, before)
			}
			offset++
			if string(rec.Value) == "clock" {
				if p != 3 || rec.Key != nil {
					t.Fatalf("clock in partition %d with key %q", p, rec.Key)
				}
				return
			}
			checkRaw(t, rec, p, next)
			seen++
		})
		if f.End() != end {
			t.Errorf("end is %d, not %d", f.End(), end)
		}
	}
	if seen != n {
		t.Fatalf("read %d of %d records", seen, n)
	}
}

// checkRaw checks key, partition, order within the key, and headers.
func checkRaw(t *testing.T, rec *stream.Record, partition int, next map[string]int) {
	t.Helper()
	var k, i int
	if _, err := fmt.Sscanf(string(rec.Key)+" "+string(rec.Value), "SYM-%d value %d", &k, &i); err != nil {
		t.Fatal(err)
	}
	if want := next[string(rec.Key)]; i%50 != k || i/50 != want {
		t.Fatalf("%s: value %d, want the %dth", rec.Key, i, want)
	}
	next[string(rec.Key)]++
	if stream.PartitionOf(rec.Key, 4) != partition {
		t.Fatalf("%s in partition %d", rec.Key, partition)
	}
	h := rec.Headers
	if len(h) != 2 || h[0].Key != "source" || string(h[0].Value) != "binance" || h[1].Key != "session" || h[1].Value != nil {
		t.Fatalf("headers %v", h)
	}
}

func testCompression(t *testing.T, e *env) {
	ctx := testContext(t)
	c := e.market(t, 1)
	topic := c.Topics().Raw
	for i, z := range []stream.Compression{stream.LZ4, stream.Zstd, stream.Uncompressed} {
		p, err := c.Producer(ctx, topic, 0, stream.ProducerConfig{Compression: z, Manual: true})
		if err != nil {
			t.Fatal(err)
		}
		start := int64(i * 1000)
		for j := range 1000 {
			if err := p.Add(&stream.Record{Value: fmt.Appendf(nil, "the value number %d of many", j)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if p.Acked() != start+1000 {
			t.Fatalf("acknowledged up to %d, want %d", p.Acked(), start+1000)
		}
		j := 0
		f := c.Fetcher(topic, 0, start+10) // inside a batch
		readAll(t, f, start+1000, func(rec *stream.Record) {
			if want := fmt.Sprintf("the value number %d of many", j+10); string(rec.Value) != want || rec.Offset != start+10+int64(j) {
				t.Fatalf("%v: got %q at %d, want %q", z, rec.Value, rec.Offset, want)
			}
			j++
		})
		f.Close()
		if j != 990 {
			t.Fatalf("compression %v: read %d records", z, j)
		}
	}
}

func testOutOfRange(t *testing.T, e *env) {
	c := e.market(t, 1)
	f := c.Fetcher(c.Topics().Events, 0, 1000)
	if _, err := f.Next(testContext(t)); !errors.Is(err, stream.ErrOffsetOutOfRange) {
		t.Fatalf("got %v", err)
	}
}

// output is the event that stands for the output of an input: a status whose sequence is the input offset.
func output(input int64, i int) []byte {
	return wire.AppendTradeGap(nil, &market.TradeGap{
		Head: market.Head{Inst: uint32(i + 1), Epoch: 1, Prev: uint64(input), Seq: uint64(input) + 1}, Why: market.Venue, Missed: -1,
	})
}

// takeOver does all the steps of taking over and returns the tail and the outputs that it holds.
func takeOver(t *testing.T, c *stream.Cluster, name string) (*stream.Owner, stream.Tail, []uint64) {
	t.Helper()
	ctx := testContext(t)
	o, err := c.TakeOver(ctx, 0, stream.OwnerOptions{Instance: name, Version: 7})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = o.Close(ctx) // a fenced owner has an error to tell; the tests look at Err
	})
	if err := o.Snapshots(ctx, func(*stream.Snapshot) error { return nil }); err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	tail, err := o.Tail(ctx, 0, func(b *stream.EventBatch) error {
		seqs = appendSeqs(t, seqs, b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return o, tail, seqs
}

func appendSeqs(t *testing.T, seqs []uint64, b *stream.EventBatch) []uint64 {
	t.Helper()
	var ev stream.Event
	for b.Next(&ev) {
		if ev.Template.IsEvent() {
			h, err := wire.HeadOf(ev.Value)
			if err != nil {
				t.Fatal(err)
			}
			seqs = append(seqs, h.Seq)
		}
	}
	return seqs
}

// write commits the outputs of inputs from (exclusive) to to.
func write(t *testing.T, o *stream.Owner, from, to int64) {
	t.Helper()
	for input := from + 1; input <= to; input++ {
		o.Events.Add(output(input, 0))
		if err := o.Events.Commit(input); err != nil {
			t.Fatal(err)
		}
	}
	o.Events.Flush()
}

// contiguous checks that the outputs of inputs 0 to n-1 are there, each once, in order.
func contiguous(t *testing.T, seqs []uint64, n int) {
	t.Helper()
	if len(seqs) != n {
		t.Errorf("%d events, want %d", len(seqs), n)
	}
	for i, seq := range seqs {
		if seq != uint64(i)+1 {
			t.Fatalf("event %d has seq %d", i, seq)
		}
	}
}

func testOwner(t *testing.T, e *env) {
	ctx := testContext(t)
	c := e.market(t, 1)
	first, tail, _ := takeOver(t, c, "first")
	if tail.Found {
		t.Fatalf("tail of an empty log: %+v", tail)
	}
	if err := first.Events.Commit(0); err == nil {
		t.Fatal("a commit before Start")
	}
	first.Start(-1)
	write(t, first, -1, 99)
	payload := make([]byte, 2_500_000)
	for i := range payload {
		payload[i] = byte(i * i >> 3)
	}
	for round := range 3 {
		s := stream.Snapshot{Inst: 5, Kind: stream.KindInstrument, InputOffset: int64(round), Payload: payload[round:]}
		if err := first.WriteSnapshot(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.WriteSnapshot(stream.Snapshot{Inst: 5, Kind: stream.KindBars, Block: 9, Payload: []byte("bars")}); err != nil {
		t.Fatal(err)
	}
	if err := first.Events.Heartbeat(wire.OwnerHeartbeat{InputLag: 3}); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(ctx); err != nil {
		t.Fatal(err)
	}
	second, tail, seqs := takeOver(t, c, "second")
	contiguous(t, seqs, 100)
	if !tail.Found || tail.InputOffset != 99 || tail.OwnerEpoch != first.Epoch || tail.Version != 7 {
		t.Fatalf("tail %+v, first owner's epoch %d", tail, first.Epoch)
	}
	var got []stream.Snapshot
	if err := second.Snapshots(ctx, func(s *stream.Snapshot) error { got = append(got, *s); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].InputOffset != 2 || string(got[0].Payload) != string(payload[2:]) ||
		got[1].Block != 9 || string(got[1].Payload) != "bars" {
		t.Fatalf("%d snapshots, want the newest of the instrument and a block of bars", len(got))
	}
}

func testLiveZombie(t *testing.T, e *env) {
	c := e.market(t, 1)
	zombie, _, _ := takeOver(t, c, "zombie")
	zombie.Start(-1)
	write(t, zombie, -1, 9)
	if err := zombie.Events.Wait(testContext(t)); err != nil {
		t.Fatal(err)
	}
	heir, tail, _ := takeOver(t, c, "heir")
	zombie.Events.Add(output(10, 0))
	if err := zombie.Events.Commit(10); err != nil {
		t.Fatal(err)
	}
	if err := zombie.Events.Wait(testContext(t)); !errors.Is(err, stream.ErrFenced) {
		t.Fatalf("the zombie got %v", err)
	}
	heir.Start(tail.InputOffset)
	write(t, heir, tail.InputOffset, 19)
	if err := heir.Events.Wait(testContext(t)); err != nil {
		t.Fatal(err)
	}
	_, _, seqs := takeOver(t, c, "judge")
	contiguous(t, seqs, 20)
}
