// Package scenario measures the edges under load: the WebSocket's, and the public one with its event streams. A scenario starts the server and the clients in processes of
// their own, lets them run, and says what it saw: figures, and whether anything was wrong. Slow is not wrong: what is too
// much for the machine shows in the figures alone.
//
// Figures are medians of several runs, and where a floor is measured it and the edge take turns within each run: a shared
// machine's speed changes from second to second, and the ratio of neighbours stays.
package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// Report is what a scenario found.
type Report interface {
	// Table is for people: a compact table with a heading.
	Table() string
	// Err says what was wrong, if anything was.
	Err() error
}

// Where is the machine and the time that figures belong to.
type Where struct {
	Date  time.Time `json:"date"`
	Cores int       `json:"cores"`
	Go    string    `json:"go"`
	Load  string    `json:"load_average"` // before the run
}

// Here is where we are.
func Here() Where {
	return Where{Date: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Go: runtime.Version(), Load: proc.LoadAverage()}
}

// String is for the end of a heading.
func (w Where) String() string {
	return fmt.Sprintf("%s, %d cores, load average before %s, %s", w.Date.Format("2006-01-02 15:04"), w.Cores, w.Load, w.Go)
}

// WriteJSON writes a report to a file.
func WriteJSON(file string, r any) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o600)
}

// table lays out rows of cells.
func table(heading string, rows [][]string) string {
	var b strings.Builder
	b.WriteString(heading + "\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, r := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(r, "\t")+"\t") // into memory
	}
	_ = w.Flush() // into memory
	return b.String()
}

// median of values that are at hand; 0 of none.
func median[T int64 | float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// rig is a server with its clients, in processes of their own.
type rig struct {
	server *proc.Proc
	addr   string
	swarms []*proc.Proc
	counts []int // clients of each swarm
}

// setup is what a rig is made of.
type setup struct {
	target  target.Config
	clients []int // of each swarm
	each    int
	json    bool
	deflate bool
	rate    time.Duration // of event streams
	seed    uint64
	acks    bool
}

// split divides clients into swarms as the limit of open files asks.
func split(clients int) (all []int) {
	n := (clients + swarm.MaxClients - 1) / swarm.MaxClients
	for i := range n {
		all = append(all, clients/n+min(1, max(0, clients%n-i)))
	}
	return all
}

const connectDeadline = 90 * time.Second

// begin starts everything and connects the clients.
func begin(ctx context.Context, s setup) (*rig, error) {
	m, err := prepare(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := m.connect(); err != nil {
		m.kill()
		return nil, err
	}
	return m, nil
}

// prepare starts everything.
func prepare(ctx context.Context, s setup) (_ *rig, err error) {
	m := &rig{counts: s.clients}
	defer func() {
		if err != nil {
			m.kill()
		}
	}()
	s.target.Swarms = len(s.clients)
	var started target.Started
	if m.server, started, err = startTarget(ctx, s.target); err != nil {
		return nil, err
	}
	m.addr = started.Addr
	first := 0
	for i, n := range s.clients {
		cfg := swarm.Config{
			Number: i, Clients: n, First: first, Protocol: protocol(s.target.Kind), Channel: s.target.Channel, JSON: s.json, Deflate: s.deflate,
			SSE: s.target.SSE, Rate: s.rate, Topics: s.target.Topics, Symbols: s.target.Symbols, Base: started.Base, Each: s.each, Seed: s.seed,
		}
		if s.acks {
			cfg.Acks = started.Acks
		}
		p, err := proc.Start(ctx, swarm.Name)
		if err != nil {
			return nil, err
		}
		m.swarms = append(m.swarms, p)
		if err := p.Call("start", cfg, nil); err != nil {
			return nil, err
		}
		first += n
	}
	return m, nil
}

// protocol is what clients speak to a kind of server.
func protocol(kind string) string {
	if kind == target.Edge {
		return ""
	}
	return kind
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

func (m *rig) connect() error {
	arg := swarm.Connect{Addr: m.addr, AtOnce: 200, Deadline: connectDeadline}
	for _, p := range m.swarms {
		if err := p.Send("connect", arg); err != nil {
			return err
		}
	}
	for i, p := range m.swarms {
		var c swarm.Connected
		if err := p.Answer("connect", &c); err != nil {
			return err
		}
		if c.Ready < m.counts[i] {
			return fmt.Errorf("%d of %d clients connected, %d attempts failed: %s", c.Ready, m.counts[i], c.Failures, c.Why)
		}
	}
	return nil
}

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
	plan.Start = time.Now().Add(50 * time.Millisecond).UnixMicro()
	return m.server.Call("publish", plan, nil)
}

func (m *rig) stats() (s target.Stats, err error) {
	err = m.server.Call("stats", nil, &s)
	return s, err
}

// halt ends publishing.
func (m *rig) halt() (s target.Stats, err error) {
	err = m.server.Call("halt", nil, &s)
	return s, err
}

// await waits until the clients of a swarm have everything, and reports how many don't.
func await(ctx context.Context, p *proc.Proc, published uint64, limit time.Duration) (behind int, err error) {
	for deadline := time.Now().Add(limit); ; {
		var r swarm.Report
		if err := p.Call("report", swarm.Have{Published: published}, &r); err != nil {
			return 0, err
		}
		if r.Behind == 0 || time.Now().After(deadline) {
			return r.Behind, nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// end stops everything: the clients first, so that the server has nobody to send away.
func (m *rig) end() error {
	var errs []error
	for _, p := range m.swarms {
		errs = append(errs, p.Stop())
	}
	m.swarms = nil
	if m.server != nil {
		errs = append(errs, m.server.Stop())
		m.server = nil
	}
	return errors.Join(errs...)
}

// kill is end for when something has gone wrong.
func (m *rig) kill() {
	for _, p := range m.swarms {
		p.Kill()
	}
	if m.server != nil {
		m.server.Kill()
	}
	m.swarms, m.server = nil, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// faults counts what must not happen.
type faults struct {
	Gaps       int64  `json:"gaps"`        // messages that did not follow
	GapNotices int64  `json:"gap_notices"` // losses that were told
	Again      int64  `json:"again"`       // messages of event streams that came twice
	Closed     int64  `json:"closed"`      // connections that the server ended
	Malformed  int64  `json:"malformed"`
	Behind     int    `json:"behind"` // clients that did not get everything in the end
	Why        string `json:"why,omitempty"`
}

func (f *faults) add(r *swarm.Report) {
	f.Gaps += r.Gaps
	f.GapNotices += r.GapNotices
	f.Again += r.Again
	f.Closed += r.Closed
	f.Malformed += r.Malformed
	if r.Why != "" {
		f.Why = r.Why
	}
}

func (f *faults) err() error {
	if f.Gaps == 0 && f.GapNotices == 0 && f.Again == 0 && f.Closed == 0 && f.Malformed == 0 && f.Behind == 0 {
		return nil
	}
	return fmt.Errorf("%d messages did not follow, %d losses told, %d messages came twice, %d connections closed %s, %d messages malformed, %d clients without everything",
		f.Gaps, f.GapNotices, f.Again, f.Closed, f.Why, f.Malformed, f.Behind)
}
