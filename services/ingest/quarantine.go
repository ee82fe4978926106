package ingest

import (
	"context"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/stream"
)

// The bounds of quarantine.
const (
	maxKept          = 64 << 10 // bytes of one record
	maxQuarantined   = 32 << 20 // bytes on their way, beyond which bad records are counted only
	quarantinePause  = time.Second
	quarantineSettle = 10 * time.Second
)

// quarantine writes bad records to md.quarantine, at least once each, beside the partitions' own work: a quarantine that
// does not answer must not stop the market. Its queue is bounded; beyond, records are dropped and counted.
type quarantine struct {
	cluster *stream.Cluster
	log     *zap.Logger
	m       *metrics
	wake    chan struct{}

	mu    sync.Mutex
	queue []stream.Record
	bytes int
	since time.Time // when it was last empty; zero when it is
}

func newQuarantine(cluster *stream.Cluster, log *zap.Logger, m *metrics) *quarantine {
	return &quarantine{cluster: cluster, log: log, m: m, wake: make(chan struct{}, 1)}
}

// add takes a record in; its bytes are copied.
func (q *quarantine) add(partition int, in *input, reason string) {
	kept := in.Value[:min(len(in.Value), maxKept)]
	rec := stream.Record{
		Key:   strconv.AppendInt(append(strconv.AppendInt(nil, int64(partition), 10), ':'), in.Offset, 10),
		Value: append(make([]byte, 0, len(kept)), kept...),
		Headers: []stream.Header{
			{Key: "reason", Value: []byte(reason)},
			{Key: "key", Value: append([]byte{}, in.Key[:min(len(in.Key), 256)]...)},
			{Key: "source", Value: append([]byte{}, in.Source[:min(len(in.Source), 256)]...)},
			{Key: "session", Value: append([]byte{}, in.Session[:min(len(in.Session), 256)]...)},
			{Key: "size", Value: strconv.AppendInt(nil, int64(len(in.Value)), 10)},
		},
	}
	q.m.quarantined.WithLabelValues(reason).Inc()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes+len(kept) > maxQuarantined {
		q.m.unquarantined.Inc()
		return
	}
	if q.since.IsZero() {
		q.since = time.Now()
	}
	q.queue = append(q.queue, rec)
	q.bytes += len(kept)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// settled tells that every bad record so far is kept, so that the state may be saved behind it. When md.quarantine does not
// answer for long it says so too: the market is worth more than its rubbish.
func (q *quarantine) settled() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.since.IsZero() || time.Since(q.since) > quarantineSettle
}

// run writes until ctx ends, and then what is left, as long as grace lasts.
func (q *quarantine) run(ctx context.Context, grace time.Duration) {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
			defer cancel()
			if n := q.left(); n > 0 {
				q.report(q.drain(last))
			}
			return
		case <-q.wake:
		}
		for q.left() > 0 && ctx.Err() == nil {
			if err := q.drain(ctx); err != nil {
				q.report(err)
				pause(ctx, quarantinePause)
			}
		}
	}
}

func (q *quarantine) report(err error) {
	if err != nil {
		q.log.Error("bad records can not be kept", zap.Error(err))
	}
}

func (q *quarantine) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}

// drain writes the queue until it is empty. What is not acknowledged stays in it.
func (q *quarantine) drain(ctx context.Context) error {
	p, err := q.cluster.Producer(ctx, q.cluster.Topics().Quarantine, 0, stream.ProducerConfig{})
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel()
		_ = p.Close(end) // what is not acknowledged is written again
	}()
	for {
		q.mu.Lock()
		batch := q.queue[:min(len(q.queue), 256)]
		q.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		for i := range batch {
			if err := p.Add(&batch[i]); err != nil {
				return err
			}
		}
		if err := p.Wait(ctx); err != nil {
			return err
		}
		q.kept(len(batch))
	}
}

// kept drops the first n records.
func (q *quarantine) kept(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.queue[:n] {
		q.bytes -= len(q.queue[i].Value)
	}
	q.queue = append([]stream.Record(nil), q.queue[n:]...)
	if len(q.queue) == 0 {
		q.since = time.Time{}
	} else {
		q.since = time.Now()
	}
}

// pause waits for d, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
