// Package ingest turns md.raw into md.events: what venues say, in their own words, into numbered market events.
//
// The heart is a pure state machine per partition (core.go): raw records in, encoded events out, and nothing else that could
// make a difference. Around it, a loop per partition (partition.go) reads md.raw, writes what the core gives to md.events
// through a stream.Owner, and saves the state in md.snapshots. Bad records go to md.quarantine.
//
//	md.raw ──► decode ──► core ──► stream.EventWriter ──► md.events
//	                       │
//	                       ├──► saver ──► stream.Owner.WriteSnapshot ──► md.snapshots
//	                       └──► quarantine ──► md.quarantine
//
// Nothing is committed anywhere: each batch in md.events says which input it answers. Whoever takes a partition over puts
// the core together from md.snapshots, applies md.raw again in silence up to that input, checks that it has arrived where
// md.events ends, and goes on (recover.go; decision 0002).
package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/pkg/stream"
)

// Config says how the service runs.
type Config struct {
	Group          string        // consumer group that divides the partitions among instances
	Partitions     []int         // own exactly these, without a group
	Instance       string        // who we are, for people who read the log
	SnapshotEvery  time.Duration // how often a changed instrument is saved
	StallTimeout   time.Duration // a loop that stands still for so long gives its partition up
	SessionTimeout time.Duration // of the group: how long a dead instance keeps its partitions
	Compression    string        // of md.events and md.snapshots: none, lz4 or zstd
}

// DefaultConfig is for production.
func DefaultConfig() Config {
	host, _ := os.Hostname() // an empty name is fine
	return Config{
		Group: "tickwire-ingest", Instance: host, SnapshotEvery: 10 * time.Second, StallTimeout: 30 * time.Second,
		SessionTimeout: 10 * time.Second, Compression: "lz4",
	}
}

// RegisterFlags defines the service's flags.
func (c *Config) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Group, "group", c.Group, "consumer group `NAME` that divides the partitions of md.raw among instances")
	fs.IntSliceVar(&c.Partitions, "partitions", c.Partitions, "own these `PARTITIONS` and no others, without a group")
	fs.StringVar(&c.Instance, "instance", c.Instance, "`NAME` of this instance in the log")
	fs.DurationVar(&c.SnapshotEvery, "snapshot-interval", c.SnapshotEvery, "save each changed instrument every `DURATION`")
	fs.DurationVar(&c.StallTimeout, "stall-timeout", c.StallTimeout, "give a partition up when its loop stands still for `DURATION`")
	fs.DurationVar(&c.SessionTimeout, "session-timeout", c.SessionTimeout, "a dead instance keeps its partitions for `DURATION`")
	fs.StringVar(&c.Compression, "compression", c.Compression, "`KIND` of compression of what is written: none, lz4 or zstd")
}

var compressions = map[string]stream.Compression{"none": stream.Uncompressed, "lz4": stream.LZ4, "zstd": stream.Zstd}

// Validate says which flag is wrong.
func (c *Config) Validate() error {
	if _, ok := compressions[c.Compression]; !ok {
		return fmt.Errorf("--compression: %q is not none, lz4 or zstd", c.Compression)
	}
	sorted := slices.Clone(c.Partitions)
	slices.Sort(sorted)
	switch {
	case len(slices.Compact(sorted)) != len(c.Partitions):
		return errors.New("--partitions: a partition comes twice")
	case len(sorted) > 0 && sorted[0] < 0:
		return errors.New("--partitions: negative")
	case len(c.Partitions) == 0 && c.Group == "":
		return errors.New("--group: name one, or own --partitions")
	case c.SnapshotEvery <= 0:
		return errors.New("--snapshot-interval: must be above zero")
	case c.StallTimeout < 2*time.Second:
		return errors.New("--stall-timeout: at least 2s")
	case c.SessionTimeout < time.Second:
		return errors.New("--session-timeout: at least 1s")
	}
	return nil
}

// Deps is what the service is given.
type Deps struct {
	Log     *zap.Logger
	Metrics prometheus.Registerer
	Cluster *stream.Cluster // stays the caller's, who closes it after Run
}

// Service is the ingest.
type Service struct {
	cfg        Config
	log        *zap.Logger
	m          *metrics
	cluster    *stream.Cluster
	quarantine *quarantine

	mu     sync.Mutex
	owned  map[int]bool // by partition: taken over, and the loop runs
	joined bool         // the group has given us partitions, perhaps none
}

