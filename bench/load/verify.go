package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
)

// Topics is what the clients of a Verify subscribe to.
type Topics uint8

// The choices.
const (
	BooksAndTrades Topics = iota // of each chosen instrument its book at full depth, and its trades; in SBE
	BooksInViews                 // a book of each chosen instrument: half of them full, half in a view of some depth
	Everything                   // a random choice of all that there is
)

// Verify is a load of clients that verify all they get: raw records in, or a market that runs already, and deliveries out.
type Verify struct {
	Config
	Pace
	Topics      Topics
	Own         bool // publish a market of our own, if there is Kafka; else look at the one that runs
	Instruments int  // of our own market, or of the simulated one of servers that are started
	Clients     int
	Each        int // of instruments, or topics when it is Everything
	Seed        uint64
	Drain       time.Duration // how long what was sent may take to arrive in the end
}

// DefaultEndToEnd is the load that the README's figures are about.
func DefaultEndToEnd() Verify {
	return Verify{
		Config: Config{Repeat: 3, Warmup: 2 * time.Second, Duration: 8 * time.Second}, Pace: Pace{Rate: 10_000},
		Topics: BooksAndTrades, Own: true, Instruments: 200, Clients: 100, Each: 10, Seed: 1, Drain: 10 * time.Second,
	}
}

// DefaultBooks is many clients with few messages.
func DefaultBooks() Verify {
	v := DefaultEndToEnd()
	v.Topics, v.Rate, v.Instruments, v.Clients = BooksInViews, 1000, 100, 300
	return v
}

// DefaultSoak is a hundred clients for as long as a scenario takes.
func DefaultSoak() Verify {
	v := DefaultEndToEnd()
	v.Topics, v.Own, v.Repeat, v.Warmup, v.Duration, v.Rate, v.Instruments, v.Each = Everything, false, 1, time.Second, 50*time.Second, 500, 60, 50
	return v
}

// RegisterFlags adds the flags.
func (v *Verify) RegisterFlags(f *pflag.FlagSet) {
	v.Config.RegisterFlags(f)
	hide(f, "sse", "alerts")
	f.Lookup("symbols").Usage = "`SYMBOL,…` that clients subscribe to in a market that runs already, without --kafka (default: all that trade there)"
	instruments := "that are published"
	if v.Own {
		v.Pace.RegisterFlags(f, "raw records")
	} else {
		f.Float64Var(&v.Rate, "rate", v.Rate, "raw records per second of the simulated market, when the servers are started here")
		instruments = "of the simulated market, when the servers are started here"
	}
	f.IntVar(&v.Instruments, "instruments", v.Instruments, instruments)
	f.IntVar(&v.Clients, "clients", v.Clients, "connections")
	each := map[Topics]string{
		BooksAndTrades: "instruments of each client, at random: the book at full depth, and the trades",
		BooksInViews:   "books of each client, at random, each in one of the views",
		Everything:     "topics of each client, at random",
	}[v.Topics]
	f.IntVar(&v.Each, "each", v.Each, each)
	f.DurationVar(&v.Drain, "drain", v.Drain, "how long the last messages may take to arrive, before they count as missing")
	f.Uint64Var(&v.Seed, "seed", v.Seed, "of the market and of what clients choose")
	if !v.Own {
		hide(f, "drain") // nobody knows what was sent
	}
}

// Validate says which flag is wrong.
func (v *Verify) Validate() error {
	if err := v.settle(&v.Config); err != nil {
		return err
	}
	d := &v.Deployment
	switch {
	case d.Named() && d.WS == "":
		return errors.New("--ws: the address of the WebSocket edge is missing")
	case v.Instruments < 1 || v.Instruments > 10_000:
		return errors.New("--instruments: from 1 to 10,000")
	case v.Clients < 1 || v.Clients > 10_000:
		return errors.New("--clients: from 1 to 10,000")
	case v.Each < 1:
		return errors.New("--each: above 0")
	case v.Topics != Everything && v.publishes() && v.Each > v.Instruments:
		return errors.New("--each: at most --instruments")
	case v.Drain < 0:
		return errors.New("--drain: not negative")
	case !v.publishes() && (v.Stages != "" || v.Ramp > 0 || v.Count > 0):
		return errors.New("--stages, --ramp, --count: they are about a market of our own, and --kafka is missing")
	case v.publishes() && len(d.Symbols) > 0:
		return errors.New("--symbols: with --kafka this load publishes instruments of its own")
	}
	return v.Config.Validate()
}

