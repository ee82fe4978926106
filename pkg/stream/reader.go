package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Phase is what a Reader tells its Handler about a partition.
type Phase uint8

// The phases. A partition begins with PhaseReset, as often as it has to start over: what was known of it is void. PhaseReady
// follows when everything that the log held has been handed over. PhaseLost and PhaseBack say that the brokers have stopped
// answering and answer again, with nothing missed.
const (
	PhaseReset Phase = iota
	PhaseReady
	PhaseLost
	PhaseBack
)

var phaseNames = [...]string{"reset", "ready", "lost", "back"}

// String returns the phase's name.
func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return "unknown"
}

// Handler is what follows a market. The calls for one partition come one after the other from one goroutine, those for
// different partitions at the same time. An error from Snapshot or Batch means that the partition must start over.
type Handler interface {
	// Snapshot is called after PhaseReset, once per snapshot. The payload is the handler's to keep.
	Snapshot(partition int, s *Snapshot) error
	// Batch is called with each batch of md.events by a lawful owner, from before the snapshots on: events that a snapshot
	// already includes are told by their sequence. A batch after PhaseReady is news. It is valid during the call.
	Batch(b *EventBatch) error
	// Phase is called on change. why is the cause of PhaseReset (nil the first time) and of PhaseLost.
	Phase(partition int, p Phase, why error)
}

// ReaderConfig says how a Reader reads. The zero value is good.
type ReaderConfig struct {
	// ResumeWindow is how far back md.events is read at the start at least, so that clients can resume.
	ResumeWindow time.Duration
}

// Reader follows all partitions of md.events without a consumer group, as edges do: it reads md.snapshots to its end, then
// md.events from before the snapshots, and goes on for ever, through broker failures. What retention took from under it
// makes the partition start over.
type Reader struct {
	c       *Cluster
	cfg     ReaderConfig
	h       Handler
	dropped atomic.Uint64
	logID   atomic.Pointer[string]
}

// Reader makes a reader for h; Run starts it.
func (c *Cluster) Reader(cfg ReaderConfig, h Handler) *Reader { return &Reader{c: c, cfg: cfg, h: h} }

// Dropped counts the batches of fenced owners and others that are not a lawful owner's.
func (r *Reader) Dropped() uint64 { return r.dropped.Load() }

// LogID names this life of md.events: eight characters that an owner of partition 0 chose once. It is empty until it is
// known.
func (r *Reader) LogID() string {
	if id := r.logID.Load(); id != nil {
		return *id
	}
	return ""
}

// Run reads until ctx ends, and returns ctx's error.
func (r *Reader) Run(ctx context.Context) error {
	var partitions int
	for pause := retryPause; partitions == 0; pause = min(2*pause, maxRetryPause) {
		var err error
		if partitions, err = r.c.Partitions(ctx, r.c.topics.Events); err != nil && sleep(ctx, pause) != nil {
			return ctx.Err()
		}
	}
	var running sync.WaitGroup
	for p := range partitions {
		running.Go(func() { r.run(ctx, p) })
	}
	running.Go(func() { r.findLogID(ctx) })
	running.Wait()
	return ctx.Err()
}

// errHandler marks what the handler returned.
var errHandler = errors.New("handler")

func (r *Reader) run(ctx context.Context, partition int) {
	var why error
	pause := retryPause
	for {
		began := time.Now()
		r.h.Phase(partition, PhaseReset, why)
		why = r.follow(ctx, partition)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > 10*maxRetryPause {
			pause = retryPause
		}
		if sleep(ctx, pause) != nil {
			return
		}
		pause = min(2*pause, 5*maxRetryPause)
	}
}

// follow reads one partition from the snapshots on until something makes it start over.
func (r *Reader) follow(ctx context.Context, partition int) error {
	f, err := r.c.Begin(ctx, partition, r.cfg.ResumeWindow, func(s *Snapshot) error {
		if err := r.h.Snapshot(partition, s); err != nil {
			return fmt.Errorf("%w: %w", errHandler, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer f.Close()
	if f.logID != "" {
		r.logID.Store(&f.logID)
	}
	ready, lost := false, false
	for {
		if !ready && f.Ready() {
			ready = true
			r.h.Phase(partition, PhaseReady, nil)
		}
		b, err := f.Next(ctx)
		if err != nil {
			return err
		}
		if down := f.Trouble() != nil; down != lost {
			lost = down
			r.tellLost(partition, f.Trouble())
		}
		if err := r.handle(f, b); err != nil {
			return err
		}
	}
}

func (r *Reader) tellLost(partition int, trouble error) {
	if trouble != nil {
		r.h.Phase(partition, PhaseLost, trouble)
		return
	}
	r.h.Phase(partition, PhaseBack, nil)
}

func (r *Reader) handle(f *Follower, b *EventBatch) error {
	r.dropped.Add(f.dropped())
	if b.batch == nil {
		return nil
	}
	if err := r.h.Batch(b); err != nil {
		return fmt.Errorf("%w: %w", errHandler, err)
	}
	return b.Err()
}

// replayFrom is the first event that the snapshots may not include: the checkpoint speaks for all instruments; without
// one, each speaks for itself.
func replayFrom(newest []slottedSnapshot) int64 {
	from := int64(math.MaxInt64)
	for i := range newest {
		switch newest[i].Kind {
		case KindCheckpoint:
			return newest[i].EventsOffset
		case KindInstrument:
			from = min(from, newest[i].EventsOffset)
		}
	}
	if from == math.MaxInt64 {
		return 0
	}
	return from
}

// findLogID waits for the log's name; only a new market lets it wait.
func (r *Reader) findLogID(ctx context.Context) {
	if sleep(ctx, maxRetryPause) != nil || r.LogID() != "" {
		return
	}
	if id, err := r.c.LogID(ctx); err == nil {
		r.logID.Store(&id)
	}
}
