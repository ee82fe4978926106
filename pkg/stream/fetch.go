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

// fetchRequest is a Fetch of one partition, version 11. kafka-go decodes responses through reflection into memory of its
// own; as a protocol.RawExchanger the request writes itself and reads the answer into a buffer that is used again.
type fetchRequest struct {
	topic     string
	partition int32
	offset    int64
	maxBytes  int32
	clientID  string
	buf       []byte // first the request, then the response
	res       fetchResponse
}

var (
	_ protocol.BrokerMessage = (*fetchRequest)(nil)
	_ protocol.RawExchanger  = (*fetchRequest)(nil)
)

// fetchResponse is the answer; its records alias the request's buffer.
type fetchResponse struct {
	code          kafka.Error
	highWatermark int64
	logStart      int64
	records       []byte
}

// ApiKey implements protocol.Message.
func (*fetchRequest) ApiKey() protocol.ApiKey { return protocol.Fetch } //nolint:staticcheck // the interface's name

// ApiKey implements protocol.Message.
func (*fetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch } //nolint:staticcheck // the interface's name

// Required implements protocol.RawExchanger.
func (*fetchRequest) Required(map[protocol.ApiKey]int16) bool { return true }

// Broker implements protocol.BrokerMessage: the partition's leader.
func (r *fetchRequest) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	topic, ok := cluster.Topics[r.topic]
	if !ok {
		return protocol.Broker{ID: -1}, protocol.NewErrNoTopic(r.topic)
	}
	partition, ok := topic.Partitions[r.partition]
	if !ok {
		return protocol.Broker{ID: -1}, protocol.NewErrNoPartition(r.topic, r.partition)
	}
	broker, ok := cluster.Brokers[partition.Leader]
	if !ok {
		return protocol.Broker{ID: -1}, protocol.NewErrNoLeader(r.topic, r.partition)
	}
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
	var size [4]byte
	if _, err := io.ReadFull(rw, size[:]); err != nil {
		return nil, err
	}
	n := int(int32(binary.BigEndian.Uint32(size[:])))
	if n < 0 || n > maxFetchResponse {
		return nil, fmt.Errorf("fetch response of %d bytes", n)
	}
	if cap(r.buf) < n {
		r.buf = make([]byte, n+n/4)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(rw, r.buf); err != nil {
		return nil, err
	}
	return r.parse(r.buf)
}

