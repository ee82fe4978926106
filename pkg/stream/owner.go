package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/wire"
)

// OwnerOptions says how an owner writes. The zero value is good.
type OwnerOptions struct {
	Instance     string // who we are, for people who read the log
	Version      uint16 // of the algorithm that makes events out of raw records
	Compression  Compression
	BatchBytes   int           // of md.events; 0 is DefaultBatchBytes
	PendingBytes int           // of md.events; 0 is DefaultPendingBytes
	RenewEvery   time.Duration // 0 is 24 h; must stay far below the brokers' transactional.id.expiration.ms
}

const (
	defaultRenewEvery    = 24 * time.Hour
	maxQueuedSnapshots   = 64 << 20 // bytes
	maxSnapshotPart      = 1 << 20
	snapshotPartOverhead = 256
)

// Owner is the one writer of a partition of md.events and md.snapshots. The steps of taking over, after
// [Cluster.TakeOver] has fenced the last owner:
//
//  1. Snapshots gives the newest complete snapshots,
//  2. Tail gives what the last owners wrote to md.events after them, and how far they had dealt with the input,
//  3. the caller applies md.raw from the snapshots' input offset again, keeping the outputs to itself up to the tail's,
//  4. Start says so, and from then on Events and WriteSnapshot may be used.
type Owner struct {
	// Events writes md.events.
	Events *EventWriter
	// Epoch is the offset of our marker in md.events.
	Epoch int64

	c         *Cluster
	partition int
	opt       OwnerOptions
	snapshots *Producer
	marker    int64 // offset of our marker in md.snapshots
	markers   []int64
	slots     map[snapshotID]slotState
	loaded    bool

	cancel   context.CancelFunc
	finished chan struct{}
	wake     chan struct{}

	mu     sync.Mutex
	queue  []queuedSnapshot
	queued int // bytes
}

// slotState remembers where the newest complete snapshot lies and how many parts each slot holds.
type slotState struct {
	newest uint8
	known  bool
	parts  [2]uint16
}

type queuedSnapshot struct {
	Snapshot
	after uint64 // acknowledged records that the snapshot waits for
}

func transactionalID(topic string, partition int) string {
	return fmt.Sprintf("ingest/%s/%d", topic, partition)
}

