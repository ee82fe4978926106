package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/proc"
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
	cut    <-chan struct{} // closed when the user wants what is measured to end; nil never is

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

// clients is how many there are.
func (m *rig) clients() (n int) {
	for _, c := range m.counts {
		n += c
	}
	return n
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