// appendTo encodes the request: header version 1, then Fetch version 11 without a session.
func (r *fetchRequest) appendTo(dst []byte) []byte {
	be := binary.BigEndian
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = be.AppendUint16(dst, uint16(protocol.Fetch))
	dst = be.AppendUint16(dst, fetchVersion)
	dst = be.AppendUint32(dst, 0) // correlation id: a connection carries one request at a time
	dst = be.AppendUint16(dst, uint16(len(r.clientID)))
	dst = append(dst, r.clientID...)
	dst = be.AppendUint32(dst, ^uint32(0)) // replica id: a consumer
	dst = be.AppendUint32(dst, uint32(fetchMaxWait.Milliseconds()))
	dst = be.AppendUint32(dst, 1) // min bytes
	dst = be.AppendUint32(dst, uint32(r.maxBytes))
	dst = append(dst, 0)                   // isolation: read uncommitted; nothing here is transactional
	dst = be.AppendUint32(dst, 0)          // session id
	dst = be.AppendUint32(dst, ^uint32(0)) // session epoch: no session
	dst = be.AppendUint32(dst, 1)          // topics
	dst = be.AppendUint16(dst, uint16(len(r.topic)))
	dst = append(dst, r.topic...)
	dst = be.AppendUint32(dst, 1) // partitions
	dst = be.AppendUint32(dst, uint32(r.partition))
	dst = be.AppendUint32(dst, ^uint32(0)) // leader epoch: unknown
	dst = be.AppendUint64(dst, uint64(r.offset))
	dst = be.AppendUint64(dst, ^uint64(0)) // log start: consumers have none
	dst = be.AppendUint32(dst, uint32(r.maxBytes))
	dst = be.AppendUint32(dst, 0) // forgotten topics
	dst = be.AppendUint16(dst, 0) // rack
	be.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

var errFetchResponse = errors.New("malformed fetch response")

func (r *fetchRequest) parse(b []byte) (*fetchResponse, error) {
	p := fixed{b: b}
	p.u32() // correlation id
	p.u32() // throttle time
	code := p.u16()
	p.u32() // session id
	if p.bad {
		return nil, errFetchResponse
	}
	res := &r.res
	*res = fetchResponse{code: kafka.Error(int16(code))}
	if code != 0 {
		return res, nil
	}
	topics := p.u32()
	p.bytes(int(p.u16()))
	partitions := p.u32()
	if p.bad || topics != 1 || partitions != 1 || int32(p.u32()) != r.partition {
		return nil, errFetchResponse
	}
	res.code = kafka.Error(int16(p.u16()))
	res.highWatermark = int64(p.u64())
	p.u64() // last stable offset
	res.logStart = int64(p.u64())
	if aborted := int32(p.u32()); aborted > 0 {
		p.bytes(16 * int(aborted))
	}
	p.u32() // preferred read replica
	if n := int32(p.u32()); n > 0 {
		res.records = p.bytes(int(n))
	}
	if p.bad {
		return nil, errFetchResponse
	}
	return res, nil
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

// Fetcher reads one partition in order, one request at a time. It is not safe for concurrent use.
type Fetcher struct {
	c         *Cluster
	req       *fetchRequest
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
		c:      c,
		req:    &fetchRequest{topic: topic, partition: int32(partition), maxBytes: fetchMaxBytes, clientID: c.clientID},
		offset: offset,
		end:    -1,
		none:   Batch{First: -1, Last: -1},
	}
}

// Offset is where the next batch will be read: all before it was returned.
func (f *Fetcher) Offset() int64 { return f.offset }

// End is the end of the partition's log as the last answer gave it, or -1.
func (f *Fetcher) End() int64 { return f.end }

// Buffered tells whether Next will return at once. When it is false the caller has all there is: the moment to flush.
func (f *Fetcher) Buffered() bool { return len(f.reader.rest) >= batchHeader }

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
	f.corrupted++
	if f.corrupted < corruptAttempts {
		return nil
	}
	return fmt.Errorf("read %s/%d at %d: %w", f.req.topic, f.req.partition, f.offset, err)
}

// fetch makes one request and tells whether records came.
func (f *Fetcher) fetch(ctx context.Context) (bool, error) {
	res, err := f.roundTrip(ctx)
	if err == nil && res.code != 0 {
		err = res.code
	}
	switch {
	case err == nil:
		f.trouble, f.pause = nil, 0
		f.end, f.logStart = res.highWatermark, res.logStart
		f.reader.rest = res.records
		return len(res.records) > 0, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, kafka.OffsetOutOfRange):
		return false, fmt.Errorf("read %s/%d at %d: %w", f.req.topic, f.req.partition, f.offset, ErrOffsetOutOfRange)
	case !transient(err):
		return false, fmt.Errorf("read %s/%d: %w", f.req.topic, f.req.partition, err)
	}
	f.trouble = err
	f.pause = min(max(2*f.pause, retryPause), fetchMaxWait)
	return false, sleep(ctx, f.pause)
}

func (f *Fetcher) roundTrip(ctx context.Context) (*fetchResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchMaxWait+time.Second)
	defer cancel()
	f.req.offset = f.offset
	msg, err := f.c.transport.RoundTrip(ctx, f.c.addr, f.req)
	if err != nil {
		// The connection's goroutine may still hold the request and its buffer.
		old := f.req
		f.req = &fetchRequest{topic: old.topic, partition: old.partition, maxBytes: old.maxBytes, clientID: old.clientID}
		return nil, err
	}
	return msg.(*fetchResponse), nil
}

// Close frees the fetcher's memory. It need not be called when no batch was compressed.
func (f *Fetcher) Close() { f.reader.z.close() }
