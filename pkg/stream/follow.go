package stream

import (
	"context"
	"fmt"
	"time"
)

// Follower reads one partition of md.events, behind the fence: it gives the batches of lawful owners alone. It is not safe
// for concurrent use.
type Follower struct {
	f     *eventFetcher
	ready int64
	logID string // of partition 0, when it has one
}

// Resume follows a partition from offset on, for those who keep a place of their own. It is ErrOffsetOutOfRange when
// retention has taken that place, or the log has not come so far: then Begin.
func (c *Cluster) Resume(ctx context.Context, partition int, offset int64) (*Follower, error) {
	set, err := c.snapshots(ctx, partition)
	if err != nil {
		return nil, err
	}
	first, end, err := c.Offsets(ctx, c.topics.Events, partition)
	if err != nil {
		return nil, err
	}
	if offset < first || offset > end {
		return nil, fmt.Errorf("follow %s/%d from %d, of %d to %d: %w", c.topics.Events, partition, offset, first, end, ErrOffsetOutOfRange)
	}
	return &Follower{f: c.eventFetcher(partition, offset, set.markers), ready: end, logID: set.logID}, nil
}

// Begin hands the partition's snapshots to load, whose payloads are load's to keep, and follows the partition from the
// first event on that they may not include, or from window ago when that is earlier.
func (c *Cluster) Begin(ctx context.Context, partition int, window time.Duration, load func(*Snapshot) error) (*Follower, error) {
	set, err := c.snapshots(ctx, partition)
	if err != nil {
		return nil, err
	}
	newest := set.newest()
	set.parts = nil // the payloads are load's now
	for i := range newest {
		if err := load(&newest[i].Snapshot); err != nil {
			return nil, err
		}
	}
	start, end, err := c.bounds(ctx, partition, set.epoch, replayFrom(newest), window)
	if err != nil {
		return nil, err
	}
	return &Follower{f: c.eventFetcher(partition, start, set.markers), ready: end, logID: set.logID}, nil
}

// bounds returns where to begin in md.events, and the end that makes the partition ready when it is reached.
func (c *Cluster) bounds(ctx context.Context, partition int, epoch, from int64, window time.Duration) (start, end int64, err error) {
	ago, err := c.OffsetAt(ctx, c.topics.Events, partition, time.Now().Add(-window))
	if err != nil {
		return 0, 0, err
	}
	first, end, err := c.Offsets(ctx, c.topics.Events, partition)
	if err != nil {
		return 0, 0, err
	}
	if epoch >= end {
		return 0, 0, fmt.Errorf("partition %d: %w", partition, ErrRecreated)
	}
	return min(max(min(from, ago), first), end), end, nil
}

// snapshots reads a partition of md.snapshots to its end.
func (c *Cluster) snapshots(ctx context.Context, partition int) (*snapshotSet, error) {
	_, end, err := c.Offsets(ctx, c.topics.Snapshots, partition)
	if err != nil {
		return nil, err
	}
	return c.readSnapshots(ctx, partition, end)
}

// LogID waits until md.events has a name, which the first owner of partition 0 gives it, and returns it.
func (c *Cluster) LogID(ctx context.Context) (string, error) {
	for {
		set, err := c.snapshots(ctx, 0)
		if err == nil && set.logID != "" {
			return set.logID, nil
		}
		if sleep(ctx, maxRetryPause) != nil {
			return "", ctx.Err()
		}
	}
}

// Next returns the next lawful batch, or within about a quarter of a second one without events. What may pass is tried
// again for ever; an error is final. The batch is valid until the next call.
func (f *Follower) Next(ctx context.Context) (*EventBatch, error) { return f.f.next(ctx) }

// Offset is where the next batch will be read.
func (f *Follower) Offset() int64 { return f.f.Offset() }

// Ready tells whether all has been read that the log held when the follower was made.
func (f *Follower) Ready() bool { return f.f.Offset() >= f.ready }

// End is the end of the log when the follower was made.
func (f *Follower) End() int64 { return f.ready }

// Buffered tells whether Next will return at once.
func (f *Follower) Buffered() bool { return f.f.Buffered() }

// Trouble is why the last request did not get through, or nil.
func (f *Follower) Trouble() error { return f.f.Trouble() }

// Close frees what the follower holds.
func (f *Follower) Close() { f.f.Close() }

// dropped returns how many batches of others have been left out since the last call.
func (f *Follower) dropped() uint64 {
	n := f.f.fence.dropped
	f.f.fence.dropped = 0
	return n
}

// Err is what was wrong with the records of the batch, once Next has given the last.
func (b *EventBatch) Err() error {
	if b.batch == nil {
		return nil
	}
	return b.batch.Err()
}
