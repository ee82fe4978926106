package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

const (
	fetchVersion     = 11
	fetchMaxWait     = 250 * time.Millisecond
	fetchMaxBytes    = 1 << 20
	maxFetchResponse = 128 << 20
	corruptAttempts  = 3
)

// fetchRequest is a Fetch of some partitions of a topic that have one leader, version 11. kafka-go decodes responses through
// reflection into memory of its own; as a protocol.RawExchanger the request writes itself and reads the answer into a
// buffer that is used again.
type fetchRequest struct {
	topic    string
	parts    []fetchPart
	leader   int32 // broker id; unknownLeader takes that of the first partition
	maxBytes int32 // of a partition at most fetchMaxBytes
	maxWait  time.Duration
	clientID string
	buf      []byte // first the request, then the response
	code     kafka.Error
}

const unknownLeader = -1

// fetchPart is one partition of a request, and the answer; its records alias the request's buffer.
type fetchPart struct {
	partition int32
	offset    int64

	code          kafka.Error
	highWatermark int64
	logStart      int64
	records       []byte
}

var (
	_ protocol.BrokerMessage = (*fetchRequest)(nil)
	_ protocol.RawExchanger  = (*fetchRequest)(nil)
)

// ApiKey implements protocol.Message.
func (*fetchRequest) ApiKey() protocol.ApiKey { return protocol.Fetch } //nolint:staticcheck // the interface's name

// Required implements protocol.RawExchanger.
func (*fetchRequest) Required(map[protocol.ApiKey]int16) bool { return true }

// Broker implements protocol.BrokerMessage: the partitions' leader.
func (r *fetchRequest) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	if r.leader != unknownLeader {
		return brokerOf(cluster, r.topic, r.leader)
	}
	first := r.parts[0].partition
	topic, ok := cluster.Topics[r.topic]
	if !ok {
		return protocol.Broker{ID: -1}, protocol.NewErrNoTopic(r.topic)
	}
	partition, ok := topic.Partitions[first]
	if !ok {
		return protocol.Broker{ID: -1}, protocol.NewErrNoPartition(r.topic, first)
	}
	broker, ok := cluster.Brokers[partition.Leader]
	if !ok {
		return protocol.Broker{ID: -1}, protocol.NewErrNoLeader(r.topic, first)
	}
	r.leader = broker.ID
	return broker, nil
}

// RawExchange implements protocol.RawExchanger.
func (r *fetchRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if cap(r.buf) > 4*int(r.maxBytes) {
		r.buf = nil // one large record must not hold memory for ever
	}
	r.buf = r.appendTo(r.buf[:0])
	if _, err := rw.Write(r.buf); err != nil {
		return nil, err
	}
	var err error
	if r.buf, err = readResponse(rw, r.buf, maxFetchResponse); err != nil {
		return nil, err
	}
	return r, r.parse(r.buf)
}