// TakeOver makes this process the owner of a partition: it fences the producers of the last owner and writes the markers
// that fence it for every reader. It tries until the cluster answers or ctx ends; ctx bounds only that.
func (c *Cluster) TakeOver(ctx context.Context, partition int, opt OwnerOptions) (*Owner, error) {
	if opt.RenewEvery == 0 {
		opt.RenewEvery = defaultRenewEvery
	}
	o := &Owner{
		c: c, partition: partition, opt: opt, slots: make(map[snapshotID]slotState),
		finished: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if err := o.begin(ctx); err != nil {
		return nil, fmt.Errorf("take over partition %d: %w", partition, err)
	}
	run, cancel := context.WithCancel(context.Background())
	o.cancel = cancel
	go o.run(run)
	return o, nil
}

// begin gets both producer ids before the first marker: from the marker on, the last owner's outputs do not count, and what
// follows should be quick.
func (o *Owner) begin(ctx context.Context) error {
	topics := o.c.topics
	fresh := identity{id: -1, epoch: -1}
	events, err := o.c.initProducer(ctx, transactionalID(topics.Events, o.partition), fresh)
	if err != nil {
		return err
	}
	snapshots, err := o.c.initProducer(ctx, transactionalID(topics.Snapshots, o.partition), fresh)
	if err != nil {
		return err
	}
	o.Events = newEventWriter(o.c, o.partition, events, o.opt)
	o.Events.onAck = o.signal
	o.snapshots = o.c.startProducer(topics.Snapshots, o.partition, snapshots, ProducerConfig{
		TransactionalID: transactionalID(topics.Snapshots, o.partition),
		Compression:     o.opt.Compression,
	})
	if err := o.mark(ctx); err != nil {
		_ = o.endProducers(ctx) // the error that counts is err
		return err
	}
	return nil
}

// mark writes our marker to md.events, then to md.snapshots with the owner epoch that the first one got.
func (o *Owner) mark(ctx context.Context) error {
	marker := wire.AppendOwnerMarker(nil, &wire.OwnerMarker{
		Partition: uint32(o.partition), Version: o.opt.Version, Instance: o.opt.Instance,
	})
	end, err := o.Events.writeMarker(ctx, marker)
	if err != nil {
		return err
	}
	o.Epoch = end - 1
	part := wire.SnapshotPart{Kind: KindMarker, Part: 1, Parts: 1, OwnerEpoch: o.Epoch, Version: o.opt.Version, Payload: marker}
	err = o.snapshots.Add(&Record{Key: appendMarkerKey(nil, o.Epoch), Value: wire.AppendSnapshotPart(nil, &part)})
	if err == nil {
		err = o.snapshots.Wait(ctx)
	}
	o.marker = o.snapshots.Acked() - 1
	return err
}

// writeMarker writes the owner's marker in a batch of its own, and returns the offset after it.
func (w *EventWriter) writeMarker(ctx context.Context, marker []byte) (end int64, err error) {
	w.p.cfg.sealing, w.p.cfg.acked = nil, nil // the marker is not an output
	if err := w.p.Add(&Record{Value: marker}); err != nil {
		return 0, err
	}
	if err := w.p.Wait(ctx); err != nil {
		return 0, err
	}
	end = w.p.Acked()
	w.p.cfg.sealing, w.p.cfg.acked = w.seal, w.acknowledge
	w.owner.OwnerEpoch, w.end = end-1, end
	return end, nil
}

// Partition is the partition owned.
func (o *Owner) Partition() int { return o.partition }

// Snapshots calls fn with the newest complete snapshot of each instrument and kind as of our marker, in order of
// instrument, kind and block. The payloads are fn's to keep.
func (o *Owner) Snapshots(ctx context.Context, fn func(*Snapshot) error) error {
	set, err := o.c.readSnapshots(ctx, o.partition, o.marker+1)
	if err != nil {
		return err
	}
	if set.epoch > o.Epoch {
		return fmt.Errorf("partition %d: %w", o.partition, ErrRecreated)
	}
	o.markers, o.loaded = set.markers, true
	for key, parts := range set.parts {
		o.remember(key, parts)
	}
	if o.partition == 0 && set.logID == "" {
		if err := o.writeLogID(ctx); err != nil {
			return err
		}
	}
	newest := set.newest()
	for _, s := range newest {
		if !blockKind(s.Kind) {
			st := o.slots[s.snapshotID()]
			st.newest, st.known = s.slot, true
			o.slots[s.snapshotID()] = st
		}
	}
	for i := range newest {
		if err := fn(&newest[i].Snapshot); err != nil {
			return err
		}
	}
	return nil
}

func (o *Owner) remember(key slotKey, parts *partSet) {
	if blockKind(key.kind) || key.slot > 1 {
		return
	}
	id := snapshotID{inst: key.inst, kind: key.kind}
	st := o.slots[id]
	st.parts[key.slot] = max(st.parts[key.slot], parts.highest)
	o.slots[id] = st
}

// Tail is what the owners before us left in md.events.
type Tail struct {
	From        int64 // where reading began: the wanted offset, or the first that is left
	Found       bool  // there was a batch of a lawful owner; the rest is about the newest
	OwnerEpoch  int64
	InputOffset int64 // the input that is dealt with
	Version     uint16
}

// Tail calls fn with each lawful batch of md.events from an offset up to our marker, markers of earlier owners included.
// When retention has taken the offset, reading begins at the first that is left: see Tail.From. Call it after Snapshots.
func (o *Owner) Tail(ctx context.Context, from int64, fn func(*EventBatch) error) (Tail, error) {
	first, _, err := o.c.Offsets(ctx, o.c.topics.Events, o.partition)
	if err != nil {
		return Tail{}, err
	}
	t := Tail{From: max(from, first)}
	f := o.c.eventFetcher(o.partition, t.From, o.markers)
	defer f.Close()
	for f.Offset() < o.Epoch {
		b, err := f.next(ctx)
		if err != nil {
			return t, err
		}
		if b.batch == nil || b.First >= o.Epoch {
			continue
		}
		if !b.Marker {
			t.Found, t.OwnerEpoch, t.InputOffset, t.Version = true, b.Owner.OwnerEpoch, b.Owner.InputOffset, b.Owner.Version
		}
		if err := fn(b); err != nil {
			return t, err
		}
	}
	return t, nil
}

// Start says that the owner's state has dealt with the input up to and including offset, and so has md.events. It must come
// before the first Commit, Heartbeat or WriteSnapshot.
func (o *Owner) Start(inputOffset int64) { o.Events.start(inputOffset) }

// WriteSnapshot queues s: it is written when all outputs committed so far are acknowledged, so that a snapshot never knows
// more than md.events does. With EventsOffset 0 it gets the newest offset that the state surely includes. The payload
// belongs to the Owner from here on. ErrBusy says that too much is queued: leave this one out, the next will do.
func (o *Owner) WriteSnapshot(s Snapshot) error {
	if !o.loaded {
		return errors.New("write snapshot: the owner has not read the old ones")
	}
	if err := errors.Join(o.Events.Err(), o.snapshots.Err()); err != nil {
		return err
	}
	end, added, _ := o.Events.progress()
	if s.EventsOffset == 0 {
		s.EventsOffset = end
	}
	s.OwnerEpoch, s.Version = o.Epoch, o.opt.Version
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.queued > 0 && o.queued+len(s.Payload) > maxQueuedSnapshots {
		return ErrBusy
	}
	o.queued += len(s.Payload) + snapshotPartOverhead
	o.queue = append(o.queue, queuedSnapshot{Snapshot: s, after: added})
	o.signal()
	return nil
}

// Err is why the owner has lost the partition, or nil: ErrFenced means stop, ErrOutOfSequence means take over again.
func (o *Owner) Err() error {
	if err := o.Events.Err(); err != nil {
		return err
	}
	return o.snapshots.Err()
}

// Close writes what is pending, as long as ctx lasts, and gives the partition up.
func (o *Owner) Close(ctx context.Context) error {
	err := o.Events.Wait(ctx)
	if err == nil {
		err = o.drainSnapshots(ctx)
	}
	o.cancel()
	closed := o.endProducers(ctx)
	<-o.finished
	if err == nil {
		err = closed
	}
	return err
}

func (o *Owner) endProducers(ctx context.Context) error {
	return errors.Join(o.Events.p.Close(ctx), o.snapshots.Close(ctx))
}

// drainSnapshots waits until the queue is empty; the producer's Close waits for the rest.
func (o *Owner) drainSnapshots(ctx context.Context) error {
	for {
		o.mu.Lock()
		n := len(o.queue)
		o.mu.Unlock()
		if n == 0 || o.Err() != nil {
			return o.Err()
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

func (o *Owner) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run writes queued snapshots and renews the producer ids.
func (o *Owner) run(ctx context.Context) {
	defer close(o.finished)
	renew := time.NewTicker(o.opt.RenewEvery)
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			o.Events.p.requestRenewal()
			o.snapshots.requestRenewal()
		case <-o.wake:
			o.writeQueued()
		}
	}
}

// writeQueued writes what has become lawful. An error shows in Err.
func (o *Owner) writeQueued() {
	for {
		s, ok := o.nextQueued()
		if !ok || o.writeParts(&s) != nil {
			return
		}
		o.mu.Lock()
		o.queue = append(o.queue[:0], o.queue[1:]...)
		o.queued -= len(s.Payload) + snapshotPartOverhead
		o.mu.Unlock()
	}
}

func (o *Owner) nextQueued() (Snapshot, bool) {
	_, _, acked := o.Events.progress()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 || o.queue[0].after > acked {
		return Snapshot{}, false
	}
	return o.queue[0].Snapshot, true
}

// writeParts writes a snapshot into the slot that does not hold the newest one, and deletes parts that the slot's last
// snapshot had and this one has not.
func (o *Owner) writeParts(s *Snapshot) error {
	slot, stale := o.slotFor(s)
	parts := max(1, (len(s.Payload)+maxSnapshotPart-1)/maxSnapshotPart)
	if parts > math.MaxUint16 {
		return ErrTooLarge
	}
	part := wire.SnapshotPart{
		Inst: s.Inst, Kind: s.Kind, Slot: slot, Parts: uint16(parts), EventsOffset: s.EventsOffset, InputOffset: s.InputOffset,
		OwnerEpoch: s.OwnerEpoch, Version: s.Version,
	}
	rest := s.Payload
	for i := range parts { // wire counts parts from 1, keys from 0
		n := min(len(rest), maxSnapshotPart)
		part.Part, part.Payload, rest = uint16(i+1), rest[:n], rest[n:]
		key := slotKey{s.Inst, s.Kind, slot}
		if err := o.snapshots.Add(&Record{Key: key.append(nil, uint16(i)), Value: wire.AppendSnapshotPart(nil, &part)}); err != nil {
			return err
		}
	}
	for i := parts; i < int(stale); i++ {
		key := slotKey{s.Inst, s.Kind, slot}
		if err := o.snapshots.Add(&Record{Key: key.append(nil, uint16(i))}); err != nil {
			return err
		}
	}
	if st, ok := o.slots[s.snapshotID()]; ok && !blockKind(s.Kind) {
		st.parts[slot] = uint16(parts)
		o.slots[s.snapshotID()] = st
	}
	return nil
}

// slotFor picks the slot and tells how many parts it held.
func (o *Owner) slotFor(s *Snapshot) (slot uint8, parts uint16) {
	if blockKind(s.Kind) {
		return s.Block, 0
	}
	id := s.snapshotID()
	st := o.slots[id]
	if st.known {
		st.newest = 1 - st.newest
	}
	st.known = true
	o.slots[id] = st
	return st.newest, st.parts[st.newest]
}

// writeLogID names the log, once.
func (o *Owner) writeLogID(ctx context.Context) error {
	id := wire.AppendLogID(nil, &wire.LogID{ID: newLogID()})
	if err := o.snapshots.Add(&Record{Key: slotKey{kind: KindLogID}.append(nil, 0), Value: id}); err != nil {
		return err
	}
	return o.snapshots.Wait(ctx)
}
