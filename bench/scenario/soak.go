package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
)

// SoakConfig describes clients that verify everything for a long time.
type SoakConfig struct {
	URL      string // of the edge
	Server   int    // its process id
	Clients  int
	Each     int // topics of each client
	Duration time.Duration
	Seed     uint64
}

// DefaultSoak is a hundred clients for ten minutes.
func DefaultSoak() SoakConfig {
	return SoakConfig{Clients: 100, Each: 50, Duration: 10 * time.Minute, Seed: 1}
}

// SoakReport adds up what the clients of a format saw.
type SoakReport struct {
	Where     Where
	Config    SoakConfig
	Elapsed   time.Duration
	Formats   [2]SoakSum // SBE, JSON
	ServerCPU time.Duration
	EarlyRSS  int64 // of the servers after a quarter of the time
	RSS       int64 // in the end
}

// SoakSum is what counts.
type SoakSum struct {
	Clients    int
	Topics     int
	Messages   uint64
	Updates    uint64 // of books, and snapshots
	Verified   uint64 // of these, those whose hash was right
	Gaps       uint64 // of any topic: messages missing, found or told
	Mismatches uint64
	Merged     uint64 // updates that the edge merged because a client read too slowly
	Reconnects uint64
	Refused    int64
	Stale      int // topics that were not live or quiet in the end
	Why        string
}

// soaker is one client.
type soaker struct {
	client *client.Client
	books  []*client.Book
	topics []*client.Topic
	faults atomic.Int64
	why    atomic.Value // string
}

