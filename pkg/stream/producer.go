package stream

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tickwire/tickwire/pkg/market"
)

// What a Producer holds at most.
const (
	DefaultBatchBytes   = 1 << 20  // a batch is closed when the next record would make it larger
	DefaultPendingBytes = 16 << 20 // not yet acknowledged; beyond, Add waits

	MaxRecordBytes = 16<<20 - 1<<10 // a single record, as large as md.raw takes; other topics take less
	MaxGroupBytes  = 8<<20 - 1<<10  // the outputs of one input, as large as md.events takes
)

// ProducerConfig says how a Producer writes. The zero value is good.
type ProducerConfig struct {
	// TransactionalID names the producer across processes: whoever initialises it last fences the others. Empty makes an
	// idempotent producer that fences nobody.
	TransactionalID string
	Compression     Compression
	BatchBytes      int // 0 is DefaultBatchBytes
	PendingBytes    int // 0 is DefaultPendingBytes
	// Manual leaves it to Flush to say when to send; otherwise an idle producer sends at once, and what comes in while a
	// request is in flight makes up the next batch.
	Manual bool

	sealing func(*batch)                     // called before a batch is sent, by the sending goroutine
	acked   func(b *batch, baseOffset int64) // called when it is acknowledged, by the same
}

// Producer writes to one partition: idempotent, acknowledged by all replicas in sync, one request in flight, the identical
// bytes sent again until they are acknowledged. Batches grow with the load. It is safe for concurrent use.
type Producer struct {
	c         *Cluster
	topic     string
	partition int
	cfg       ProducerConfig
	ctx       context.Context
	stop      context.CancelFunc
	finished  chan struct{} // the sending goroutine has ended
	wake      chan struct{}
	z         codec

	who       identity     // of the sending goroutine, except for id and epoch before it runs
	lane      *produceLane // of the sending goroutine; nil when the leader is not known
	ship      shipment     // of the sending goroutine
	retries   atomic.Uint64
	renewedAt atomic.Int64

	mu      sync.Mutex
	space   sync.Cond // something was acknowledged, or err was set
	open    *batch    // being filled; nil when there is none
	closed  []*batch  // full, waiting
	flying  *batch
	spare   []*batch // to be used again; memory for what may be pending is kept
	pending int      // bytes in open, closed and flying
	flush   bool
	renew   bool
	closing bool
	end     int64 // offset after the newest acknowledged record; -1 before
	err     error
}

// batch is a record batch on its way, and what an EventWriter has to remember about it.
type batch struct {
	builder
	ownerAt    int   // where the wire.OwnerBatch value begins in buf
	input      int64 // the input offset the batch reaches
	lastOffset int64
}

// Producer makes a producer and gets it its id, trying until it has one or ctx ends. ctx bounds only that.
func (c *Cluster) Producer(ctx context.Context, topic string, partition int, cfg ProducerConfig) (*Producer, error) {
	who, err := c.initProducer(ctx, cfg.TransactionalID, identity{id: -1, epoch: -1})
	if err != nil {
		return nil, fmt.Errorf("produce to %s/%d: %w", topic, partition, err)
	}
	return c.startProducer(topic, partition, who, cfg), nil
}

func (c *Cluster) startProducer(topic string, partition int, who identity, cfg ProducerConfig) *Producer {
	if cfg.BatchBytes == 0 {
		cfg.BatchBytes = DefaultBatchBytes
	}
	if cfg.PendingBytes == 0 {
		cfg.PendingBytes = DefaultPendingBytes
	}
	p := &Producer{
		c: c, topic: topic, partition: partition, cfg: cfg, who: who, end: -1,
		finished: make(chan struct{}), wake: make(chan struct{}, 1), ship: newShipment(partition),
	}
	p.space.L = &p.mu
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.renewedAt.Store(time.Now().UnixNano())
	go p.run()
	return p
}

