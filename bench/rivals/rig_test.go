package rivals

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// TestMain lets the test program be the parts that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != proc.Command {
		os.Exit(m.Run())
	}
	err := errors.New("no such part")
	switch os.Args[2] {
	case target.Name:
		err = target.Serve(os.Stdin, os.Stdout)
	case swarm.Name:
		err = swarm.Serve(os.Stdin, os.Stdout)
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
}

// rig is a publisher and clients, in processes of their own.
type rig struct {
	t         *testing.T
	topics    int
	publisher *proc.Proc
	clients   *proc.Proc
}

// child starts a part.
func child(t *testing.T, name string) *proc.Proc {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	p, err := proc.Start(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// newRig starts both and connects the clients.
func newRig(t *testing.T, to target.Config, from swarm.Config) *rig {
	t.Helper()
	to.Channel, to.Size, from.Channel, from.Topics, from.Seed, to.SSE = "trades", 80, "trades", to.Topics, 1, from.SSE
	from.JSON = !to.Binary
	r := &rig{t: t, topics: to.Topics}
	r.publisher, r.clients = child(t, target.Name), child(t, swarm.Name)
	var started target.Started
	r.call(r.publisher, "start", to, &started)
	r.call(r.clients, "start", from, nil)
	var c swarm.Connected
	r.call(r.clients, "connect", swarm.Connect{Addr: started.Addr, AtOnce: 20, Deadline: 10 * time.Second}, &c)
	if c.Ready != from.Clients {
		t.Fatalf("%d clients of %d are ready, %d attempts failed: %s", c.Ready, from.Clients, c.Failures, c.Why)
	}
	r.call(r.clients, "begin", nil, nil)
	return r
}

func (r *rig) call(p *proc.Proc, do string, arg, reply any) {
	r.t.Helper()
	if err := p.Call(do, arg, reply); err != nil {
		r.t.Fatal(err)
	}
}

// publish begins to publish so many messages per second, and so many in all; 0 is no end.
func (r *rig) publish(begin time.Time, rate float64, count uint64) {
	r.t.Helper()
	r.call(r.publisher, "publish", target.Plan{Start: begin.UnixMicro(), Schedule: schedule.Constant(rate), Count: count}, nil)
}

// more waits until so many more messages have been published.
func (r *rig) more(n uint64) {
	r.t.Helper()
	var before, now uint64
	r.call(r.publisher, "published", nil, &before)
	for deadline := time.Now().Add(10 * time.Second); now < before+n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d messages are published, and then no more than %d", before, now)
		}
		r.call(r.publisher, "published", nil, &now)
	}
}

// arrived waits until the clients have everything that was published.
func (r *rig) arrived(published uint64) (all swarm.Report, ages *hdrhistogram.Histogram) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r.call(r.clients, "report", swarm.Have{Published: published}, &all)
		if all.Behind == 0 || time.Now().After(deadline) {
			break
		}
	}
	ages, err := swarm.Decode(all.Histogram)
	if err != nil {
		r.t.Fatal(err)
	}
	return all, ages
}

// stop ends publishing.
func (r *rig) stop() (s target.Stats) {
	r.t.Helper()
	r.call(r.publisher, "halt", nil, &s)
	return s
}

// end stops both parts, which say then what they have kept to themselves.
func (r *rig) end() {
	r.t.Helper()
	if err := errors.Join(r.clients.Stop(), r.publisher.Stop()); err != nil {
		r.t.Error(err)
	}
}
