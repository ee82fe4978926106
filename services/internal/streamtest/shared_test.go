package streamtest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tickwire/tickwire/pkg/stream"
)

// testSharedFetch has fetchers at the end of their logs, where they share requests: a slow one, one that goes away, and a
// second one for a partition that has one already.
func testSharedFetch(t *testing.T, e *env) {
	const partitions, rounds = 5, 400
	ctx := testContext(t)
	c := e.market(t, partitions)
	topic := c.Topics().Raw
	w, err := c.RawWriter(ctx, topic, stream.RawWriterConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close(ctx) }()
	fetchers := make([]*stream.Fetcher, partitions+1)
	for i := range fetchers {
		f := c.Fetcher(topic, i%partitions, 0)
		defer f.Close()
		fetchers[i] = f
		for f.End() != 0 { // and once more, so that it waits among the others
			if _, err := f.Next(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	const slow, leaver, other = 1, 2, partitions // other reads partition 0, too
	value := make([]byte, 4<<10)
	want := func(f *stream.Fetcher, i, next int) int {
		t.Helper()
		var rec stream.Record
		for b, err := f.Next(ctx); ; b, err = f.Next(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			for b.Next(&rec) {
				if int(rec.Offset) != next || string(rec.Key) != fmt.Sprint(next) {
					t.Fatalf("fetcher %d got offset %d with key %q, want %d", i, rec.Offset, rec.Key, next)
				}
				next++
			}
			if err := b.Err(); err != nil {
				t.Fatal(err)
			}
			if b.First >= 0 {
				return next
			}
		}
	}
	next := make([]int, len(fetchers))
	for round := range rounds {
		for p := range partitions {
			if err := w.WriteTo(p, &stream.Record{Key: fmt.Append(nil, round), Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		for i, f := range fetchers {
			switch {
			case i == slow:
			case i == leaver && round > rounds/2:
				f.Close()
			default:
				for next[i] <= round {
					next[i] = want(f, i, next[i])
				}
			}
		}
	}
	for next[slow] < rounds {
		next[slow] = want(fetchers[slow], slow, next[slow])
	}
	for i, n := range next {
		if i != leaver && n != rounds {
			t.Errorf("fetcher %d read %d records of %d", i, n, rounds)
		}
	}
	if next[other] != next[0] {
		t.Errorf("two fetchers of one partition read %d and %d", next[0], next[other])
	}
}

// testSharedProduce has two owners whose batches share requests. One is fenced; the other does not notice.
func testSharedProduce(t *testing.T, e *env) {
	ctx := testContext(t)
	c := e.market(t, 2)
	old := make([]*stream.Owner, 2)
	for p := range old {
		o, err := c.TakeOver(ctx, p, stream.OwnerOptions{Instance: "old"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = o.Close(ctx) }() // one of them is fenced
		o.Start(-1)
		old[p] = o
	}
	heir, err := c.TakeOver(ctx, 0, stream.OwnerOptions{Instance: "heir"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = heir.Close(ctx) }()
	for i := range int64(200) {
		for _, o := range old {
			o.Events.Add(output(i, 0))
			if err := o.Events.Commit(i); err != nil && !errors.Is(err, stream.ErrFenced) {
				t.Fatal(err)
			}
			o.Events.Flush()
		}
	}
	if err := old[0].Events.Wait(ctx); !errors.Is(err, stream.ErrFenced) {
		t.Errorf("the fenced owner got %v", err)
	}
	if err := old[1].Events.Wait(ctx); err != nil {
		t.Errorf("the other owner got %v", err)
	}
	if _, input := old[1].Events.Acked(); input != 199 {
		t.Errorf("the other owner's output reaches input %d", input)
	}
}
