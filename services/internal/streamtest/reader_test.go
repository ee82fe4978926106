package streamtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// follower is an edge: it checks that the events of partition 0 come once and in order, from the snapshot on.
type follower struct {
	reader *stream.Reader
	stop   func()

	mu         sync.Mutex
	phases     []stream.Phase
	snapshot   uint64 // sequence that the snapshot includes
	seq        uint64 // newest sequence applied
	heartbeats int
	problem    error
	changed    chan struct{}
}

// follow starts an edge that ends with the test.
func follow(t *testing.T, c *stream.Cluster, window time.Duration) *follower {
	t.Helper()
	f := &follower{changed: make(chan struct{}, 1)}
	f.reader = c.Reader(stream.ReaderConfig{ResumeWindow: window}, f)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.reader.Run(ctx) // it returns ctx's error
	}()
	var once sync.Once
	f.stop = func() { once.Do(func() { cancel(); <-done }) }
	t.Cleanup(f.stop)
	return f
}

func (f *follower) update(fn func()) {
	f.mu.Lock()
	fn()
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *follower) Snapshot(_ int, s *stream.Snapshot) error {
	f.update(func() {
		if s.Kind == stream.KindInstrument {
			f.snapshot = uint64(s.InputOffset) + 1
			f.seq = f.snapshot
		}
	})
	return nil
}

func (f *follower) Batch(b *stream.EventBatch) error {
	var err error
	f.update(func() { err = f.apply(b) })
	return err
}

func (f *follower) apply(b *stream.EventBatch) error {
	var ev stream.Event
	for b.Next(&ev) {
		if ev.Template == wire.TemplateOwnerHeartbeat {
			f.heartbeats++
		}
		if !ev.Template.IsEvent() {
			continue
		}
		h, err := wire.HeadOf(ev.Value)
		switch {
		case err != nil:
			f.problem = err
		case h.Seq <= f.snapshot:
			// The snapshot includes it.
		case h.Seq != f.seq+1:
			f.problem = fmt.Errorf("event %d after %d at offset %d", h.Seq, f.seq, ev.Offset)
		default:
			f.seq = h.Seq
		}
	}
	return nil
}

func (f *follower) Phase(_ int, p stream.Phase, why error) {
	f.update(func() {
		f.phases = append(f.phases, p)
		if p == stream.PhaseReset {
			f.seq, f.snapshot = 0, 0
			if why != nil && !errors.Is(why, stream.ErrOffsetOutOfRange) {
				f.problem = why
			}
		}
	})
}

// wait waits until the follower satisfies cond, which may look at its fields.
func (f *follower) wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx := testContext(t)
	for {
		f.mu.Lock()
		ok, problem := cond(), f.problem
		f.mu.Unlock()
		if problem != nil {
			t.Fatal(problem)
		}
		if ok {
			return
		}
		select {
		case <-f.changed:
		case <-time.After(50 * time.Millisecond): // the log id comes without a call
		case <-ctx.Done():
			t.Fatalf("no %s: seq %d, phases %v", what, f.seq, f.phases)
		}
	}
}

func (f *follower) ready() bool {
	for i := len(f.phases) - 1; i >= 0; i-- {
		switch f.phases[i] {
		case stream.PhaseReset:
			return false
		case stream.PhaseReady:
			return true
		}
	}
	return false
}

func testReader(t *testing.T, e *env) {
	c := e.market(t, 1)
	early := follow(t, c, time.Hour)
	early.wait(t, "readiness on an empty log", early.ready)
	if id := early.reader.LogID(); id != "" {
		t.Fatalf("a log without owner is called %q", id)
	}
	o, _, _ := takeOver(t, c, "owner")
	o.Start(-1)
	write(t, o, -1, 99)
	if err := o.Events.Heartbeat(wire.OwnerHeartbeat{}); err != nil {
		t.Fatal(err)
	}
	early.wait(t, "100 events and a heartbeat", func() bool { return early.seq == 100 && early.heartbeats == 1 })

	// A reader that comes later starts from the snapshot, or as far back as the resume window wants.
	if err := o.WriteSnapshot(stream.Snapshot{Inst: 1, InputOffset: 99}); err != nil {
		t.Fatal(err)
	}
	write(t, o, 99, 149)
	if err := o.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	late := follow(t, c, 0)
	late.wait(t, "readiness", func() bool { return late.ready() && late.seq == 150 })
	if late.snapshot != 100 {
		t.Fatalf("the snapshot reaches %d, not 100", late.snapshot)
	}
	if id := late.reader.LogID(); len(id) != 8 {
		t.Fatalf("log id %q", id)
	}
	early.wait(t, "log id", func() bool { return early.reader.LogID() == late.reader.LogID() })
	early.wait(t, "150 events", func() bool { return early.seq == 150 })
	if len(early.phases) != 2 {
		t.Errorf("phases %v, want no more than reset and ready", early.phases)
	}
}

// testFencedReader has a zombie that the broker does not fence, by writing under another producer id as one does whose id
// expired, and checks that every reader fences it.
func testFencedReader(t *testing.T, e *env) {
	ctx := testContext(t)
	c := e.market(t, 1)
	early := follow(t, c, time.Hour)
	old, _, _ := takeOver(t, c, "old")
	old.Start(-1)
	write(t, old, -1, 9)
	if err := old.Events.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	heir, tail, _ := takeOver(t, c, "heir")
	heir.Start(tail.InputOffset)
	ghost, err := c.Producer(ctx, c.Topics().Events, 0, stream.ProducerConfig{Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	owner := wire.AppendOwnerBatch(nil, &wire.OwnerBatch{OwnerEpoch: old.Epoch, InputOffset: 12})
	for round := range 3 {
		for _, value := range [][]byte{owner, output(10, 0), output(11, 0)} {
			if err := ghost.Add(&stream.Record{Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		if err := ghost.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		from := tail.InputOffset + int64(round)
		write(t, heir, from, from+1)
		if err := heir.Events.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := ghost.Close(ctx); err != nil {
		t.Fatal(err)
	}
	late := follow(t, c, time.Hour)
	for _, f := range []*follower{early, late} {
		f.wait(t, "13 events", func() bool { return f.seq == 13 })
		if n := f.reader.Dropped(); n != 3 {
			t.Errorf("%d batches dropped, want 3", n)
		}
	}
	_, tail, seqs := takeOver(t, c, "judge")
	contiguous(t, seqs, 13)
	if tail.InputOffset != 12 || tail.OwnerEpoch != heir.Epoch {
		t.Errorf("tail %+v, want the heir's", tail)
	}
}
