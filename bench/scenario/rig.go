package scenario

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// rig is a system under test, who publishes to it, and its clients: in processes of their own.
type rig struct {
	load   *Load
	pub    *proc.Proc             // the publisher; the edge alone, and the floor, are fed by hand and so are this process too
	system *deployment.Deployment // nil when the publisher is the server
	pid    int                    // of the server; 0 when it can't be looked at
	looks  bool                   // at a market that runs already: nothing is published
	addr   string
	swarms []*proc.Proc
	counts []int // clients of each swarm
	watch  *proc.Watch

	connected swarm.Connected // how begin went
	start     time.Time       // when the first message of the plan is due
	earlier   swarm.Faults    // of what nobody measures, warm-ups: they are faults nevertheless
}

// split divides clients into swarms as the limit of open files asks.
func (l *Load) split(clients int) (all []int) {
	most := swarm.MaxClients
	if l.Deployment.Secure() {
		most = swarm.MaxSecureClients
	}
	n := (clients + most - 1) / most
	for i := range n {
		all = append(all, clients/n+min(1, max(0, clients%n-i)))
	}
	return all
}

const connectDeadline = 90 * time.Second

// begin starts everything and connects the clients.
func (l *Load) begin(ctx context.Context, kind string, clients []int) (*rig, error) {
	m, err := l.prepare(ctx, kind, clients)
	if err != nil {
		return nil, err
	}
	if m.connected, err = m.connect(); err != nil {
		m.kill()
		return nil, err
	}
	return m, nil
}

// prepare starts everything. Kind is target.Edge for the system under test, or target.Floor.
func (l *Load) prepare(ctx context.Context, kind string, clients []int) (_ *rig, err error) {
	m := &rig{load: l, counts: clients}
	defer func() {
		if err != nil {
			m.kill()
		}
	}()
	cfg := l.target()
	cfg.Kind, cfg.Swarms, cfg.Binary = kind, len(clients), l.Format == "sbe"
	if kind == target.Edge && !l.alone() {
		if m.system, err = l.open(ctx); err != nil {
			return nil, err
		}
		if err := l.aim(ctx, &cfg, m.system); err != nil {
			return nil, err
		}
		m.pid, m.looks = m.system.PID, cfg.Kind == target.None
	}
	var started target.Started
	if m.pub, started, err = startTarget(ctx, cfg); err != nil {
		return nil, err
	}
	if m.system == nil {
		m.pid = m.pub.Pid()
	}
	m.addr, m.watch = started.Addr, proc.NewWatch(m.pid)
	first := 0
	for i, n := range clients {
		c := swarm.Config{
			Number: i, Clients: n, First: first, Channel: l.Channel, JSON: l.Format == "json" && kind != target.Floor,
			Deflate: l.Compress && kind != target.Floor, SSE: l.sse(), Rate: l.Stream, Topics: l.Topics, Symbols: cfg.Symbols, Base: started.Base,
			Each: l.Each, Seed: l.Seed, Acks: started.Acks, Aged: m.looks,
			Sources: l.Deployment.Sources, Token: l.Deployment.Token, Insecure: l.Deployment.Insecure,
		}
		if rival := &l.Deployment.Rival; kind == target.Floor {
			c.Protocol = target.Floor
		} else {
			c.Protocol, c.TopicName, c.SubscribeMessage = rival.Protocol, rival.TopicName, rival.SubscribeMessage
		}
		if l.Topics > 1 {
			c.Acks = ""
		}
		p, err := proc.Start(ctx, swarm.Name)
		if err != nil {
			return nil, err
		}
		m.swarms = append(m.swarms, p)
		if err := p.Call("start", c, nil); err != nil {
			return nil, err
		}
		first += n
	}
	return m, nil
}

// open opens the deployment, and starts one if none is named.
func (l *Load) open(ctx context.Context) (*deployment.Deployment, error) {
	flush, shards := l.Flush.String(), fmt.Sprint(l.Shards)
	return deployment.Open(ctx, l.Deployment, "--webhook-addr", "", "--rest-rate", "0",
		"--ws-flush", flush, "--sse-flush", flush, "--ws-shards", shards, "--sse-shards", shards)
}