// initProducer gets an id, or with who's id and epoch the next epoch of it. The first request to a cold broker fails, and
// so may some while the coordinator moves.
func (c *Cluster) initProducer(ctx context.Context, transactionalID string, who identity) (identity, error) {
	var next identity
	err := c.retry(ctx, func(ctx context.Context) error {
		res, err := c.client.InitProducerID(ctx, &kafka.InitProducerIDRequest{
			TransactionalID:      transactionalID,
			TransactionTimeoutMs: 60_000, // nothing is transactional; brokers want a positive number
			ProducerID:           int(who.id),
			ProducerEpoch:        int(who.epoch),
		})
		if err != nil {
			return err
		}
		if res.Error != nil {
			return res.Error
		}
		next = identity{id: int64(res.Producer.ProducerID), epoch: int16(res.Producer.ProducerEpoch)}
		return nil
	})
	return next, producerError(err)
}

// producerError translates the codes that end a producer.
func producerError(err error) error {
	switch {
	case errors.Is(err, kafka.InvalidProducerEpoch), errors.Is(err, kafka.ProducerFenced):
		return fmt.Errorf("%w (%w)", ErrFenced, err)
	case errors.Is(err, kafka.OutOfOrderSequenceNumber), errors.Is(err, kafka.UnknownProducerId),
		errors.Is(err, kafka.DuplicateSequenceNumber), errors.Is(err, kafka.InvalidProducerIDMapping):
		return fmt.Errorf("%w (%w)", ErrOutOfSequence, err)
	case errors.Is(err, kafka.MessageSizeTooLarge), errors.Is(err, kafka.RecordListTooLarge):
		return fmt.Errorf("%w (%w)", ErrTooLarge, err)
	}
	return err
}

// Add appends a record; its bytes are copied. A record without a time is stamped now. Add waits while PendingBytes are
// unacknowledged.
func (p *Producer) Add(rec *Record) error {
	stamped := *rec
	if stamped.Time == 0 {
		stamped.Time = market.FromTime(time.Now())
	}
	size := recordOverhead + recordSize(rec, 0, 0)
	if size > MaxRecordBytes {
		return ErrTooLarge
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b, err := p.room(size)
	if err != nil {
		return err
	}
	before := b.len()
	b.add(&stamped)
	p.pending += b.len() - before
	if !p.cfg.Manual {
		p.flush = true
		p.signal()
	}
	return nil
}

// room returns the open batch with place for size more bytes, waiting for memory. p.mu is held.
func (p *Producer) room(size int) (*batch, error) {
	for p.err == nil && !p.closing && p.pending > 0 && p.pending+size > p.cfg.PendingBytes {
		p.flush = true
		p.signal()
		p.space.Wait()
	}
	switch {
	case p.err != nil:
		return nil, p.err
	case p.closing:
		return nil, ErrClosed
	}
	if p.open != nil && p.open.len()+size > p.cfg.BatchBytes {
		p.closed = append(p.closed, p.open)
		p.open = nil
		p.signal()
	}
	if p.open == nil {
		p.open = p.fresh()
	}
	return p.open, nil
}

func (p *Producer) fresh() *batch {
	b := new(batch)
	if n := len(p.spare); n > 0 {
		b, p.spare = p.spare[n-1], p.spare[:n-1]
	}
	b.reset()
	return b
}

// signal wakes the sending goroutine.
func (p *Producer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Flush says that nothing more will be added for now. It does not wait.
func (p *Producer) Flush() {
	p.mu.Lock()
	p.flush = true
	p.mu.Unlock()
	p.signal()
}

// Acked returns the offset after the newest acknowledged record, or -1.
func (p *Producer) Acked() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}

// Err is why the producer has ended, or nil.
func (p *Producer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Done is closed when the producer has ended.
func (p *Producer) Done() <-chan struct{} { return p.finished }

// Retries counts the attempts that had to be made again.
func (p *Producer) Retries() uint64 { return p.retries.Load() }

// Wait flushes and waits until all that was added is acknowledged.
func (p *Producer) Wait(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		p.mu.Lock()
		p.space.Broadcast()
		p.mu.Unlock()
	})()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.err == nil && (p.open != nil || len(p.closed) > 0 || p.flying != nil) {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.flush = true
		p.signal()
		p.space.Wait()
	}
	return p.err
}

