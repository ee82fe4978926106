package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
// returns the report that it has written nevertheless, what it printed, and its exit code. Nothing may be left of it.
func interrupted(t *testing.T, wait func(text string) bool, args ...string) (*report.Report, string, int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	text, code := run(t, wait, func(pid int) {
		for range 2 { // as timeout(1) does
			if err := syscall.Kill(-pid, syscall.SIGINT); err != nil {
				t.Error(err)
			}
		}
	}, append(args, "--json", file)...)
	r, err := report.Read(file)
	if err != nil {
		r = nil
	}
	return r, text, code
}

// run runs a command, does something when it has come so far, and returns what it printed and its exit code.
func run(t *testing.T, wait func(text string) bool, then func(pid int), args ...string) (string, int) {
	t.Helper()
	screen := &terminal{wait: wait, seen: make(chan struct{})}
	cmd, temporary := exec.CommandContext(t.Context(), "/proc/self/exe", args...), t.TempDir()
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = screen, screen, &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary)
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return "", -1
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
		then(cmd.Process.Pid)
	case <-ended:
	}
	<-ended
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("%v: %v is left (%v)", args, left, err)
	}
	return screen.text.String(), cmd.ProcessState.ExitCode()
}

// sampled tells whether there have been so many lines with figures in a phase. Long names of phases are cut short.
func sampled(phase string, n int) func(text string) bool {
	return func(text string) bool {
		lines := 0
		for line := range strings.Lines(text) {
			if _, figures, in := strings.Cut(line, phase); in && len(strings.Fields(figures)) > 5 {
				lines++
			}
		}
		return lines >= n
	}
}

// TestInterrupt: ^C ends what is measured, and what was measured until then is reported.
func TestInterrupt(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	light := strings.Fields("--clients 20 --topics 10 --each 3 --rate 500")
	heavy := strings.Fields("--clients 10 --instruments 20 --each 5 --rate 500")
	var some errgroup.Group
	some.SetLimit(3) // they sleep most of the time
	one := func(what, phase string, samples, rows, runs int, args ...string) {
		r, text, code := interrupted(t, sampled(phase, samples), args...)
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
		sent, delivered := r.Rows[0].Measure("sent/s"), r.Rows[0].Measure("delivered/s").Value()
		if sent != nil && (sent.Value() < 400 || sent.Value() > 600) {
			t.Errorf("%s: %v messages/s were sent, of 500", what, sent.Runs)
		}
		if each := 20 * 3 / 10.; strings.Contains(args[0], "-fanout") && math.Abs(delivered-each*500) > each*100 {
			t.Errorf("%s: %v messages/s were delivered, of %v", what, delivered, each*500)
		}
	}
	f := func(what, phase string, samples, rows, runs int, load []string, command string) {
		some.Go(func() error {
			one(what, phase, samples, rows, runs, append(strings.Fields(command), load...)...)
			return nil
		})
	}
	f("the only run", "run 1", 1, 1, 1, light, "ws-fanout --duration 1h --repeat 3")
	f("the second of many runs", "run 2", 1, 1, 2, light, "ws-fanout --duration 2s --repeat 500")
	f("with a floor", "run 1", 2, 1, 1, light, "ws-fanout --duration 1h --repeat 3 --floor")
	f("the first of two variants", "20 clients, flush 0…", 1, 1, 1, light, "ws-fanout --duration 1h --flush 0,5ms")
	f("the first of two stages", "20 clients, 500/s, …", 1, 1, 1, light, "ws-fanout --stages 500x1h,600x1h")
	f("a count", "run 1", 1, 1, 1, light, "ws-fanout --count 10000000")
	f("streams", "run 1", 1, 1, 1, light, "sse-fanout --shape market --duration 1h")
	f("streams that gather", "20 clients, stream …", 2, 1, 1, light, "sse-fanout --shape market --stream 1s --duration 1h")
	f("what has no window", "all read, run 2", 1, 1, 1, light, "slow --settle 200ms --duration 1s --repeat 5")
	f("verifying clients", "run 1", 1, 1, 1, heavy, "e2e --duration 1h")
	f("the second run of them", "run 2", 1, 1, 2, heavy, "e2e --duration 2s --repeat 5")
	f("a market of its own", "run 1", 1, 1, 1, heavy, "soak --duration 1h")
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

// TestInterruptHung: what hangs is not waited for.
func TestInterruptHung(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	f := func(phase string, args ...string) {
		t.Helper()
		text, code := run(t, sampled(phase, 1), func(pid int) {
			for _, child := range children(t, pid) {
				if err := syscall.Kill(child, syscall.SIGSTOP); err != nil {
					t.Error(err)
				}
			}
			for range 2 { // a second apart
				if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
					t.Error(err)
				}
				time.Sleep(1500 * time.Millisecond)
			}
		}, args...)
		if code != 3 || !strings.Contains(text, "tickwire-bench: interrupted: not measured: ") {
			t.Errorf("%v: exit code %d\n%s", args, code, text)
		}
	}
	f("run 1", "ws-fanout", "--clients", "20", "--duration", "1h")
	f("run 1", "soak", "--clients", "10", "--duration", "1h")
}

// children are the processes that a process has started.
func children(t *testing.T, pid int) (all []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(lists) == 0 {
		t.Fatal(lists, err)
	}
	for _, list := range lists {
		b, _ := os.ReadFile(list) // the thread may have ended
		for child := range strings.FieldsSeq(string(b)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, n)
		}
	}
	return all
}

// TestInterruptSuite: of a step that is interrupted nothing is left, and what an earlier suite has found stays.
func TestInterruptSuite(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	dir := t.TempDir()
	earlier := filepath.Join(dir, "one-topic-saturated.json")
	if err := os.WriteFile(earlier, []byte("earlier"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, code := run(t, sampled("run 1", 2), func(pid int) {
		if err := syscall.Kill(-pid, syscall.SIGINT); err != nil {
			t.Error(err)
		}
	}, "suite", "--quick", "--only", "one-topic-saturated", "--dir", dir)
	if code != 3 || !strings.Contains(text, "interrupted") {
		t.Errorf("exit code %d\n%s", code, text)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v: %v", left, err)
	}
	holds(t, earlier, "earlier")
}