// aim has the publisher publish to a deployment, or nothing where a market runs already. There may be fewer instruments than
// topics were asked for.
func (l *Load) aim(ctx context.Context, cfg *target.Config, d *deployment.Deployment) (err error) {
	cfg.Kind, cfg.Kafka, cfg.Subscribe = target.None, d.Kafka, d.WS
	if len(d.Kafka.Brokers) > 0 {
		cfg.Kind = target.Kafka
	}
	if l.sse() {
		cfg.Subscribe = d.SSE
	}
	if d.Rival.Protocol != "" {
		d.Rival.Aim(cfg)
		cfg.Insecure = d.Insecure
		cfg.Symbols = d.Symbols // without any, the lab's
		return nil
	}
	cfg.Symbols, err = d.Instruments(ctx, l.Topics)
	cfg.Topics = len(cfg.Symbols)
	l.Topics, l.Each = cfg.Topics, min(l.Each, cfg.Topics)
	return err
}

func startTarget(ctx context.Context, cfg target.Config) (*proc.Proc, target.Started, error) {
	var started target.Started
	p, err := proc.Start(ctx, target.Name)
	if err != nil {
		return nil, started, err
	}
	if err := p.Call("start", cfg, &started); err != nil {
		p.Kill()
		return nil, started, err
	}
	return p, started, nil
}

// connect connects the clients, and tells how long it took and how many attempts failed.
func (m *rig) connect() (all swarm.Connected, err error) {
	arg := swarm.Connect{Addr: m.addr, AtOnce: 200, PerSecond: m.load.ConnectRate / float64(len(m.swarms)), Deadline: connectDeadline}
	if rate := m.load.ConnectRate; rate > 0 {
		arg.Deadline += time.Duration(float64(m.clients()) / rate * float64(time.Second))
	}
	for _, p := range m.swarms {
		if err := p.Send("connect", arg); err != nil {
			return all, err
		}
	}
	for i, p := range m.swarms {
		var c swarm.Connected
		if err := p.Answer("connect", &c); err != nil {
			return all, err
		}
		if c.Ready < m.counts[i] {
			return all, fmt.Errorf("%d of %d clients connected, %d attempts failed: %s", c.Ready, m.counts[i], c.Failures, c.Why)
		}
		all.Ready += c.Ready
		all.Failures += c.Failures
		all.Elapsed = max(all.Elapsed, c.Elapsed)
	}
	return all, nil
}

// connectRate is how many clients per second were ready.
func connectRate(c swarm.Connected) float64 { return float64(c.Ready) / max(1e-3, c.Elapsed.Seconds()) }

