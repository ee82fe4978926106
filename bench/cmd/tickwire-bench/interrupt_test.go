package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/bench/report"
)

// terminal is where a command's table goes. It tells once when wait says that it has come so far.
type terminal struct {
	mu   sync.Mutex
	text bytes.Buffer
	wait func(text string) bool
	seen chan struct{}
}

func (x *terminal) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n, err := x.text.Write(p)
	if x.wait != nil && x.wait(x.text.String()) {
		x.wait = nil
		close(x.seen)
	}
	return n, err
}

// interrupted runs a command in a process group of its own, as a shell does, sends ^C to all of that when wait says so, and
// returns the report that it has written nevertheless, what it printed, and its exit code.
func interrupted(t *testing.T, wait func(text string) bool, args ...string) (*report.Report, string, int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	screen := &terminal{wait: wait, seen: make(chan struct{})}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", append(args, "--json", file)...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = screen, screen, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return nil, "", -1
	}
	limit := time.AfterFunc(time.Minute, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer limit.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its exit code is looked at
	}()
	select {
	case <-screen.seen:
		for range 2 { // as timeout(1) does
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Error(err)
			}
		}
	case <-ended:
	}
	<-ended
	r, err := report.Read(file)
	if err != nil {
		r = nil
	}
	return r, screen.text.String(), cmd.ProcessState.ExitCode()
}

// sampled tells whether there has been a line with figures in a phase. Long names of phases are cut short.
func sampled(phase string) func(text string) bool {
	return func(text string) bool {
		for line := range strings.Lines(text) {
			if _, figures, in := strings.Cut(line, phase); in && len(strings.Fields(figures)) > 5 {
				return true
			}
		}
		return false
	}
}

// TestInterrupt: ^C ends what is measured, and what was measured until then is reported.
func TestInterrupt(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	light := strings.Fields("--clients 20 --topics 10 --each 3 --rate 500")
	heavy := strings.Fields("--clients 10 --instruments 20 --each 5 --rate 500")
	var some errgroup.Group
	some.SetLimit(3) // they sleep most of the time
	one := func(what, phase string, rows, runs int, args ...string) {
		r, text, code := interrupted(t, sampled(phase), args...)
		if r == nil || code != 3 || !strings.Contains(text, "it was interrupted after") {
			t.Errorf("%s: exit code %d\n%s", what, code, text)
			return
		}
		if strings.Contains(text, "flush 5") {
			t.Errorf("%s: another variant is begun\n%s", what, text)
		}
		if len(r.Rows) != rows {
			t.Errorf("%s: %d rows", what, len(r.Rows))
		}
		has(t, r, "delivered/s")
		for _, m := range r.Rows[0].Measures {
			if len(m.Runs) != runs {
				t.Errorf("%s: %s has %d runs", what, m.Name, len(m.Runs))
			}
			if report.KindOf(m.Name).Fault && m.Value() != 0 {
				t.Errorf("%s: %s is %v\n%s", what, m.Name, m.Runs, text)
			}
		}
		if sent := r.Rows[0].Measure("sent/s"); sent != nil && (sent.Value() < 400 || sent.Value() > 600) {
			t.Errorf("%s: %v messages/s were sent, of 500", what, sent.Runs)
		}
	}
	f := func(what, phase string, rows, runs int, load []string, command string) {
		some.Go(func() error {
			one(what, phase, rows, runs, append(strings.Fields(command), load...)...)
			return nil
		})
	}
	f("the only run", "run 1", 1, 1, light, "ws-fanout --duration 1h --repeat 3")
	f("the second of many runs", "run 2", 1, 2, light, "ws-fanout --duration 2s --repeat 500")
	f("with a floor", "run 1", 1, 1, light, "ws-fanout --duration 1h --repeat 3 --floor")
	f("the first of two variants", "20 clients, flush 0…", 1, 1, light, "ws-fanout --duration 1h --flush 0,5ms")
	f("the first of two stages", "20 clients, 500/s, …", 1, 1, light, "ws-fanout --stages 500x1h,600x1h")
	f("a count", "run 1", 1, 1, light, "ws-fanout --count 10000000")
	f("streams", "run 1", 1, 1, light, "sse-fanout --shape market --duration 1h")
	f("what has no window", "all read, run 2", 1, 1, light, "slow --settle 200ms --duration 1s --repeat 5")
	f("verifying clients", "run 1", 1, 1, heavy, "e2e --duration 1h")
	f("the second run of them", "run 2", 1, 2, heavy, "e2e --duration 2s --repeat 5")
	f("a market of its own", "run 1", 1, 1, heavy, "soak --duration 1h")
	_ = some.Wait() // they tell the test
}

// TestInterruptTooSoon: without figures there is no report.
func TestInterruptTooSoon(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	f := func(phase string, args ...string) {
		t.Helper()
		r, text, code := interrupted(t, func(text string) bool { return strings.Contains(text, phase) }, args...)
		if r != nil || code != 3 || !strings.Contains(text, "not measured: ") || !strings.Contains(text, "interrupt") {
			t.Errorf("%v: exit code %d\n%s", args, code, text)
		}
	}
	f("start 1", "e2e")
	f("warm up 1", "e2e", "--warmup", "1h", "--clients", "10")
	f("run 1", "ws-fanout", "--clients", "20", "--warmup", "1h")
	f("run 1", "idle", "--clients", "20", "--settle", "1h")
}
