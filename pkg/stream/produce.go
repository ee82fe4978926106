package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

const (
	produceVersion     = 7
	maxProduceBytes    = 8 << 20 // of one request, unless its first batch alone is larger
	maxProduceResponse = 1 << 20
	keepProduceBuffer  = 2 << 20
)

// produceLane carries sealed batches to the broker that leads their partitions, for all producers of a topic in this
// process: what is waiting when a request can go out goes with it, so that a broker sees one request where it would have
// seen one per partition. One request is in flight. It has no goroutine of its own: a producer that finds the lane free
// makes the request for everyone who waits, and then passes the lane on to the first who came too late.
type produceLane struct {
	c      *Cluster
	leader int32
	topic  string

	mu      sync.Mutex
	busy    bool
	waiting []*shipment

	// Of whoever has the lane.
	batch []*shipment
	req   *produceRequest
}

// shipment is a sealed batch of one partition. It belongs to its producer, which sends one at a time.
type shipment struct {
	partition int32
	records   []byte // as builder.seal made it
	answered  chan bool
	base      int64
	err       error
}

func newShipment(partition int) shipment {
	return shipment{partition: int32(partition), answered: make(chan bool, 1)}
}

// lane returns the lane to the broker that leads a partition now, as far as is known.
func (c *Cluster) lane(ctx context.Context, topic string, partition int) (*produceLane, error) {
	leader, err := c.leader(ctx, topic, partition)
	if errors.Is(err, ErrNoTopic) {
		err = errNoLeader // it may be about to be created
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := laneKey{topic: topic, leader: int32(leader.ID)}
	l := c.produceLanes[key]
	if l == nil {
		l = &produceLane{c: c, topic: topic, leader: key.leader}
		c.produceLanes[key] = l
	}
	return l, nil
}

// laneKey names what shares requests.
type laneKey struct {
	topic  string
	leader int32 // broker id
}

// send makes one attempt. It returns when the broker has answered or the attempt has failed, at most two attempts' time
// later: s.base or s.err says which. ctx ends a request that we make.
func (l *produceLane) send(ctx context.Context, s *shipment) {
	l.mu.Lock()
	l.waiting = append(l.waiting, s)
	ours := !l.busy
	l.busy = true
	l.mu.Unlock()
	if !ours && <-s.answered {
		return
	}
	runtime.Gosched() // on a busy processor others join meanwhile; on an idle one this costs nothing
	l.take()
	l.exchange(ctx)
	for _, o := range l.batch {
		if o != s {
			o.answered <- true
		}
	}
	l.pass()
}

// take fills l.batch with those that wait, ours being the first of them, as far as they fit into one request.
func (l *produceLane) take() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batch = l.batch[:0]
	left, size := l.waiting[:0], 0
	for i, s := range l.waiting {
		if i > 0 && (size+len(s.records) > maxProduceBytes || l.has(s.partition)) {
			left = append(left, s)
			continue
		}
		size += len(s.records)
		l.batch = append(l.batch, s)
	}
	clear(l.waiting[len(left):])
	l.waiting = left
}

// has tells whether a batch of the partition goes with the request already: a request holds one.
func (l *produceLane) has(partition int32) bool {
	for _, s := range l.batch {
		if s.partition == partition {
			return true
		}
	}
	return false
}

// pass gives the lane to the next who waits.
func (l *produceLane) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.busy = false
		return
	}
	l.waiting[0].answered <- false
}

// exchange makes the request of l.batch.
func (l *produceLane) exchange(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if l.req == nil {
		l.req = &produceRequest{topic: l.topic, leader: l.leader}
	}
	l.req.encode(l.c.clientID, l.batch)
	_, err := l.c.transport.RoundTrip(ctx, l.c.addr, l.req)
	for _, s := range l.batch {
		if s.base, s.err = 0, err; err == nil {
			s.base, s.err = l.req.answer(s.partition)
		}
	}
	if err != nil || cap(l.req.buf) > keepProduceBuffer {
		l.req = nil // after an error the connection's goroutine may still hold it
	}
}

// produceRequest is a Produce of one batch for each of several partitions of a topic, version 7. Like fetchRequest it writes
// itself.
type produceRequest struct {
	topic   string
	leader  int32
	buf     []byte // first the request, then the response
	answers []produceAnswer
}

