// Package mirror is an edge's view of the market: it follows md.events, keeps the state of every instrument, and publishes
// what changes to the topics of a fanout.Hub.
//
// # One writer per instrument
//
// The reader's goroutine of a partition applies the events of that partition's instruments, each under the lock of its
// instrument, and publishes under the same lock. A subscription looks up its place in a topic, and a snapshot is cut, under
// that lock too. So a subscriber is always registered at a known place between two events, and a snapshot always is the
// state at a known place; nothing can fall in between, and neither waits for the network.
//
// # Encode once
//
// Messages are published in SBE: full-depth books, trades, final bars and status events are the very bytes of md.events.
// JSON is derived from these bytes when the first JSON subscriber needs it, once for all, so nothing is encoded that nobody
// reads. Topics that hold one value (bbo, ticker, the open bar) are computed only while they have subscribers. Depth views
// and merged views exist only while they have subscribers.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// The formats in which topics are published.
const (
	SBE  = fanout.Native
	JSON = fanout.Format(1)
)

// Config says how much history the topics keep for clients that resume or are slow, per topic.
type Config struct {
	RingEntries int
	RingBytes   int
	RingAge     time.Duration
}

// DefaultConfig keeps two minutes, at most 4,096 messages or 1 MiB.
func DefaultConfig() Config {
	return Config{RingEntries: 4096, RingBytes: 1 << 20, RingAge: 2 * time.Minute}
}

// RegisterFlags defines the --ring-… flags.
func (c *Config) RegisterFlags(fs *pflag.FlagSet) {
	fs.IntVar(&c.RingEntries, "ring-messages", c.RingEntries, "messages kept per topic for clients that resume or are slow")
	fs.IntVar(&c.RingBytes, "ring-bytes", c.RingBytes, "bytes kept per topic")
	fs.DurationVar(&c.RingAge, "ring-age", c.RingAge, "how long messages are kept; at the start, md.events is read from so long ago")
}

// Validate says which flag is wrong.
func (c *Config) Validate() error {
	switch {
	case c.RingEntries < 16:
		return errors.New("--ring-messages: at least 16")
	case c.RingBytes < 64<<10:
		return errors.New("--ring-bytes: at least 65536")
	case c.RingAge < time.Second:
		return errors.New("--ring-age: at least 1s")
	}
	return nil
}

func (c *Config) limits() fanout.Limits {
	return fanout.Limits{Entries: c.RingEntries, Bytes: c.RingBytes, Age: c.RingAge}
}

// Mirror follows the market. It is a stream.Handler.
type Mirror struct {
	cfg   Config
	hub   *fanout.Hub
	log   *zap.Logger
	start time.Time
	stats Stats

	logID atomic.Pointer[func() string]

	mu    sync.RWMutex // taken before any Instrument.mu
	parts map[int]*partition
	ready int // partitions that are
	want  int // partitions there are; 0 before it is known
	bySym map[string]*Instrument
	all   []*Instrument
	wild  []*Wildcard
	taps  []wideTap

	listed atomic.Pointer[listed] // the newest one

	mergeMu sync.Mutex  // taken after an Instrument.mu
	merging []*bookFeed // views with ms, while they have subscribers
}

// New makes a mirror that publishes to hub. Run drives it.
func New(cfg Config, hub *fanout.Hub, log *zap.Logger) *Mirror {
	return &Mirror{
		cfg: cfg, hub: hub, log: log, start: time.Now(),
		parts: make(map[int]*partition), bySym: make(map[string]*Instrument),
	}
}

// Run keeps time until ctx ends: merged views, liveness, expiry. Events come in by the Handler's methods.
func (m *Mirror) Run(ctx context.Context) error {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		m.merge(n)
		if n%int(stateEvery/beat) == 0 {
			m.eachInstrument((*Instrument).watch)
		}
		if n%int(sweepEvery/beat) == 0 {
			m.eachInstrument((*Instrument).sweep)
		}
	}
}

const (
	beat       = 50 * time.Millisecond // divides every merge interval
	stateEvery = 100 * time.Millisecond
	sweepEvery = time.Second
)

// Follow runs the mirror and the reader that feeds it until ctx ends, or until it finds ErrRenewed.
func (m *Mirror) Follow(ctx context.Context, cluster *stream.Cluster) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	partitions, err := m.countPartitions(ctx, cluster)
	if err != nil {
		return err
	}
	m.Expect(partitions)
	reader := cluster.Reader(stream.ReaderConfig{ResumeWindow: m.cfg.RingAge}, m)
	m.Name(reader.LogID)
	var clock sync.WaitGroup
	clock.Go(func() { _ = m.Run(ctx) }) // ends by ctx alone
	var renewed error
	clock.Go(func() {
		renewed = renewal(ctx, reader.LogID)
		cancel()
	})
	err = reader.Run(ctx)
	cancel()
	clock.Wait()
	return errors.Join(renewed, err)
}

// ErrRenewed says that md.events is not the one that has been read so far. Sequences and offsets that clients have are of the
// old one, so the edge must begin anew.
var ErrRenewed = errors.New("md.events was deleted and made anew; start again")

