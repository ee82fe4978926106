package stream

import (
	"context"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// fence is a reader's view of who owns a partition of md.events. Kafka's own fencing ends when a producer id expires; the
// log's does not: a batch counts only when its owner is the newest whose marker stands before it.
type fence struct {
	epoch   int64 // offset of the newest marker seen or vouched for; -1 when none is known
	dropped uint64
}

// admit tells whether a batch counts, from the value of its first record. An owner epoch above the newest known marker
// proves a marker that lies before the place where reading began.
func (f *fence) admit(offset int64, first []byte, owner *wire.OwnerBatch) (marker, ok bool) {
	t, err := wire.Peek(first)
	switch {
	case err == nil && t == wire.TemplateOwnerMarker:
		f.epoch = max(f.epoch, offset)
		return true, true
	case err == nil && t == wire.TemplateOwnerBatch && wire.DecodeOwnerBatch(first, owner) == nil && owner.OwnerEpoch >= f.epoch:
		f.epoch = owner.OwnerEpoch
		return false, true
	}
	f.dropped++
	return false, false
}

// Event is one record of md.events.
type Event struct {
	Offset   int64
	Time     market.Time // the record's Kafka timestamp
	Template wire.Template
	Value    []byte // one SBE message; valid as long as its EventBatch
}

// EventBatch is one record batch of md.events by a lawful owner: its events, heartbeats and the owner's record are walked
// with Next. It is valid until the call that it was passed to returns.
type EventBatch struct {
	Partition   int
	First, Last int64           // offsets; of a batch without events, Last is -1 when nothing arrived
	Owner       wire.OwnerBatch // the zero value when Marker is set
	Marker      bool            // the batch is an owner's marker; its offset is the owner epoch
	End         int64           // the end of the log when it was read
	from        int64
	first       Record
	pending     bool // first has yet to be given
	batch       *Batch
}

// Next gives the next record, OwnerBatch, OwnerMarker and OwnerHeartbeat included, and tells whether there was one. Records
// that are no SBE message are skipped.
func (b *EventBatch) Next(ev *Event) bool {
	var rec Record
	for {
		if b.pending {
			rec, b.pending = b.first, false
		} else if b.batch == nil || !b.batch.Next(&rec) {
			return false
		}
		t, err := wire.Peek(rec.Value)
		if err == nil && rec.Offset >= b.from {
			*ev = Event{Offset: rec.Offset, Time: rec.Time, Template: t, Value: rec.Value}
			return true
		}
	}
}

// eventFetcher is a Fetcher of md.events behind the fence.
type eventFetcher struct {
	*Fetcher
	fence fence
	b     EventBatch
}

// eventFetcher reads md.events from offset on. markers are the owner epochs known from md.snapshots: the newest before
// offset is in force where reading begins.
func (c *Cluster) eventFetcher(partition int, offset int64, markers []int64) *eventFetcher {
	f := &eventFetcher{Fetcher: c.Fetcher(c.topics.Events, partition, offset), fence: fence{epoch: -1}}
	for _, m := range markers {
		if m < offset {
			f.fence.epoch = max(f.fence.epoch, m)
		}
	}
	return f
}

// next returns the next lawful batch, or one without events when nothing arrived or what arrived was dropped.
func (f *eventFetcher) next(ctx context.Context) (*EventBatch, error) {
	from := f.Offset()
	batch, err := f.Fetcher.Next(ctx)
	if err != nil {
		return nil, err
	}
	b := &f.b
	*b = EventBatch{Partition: int(f.partition), First: batch.First, Last: batch.Last, End: f.End(), from: from}
	batch.from = 0 // the owner's record counts, also when reading begins behind it
	if !batch.Next(&b.first) {
		return b, batch.Err()
	}
	marker, ok := f.fence.admit(b.first.Offset, b.first.Value, &b.Owner)
	if ok {
		b.Marker, b.batch, b.pending = marker, batch, true
	}
	return b, nil
}
