package streamtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// testZombieAfterExpiration has an owner that pauses until the brokers have forgotten its producer id, so that they let it
// write beside its heir. It needs transactional.id.expiration.ms of 2 s.
func testZombieAfterExpiration(t *testing.T, e *env) {
	ctx := testContext(t)
	c := e.market(t, 1)
	edge := follow(t, c, time.Hour)
	zombie, _, _ := takeOver(t, c, "zombie")
	zombie.Start(-1)
	write(t, zombie, -1, 9)
	if err := zombie.Events.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second) // the pause itself: the brokers count real time
	heir, tail, _ := takeOver(t, c, "heir")
	heir.Start(tail.InputOffset)
	write(t, heir, 9, 19)
	if err := heir.Events.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	// The zombie goes on as if nothing had happened. It may be fenced by the broker or not; no reader may believe it.
	write(t, zombie, 9, 14)
	zombieErr := zombie.Events.Wait(ctx)
	if err := zombie.WriteSnapshot(stream.Snapshot{Inst: 1, InputOffset: 14, EventsOffset: 1 << 40}); err == nil && zombieErr == nil {
		_ = zombie.Close(ctx) // whether it gets through is the broker's affair
	}
	write(t, heir, 19, 29)
	if err := heir.Events.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	edge.wait(t, "30 events", func() bool { return edge.seq == 30 })
	late := follow(t, c, time.Hour)
	late.wait(t, "30 events", func() bool { return late.seq == 30 && late.ready() })
	_, _, seqs := takeOver(t, c, "judge")
	contiguous(t, seqs, 30)
	t.Logf("the zombie got %v; the edges dropped %d and %d batches", zombieErr, edge.reader.Dropped(), late.reader.Dropped())
	if zombieErr == nil && (edge.reader.Dropped() == 0 || late.reader.Dropped() == 0) {
		t.Error("the broker let the zombie write, and no edge counted it")
	}
}

// testRenewal has an owner whose id would expire and that renews it; it stays owner, and its heir fences it. It needs
// transactional.id.expiration.ms of 2 s.
func testRenewal(t *testing.T, e *env) {
	ctx := testContext(t)
	c := e.market(t, 1)
	o, err := c.TakeOver(ctx, 0, stream.OwnerOptions{Instance: "renewing", RenewEvery: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close(ctx) }() // it is fenced by then
	if err := o.Snapshots(ctx, func(*stream.Snapshot) error { return nil }); err != nil {
		t.Fatal(err)
	}
	o.Start(-1)
	began := time.Now()
	input := int64(-1)
	for time.Since(began) < 5*time.Second {
		write(t, o, input, input+10)
		input += 10
		if err := o.WriteSnapshot(stream.Snapshot{Inst: 1, InputOffset: input}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // the pace of an owner with little to do
	}
	if err := o.Events.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	heir, tail, seqs := takeOver(t, c, "heir")
	contiguous(t, seqs, int(input)+1)
	if tail.InputOffset != input {
		t.Fatalf("tail at %d, want %d", tail.InputOffset, input)
	}
	heir.Start(input)
	write(t, o, input, input+1)
	if err := o.Events.Wait(ctx); !errors.Is(err, stream.ErrFenced) {
		t.Fatalf("the old owner got %v after %d renewals", err, 5*time.Second/(400*time.Millisecond))
	}
}

// testBrokerFailures writes steadily while the partition's leader is killed, comes back, and the next one is paused.
func testBrokerFailures(t *testing.T, e *env, k *testkit.KafkaCluster) {
	c := e.market(t, 1)
	edge := follow(t, c, time.Hour)
	o, _, _ := takeOver(t, c, "owner")
	o.Start(-1)
	ctx, stop := context.WithCancel(testContext(t))
	written := make(chan int64, 1)
	go func() { written <- writeUntil(ctx, t, o) }()
	progress := func() {
		edge.mu.Lock()
		seq := edge.seq
		edge.mu.Unlock()
		edge.wait(t, "progress", func() bool { return edge.seq > seq+200 })
	}
	progress()
	leader := func() int {
		addr, err := c.Leader(testContext(t), c.Topics().Events, 0)
		if err != nil {
			t.Fatal(err)
		}
		return k.Index(addr)
	}
	i := leader()
	began := time.Now()
	k.Kill(i)
	progress()
	t.Logf("leader killed: progress after %v", time.Since(began))
	k.Restart(i)
	if err := k.WaitReady(testContext(t), 3); err != nil {
		t.Fatal(err)
	}
	i = leader()
	began = time.Now()
	k.Pause(i)
	progress()
	t.Logf("leader paused: progress after %v", time.Since(began))
	k.Resume(i)
	progress()
	stop()
	last := <-written
	edge.wait(t, "all events", func() bool { return edge.seq == uint64(last)+1 })
	_, tail, seqs := takeOver(t, c, "judge")
	contiguous(t, seqs, int(last)+1)
	if tail.InputOffset != last {
		t.Errorf("tail at %d, want %d", tail.InputOffset, last)
	}
	t.Logf("%d events, %d retries", last+1, o.Events.Retries())
}

// writeUntil commits about a thousand outputs a second until ctx ends, and returns the last input.
func writeUntil(ctx context.Context, t *testing.T, o *stream.Owner) int64 {
	input := int64(-1)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		for range 5 {
			input++
			o.Events.Add(output(input, 0))
			if err := o.Events.Commit(input); err != nil {
				t.Error(err)
				return input
			}
		}
		o.Events.Flush()
	}
	wait, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := o.Events.Heartbeat(wire.OwnerHeartbeat{}); err != nil {
		t.Error(err)
	}
	if err := o.Events.Wait(wait); err != nil {
		t.Error(err)
	}
	return input
}