// Errors that end Run.
var (
	// ErrFenced says that another process owns a partition that this one was told to own.
	ErrFenced = errors.New("partition is owned by another instance")
	// ErrStuck says that a loop did not end when told to. Its goroutine is lost; the process should end.
	ErrStuck = errors.New("a partition's loop is stuck")
)

// New makes the service. It starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, log: deps.Log, m: newMetrics(deps.Metrics), cluster: deps.Cluster, owned: make(map[int]bool),
	}
	s.quarantine = newQuarantine(s.cluster, s.log, s.m)
	return s, nil
}

// Ready returns nil when every partition that is ours runs.
func (s *Service) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.joined {
		return errors.New("no partitions assigned yet")
	}
	for p, running := range s.owned {
		if !running {
			return fmt.Errorf("partition %d is being taken over", p)
		}
	}
	return nil
}

// closeGrace is how long a partition may take to write what is pending when it is given up.
const closeGrace = 5 * time.Second

// Run owns partitions until ctx ends, and then gives them up in good order.
func (s *Service) Run(ctx context.Context) error {
	var end context.CancelFunc
	quarantining, end := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { s.quarantine.run(quarantining, closeGrace) })
	defer running.Wait()
	defer end()

	count, err := s.partitions(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	if len(s.cfg.Partitions) > 0 {
		return ended(ctx, s.ownAll(ctx, s.cfg.Partitions, count))
	}
	return ended(ctx, s.cluster.RunGroup(ctx, stream.GroupConfig{
		ID: s.cfg.Group, SessionTimeout: s.cfg.SessionTimeout,
		Notice: func(err error) { s.log.Warn("consumer group", zap.Error(err)) },
	}, func(ctx context.Context, partitions []int) error { return s.ownAll(ctx, partitions, count) }))
}

// ended makes the end that was asked for no error.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// partitions asks how many partitions there are, for as long as it takes.
func (s *Service) partitions(ctx context.Context) (int, error) {
	for {
		count, err := s.cluster.Partitions(ctx, s.cluster.Topics().Raw)
		if err == nil {
			return count, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		s.log.Warn("waiting for md.raw", zap.Error(err))
		pause(ctx, time.Second)
	}
}

// ownAll owns partitions until ctx ends.
func (s *Service) ownAll(ctx context.Context, partitions []int, count int) error {
	s.assign(partitions)
	defer s.assign(nil)
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range partitions {
		if p >= count {
			return fmt.Errorf("partition %d of %d", p, count)
		}
		g.Go(func() error { return s.own(ctx, p, count) })
	}
	if len(partitions) == 0 {
		<-ctx.Done()
	}
	return g.Wait()
}

func (s *Service) assign(partitions []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined = true
	clear(s.owned)
	for _, p := range partitions {
		s.owned[p] = false
	}
}

func (s *Service) setRunning(partition int, running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ours := s.owned[partition]; ours {
		s.owned[partition] = running
	}
}

// own owns a partition until ctx ends, taking it over again whenever it was lost.
func (s *Service) own(ctx context.Context, partition, count int) error {
	const longest = 30 * time.Second
	wait := 200 * time.Millisecond
	for {
		began := time.Now()
		err := s.runPartition(ctx, partition, count)
		s.setRunning(partition, false)
		switch {
		case ctx.Err() != nil && !errors.Is(err, ErrStuck):
			return ctx.Err()
		case errors.Is(err, ErrDiverged), errors.Is(err, ErrStuck):
			return err
		case errors.Is(err, stream.ErrFenced):
			s.m.fenced.Inc()
			if len(s.cfg.Partitions) > 0 {
				return fmt.Errorf("partition %d: %w: %w", partition, ErrFenced, err)
			}
			// Usually the group has given the partition away and will tell us. If it has not, the one who fenced us was late
			// and the partition is still ours.
			s.log.Info("fenced", zap.Int("partition", partition))
		default:
			s.m.failures.Inc()
			s.log.Error("partition given up, to be taken over again", zap.Int("partition", partition), zap.Error(err))
		}
		if time.Since(began) > longest {
			wait = 200 * time.Millisecond
		}
		pause(ctx, wait)
		wait = min(2*wait, longest)
	}
}