// publishes tells whether the market is ours.
func (v *Verify) publishes() bool {
	return v.Own && (!v.Deployment.Named() || len(v.Deployment.Kafka.Brokers) > 0)
}

// Looks tells whether a market that runs already is looked at, and nothing is published.
func (v *Verify) Looks() bool { return v.Deployment.Named() && !v.publishes() }

// Total is about how long it takes.
func (v *Verify) Total() time.Duration {
	return v.total(&v.Config)
}

// RunVerify runs the load.
func RunVerify(ctx context.Context, v Verify, rec *report.Recorder) (*report.Report, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	flags := []string{"--webhook-addr", ""}
	if !v.Own {
		flags = append(flags, "--market", "sim", "--instruments", fmt.Sprint(v.Instruments), "--rate", fmt.Sprint(int(max(1, v.Rate))))
	}
	r, err := v.repeat(ctx, rec, flags, v.run)
	if err != nil {
		return nil, err
	}
	r.Title = v.title()
	r.System.Protocol = map[Topics]string{BooksAndTrades: "WebSocket, SBE"}[v.Topics]
	if r.System.Protocol == "" {
		r.System.Protocol = "WebSocket, half of the clients in SBE, half in JSON"
	}
	if !v.publishes() {
		r.Notes = append(r.Notes, "ages are from the time of the event as the market tells it to this machine's clock at receipt: a difference of the clocks is in them")
	}
	return r, nil
}

func (v *Verify) title() string {
	of := "the market that runs there"
	if v.publishes() {
		of = fmt.Sprintf("%s raw records/s of %d instruments", v.rates(), v.Instruments)
	} else if !v.Deployment.Named() {
		of = fmt.Sprintf("a simulated market of %d instruments, %.0f raw records/s", v.Instruments, v.Rate)
	}
	what := map[Topics]string{
		BooksAndTrades: "books and trades of %d instruments each", BooksInViews: "%d books each, in all views", Everything: "%d topics each",
	}[v.Topics]
	return fmt.Sprintf("%s; %d clients on "+what+", every book verified at every message", of, v.Clients, v.Each)
}

// run is one run.
func (v *Verify) run(ctx context.Context, on *stage) (*trial, error) {
	if !v.publishes() {
		return v.look(ctx, on)
	}
	cluster, err := on.Cluster()
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	return v.publish(ctx, on, cluster)
}

// publish runs a market of our own.
func (v *Verify) publish(ctx context.Context, on *stage, cluster *stream.Cluster) (_ *trial, err error) {
	whole, lead, err := v.whole(v.Warmup)
	if err != nil {
		return nil, err
	}
	pub, err := newPublisher(ctx, cluster, v.Instruments, whole[len(whole)-1].To, v.Seed)
	if err != nil {
		return nil, err
	}
	defer closing(ctx, pub.w)()
	group, running := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(running)
	defer stop()
	began := time.Now()
	group.Go(func() error {
		return pub.run(running, plan{at: began, schedule: schedule.Constant(max(1, whole[0].From/10))})
	})

	m := newMeter(false)
	readers, err := v.connect(running, on.Deployment, m, pub.names(), began)
	defer readers.close()
	if err != nil {
		stop()
		return nil, errors.Join(err, ignoreCanceled(group.Wait()))
	}
	at := time.Now().Add(100 * time.Millisecond)
	from := at.Add(lead)
	to := from.Add(v.Duration)
	m.open(from, to)
	behind := func() int { return readers.behind(pub, at.UnixMicro()) }
	pub.follow(plan{at: at, schedule: whole, from: from, to: to})
	s := sampled{stage: on, meter: m, readers: readers, sent: pub.sent.Load, from: from, to: to, cut: func(to time.Time) { pub.cut.Store(to.UnixMicro()) }}
	t, used := v.measure(running, &s)
	if err := group.Wait(); err != nil {
		return nil, err
	}
	on.phase("drain")
	if err := acknowledged(ctx, pub.w); err != nil {
		return nil, err
	}
	_, err = await(ctx, v.Drain, func() bool { return behind() == 0 })
	if err != nil {
		return nil, err
	}
	t.figures["missing"] = float64(behind())
	t.figures["sent/s"] = max(0, float64(pub.window)/pub.plan.to.Sub(from).Seconds()) // cut short while it is late, it ends with what it has sent
	t.figures["publisher_lag"] = quantile(pub.late, 99)
	return t, v.finish(t, &s, used)
}

