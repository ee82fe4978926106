package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

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
}

func newMeter(m *rig) *meter {
	return &meter{clients: make([]proc.Usage, len(m.swarms)), counters: map[string]float64{}, ages: schedule.NewHistogram()}
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
		t.sum.Behind += behind
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
	t.sum.Faults.Add(m.earlier)
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
	t.sum.Faults.Add(s.Faults)
	return nil
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
	f := &t.sum
	for name, n := range map[string]int64{
		"gaps": f.Gaps, "lost": f.GapNotices, "repeated": f.Again, "closed": f.Closed, "malformed": f.Malformed, "missing": int64(f.Behind),
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
		Busy: all["client_busy"], Threads: 1, Waited: all["client_wait"], P50: max(all["p50"], all["age_p50"]), P99: max(all["p99"], all["age_p99"]),
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