type produceAnswer struct {
	partition int32
	code      kafka.Error
	base      int64
}

var (
	_ protocol.BrokerMessage = (*produceRequest)(nil)
	_ protocol.RawExchanger  = (*produceRequest)(nil)
)

// ApiKey implements protocol.Message.
func (*produceRequest) ApiKey() protocol.ApiKey { return protocol.Produce } //nolint:staticcheck // the interface's name

// Required implements protocol.RawExchanger.
func (*produceRequest) Required(map[protocol.ApiKey]int16) bool { return true }

// Broker implements protocol.BrokerMessage.
func (r *produceRequest) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	return brokerOf(cluster, r.topic, r.leader)
}

// brokerOf finds a broker that was the leader of a partition when last heard of.
func brokerOf(cluster protocol.Cluster, topic string, id int32) (protocol.Broker, error) {
	broker, ok := cluster.Brokers[id]
	if !ok {
		return protocol.Broker{ID: -1}, fmt.Errorf("broker %d of %s has left the cluster", id, topic)
	}
	return broker, nil
}

// encode writes the request: header version 1, then Produce version 7 without a transaction, acknowledged by all replicas
// in sync.
func (r *produceRequest) encode(clientID string, batch []*shipment) {
	be := binary.BigEndian
	dst := append(r.buf[:0], 0, 0, 0, 0)
	dst = be.AppendUint16(dst, uint16(protocol.Produce))
	dst = be.AppendUint16(dst, produceVersion)
	dst = be.AppendUint32(dst, 0) // correlation id: a connection carries one request at a time
	dst = appendString(dst, clientID)
	dst = be.AppendUint16(dst, ^uint16(0)) // no transactional id: nothing here is transactional
	dst = be.AppendUint16(dst, ^uint16(0)) // acks: all
	dst = be.AppendUint32(dst, uint32(attemptTimeout.Milliseconds()))
	dst = be.AppendUint32(dst, 1) // topics
	dst = appendString(dst, r.topic)
	dst = be.AppendUint32(dst, uint32(len(batch)))
	for _, s := range batch {
		dst = be.AppendUint32(dst, uint32(s.partition))
		dst = append(dst, s.records...) // its length comes first
	}
	be.PutUint32(dst, uint32(len(dst)-4))
	r.buf = dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// RawExchange implements protocol.RawExchanger.
func (r *produceRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if _, err := rw.Write(r.buf); err != nil {
		return nil, err
	}
	var err error
	if r.buf, err = readResponse(rw, r.buf, maxProduceResponse); err != nil {
		return nil, err
	}
	return r, r.parse(r.buf)
}

// readResponse reads a response into buf, or into more memory when it is too small.
func readResponse(r io.Reader, buf []byte, limit int) ([]byte, error) {
	if cap(buf) < 4 {
		buf = make([]byte, 4)
	}
	if _, err := io.ReadFull(r, buf[:4]); err != nil {
		return buf, err
	}
	n := int(int32(binary.BigEndian.Uint32(buf[:4])))
	if n < 0 || n > limit {
		return buf, fmt.Errorf("response of %d bytes", n)
	}
	if cap(buf) < n {
		buf = make([]byte, n+n/4)
	}
	buf = buf[:n]
	_, err := io.ReadFull(r, buf)
	return buf, err
}

var errProduceResponse = errors.New("malformed produce response")

func (r *produceRequest) parse(b []byte) error {
	p := fixed{b: b}
	p.u32() // correlation id
	topics := p.u32()
	p.bytes(int(p.u16()))
	n := p.u32()
	if p.bad || topics != 1 {
		return errProduceResponse
	}
	r.answers = r.answers[:0]
	for range n {
		a := produceAnswer{partition: int32(p.u32()), code: kafka.Error(int16(p.u16())), base: int64(p.u64())}
		p.u64() // log append time
		p.u64() // log start
		if p.bad {
			return errProduceResponse
		}
		r.answers = append(r.answers, a)
	}
	return nil
}

// answer is what the broker said of a partition's batch.
func (r *produceRequest) answer(partition int32) (base int64, err error) {
	for i := range r.answers {
		switch a := &r.answers[i]; {
		case a.partition != partition:
		case a.code != 0:
			return 0, a.code
		default:
			return a.base, nil
		}
	}
	return 0, fmt.Errorf("%w: no partition %d", errProduceResponse, partition)
}