// ignoreCanceled is for what we have cancelled ourselves.
func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// look measures a market that runs without us.
func (v *Verify) look(ctx context.Context, on *stage) (*trial, error) {
	names := on.Symbols
	var err error
	if len(names) == 0 {
		names, err = on.Market(ctx)
	}
	if err != nil {
		return nil, err
	}
	if others := slices.DeleteFunc(slices.Clone(names), func(sym string) bool { return strings.HasPrefix(sym, Prefix) }); len(others) > 0 {
		names = others // those of earlier loads are quiet
	}
	if len(names) == 0 {
		return nil, errors.New("the edge knows no instrument: is there a market? --kafka publishes one")
	}
	m := newMeter(true)
	readers, err := v.connect(ctx, on.Deployment, m, names, time.Time{})
	defer readers.close()
	if err != nil {
		return nil, err
	}
	from := time.Now().Add(v.Warmup)
	to := from.Add(v.Duration)
	m.open(from, to)
	s := sampled{stage: on, meter: m, readers: readers, from: from, to: to, cut: func(time.Time) {}}
	t, used := v.measure(ctx, &s)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.figures["stale"] = float64(readers.stale(t))
	return t, v.finish(t, &s, used)
}

// sampled is what measure needs.
type sampled struct {
	*stage
	meter    *meter
	readers  readers
	sent     func() int64
	from, to time.Time
	cut      func(to time.Time) // ends what is published
}

func (s *sampled) length() time.Duration { return s.to.Sub(s.from) }

// A window that is cut short ends soon, when its publisher has seen it, and is not shorter than shortest.
const (
	soon     = 5 * maxSleep
	shortest = time.Second
)

// measure waits for the window and to its end, and samples. A user who interrupts it gets a shorter window.
func (v *Verify) measure(ctx context.Context, s *sampled) (*trial, *machine) {
	done := ctx.Done()
	t := &trial{figures: map[string]float64{}}
	sampler := sampler{meter: s.meter, rec: s.rec, server: proc.NewWatch(s.PID), clients: len(s.readers), sent: s.sent, faults: s.readers.faults}
	s.phase("warm up")
	select {
	case <-done:
	case <-time.After(time.Until(s.from)):
	}
	s.phase("run")
	sampler.cut = s.window(ctx)
	before, bytes := look(s.PID), s.readers.bytes()
	sampler.start()
	defer sampler.tick.Stop()
	sampler.until(done, s.to)
	if sampler.cut = nil; time.Now().Before(s.to) && ctx.Err() == nil {
		to := time.Now().Add(soon)
		if least := s.from.Add(shortest); to.Before(least) {
			to = least
		}
		if to.Before(s.to) {
			s.to = to
			s.meter.open(s.from, to)
			s.cut(to)
		}
		sampler.until(done, s.to)
	}
	if time.Since(sampler.at) > time.Second/2 { // else there is too little to tell of
		sampler.sample()
	}
	used := before.since()
	t.figures["bytes"] = float64(s.readers.bytes() - bytes)     // per delivery when these are known
	if n := len(sampler.rss); n > 0 && v.Topics == Everything { // of short runs it says when the collector ran
		t.figures["rss_growth"] = sampler.rss[n-1] - sampler.rss[n/4]
	}
	return t, used
}

