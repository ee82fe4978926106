package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// EventWriter writes one partition of md.events for its owner. The outputs of one input are a group: Add them, then Commit
// with the input's offset; a group is never split over two batches, so that a reader who sees one output of an input sees
// all, and the newest batch says exactly how far the input is dealt with.
//
// Batches wait until Flush (or until they are full): call it whenever no more input is at hand. While a batch is in flight
// the next one grows. What is not acknowledged is bounded; Commit waits beyond that.
//
// Add, Commit, Heartbeat and Flush belong to one goroutine; Acked and Err may be called from any.
type EventWriter struct {
	p     *Producer
	owner wire.OwnerBatch // what each batch begins with, but for the input offset

	group []byte // values of the open group, end to end
	ends  []int  // where each value of the group ends
	rec   Record
	hb    []byte

	mu         sync.Mutex
	started    bool
	input      int64  // committed
	added      uint64 // records in committed groups
	acked      uint64 // of them, acknowledged
	ackedInput int64
	end        int64 // offset after the newest acknowledged record
	onAck      func()
}

// errNotStarted guards the checkpoint: a batch without a true input offset would rewind it.
var errNotStarted = errors.New("the owner has not been started")

func newEventWriter(c *Cluster, partition int, who identity, o OwnerOptions) *EventWriter {
	w := &EventWriter{owner: wire.OwnerBatch{Partition: uint32(partition), Version: o.Version}}
	w.p = c.startProducer(c.topics.Events, partition, who, ProducerConfig{
		TransactionalID: transactionalID(c.topics.Events, partition),
		Compression:     o.Compression, BatchBytes: o.BatchBytes, PendingBytes: o.PendingBytes,
		Manual: true, sealing: w.seal, acked: w.acknowledge,
	})
	return w
}

// start sets where the output stands, before the first group.
func (w *EventWriter) start(input int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started, w.input, w.ackedInput = true, input, input
}

// Add appends a value to the open group; its bytes are copied.
func (w *EventWriter) Add(value []byte) {
	w.group = append(w.group, value...)
	w.ends = append(w.ends, len(w.group))
}

// Append adds a value to the open group without a copy: encode appends it to the buffer that it gets and returns the
// result.
func (w *EventWriter) Append(encode func(dst []byte) []byte) {
	w.group = encode(w.group)
	w.ends = append(w.ends, len(w.group))
}

// GroupBytes is the size of the open group; Commit refuses more than MaxGroupBytes.
func (w *EventWriter) GroupBytes() int { return len(w.group) + recordOverhead*len(w.ends) }

// Commit closes the group: these are all outputs of the input at offset, and of those before it that had none. An empty
// group only moves the input offset that the next batch will carry. After ErrTooLarge the group is gone and the input
// offset has not moved; any other error is final.
func (w *EventWriter) Commit(inputOffset int64) error {
	defer w.clear()
	return w.commit(inputOffset)
}

func (w *EventWriter) clear() { w.group, w.ends = w.group[:0], w.ends[:0] }

func (w *EventWriter) commit(inputOffset int64) error {
	w.mu.Lock()
	started := w.started
	w.mu.Unlock()
	if !started {
		return errNotStarted
	}
	if w.GroupBytes() > MaxGroupBytes {
		return ErrTooLarge
	}
	p := w.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(w.ends) == 0 {
		w.advance(inputOffset, 0)
		if p.open != nil {
			p.open.input = inputOffset
		}
		return p.err
	}
	b, err := p.room(w.GroupBytes() + 2*recordOverhead)
	if err != nil {
		return err
	}
	before := b.len()
	n := w.encode(b)
	b.input = inputOffset
	p.pending += b.len() - before
	w.advance(inputOffset, n)
	return nil
}

// encode appends the group to the batch, behind the owner's record when it is the batch's first.
func (w *EventWriter) encode(b *batch) (records uint64) {
	now := market.FromTime(time.Now())
	if b.count == 0 {
		w.hb = wire.AppendOwnerBatch(w.hb[:0], &w.owner)
		w.rec = Record{Time: now, Value: w.hb}
		b.ownerAt = b.add(&w.rec)
		records++
	}
	start := 0
	for _, end := range w.ends {
		w.rec = Record{Time: now, Value: w.group[start:end]}
		b.add(&w.rec)
		start = end
	}
	return records + uint64(len(w.ends))
}

func (w *EventWriter) advance(input int64, records uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.input = input
	w.added += records
}

// Heartbeat writes h, completed with partition, owner epoch and input offset, in a group of its own, and flushes. It must
// not be called within a group.
func (w *EventWriter) Heartbeat(h wire.OwnerHeartbeat) error {
	if len(w.ends) > 0 {
		return errors.New("heartbeat within a group")
	}
	w.mu.Lock()
	input := w.input
	w.mu.Unlock()
	h.Partition, h.OwnerEpoch, h.InputOffset = w.owner.Partition, w.owner.OwnerEpoch, input
	w.group = wire.AppendOwnerHeartbeat(w.group, &h)
	w.ends = append(w.ends, len(w.group))
	if err := w.Commit(input); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	w.Flush()
	return nil
}

// Flush says that no more input is at hand. It does not wait.
func (w *EventWriter) Flush() { w.p.Flush() }

// Wait flushes and waits until all that was committed is acknowledged.
func (w *EventWriter) Wait(ctx context.Context) error { return w.p.Wait(ctx) }

// Acked returns the offset in md.events after the newest acknowledged record, and the input offset up to which every output
// is acknowledged.
func (w *EventWriter) Acked() (eventsOffset, inputOffset int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.acked == w.added {
		return w.end, w.input
	}
	return w.end, w.ackedInput
}

// progress returns the acknowledged end and how many records were added and acknowledged.
func (w *EventWriter) progress() (end int64, added, acked uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.end, w.added, w.acked
}

// Err is why the writer has ended, or nil: ErrFenced means stop, ErrOutOfSequence means take over again.
func (w *EventWriter) Err() error { return w.p.Err() }

// Done is closed when the writer has ended.
func (w *EventWriter) Done() <-chan struct{} { return w.p.Done() }

// Retries counts the requests that had to be made again.
func (w *EventWriter) Retries() uint64 { return w.p.Retries() }

// seal writes the final input offset into the batch's first record.
func (w *EventWriter) seal(b *batch) {
	owner := w.owner
	owner.InputOffset = b.input
	wire.AppendOwnerBatch(b.buf[b.ownerAt:b.ownerAt], &owner)
}

func (w *EventWriter) acknowledge(b *batch, _ int64) {
	w.mu.Lock()
	w.acked += uint64(b.count)
	w.ackedInput, w.end = b.input, b.lastOffset+1
	w.mu.Unlock()
	w.onAck()
}
