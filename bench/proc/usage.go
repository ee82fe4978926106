package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has had of the machine so far.
type Usage struct {
	CPU      time.Duration // in which its threads ran
	Wait     time.Duration // in which they could have run, but no processor was free
	Switches int64         // of context, wanted and unwanted
	RSS      int64         // bytes, now

	gone time.Duration // that threads used which have ended, to some hundredths of a second
}

// UsageOf reads a process's usage from Linux's /proc (proc_pid_schedstat(5), proc_pid_status(5)), over the threads that it
// has now. What ended threads used is known of the CPU time alone. A running thread's time is as old as the last tick.
func UsageOf(pid int) (u Usage, err error) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		return u, fmt.Errorf("usage of process %d: %w", pid, err)
	}
	for _, t := range threads {
		one, err := usage(dir + "/" + t.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return u, fmt.Errorf("usage of process %d: %w", pid, err)
		}
		u.CPU, u.Wait, u.Switches, u.RSS = u.CPU+one.CPU, u.Wait+one.Wait, u.Switches+one.Switches, one.RSS
	}
	if gone := CPU(pid) - u.CPU; gone > 0 {
		u.gone = gone
	}
	return u, nil
}

// TreeUsage is UsageOf for a process and its children together: a server such as nginx works in children. Memory that they share counts
// for each.
func TreeUsage(pid int) (u Usage, err error) {
	if u, err = UsageOf(pid); err != nil {
		return u, err
	}
	for _, child := range children(pid) {
		one, err := TreeUsage(child)
		if err != nil {
			continue // it has ended meanwhile
		}
		u.CPU, u.gone, u.Wait, u.Switches, u.RSS = u.CPU+one.CPU, u.gone+one.gone, u.Wait+one.Wait, u.Switches+one.Switches, u.RSS+one.RSS
	}
	return u, nil
}

// children are a process's own.
func children(pid int) (all []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is good
	for _, f := range files {
		b, err := os.ReadFile(f) //nolint:gosec // the kernel's
		if err != nil {
			continue // the thread has ended meanwhile
		}
		for _, s := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(s); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// Alive tells whether a process is there, and has not ended.
func Alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	i := bytes.LastIndexByte(b, ')') // behind the program's name
	return i >= 0 && len(b) > i+2 && b[i+2] != 'Z' && b[i+2] != 'X'
}

// usage reads the files of one thread. Its RSS is that of its process.
func usage(dir string) (u Usage, err error) {
	stat, err := os.ReadFile(dir + "/schedstat") //nolint:gosec // the kernel's
	if err != nil {
		return u, err
	}
	if _, err := fmt.Sscan(string(stat), &u.CPU, &u.Wait); err != nil {
		return u, fmt.Errorf("%s/schedstat: %w", dir, err)
	}
	status, err := os.ReadFile(dir + "/status") //nolint:gosec // the kernel's
	if err != nil {
		return u, err
	}
	u.RSS = field(status, "VmRSS:") << 10
	u.Switches = field(status, "\nvoluntary_ctxt_switches:") + field(status, "nonvoluntary_ctxt_switches:")
	return u, nil
}

// field is the number behind a name in a status file; 0 when it is not there.
func field(status []byte, name string) int64 {
	_, rest, _ := strings.Cut(string(status), name)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64) // the kernel's own number
	return n
}

// coarse is by how much the time of the whole process, in ticks, may differ from that of its threads although none has ended.
const coarse = 50 * time.Millisecond

// Sub is what was used since an earlier look. RSS stays as it is.
func (u Usage) Sub(before Usage) Usage {
	if ended := u.gone - before.gone; ended > coarse {
		u.CPU += ended
	}
	u.CPU, u.Wait, u.Switches = u.CPU-before.CPU, u.Wait-before.Wait, u.Switches-before.Switches
	return u
}

// Watch looks at a process and its children now and then.
type Watch struct {
	pid  int
	last Usage
	at   time.Time
}

// NewWatch begins. With pid 0 nothing can be known.
func NewWatch(pid int) *Watch {
	w := &Watch{pid: pid}
	w.Next()
	return w
}

// Next tells how many percent of one processor the process used since the last call, and its resident memory in MiB: what a
// report.Sample wants. NaN is not known.
func (w *Watch) Next() (cpu, rss float64) {
	if w.pid == 0 {
		return math.NaN(), math.NaN()
	}
	u, err := TreeUsage(w.pid)
	if err != nil {
		w.at = time.Time{}
		return math.NaN(), math.NaN()
	}
	now := time.Now()
	cpu = math.NaN()
	if elapsed := now.Sub(w.at); !w.at.IsZero() && elapsed > 0 {
		cpu = 100 * float64(u.CPU-w.last.CPU) / float64(elapsed)
	}
	w.last, w.at = u, now
	return cpu, float64(u.RSS) / (1 << 20)
}
