package proc_test

import (
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/proc"
)

// spin keeps a thread busy until it has had so much of a processor.
func spin(t *testing.T, d time.Duration) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := proc.ThreadUsage(syscall.Gettid())
	if err != nil {
		t.Fatal(err)
	}
	for {
		u, err := proc.ThreadUsage(syscall.Gettid())
		if err != nil {
			t.Fatal(err)
		}
		if u.Sub(before).CPU >= d {
			return
		}
	}
}

func TestUsage(t *testing.T) {
	before, err := proc.UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const busy = 50 * time.Millisecond
	spin(t, busy)
	for range 20 {
		time.Sleep(100 * time.Microsecond) // to be switched away from
	}
	after, err := proc.UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// A running thread is seen up to a tick late, at both looks.
	if u := after.Sub(before); u.CPU < busy/2 || u.CPU > time.Minute || u.Wait < 0 || u.Switches < 10 || u.RSS < 1<<20 {
		t.Errorf("%+v", u)
	}
}

// TestUsageWaits has more threads than processors: they must wait for each other.
func TestUsageWaits(t *testing.T) {
	const loop = "while :; do :; done"
	var first *exec.Cmd
	for range 2*runtime.NumCPU() + 1 {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", loop)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Wait() }) // killed by the context
		first = cmd
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		u, err := proc.UsageOf(first.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if u.CPU > 20*time.Millisecond && u.Wait > 10*time.Millisecond {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v of a process among too many", u)
		}
	}
}

func TestUsageOfNobody(t *testing.T) {
	if _, err := proc.UsageOf(1 << 30); err == nil || !strings.Contains(err.Error(), "process 1073741824") {
		t.Error(err)
	}
}

func TestWatch(t *testing.T) {
	w := proc.NewWatch(os.Getpid())
	spin(t, 20*time.Millisecond)
	if cpu, rss := w.Next(); !(cpu > 0) || cpu > 100*float64(runtime.NumCPU()+1) || rss < 1 {
		t.Errorf("%.1f %%, %.1f MiB", cpu, rss)
	}
	for _, pid := range []int{0, 1 << 30} {
		if cpu, rss := proc.NewWatch(pid).Next(); !math.IsNaN(cpu) || !math.IsNaN(rss) {
			t.Errorf("process %d: %.1f %%, %.1f MiB", pid, cpu, rss)
		}
	}
}

// TestTreeUsage has a child do the work, as servers with workers have.
func TestTreeUsage(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "(while :; do :; done) & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // the child too
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // killed by the context
	pid := cmd.Process.Pid
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		all, err := proc.TreeUsage(pid)
		if err != nil {
			t.Fatal(err)
		}
		if own, err := proc.UsageOf(pid); err == nil && all.CPU > own.CPU+100*time.Millisecond && all.RSS > own.RSS {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v of a process whose child works", all)
		}
	}
	if !proc.Alive(pid) || proc.Alive(1<<30) {
		t.Error("who is there?")
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); proc.Alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a process that was killed, and that nobody has waited for, is alive")
		}
	}
}

// TestUsageOfEndedThreads has a thread end that has worked.
func TestUsageOfEndedThreads(t *testing.T) {
	const busy = 300 * time.Millisecond
	var before proc.Usage
	tid := os.Getpid()
	for tid == os.Getpid() { // the first thread does not end: it is parked, and the next goroutine has another one
		var err error
		if before, err = proc.UsageOf(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		var working sync.WaitGroup
		working.Go(func() {
			runtime.LockOSThread() // and never unlock it: the thread ends with the goroutine
			tid = syscall.Gettid()
			spin(t, busy)
		})
		working.Wait()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := proc.ThreadUsage(tid); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the thread does not end")
		}
	}
	after, err := proc.UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if used := after.Sub(before).CPU; used < busy*8/10 || used > 10*busy {
		t.Errorf("%v used", used)
	}
}
