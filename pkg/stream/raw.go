package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// RawWriterConfig says how a RawWriter writes. The zero value is good.
type RawWriterConfig struct {
	Compression  Compression
	BatchBytes   int // per partition; 0 is DefaultBatchBytes
	PendingBytes int // per partition, not yet acknowledged; beyond, writes wait; 0 is DefaultPendingBytes
}

// RawWriter writes to all partitions of a topic, as connectors, replay and the simulator do to md.raw: idempotent,
// acknowledged by all replicas in sync, sent at once when idle and in growing batches under load. Order holds per
// partition. It is safe for concurrent use.
type RawWriter struct {
	c          *Cluster
	topic      string
	partitions int
	cfg        ProducerConfig
	who        identity // one id serves all partitions

	mu        sync.Mutex
	producers []*Producer // by partition; nil until the first record
	closed    bool
}

// RawWriter makes a writer to topic, trying until the cluster answers or ctx ends. ctx bounds only that.
func (c *Cluster) RawWriter(ctx context.Context, topic string, cfg RawWriterConfig) (*RawWriter, error) {
	n, err := c.Partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	who, err := c.initProducer(ctx, "", identity{id: -1, epoch: -1})
	if err != nil {
		return nil, fmt.Errorf("write to %s: %w", topic, err)
	}
	return &RawWriter{
		c: c, topic: topic, partitions: n, who: who,
		cfg:       ProducerConfig{Compression: cfg.Compression, BatchBytes: cfg.BatchBytes, PendingBytes: cfg.PendingBytes},
		producers: make([]*Producer, n),
	}, nil
}

// Partitions is the number of partitions of the topic.
func (w *RawWriter) Partitions() int { return w.partitions }

// Partition is where records with the key go.
func (w *RawWriter) Partition(key []byte) int { return PartitionOf(key, w.partitions) }

// Write appends a record to its key's partition; its bytes are copied. A record without a time is stamped now, as all should
// be: retention deletes old stamps at once. Write waits while too much is unacknowledged, and returns the error that ended
// the partition's producer, if any.
func (w *RawWriter) Write(rec *Record) error { return w.WriteTo(w.Partition(rec.Key), rec) }

// WriteTo is Write to an explicit partition, as clocks need it.
func (w *RawWriter) WriteTo(partition int, rec *Record) error {
	p, err := w.producer(partition)
	if err != nil {
		return err
	}
	return p.Add(rec)
}

func (w *RawWriter) producer(partition int) (*Producer, error) {
	if partition < 0 || partition >= w.partitions {
		return nil, fmt.Errorf("write to %s: no partition %d of %d", w.topic, partition, w.partitions)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, ErrClosed
	}
	if w.producers[partition] == nil {
		w.producers[partition] = w.c.startProducer(w.topic, partition, w.who, w.cfg)
	}
	return w.producers[partition], nil
}

func (w *RawWriter) started() []*Producer {
	w.mu.Lock()
	defer w.mu.Unlock()
	started := make([]*Producer, 0, len(w.producers))
	for _, p := range w.producers {
		if p != nil {
			started = append(started, p)
		}
	}
	return started
}

// Wait waits until all that was written is acknowledged.
func (w *RawWriter) Wait(ctx context.Context) error {
	for _, p := range w.started() {
		if err := p.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close sends what is pending, as long as ctx lasts, and ends the writer.
func (w *RawWriter) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	var errs []error
	for _, p := range w.started() {
		errs = append(errs, p.Close(ctx))
	}
	return errors.Join(errs...)
}
