package all_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// eventLog is all that a lawful reader sees of md.events, checked as it is read: each topic's numbering must be without gap
// and without duplicate.
type eventLog struct {
	cluster *stream.Cluster
	reader  *stream.Reader

	mu     sync.Mutex
	parts  map[int]*partitionLog
	faults []string
}

// partitionLog is one partition's events, without the owners' records.
type partitionLog struct {
	events []byte // each event as uint32 length and bytes
	count  int
	input  int64 // the input offset that is dealt with
	last   map[topicKey]market.Sequence
}

// topicKey tells the topics of one partition apart.
type topicKey struct {
	inst     uint32
	template wire.Template // BookUpdate, Trade, Bar or Status
	interval market.Interval
}

// readEvents begins to read all of md.events, from its first record on; it stops with the test.
func readEvents(t *testing.T, c *stream.Cluster) *eventLog {
	t.Helper()
	l := &eventLog{cluster: c, parts: make(map[int]*partitionLog)}
	l.reader = c.Reader(stream.ReaderConfig{ResumeWindow: 6 * time.Hour}, l)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.reader.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return l
}

func (l *eventLog) Snapshot(int, *stream.Snapshot) error { return nil }

func (l *eventLog) Phase(p int, phase stream.Phase, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if phase == stream.PhaseReset {
		l.parts[p] = &partitionLog{input: -1, last: make(map[topicKey]market.Sequence)}
	}
}

func (l *eventLog) Batch(b *stream.EventBatch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	part := l.parts[b.Partition]
	var ev stream.Event
	for b.Next(&ev) {
		switch {
		case ev.Template == wire.TemplateOwnerHeartbeat:
			var hb wire.OwnerHeartbeat
			if err := wire.DecodeOwnerHeartbeat(ev.Value, &hb); err != nil {
				return err
			}
			part.input = max(part.input, hb.InputOffset)
		case ev.Template.IsEvent():
			if err := part.add(ev.Value, ev.Template); err != nil {
				l.faults = append(l.faults, fmt.Sprintf("partition %d, offset %d: %v", b.Partition, ev.Offset, err))
			}
		}
	}
	if !b.Marker {
		part.input = max(part.input, b.Owner.InputOffset)
	}
	return nil
}

func (p *partitionLog) add(value []byte, template wire.Template) error {
	p.events = binary.BigEndian.AppendUint32(p.events, uint32(len(value)))
	p.events = append(p.events, value...)
	p.count++
	head, err := wire.HeadOf(value)
	if err != nil {
		return err
	}
	key := topicKey{inst: head.Inst, template: template}
	switch template {
	case wire.TemplateBookSnapshot:
		key.template = wire.TemplateBookUpdate
		var s market.Snapshot
		if err := wire.DecodeSnapshot(value, &s); err != nil {
			return err
		}
		if s.Part > 1 && p.last[key] == head.Sequence() {
			return nil // a further part of the same event
		}
	case wire.TemplateTradeGap:
		key.template = wire.TemplateTrade
	case wire.TemplateBar:
		var bar market.Bar
		if err := wire.DecodeBar(value, &bar); err != nil {
			return err
		}
		key.interval = bar.Interval
	}
	last := p.last[key]
	p.last[key] = head.Sequence()
	if head.Epoch == last.Epoch && head.Seq == last.Seq+1 && head.Prev == last.Seq || head.Epoch > last.Epoch && head.Seq == 1 {
		return nil
	}
	return fmt.Errorf("instrument %d, template %d: %v follows %v", head.Inst, template, head.Sequence(), last)
}

// waitInput waits until ingest has dealt with everything in md.raw.
func (l *eventLog) waitInput(ctx context.Context) error {
	raw := l.cluster.Topics().Raw
	n, err := l.cluster.Partitions(ctx, raw)
	if err != nil {
		return err
	}
	for p := range n {
		_, end, err := l.cluster.Offsets(ctx, raw, p)
		if err != nil {
			return err
		}
		for l.input(p) < end-1 {
			select {
			case <-ctx.Done():
				return fmt.Errorf("partition %d: ingest is at input %d of %d: %w", p, l.input(p), end-1, ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func (l *eventLog) input(p int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if part := l.parts[p]; part != nil {
		return part.input
	}
	return -1
}

func (l *eventLog) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, part := range l.parts {
		n += part.count
	}
	return n
}

// check fails the test on gaps and duplicates.
func (l *eventLog) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, fault := range l.faults {
		if i == 10 {
			t.Errorf("… %d faults in all", len(l.faults))
			break
		}
		t.Error(fault)
	}
}

// equal fails the test unless both logs hold the same events, byte for byte, in the same order.
func (l *eventLog) equal(t *testing.T, o *eventLog) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(l.parts) != len(o.parts) {
		t.Fatalf("%d and %d partitions", len(l.parts), len(o.parts))
	}
	for p, a := range l.parts {
		b := o.parts[p]
		if bytes.Equal(a.events, b.events) {
			continue
		}
		i, x, y := firstDifference(a.events, b.events)
		t.Errorf("partition %d: %d and %d events; they differ from event %d on:\n  %x\n  %x", p, a.count, b.count, i, x, y)
	}
}

func firstDifference(a, b []byte) (i int, x, y []byte) {
	for ; ; i++ {
		x, a = nextEvent(a)
		y, b = nextEvent(b)
		if !bytes.Equal(x, y) || x == nil {
			return i, x, y
		}
	}
}

func nextEvent(b []byte) (event, rest []byte) {
	if len(b) < 4 {
		return nil, nil
	}
	n := int(binary.BigEndian.Uint32(b))
	return b[4 : 4+n], b[4+n:]
}