// Soak connects the clients and lets them verify.
func Soak(ctx context.Context, cfg SoakConfig) (*SoakReport, error) {
	if cfg.Clients < 1 || cfg.Each < 1 || cfg.Duration <= 0 {
		return nil, errors.New("--clients, --each and --duration: above 0")
	}
	r := &SoakReport{Where: Here(), Config: cfg}
	instruments, err := client.Symbols(ctx, client.Config{URL: cfg.URL}, time.Second)
	if err != nil {
		return nil, err
	}
	if len(instruments) == 0 {
		return nil, errors.New("the edge knows no instrument")
	}
	var all []*soaker
	defer func() {
		for _, s := range all {
			_ = s.client.Close() // ends it, and never fails
		}
	}()
	for i := range cfg.Clients {
		s, err := cfg.dial(ctx, i, instruments)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	began, cpu := time.Now(), proc.CPU(cfg.Server)
	if err := pause(ctx, cfg.Duration/4); err != nil {
		return nil, err
	}
	r.EarlyRSS = proc.RSS(cfg.Server)
	if err := pause(ctx, cfg.Duration-cfg.Duration/4); err != nil {
		return nil, err
	}
	r.Elapsed, r.ServerCPU, r.RSS = time.Since(began), proc.CPU(cfg.Server)-cpu, proc.RSS(cfg.Server)
	for i, s := range all {
		r.Formats[i%2].add(s)
	}
	return r, nil
}

// dial connects the i-th client and subscribes to a choice of topics.
func (cfg *SoakConfig) dial(ctx context.Context, i int, instruments []string) (*soaker, error) {
	s := new(soaker)
	c, err := client.Dial(ctx, client.Config{
		URL: cfg.URL, Encoding: []client.Encoding{client.SBE, client.JSON}[i%2],
		Handler: client.Handler{OnError: func(t *client.Topic, err error) {
			s.faults.Add(1)
			s.why.Store(fmt.Sprintf("client %d, %v: %v", i, t, err))
		}},
	})
	if err != nil {
		return nil, err
	}
	s.client = c
	random := rand.New(rand.NewPCG(cfg.Seed, uint64(i))) //nolint:gosec // a reproducible choice
	for n := 0; len(s.topics) < cfg.Each; n++ {
		if n > 100*cfg.Each {
			return s, fmt.Errorf("the market has too few topics for --each %d", cfg.Each)
		}
		err := s.subscribe(random, instruments[random.IntN(len(instruments))])
		if err != nil && !errors.Is(err, client.ErrSubscribed) {
			return s, err
		}
	}
	return s, nil
}

// subscribe subscribes to a random topic of an instrument: books most often, in any view.
func (s *soaker) subscribe(random *rand.Rand, sym string) error {
	keep := func(t *client.Topic, err error) error {
		if err == nil {
			s.topics = append(s.topics, t)
		}
		return err
	}
	switch n := random.IntN(20); {
	case n < 9:
		view := client.BookView{
			Depth: []uint16{0, 0, 10, 25, 50, 100}[random.IntN(6)], Millis: []uint16{0, 0, 100, 250, 1000}[random.IntN(5)],
		}
		b, err := s.client.Book(sym, view)
		if err != nil {
			return err
		}
		s.books = append(s.books, b)
		return keep(&b.Topic, nil)
	case n < 12:
		t, err := s.client.Trades(sym, random.IntN(50))
		if err != nil {
			return err
		}
		return keep(&t.Topic, nil)
	case n < 14:
		t, err := s.client.BBO(sym)
		if err != nil {
			return err
		}
		return keep(&t.Topic, nil)
	case n < 16:
		t, err := s.client.Ticker(sym)
		if err != nil {
			return err
		}
		return keep(&t.Topic, nil)
	case n < 19:
		t, err := s.client.Bars(sym, market.Interval(random.IntN(market.NumIntervals)), random.IntN(100))
		if err != nil {
			return err
		}
		return keep(&t.Topic, nil)
	}
	t, err := s.client.Status(sym)
	if err != nil {
		return err
	}
	return keep(&t.Topic, nil)
}

func (x *SoakSum) add(s *soaker) {
	x.Clients++
	x.Topics += len(s.topics)
	stats := s.client.Stats()
	x.Messages += stats.Messages
	x.Merged += stats.Merged
	x.Reconnects += stats.Reconnects
	x.Refused += s.faults.Load()
	for _, t := range s.topics {
		x.Gaps += t.Gaps()
		if state := t.State(); state != client.Live && state != client.Quiet {
			x.Stale++
			x.Why = fmt.Sprintf("%v is %v", t, state)
		}
	}
	for _, b := range s.books {
		at := b.BookStats()
		x.Updates += at.Updates + at.Snapshots
		x.Verified += at.Verified
		x.Mismatches += at.Mismatches
	}
	if why, ok := s.why.Load().(string); ok {
		x.Why = why
	}
}

// Table implements Report.
func (r *SoakReport) Table() string {
	rows := [][]string{{"format", "clients", "topics", "messages/s", "book messages", "verified", "gaps", "mismatches", "merged", "reconnects", "other faults", "stale topics"}}
	for i := range r.Formats {
		x := &r.Formats[i]
		rows = append(rows, []string{
			format(i == 1), fmt.Sprint(x.Clients), fmt.Sprint(x.Topics), fmt.Sprintf("%.0f", float64(x.Messages)/r.Elapsed.Seconds()),
			fmt.Sprint(x.Updates), fmt.Sprint(x.Verified), fmt.Sprint(x.Gaps), fmt.Sprint(x.Mismatches), fmt.Sprint(x.Merged),
			fmt.Sprint(x.Reconnects), fmt.Sprint(x.Refused), fmt.Sprint(x.Stale),
		})
	}
	return table(fmt.Sprintf("soak: %d clients on %d topics each for %v, every book verified at every message; %v",
		r.Config.Clients, r.Config.Each, r.Elapsed.Round(time.Second), r.Where), rows) +
		fmt.Sprintf("servers: %.2f cores, %d MiB after a quarter of the time, %d MiB in the end\n", r.ServerCPU.Seconds()/r.Elapsed.Seconds(), r.EarlyRSS>>20, r.RSS>>20)
}

// Err implements Report.
func (r *SoakReport) Err() error {
	var errs []string
	for i := range r.Formats {
		x := &r.Formats[i]
		if x.Clients == 0 {
			continue
		}
		if x.Gaps > 0 || x.Mismatches > 0 || x.Refused > 0 || x.Reconnects > 0 || x.Stale > 0 {
			errs = append(errs, fmt.Sprintf("%s: %d gaps, %d mismatches, %d other faults, %d reconnects, %d stale topics: %s",
				format(i == 1), x.Gaps, x.Mismatches, x.Refused, x.Reconnects, x.Stale, x.Why))
		}
		if x.Updates == 0 || x.Verified != x.Updates {
			errs = append(errs, fmt.Sprintf("%s: %d of %d book messages verified", format(i == 1), x.Verified, x.Updates))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errors.New(strings.Join(errs, "\n"))
}