// Close sends what is pending, as long as ctx lasts, and ends the producer.
func (p *Producer) Close(ctx context.Context) error {
	err := p.Wait(ctx)
	p.mu.Lock()
	p.closing = true
	p.space.Broadcast()
	p.mu.Unlock()
	p.stop()
	<-p.finished
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// requestRenewal has the sending goroutine renew the id when nothing is in flight.
func (p *Producer) requestRenewal() {
	p.mu.Lock()
	p.renew = true
	p.mu.Unlock()
	p.signal()
}

// run is the sending goroutine.
func (p *Producer) run() {
	defer close(p.finished)
	defer p.z.close()
	for {
		b, renew := p.take()
		var err error
		switch {
		case renew:
			err = p.renewID()
		case b != nil:
			err = p.deliver(b)
		default:
			select {
			case <-p.wake:
				runtime.Gosched() // on a busy processor, others add to the batch meanwhile; on an idle one this costs nothing
			case <-p.ctx.Done():
				err = ErrClosed
			}
		}
		if err != nil {
			p.fail(err)
			return
		}
	}
}

// take hands out the next batch, or tells that the id is to be renewed.
func (p *Producer) take() (b *batch, renew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.renew {
		p.renew = false
		return nil, true
	}
	if len(p.closed) > 0 {
		b = p.closed[0]
		p.closed = append(p.closed[:0], p.closed[1:]...)
	} else if p.flush && p.open != nil {
		b, p.open = p.open, nil
	}
	if p.open == nil && len(p.closed) == 0 {
		p.flush = false
	}
	p.flying = b
	return b, false
}

// deliver sends a batch until it is acknowledged.
func (p *Producer) deliver(b *batch) error {
	if p.cfg.sealing != nil {
		p.cfg.sealing(b)
	}
	raw, err := b.seal(p.who, p.cfg.Compression, &p.z)
	if err != nil {
		return fmt.Errorf("produce to %s/%d: %w", p.topic, p.partition, err)
	}
	base, err := p.send(raw)
	if err != nil {
		return fmt.Errorf("produce to %s/%d: %w", p.topic, p.partition, err)
	}
	// Sequences run from 0 to the greatest int32 and around.
	p.who.sequence = int32((int64(p.who.sequence) + int64(b.count)) & 0x7fffffff)
	b.lastOffset = base + int64(b.count) - 1
	if p.cfg.acked != nil {
		p.cfg.acked(b, base)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flying = nil
	p.pending -= b.len() - setSize - batchHeader
	p.end = b.lastOffset + 1
	if cap(b.buf) <= 2*p.cfg.BatchBytes && len(p.spare) <= p.cfg.PendingBytes/p.cfg.BatchBytes {
		p.spare = append(p.spare, b)
	}
	p.space.Broadcast()
	return nil
}

// send makes attempts until one is answered for good, and returns the offset of the batch's first record.
func (p *Producer) send(raw []byte) (int64, error) {
	pause := retryPause
	for {
		base, err := p.attempt(raw)
		if err == nil {
			return base, nil
		}
		if p.ctx.Err() != nil {
			return 0, errors.Join(ErrClosed, err)
		}
		if !transient(err) {
			return 0, producerError(err)
		}
		p.retries.Add(1)
		if sleep(p.ctx, pause) != nil {
			return 0, errors.Join(ErrClosed, err)
		}
		pause = min(2*pause, maxRetryPause/2)
	}
}

func (p *Producer) attempt(raw []byte) (int64, error) {
	if p.lane == nil {
		lane, err := p.c.lane(p.ctx, p.topic, p.partition)
		if err != nil {
			return 0, err
		}
		p.lane = lane
	}
	p.ship.records = raw
	p.lane.send(p.ctx, &p.ship)
	if p.ship.err != nil {
		p.lane = nil // the partition may have another leader by now
	}
	return p.ship.base, p.ship.err
}

// renewID moves the producer to the next epoch of its id, with sequence 0. A broker forgets a transactional id that was not
// initialised for transactional.id.expiration.ms, and then fences nobody.
func (p *Producer) renewID() error {
	who, err := p.c.initProducer(p.ctx, p.cfg.TransactionalID, p.who)
	if err != nil {
		return fmt.Errorf("renew the producer of %s/%d: %w", p.topic, p.partition, err)
	}
	p.who = who
	p.renewedAt.Store(time.Now().UnixNano())
	return nil
}

func (p *Producer) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	p.open, p.closed, p.flying, p.spare, p.pending = nil, nil, nil, nil, 0
	p.space.Broadcast()
}