// renewal waits until the log has another name than at first, or until ctx ends.
func renewal(ctx context.Context, name func() string) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for first := ""; ; {
		switch now := name(); {
		case first == "":
			first = now
		case now != first:
			return ErrRenewed
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (m *Mirror) countPartitions(ctx context.Context, cluster *stream.Cluster) (int, error) {
	for {
		n, err := cluster.Partitions(ctx, cluster.Topics().Events)
		if err == nil {
			return n, nil
		}
		m.log.Warn("waiting for md.events", zap.Error(err))
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// Expect says how many partitions the market has. Before, the mirror is not ready.
func (m *Mirror) Expect(partitions int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.want = partitions
}

// Name says how to find out what the log is called that the events come from.
func (m *Mirror) Name(id func() string) { m.logID.Store(&id) }

// LogID names the life of md.events that offsets belong to. It is empty until it is known.
func (m *Mirror) LogID() string {
	if id := m.logID.Load(); id != nil {
		return (*id)()
	}
	return ""
}

// ErrNotReady is what Ready returns while the instruments are not all known.
var ErrNotReady = errors.New("still reading the market's state")

// Ready returns nil when every partition has been read to its end.
func (m *Mirror) Ready() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.want == 0 || m.ready < m.want {
		return fmt.Errorf("%w: %d of %d partitions", ErrNotReady, m.ready, m.want)
	}
	return nil
}

// Instruments returns all instruments, in the order in which they became known.
func (m *Mirror) Instruments() []*Instrument {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.all[:len(m.all):len(m.all)] // only ever appended to
}

// Instrument returns the instrument with a sym, or nil.
func (m *Mirror) Instrument(sym string) *Instrument {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.bySym[sym]
}

// Limits are the bounds of the rings.
func (m *Mirror) Limits() Config { return m.cfg }

func (m *Mirror) now() time.Duration { return time.Since(m.start) + 1 }

func (m *Mirror) eachInstrument(do func(*Instrument, time.Duration)) {
	now := m.now()
	for _, in := range m.Instruments() {
		do(in, now)
	}
}

// Phase implements stream.Handler.
func (m *Mirror) Phase(n int, phase stream.Phase, why error) {
	p := m.partition(n)
	switch phase {
	case stream.PhaseReset:
		m.setReady(p, false)
		p.restart()
		if why != nil {
			m.log.Warn("partition starts over", zap.Int("partition", n), zap.Error(why))
		}
	case stream.PhaseReady:
		m.setReady(p, true)
		m.log.Info("partition ready", zap.Int("partition", n))
	case stream.PhaseLost:
		m.log.Warn("brokers do not answer", zap.Int("partition", n), zap.Error(why))
	case stream.PhaseBack:
		m.log.Info("brokers answer again", zap.Int("partition", n))
	}
}

func (m *Mirror) setReady(p *partition, ready bool) {
	p.setReady(ready)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready = 0
	for _, p := range m.parts {
		if p.isReady() {
			m.ready++
		}
	}
}

// Snapshot implements stream.Handler.
func (m *Mirror) Snapshot(n int, s *stream.Snapshot) error { return m.partition(n).load(s) }

// Batch implements stream.Handler.
func (m *Mirror) Batch(b *stream.EventBatch) error {
	var ev stream.Event
	for b.Next(&ev) {
		if err := m.Record(b.Partition, ev.Offset, ev.Template, ev.Value); err != nil {
			return fmt.Errorf("offset %d: %w", ev.Offset, err)
		}
	}
	return nil
}

// Record applies one record of md.events, which stands at offset. The calls for one partition come one after the other.
func (m *Mirror) Record(partition int, offset int64, t wire.Template, value []byte) error {
	return m.partition(partition).step(offset, t, value, m.now())
}

func (m *Mirror) partition(n int) *partition {
	m.mu.RLock()
	p := m.parts[n]
	m.mu.RUnlock()
	if p != nil {
		return p
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p = m.parts[n]; p == nil {
		p = newPartition(m, n)
		m.parts[n] = p
	}
	return p
}

// register makes a new instrument known, and gives it to those who want all.
func (m *Mirror) register(in *Instrument) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bySym[in.sym] = in
	m.all = append(m.all, in)
	for _, w := range m.wild {
		w.add(in)
	}
	for _, w := range m.taps {
		in.tap(w.tap, &w.what)
	}
}

// merge publishes the merged views whose interval ends with the n-th beat.
func (m *Mirror) merge(n int) {
	m.mergeMu.Lock()
	var due []*bookFeed
	for _, f := range m.merging {
		if n%(int(f.view.Millis)*int(time.Millisecond)/int(beat)) == 0 {
			due = append(due, f)
		}
	}
	m.mergeMu.Unlock()
	for _, f := range due {
		f.in.mu.Lock()
		f.flush()
		f.in.mu.Unlock()
	}
}

func (m *Mirror) addMerging(f *bookFeed) {
	m.mergeMu.Lock()
	defer m.mergeMu.Unlock()
	m.merging = append(m.merging, f)
}

func (m *Mirror) dropMerging(f *bookFeed) {
	m.mergeMu.Lock()
	defer m.mergeMu.Unlock()
	m.merging = slices.DeleteFunc(m.merging, func(o *bookFeed) bool { return o == f })
}

// now in wall time, for the messages that carry it.
func wall() market.Time { return market.FromTime(time.Now()) }

// topicOf names a topic as the wire does.
func (in *Instrument) topicOf(ch market.Channel, iv market.Interval) wire.Topic {
	return wire.Topic{Channel: ch, Sym: in.sym, Interval: iv}
}
