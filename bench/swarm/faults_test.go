package swarm

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
)

// TestNothingIsForgotten has faults before the measurement and in it: each is told once.
func TestNothingIsForgotten(t *testing.T) {
	s, c := newSwarm("trades", false)
	feed(t, s, c, 1000, append(trade(false, 0, 1), trade(false, 4, 5)...))
	if r := s.begin(); r.Gaps != 1 || r.Messages != 2 {
		t.Errorf("forgotten: %+v", r)
	}
	feed(t, s, c, 1000, append(trade(false, 8, 9), trade(false, 8, 9)...))
	if r := s.report; r.Gaps != 1 || r.Again != 1 || r.Messages != 1 {
		t.Errorf("%+v", r)
	}
	if s.report.forgive(); s.report.Gaps != 0 || s.report.Messages != 1 {
		t.Errorf("%+v", s.report)
	}
}

// TestEarly has a message that comes before its own time.
func TestEarly(t *testing.T) {
	s, c := newSwarm("trades", false)
	s.follow(c, message{topic: 1, seq: 1, due: time.Now().Add(time.Hour).UnixMicro()}, time.Now().UnixMicro())
	s.follow(c, message{topic: 1, prev: 1, seq: 2, due: time.Now().UnixMicro() - 5}, time.Now().UnixMicro())
	if s.report.Early != 1 || s.report.Messages != 2 {
		t.Errorf("%+v", s.report)
	}
}

// TestWindows has messages arrive long after the turn in which they were due, when the next one has begun or is over: each of
// a turn is measured, none between them.
func TestWindows(t *testing.T) {
	s, c := newSwarm("trades", false)
	s.begin()
	s.windows = nil
	var due []int64
	for range 2 { // turns
		s.measure(true)
		time.Sleep(2 * time.Millisecond)
		due = append(due, time.Now().UnixMicro())
		time.Sleep(2 * time.Millisecond)
		s.measure(false)
		time.Sleep(2 * time.Millisecond)
		due = append(due, time.Now().UnixMicro()) // not measured
		time.Sleep(2 * time.Millisecond)
	}
	for i, at := range due {
		s.follow(c, message{topic: 1, prev: uint64(i), seq: uint64(i + 1), due: at}, time.Now().UnixMicro())
	}
	if n := s.hist.TotalCount(); n != 2 {
		t.Errorf("%d messages are measured, and 2 were due", n)
	}
}

// TestMute connects to a server that says nothing, which must be known before anybody's patience ends.
func TestMute(t *testing.T) {
	t.Parallel() // it waits most of the time
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }() // nobody is to answer
	p := part(t, Name)
	call[any](t, p, "start", Config{Clients: 3, Channel: "trades", Topics: 1, Each: 1})
	err = p.Call("connect", Connect{Addr: ln.Addr().String(), AtOnce: 2, Deadline: time.Minute}, nil)
	if err == nil || !strings.Contains(err.Error(), "nothing has come for") {
		t.Error(err)
	}
}

// TestLoss breaks a connection: who was on it does not have everything, and that is seen.
func TestLoss(t *testing.T) {
	t.Parallel()
	ss, err := exec.LookPath("ss")
	if err != nil {
		t.Skip("no ss to break connections with")
	}
	server, p := part(t, target.Name), part(t, Name)
	started := call[target.Started](t, server, "start", target.Config{Kind: target.Edge, Topics: 4, Channel: "trades", Size: 80, Swarms: 1})
	call[any](t, p, "start", Config{Clients: 5, Channel: "trades", Topics: 4, Each: 4})
	if c := call[Connected](t, p, "connect", Connect{Addr: started.Addr, Deadline: 20 * time.Second}); c.Ready != 5 {
		t.Fatalf("%+v", c)
	}
	call[Report](t, p, "begin", nil)
	call[any](t, server, "publish", target.Plan{Schedule: schedule.Constant(1000), Start: time.Now().UnixMicro()})
	out, err := exec.CommandContext(t.Context(), ss, "-K", "-tn", "src", started.Addr).CombinedOutput() //nolint:gosec // the connections of our own server
	if err != nil || strings.Contains(string(out), "not permitted") {
		t.Skipf("connections can't be broken here: %v %s", err, out)
	}
	await(t, "a connection is gone", func() bool { return call[Report](t, p, "report", Have{}).Closed > 0 })
	then := call[target.Stats](t, server, "stats", nil).Published
	await(t, "more is published", func() bool { return call[target.Stats](t, server, "stats", nil).Published > then+20 })
	stats := call[target.Stats](t, server, "halt", nil)
	if r := call[Report](t, p, "report", Have{Published: stats.Published, Take: true}); r.Behind == 0 || r.Closed == 0 {
		t.Errorf("%+v", r)
	}
	if r := call[Report](t, p, "report", Have{Published: stats.Published}); r.Behind == 0 || r.Closed != 0 {
		t.Errorf("taken already, and missing still: %+v", r)
	}
}