// appendTo encodes the request: header version 1, then Fetch version 11 without a session.
func (r *fetchRequest) appendTo(dst []byte) []byte {
	be := binary.BigEndian
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = be.AppendUint16(dst, uint16(protocol.Fetch))
	dst = be.AppendUint16(dst, fetchVersion)
	dst = be.AppendUint32(dst, 0) // correlation id: a connection carries one request at a time
	dst = appendString(dst, r.clientID)
	dst = be.AppendUint32(dst, ^uint32(0)) // replica id: a consumer
	dst = be.AppendUint32(dst, uint32(r.maxWait.Milliseconds()))
	dst = be.AppendUint32(dst, 1) // min bytes
	dst = be.AppendUint32(dst, uint32(r.maxBytes))
	dst = append(dst, 0)                   // isolation: read uncommitted; nothing here is transactional
	dst = be.AppendUint32(dst, 0)          // session id
	dst = be.AppendUint32(dst, ^uint32(0)) // session epoch: no session
	dst = be.AppendUint32(dst, 1)          // topics
	dst = appendString(dst, r.topic)
	dst = be.AppendUint32(dst, uint32(len(r.parts)))
	for i := range r.parts {
		dst = be.AppendUint32(dst, uint32(r.parts[i].partition))
		dst = be.AppendUint32(dst, ^uint32(0)) // leader epoch: unknown
		dst = be.AppendUint64(dst, uint64(r.parts[i].offset))
		dst = be.AppendUint64(dst, ^uint64(0)) // log start: consumers have none
		dst = be.AppendUint32(dst, fetchMaxBytes)
	}
	dst = be.AppendUint32(dst, 0) // forgotten topics
	dst = be.AppendUint16(dst, 0) // rack
	be.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

var errFetchResponse = errors.New("malformed fetch response")

func (r *fetchRequest) parse(b []byte) error {
	p := fixed{b: b}
	p.u32() // correlation id
	p.u32() // throttle time
	code := p.u16()
	r.code = kafka.Error(int16(code))
	p.u32() // session id
	if p.bad {
		return errFetchResponse
	}
	if code != 0 {
		return nil
	}
	topics := p.u32()
	p.bytes(int(p.u16()))
	n := p.u32()
	if p.bad || topics != 1 || int(n) != len(r.parts) {
		return errFetchResponse
	}
	for range n {
		part := r.part(int32(p.u32()))
		if part == nil {
			return errFetchResponse
		}
		part.parse(&p)
	}
	if p.bad {
		return errFetchResponse
	}
	return nil
}

func (r *fetchRequest) part(partition int32) *fetchPart {
	for i := range r.parts {
		if r.parts[i].partition == partition {
			return &r.parts[i]
		}
	}
	return nil
}

func (a *fetchPart) parse(p *fixed) {
	a.code = kafka.Error(int16(p.u16()))
	a.highWatermark = int64(p.u64())
	p.u64() // last stable offset
	a.logStart = int64(p.u64())
	if aborted := int32(p.u32()); aborted > 0 {
		p.bytes(16 * int(aborted))
	}
	p.u32() // preferred read replica
	a.records = nil
	if n := int32(p.u32()); n > 0 {
		a.records = p.bytes(int(n))
	}
}

// fixed reads big-endian numbers; bad is set by the first that does not fit.
type fixed struct {
	b   []byte
	bad bool
}

func (p *fixed) bytes(n int) []byte {
	if n < 0 || n > len(p.b) {
		p.bad, p.b = true, nil
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

func (p *fixed) u16() uint16 {
	if v := p.bytes(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (p *fixed) u32() uint32 {
	if v := p.bytes(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (p *fixed) u64() uint64 {
	if v := p.bytes(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// Fetcher reads one partition in order. Up to the end of the log it makes requests of its own, one at a time; from there on
// it shares them with the Cluster's other fetchers of partitions that have the same leader. It is not safe for concurrent
// use.
type Fetcher struct {
	c         *Cluster
	topic     string
	partition int32
	req       *fetchRequest
	seat      *seat // nil while it makes requests of its own
	proven    bool  // the last request of our own went well, so that req.leader is the leader
	ahead     []byte
	reader    batchReader
	offset    int64 // of the next batch
	end       int64 // high watermark; -1 before the first answer
	logStart  int64
	trouble   error
	pause     time.Duration
	corrupted int  // bad responses in a row
	fruitless bool // the response at hand has given no batch yet
	none      Batch
}

// Fetcher reads partition of topic from offset on.
func (c *Cluster) Fetcher(topic string, partition int, offset int64) *Fetcher {
	return &Fetcher{
		c: c, topic: topic, partition: int32(partition), req: new(fetchRequest), offset: offset, end: -1,
		none: Batch{First: -1, Last: -1},
	}
}

// Offset is where the next batch will be read: all before it was returned.
func (f *Fetcher) Offset() int64 { return f.offset }

// End is the end of the partition's log as the last answer gave it, or -1.
func (f *Fetcher) End() int64 { return f.end }

// Buffered tells whether Next will return at once. When it is false the caller has all there is: the moment to flush.
func (f *Fetcher) Buffered() bool {
	return len(f.reader.rest) >= batchHeader || f.seat != nil && f.seat.filled()
}

// Trouble is why the last request did not get through, or nil. Next goes on trying; a caller that watches liveness looks
// here.
func (f *Fetcher) Trouble() error { return f.trouble }

// Next returns the next record batch. It waits for data a quarter of a second (somewhat more when the brokers do not
// answer) and then returns a batch without records, so that its caller's loop keeps turning. What may pass is tried again
// for ever; an error is final: ctx's, ErrOffsetOutOfRange, ErrCorrupt or what the broker refuses. The batch is valid until
// the next call.
func (f *Fetcher) Next(ctx context.Context) (*Batch, error) {
	for {
		b, err := f.reader.next()
		switch {
		case err != nil:
			if err := f.corrupt(err); err != nil {
				return nil, err
			}
		case b != nil && b.Last < f.offset:
			continue // a broker may answer from the batch before
		case b != nil:
			b.from = f.offset
			f.offset, f.corrupted, f.fruitless = b.Last+1, 0, false
			return b, nil
		case f.fruitless:
			if err := f.corrupt(fmt.Errorf("%w: no whole batch in a response", ErrCorrupt)); err != nil {
				return nil, err
			}
		}
		if f.fruitless, err = f.fetch(ctx); err != nil || !f.fruitless {
			return &f.none, err
		}
	}
}

// corrupt drops the response, so that the batch is read again, and gives up after a few times.
func (f *Fetcher) corrupt(err error) error {
	f.reader.rest = nil
	f.leave()
	f.corrupted++
	if f.corrupted < corruptAttempts {
		return nil
	}
	return fmt.Errorf("read %s/%d at %d: %w", f.topic, f.partition, f.offset, err)
}

// fetch gets more and tells whether records came.
func (f *Fetcher) fetch(ctx context.Context) (bool, error) {
	if f.seat == nil && f.offset == f.end && f.proven {
		f.seat = f.c.seat(f.topic, f.req.leader, f.partition, f.offset)
	}
	if f.seat != nil {
		return f.await(ctx)
	}
	part, err := f.roundTrip(ctx)
	if err == nil && part.code != 0 {
		err = part.code
	}
	if err != nil {
		return false, f.failed(ctx, err)
	}
	f.proven, f.trouble, f.pause = true, nil, 0
	f.end, f.logStart = part.highWatermark, part.logStart
	f.reader.rest = part.records
	return len(part.records) > 0, nil
}

// failed decides about an error: what may pass becomes trouble, and a pause.
func (f *Fetcher) failed(ctx context.Context, err error) error {
	f.proven = false
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, kafka.OffsetOutOfRange):
		return fmt.Errorf("read %s/%d at %d: %w", f.topic, f.partition, f.offset, ErrOffsetOutOfRange)
	case !transient(err):
		return fmt.Errorf("read %s/%d: %w", f.topic, f.partition, err)
	}
	f.trouble = err
	f.pause = min(max(2*f.pause, retryPause), fetchMaxWait)
	return sleep(ctx, f.pause)
}

// await gets what the lane has read ahead, and waits for it at most once.
func (f *Fetcher) await(ctx context.Context) (bool, error) {
	for waited := false; ; waited = true {
		batches, high, start, ok := f.seat.read(f.ahead)
		if !ok {
			why := f.seat.why
			f.leave()
			if why != nil {
				return false, f.failed(ctx, why)
			}
			return false, nil
		}
		f.ahead, f.reader.rest = batches, batches
		if high >= 0 {
			f.end, f.logStart = high, start
		}
		if waited || len(batches) > 0 {
			return len(batches) > 0, nil
		}
		select {
		case <-f.seat.wake:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// leave goes back to requests of our own, at least one of them: the partition may have another leader by now, and the
// lane does not look.
func (f *Fetcher) leave() {
	if f.seat != nil {
		f.seat.leave()
		f.seat, f.ahead, f.proven = nil, nil, false
	}
}

func (f *Fetcher) roundTrip(ctx context.Context) (*fetchPart, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchMaxWait+time.Second)
	defer cancel()
	r := f.req
	r.topic, r.leader, r.maxBytes, r.maxWait, r.clientID = f.topic, unknownLeader, fetchMaxBytes, fetchMaxWait, f.c.clientID
	r.parts = append(r.parts[:0], fetchPart{partition: f.partition, offset: f.offset})
	if _, err := f.c.transport.RoundTrip(ctx, f.c.addr, r); err != nil {
		f.req = new(fetchRequest) // the connection's goroutine may still hold the old one and its buffer
		return nil, err
	}
	if r.code != 0 {
		return nil, r.code
	}
	return &r.parts[0], nil
}

// Close ends the reading and frees the fetcher's memory.
func (f *Fetcher) Close() {
	f.leave()
	f.reader.z.close()
}