// each asks every swarm.
func (m *rig) each(do string) error {
	for _, p := range m.swarms {
		if err := p.Call(do, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// publish begins a plan in a moment.
func (m *rig) publish(plan target.Plan) error {
	m.start = time.Now().Add(50 * time.Millisecond)
	plan.Start = m.start.UnixMicro()
	return m.pub.Call("publish", plan, nil)
}

// published is how many messages there have been so far. Unlike stats it costs the server nothing.
func (m *rig) published() (n uint64, err error) {
	err = m.pub.Call("published", nil, &n)
	return n, err
}

func (m *rig) stats() (s target.Stats, err error) {
	err = m.pub.Call("stats", nil, &s)
	return s, err
}

// halt ends publishing.
func (m *rig) halt() (s target.Stats, err error) {
	err = m.pub.Call("halt", nil, &s)
	return s, err
}

// meter is what was measured of a rig, over one or several spells.
type meter struct {
	seconds   float64
	server    proc.Usage // known when pid is
	clients   []proc.Usage
	published uint64
	counters  map[string]float64 // of a server that is fed by hand
	mallocs   uint64
	late      time.Duration // p99 of the publisher, of the worst spell
	rss       int64
	sum       swarm.Report // of all clients
	ages      *hdrhistogram.Histogram
	faults    swarm.Faults
	behind    int // clients that did not get everything in the end
}

func newMeter(m *rig) *meter {
	return &meter{clients: make([]proc.Usage, len(m.swarms)), counters: map[string]float64{}, ages: swarm.NewHistogram()}
}

// reset has the clients forget what they have measured, and measure nothing yet. Faults are not forgotten.
func (m *rig) reset() error {
	for _, p := range m.swarms {
		var forgotten swarm.Report
		if err := p.Call("begin", nil, &forgotten); err != nil {
			return err
		}
		m.earlier.Add(forgotten.Faults)
	}
	return m.each("off")
}

// spell measures for a while, with a sample each second unless rec is nil.
func (m *rig) spell(ctx context.Context, t *meter, rec *report.Recorder, d time.Duration) error {
	return m.measured(t, func() error {
		if rec == nil {
			return schedule.Pause(ctx, d)
		}
		return m.until(ctx, rec, time.Now().Add(d), 0)
	})
}

// countLimit bounds a run that is to end by its count.
const countLimit = time.Hour

// counted measures so many messages, from the first one's due time until all clients have the last one.
func (m *rig) counted(ctx context.Context, t *meter, rec *report.Recorder, plan target.Plan) error {
	return m.measured(t, func() error {
		before, err := m.published()
		if err != nil {
			return err
		}
		if err := m.during(plan, func() error {
			return m.until(ctx, rec, time.Now().Add(countLimit), before+plan.Count)
		}); err != nil {
			return err
		}
		for _, p := range m.swarms {
			if _, err := m.behind(ctx, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// measured adds to the meter what happens while something is done.
func (m *rig) measured(t *meter, do func() error) error {
	if err := m.pub.Call("begin", nil, nil); err != nil { // how late it was before is no part of it
		return err
	}
	before, err := m.stats()
	if err != nil {
		return err
	}
	clients, err := m.clientUsage() // the server's last: between it and what clients count should be nothing
	if err != nil {
		return err
	}
	server, err := m.serverUsage()
	if err != nil {
		return err
	}
	if err := m.each("on"); err != nil {
		return err
	}
	first, err := m.published()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	last, err := m.published()
	if err != nil {
		return err
	}
	if err := m.each("off"); err != nil {
		return err
	}
	t.published += last - first
	ended := time.Now()
	if m.start.After(began) { // it was do that began to publish
		began = m.start
	}
	t.seconds += max(0, ended.Sub(began)).Seconds()
	return m.account(t, &before, server, clients)
}

// until takes samples until a time, or until so many messages have been published, unless that is 0.
func (m *rig) until(ctx context.Context, rec *report.Recorder, end time.Time, last uint64) error {
	samples, err := newSampler(m, m.swarms)
	if err != nil {
		return err
	}
	every := time.Second
	if last > 0 {
		every = 10 * time.Millisecond
	}
	for time.Now().Before(end) {
		if err := schedule.Pause(ctx, min(every, time.Until(end))); err != nil {
			return err
		}
		if last > 0 {
			n, err := m.published()
			if err != nil || n >= last {
				return err
			}
			if time.Since(samples.at) < time.Second {
				continue
			}
		}
		s, err := samples.next()
		if err != nil {
			return err
		}
		rec.Sample(s)
		if s.Clients == 0 {
			return errors.New("the server has ended all connections")
		}
	}
	return nil
}

// serverUsage is what the server has used so far; nothing when it can't be looked at.
func (m *rig) serverUsage() (proc.Usage, error) {
	if m.pid == 0 {
		return proc.Usage{}, nil
	}
	return proc.TreeUsage(m.pid)
}

// clientUsage is what the swarms have used so far.
func (m *rig) clientUsage() (all []proc.Usage, err error) {
	for _, p := range m.swarms {
		u, err := proc.UsageOf(p.Pid())
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// account adds what was used since.
func (m *rig) account(t *meter, before *target.Stats, server proc.Usage, clients []proc.Usage) error {
	nowServer, err := m.serverUsage()
	if err != nil {
		return err
	}
	nowClients, err := m.clientUsage()
	if err != nil {
		return err
	}
	after, err := m.stats()
	if err != nil {
		return err
	}
	used := nowServer.Sub(server)
	t.server.CPU += used.CPU
	t.server.Wait += used.Wait
	t.server.Switches += used.Switches
	t.rss = nowServer.RSS
	for i := range clients {
		used := nowClients[i].Sub(clients[i])
		t.clients[i].CPU += used.CPU
		t.clients[i].Wait += used.Wait
		t.clients[i].Switches += used.Switches
	}
	t.late = max(t.late, after.LateP99)
	for name, n := range after.Counters {
		t.counters[name] += n - before.Counters[name]
	}
	t.mallocs += after.MallocsBefore - before.MallocsAfter
	return nil
}

// collect takes what some of the clients saw since reset, when everything has arrived.
func (m *rig) collect(ctx context.Context, t *meter, swarms []*proc.Proc) error {
	for _, p := range swarms {
		behind, err := m.behind(ctx, p)
		if err != nil {
			return err
		}
		t.behind += behind
		if err := t.add(p); err != nil {
			return err
		}
	}
	m.unmeasured(t)
	return m.silent(t)
}

// silent is an error when a market that runs already has sent nothing while it was measured.
func (m *rig) silent(t *meter) error {
	if m.looks && t.seconds > 0 && t.sum.Messages == 0 {
		return fmt.Errorf("nothing has come from the market in %.1f s", t.seconds)
	}
	return nil
}

// seen takes what all clients have seen so far.
func (m *rig) seen(t *meter) error {
	for _, p := range m.swarms {
		if err := t.add(p); err != nil {
			return err
		}
	}
	m.unmeasured(t)
	return nil
}

// unmeasured adds the faults of what was not measured.
func (m *rig) unmeasured(t *meter) {
	t.faults.Add(m.earlier)
	m.earlier = swarm.Faults{}
}

// add takes what the clients of a swarm have seen. Faults are taken once.
func (t *meter) add(p *proc.Proc) error {
	var s swarm.Report
	if err := p.Call("report", swarm.Have{Take: true}, &s); err != nil {
		return err
	}
	h, err := swarm.Decode(s.Histogram)
	if err != nil {
		return err
	}
	t.ages.Merge(h)
	t.sum.Messages += s.Messages
	t.sum.Updates += s.Updates
	t.sum.Bytes += s.Bytes
	t.sum.Lags += s.Lags
	t.sum.Early += s.Early
	t.faults.Add(s.Faults)
	return nil
}

// clients is how many there are.
func (m *rig) clients() (n int) {
	for _, c := range m.counts {
		n += c
	}
	return n
}

// behind waits until the clients of a swarm have everything, and reports how many don't after a while.
func (m *rig) behind(ctx context.Context, p *proc.Proc) (int, error) {
	stats, err := m.stats()
	if err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		var r swarm.Report
		if err := p.Call("report", swarm.Have{Published: stats.Published}, &r); err != nil {
			return 0, err
		}
		if r.Behind == 0 || time.Now().After(deadline) {
			return r.Behind, nil
		}
		if err := schedule.Pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// sampler takes samples of a rig.
type sampler struct {
	rig       *rig
	swarms    []*proc.Proc // whose clients are looked at
	at        time.Time
	published uint64
	updates   int64
	latest    *hdrhistogram.Histogram // of the last sample
}

// newSampler begins: what was measured before is not in its first sample.
func newSampler(m *rig, swarms []*proc.Proc) (*sampler, error) {
	s := &sampler{rig: m, swarms: swarms, at: time.Now(), latest: swarm.NewHistogram()}
	_, err := s.next()
	return s, err
}

// next takes one.
func (s *sampler) next() (out report.Sample, err error) {
	s.latest.Reset()
	var updates int64
	for _, p := range s.swarms {
		var one swarm.Sample
		if err := p.Call("sample", nil, &one); err != nil {
			return out, err
		}
		h, err := swarm.Decode(one.Histogram)
		if err != nil {
			return out, err
		}
		s.latest.Merge(h)
		updates += one.Updates
		out.Clients += one.Connected
		out.Faults += one.Sum()
	}
	published, err := s.rig.published()
	if err != nil {
		return out, err
	}
	if s.rig.pid > 0 && !proc.Alive(s.rig.pid) {
		return out, fmt.Errorf("the server, process %d, has ended", s.rig.pid)
	}
	now := time.Now()
	elapsed := now.Sub(s.at).Seconds()
	out.Sent, out.Delivered = float64(published-s.published)/elapsed, float64(updates-s.updates)/elapsed
	out.P50, out.P99, out.Max = math.NaN(), math.NaN(), math.NaN()
	if s.latest.TotalCount() > 0 {
		out.P50, out.P99, out.Max = ms(s.latest, 50), ms(s.latest, 99), float64(s.latest.Max())/1000
	}
	out.CPU, out.RSS = s.rig.watch.Next()
	s.at, s.published, s.updates = now, published, updates
	return out, nil
}

func ms(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }

// perUpdate is the server's µs per delivery. What it sends beside the market's messages, a heartbeat per client and second
// first of all, are deliveries too, where they can be counted.
func (t *meter) perUpdate() float64 {
	return float64(t.server.CPU.Nanoseconds()) / 1000 / max(1, float64(t.sum.Updates)+max(0, t.counters[target.Frames]-float64(t.sum.Messages)))
}

// measures are the figures of a run by their names in report.Kinds.
func (t *meter) measures(m *rig) map[string]float64 {
	updates, messages := float64(max(1, t.sum.Updates)), float64(max(1, t.sum.Messages))
	all := map[string]float64{
		"sent/s": float64(t.published) / t.seconds, "delivered/s": float64(t.sum.Updates) / t.seconds, "messages/s": float64(t.sum.Messages) / t.seconds,
		"bytes": float64(t.sum.Bytes) / updates, "lag_notices": float64(t.sum.Lags),
	}
	report.Latencies(all, t.ages)
	all["publisher_lag"] = float64(t.late.Microseconds()) / 1000
	t.wrongs(all)
	if m.looks {
		aged(all)
	}
	if m.pid > 0 {
		all["cpu"], all["busy"] = t.perUpdate(), 100*t.server.CPU.Seconds()/t.seconds
		all["switches"], all["rss"] = 1000*float64(t.server.Switches)/updates, float64(t.rss)/(1<<20)
	}
	if m.system == nil {
		sent := t.counters[target.Frames]
		if m.load.sse() { // a chunk has as many events as were gathered
			sent = updates
		}
		all["per_write"], all["allocs"] = sent/max(1, t.counters[target.Writes]), float64(t.mallocs)/updates
	}
	var busiest, cpu, wait float64
	for _, c := range t.clients {
		cpu += c.CPU.Seconds()
		busiest = max(busiest, c.CPU.Seconds()/t.seconds)
		wait = max(wait, c.Wait.Seconds()/max(1e-9, (c.CPU+c.Wait).Seconds()))
	}
	all["client_cpu"], all["client_busy"], all["client_wait"] = 1e6*cpu/messages, 100*busiest, 100*wait
	return all
}

// wrongs adds what must not happen.
func (t *meter) wrongs(all map[string]float64) {
	f := &t.faults
	for name, n := range map[string]int64{
		"gaps": f.Gaps, "lost": f.GapNotices, "repeated": f.Again, "closed": f.Closed, "malformed": f.Malformed, "missing": int64(t.behind),
	} {
		all[name] = float64(n)
	}
}

// aged makes what was measured of somebody else's market what it is: nobody knows when its messages were meant to be sent, and
// how many there were. Their age is against the event's own time, by the clock of who made it.
func aged(all map[string]float64) {
	for from, to := range map[string]string{"p50": "age_p50", "p99": "age_p99", "max": "age_max"} {
		if v, ok := all[from]; ok {
			all[to] = v
		}
	}
	for _, name := range []string{"sent/s", "p50", "p90", "p99", "p99.9", "p99.99", "max", "publisher_lag", "missing"} {
		delete(all, name)
	}
}

// notes says when the clients may have been the bottleneck, once for a row. What the publisher puts together on purpose is not
// its lag.
func (t *meter) notes(row *report.Row, all map[string]float64) {
	g := report.LoadGenerator{
		Busy: all["client_busy"], Threads: 1, Waited: all["client_wait"], P50: all["p50"], P99: all["p99"],
		PublisherLag: max(0, all["publisher_lag"]-float64(target.Pace)/float64(time.Millisecond)),
	}
	for _, c := range t.clients {
		g.Wait = max(g.Wait, 1000*c.Wait.Seconds()/float64(max(1, c.Switches))) // each switch away from a thread is followed by a wait
	}
	once := func(subject, note string) {
		if !slices.ContainsFunc(row.Notes, func(n string) bool { return strings.Contains(n, subject) }) {
			row.Notes = append(row.Notes, note)
		}
	}
	if note := g.Bottleneck(); note != "" {
		once("bottleneck", note)
	}
	if merged := 1 - float64(t.sum.Messages)/max(1, float64(t.sum.Updates)); merged > 0.01 {
		once("merged", fmt.Sprintf("%.0f %% of the updates came merged with later ones: latencies are of the latest in each message", 100*merged))
	}
	if early := float64(t.sum.Early) / max(1, float64(t.sum.Messages)); early > 0.001 {
		once("clock", fmt.Sprintf("%.1f %% of the messages came before their own time: their maker's clock is ahead of this machine's, and ages are too low", 100*early))
	}
}

// during publishes while something is done.
func (m *rig) during(plan target.Plan, do func() error) error {
	if err := m.publish(plan); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	_, err := m.halt()
	return err
}

// end stops everything: the clients first, so that the server has nobody to send away.
func (m *rig) end() error {
	var errs []error
	for _, p := range m.swarms {
		errs = append(errs, p.Stop())
	}
	m.swarms = nil
	if m.pub != nil {
		errs = append(errs, m.pub.Stop())
		m.pub = nil
	}
	if m.system != nil {
		errs = append(errs, m.system.Close())
		m.system = nil
	}
	return errors.Join(errs...)
}

// kill is end for when something has gone wrong.
func (m *rig) kill() {
	for _, p := range m.swarms {
		p.Kill()
	}
	if m.pub != nil {
		m.pub.Kill()
	}
	if m.system != nil {
		_ = m.system.Close() // there is another error already
	}
	m.swarms, m.pub, m.system = nil, nil, nil
}