// finish ends the clients and adds up what they saw.
func (v *Verify) finish(t *trial, s *sampled, used *machine) error {
	sums, m := [2]sum{}, s.meter
	for i, r := range s.readers {
		sums[v.encoding(i)].add(r) // before they are closed, when all topics are offline
	}
	s.readers.close()
	m.collect()
	if m.total.updates == 0 {
		return errors.New("nothing was delivered")
	}
	t.latency = m.total.latency
	m.measures(t.figures, s.length())
	t.figures["bytes"] /= float64(m.total.updates)
	used.measures(t, s.length(), m.total.updates)
	if m.total.updates > m.total.messages {
		t.note("the edge merged book updates for clients that read too slowly: of those that were merged, the percentiles have the newest alone")
	}
	for i := range sums {
		sums[i].measures(t, client.Encoding(i))
	}
	return nil
}

// encoding is what client i speaks.
func (v *Verify) encoding(i int) client.Encoding {
	if v.Topics == BooksAndTrades {
		return client.SBE
	}
	return []client.Encoding{client.SBE, client.JSON}[i%2]
}

// connect connects the clients; since is when our own market began, before which nothing counts, and zero for one that runs.
func (v *Verify) connect(ctx context.Context, d *deployment.Deployment, m *meter, names []string, since time.Time) (all readers, err error) {
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if !since.IsZero() {
		if err := known(limited, d, names, since); err != nil {
			return nil, fmt.Errorf("wait until the edge has our market (is --kafka that of --ws?): %w", err)
		}
	}
	for i := range v.Clients {
		r, err := v.dial(limited, d, m, i, names)
		if r != nil {
			all = append(all, r)
		}
		if err != nil {
			return all, fmt.Errorf("client %d: %w", i+1, err)
		}
	}
	for i, r := range all {
		for _, t := range r.topics {
			if err := t.Wait(limited); err != nil {
				return all, fmt.Errorf("client %d: %v: %w", i+1, t, err)
			}
		}
	}
	return all, nil
}

// known waits until the edge has the books of our market as they are since it began; another run's may have been there.
func known(ctx context.Context, d *deployment.Deployment, names []string, since time.Time) error {
	for {
		list, err := client.Symbols(ctx, d.Client(), 300*time.Millisecond)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(names, func(sym string) bool { _, found := slices.BinarySearch(list, sym); return !found }) {
			break
		}
		if err := schedule.Pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	var fresh atomic.Int64
	seen := map[string]bool{} // of the callback alone
	cfg := d.Client()
	cfg.Handler.OnBook = func(b *client.Book, u *client.BookUpdate) {
		if !seen[b.Sym()] && u.Time >= market.FromTime(since) {
			seen[b.Sym()] = true
			fresh.Store(int64(len(seen)))
		}
	}
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // ends it, and never fails
	for _, sym := range names {
		if _, err := c.Book(sym, client.BookView{}); err != nil {
			return err
		}
	}
	for fresh.Load() < int64(len(names)) {
		if err := schedule.Pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d books: %w", fresh.Load(), len(names), err)
		}
	}
	return nil
}

// dial connects client i and subscribes to its choice.
func (v *Verify) dial(ctx context.Context, d *deployment.Deployment, m *meter, i int, names []string) (*reader, error) {
	r := &reader{number: i}
	cfg := d.Client()
	cfg.Encoding, cfg.Handler = v.encoding(i), r.handler(m, v.publishes())
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var dialer net.Dialer
		if n := len(d.Sources); n > 0 {
			dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(d.Sources[i%n])}
		}
		c, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &counted{Conn: c, read: &r.read}, nil
	}
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r.client = c
	random := rand.New(rand.NewPCG(v.Seed, uint64(i))) //nolint:gosec // a reproducible choice
	if v.Topics == Everything {
		return r, r.everything(random, names, v.Each)
	}
	for n, at := range random.Perm(len(names))[:min(v.Each, len(names))] {
		view := client.BookView{}
		if v.Topics == BooksInViews && n%2 == 1 {
			view = randomView(random)
		}
		if err := r.book(names[at], view); err != nil {
			return r, err
		}
		if v.Topics == BooksAndTrades {
			if err := r.trade(names[at], 0); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}
