// Package proc runs parts of a measurement in processes of their own, so that the operating system tells the CPU time and
// the memory of each part from the others', and each has its own limit of open files.
//
// A child is this program again with the hidden command "peer NAME". It is asked one thing after the other: a line of JSON
// on its standard input, a line of JSON as the answer on its standard output. It ends when its input does, so nothing is
// left over when the parent dies.
package proc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command is the hidden subcommand by which a child is started; the name of the part follows it.
const Command = "peer"

// Proc is a child process. Its methods are for one goroutine at a time.
type Proc struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	in    *json.Encoder
	out   *json.Decoder
	errs  bytes.Buffer
	ended sync.Once
	err   error // how it has ended
}

type request struct {
	Do  string `json:"do"`
	Arg any    `json:"arg"`
}

type answer struct {
	Err   string          `json:"err,omitempty"`
	Reply json.RawMessage `json:"reply,omitempty"`
}

// Start starts a part. When ctx ends it is killed.
func Start(ctx context.Context, name string) (*Proc, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Proc{name: name, cmd: exec.CommandContext(ctx, self, Command, name)} //nolint:gosec // it is ourselves
	p.cmd.Stderr, p.cmd.SysProcAttr = &p.errs, Apart()
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // it may be too busy to see its input end
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = json.NewEncoder(p.stdin), json.NewDecoder(bufio.NewReader(stdout))
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// Apart keeps a terminal's ^C from a child, which is its parent's to end.
func Apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// Call asks the part to do something and waits for its answer, which goes to reply unless that is nil.
func (p *Proc) Call(do string, arg, reply any) error {
	if err := p.Send(do, arg); err != nil {
		return err
	}
	return p.Answer(do, reply)
}

// Send asks and does not wait. Answer, which must follow, does.
func (p *Proc) Send(do string, arg any) error {
	if err := p.in.Encode(request{do, arg}); err != nil {
		return p.lost(do, err)
	}
	return nil
}

// lost says how a part has ended that is not there any more.
func (p *Proc) lost(do string, err error) error {
	_ = p.cmd.Process.Kill() // it has closed its end, and so it is of no use
	if how := p.wait(); how != nil {
		err = how
	}
	return fmt.Errorf("%s has ended, when it was to %s: %w %s", p.name, do, err, strings.TrimSpace(p.errs.String()))
}

func (p *Proc) wait() error {
	p.ended.Do(func() { p.err = p.cmd.Wait() })
	return p.err
}

// Answer waits for the answer to what was sent.
func (p *Proc) Answer(do string, reply any) error {
	var a answer
	if err := p.out.Decode(&a); err != nil {
		return p.lost(do, err)
	}
	if a.Err != "" {
		return fmt.Errorf("%s: %s: %s", p.name, do, a.Err)
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(a.Reply, reply)
}

// Pid is the process id.
func (p *Proc) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Proc) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop ends the part and waits for it: gently by the end of its input, and by force after a while.
func (p *Proc) Stop() error {
	_ = p.stdin.Close() // it may be dead already
	force := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer force.Stop()
	_, _ = io.Copy(io.Discard, p.out.Buffered())
	if err := p.wait(); err != nil {
		return fmt.Errorf("%s: %w %s", p.name, err, strings.TrimSpace(p.errs.String()))
	}
	return nil
}

// Kill ends the part as kill -9 does, and waits for it.
func (p *Proc) Kill() {
	_ = p.cmd.Process.Kill() // it may be dead already
	_ = p.wait()             // says that it was killed
}

// CPU is the processor time that the part has used, to a hundredth of a second.
func (p *Proc) CPU() time.Duration { return CPU(p.Pid()) }

// RSS is the part's resident memory in bytes.
func (p *Proc) RSS() int64 { return RSS(p.Pid()) }

// RSS is a process's resident memory in bytes; 0 where that is not to be had.
func RSS(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(fields[0], 10, 64) // the kernel's own number
	return kib << 10
}

// CPU is the processor time, user and system, that a process has used, from Linux's /proc (proc_pid_stat(5)); 0 where that
// is not to be had. It comes in hundredths of a second, made of what the scheduler counted in nanoseconds.
func CPU(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the program's name
	fields := strings.Fields(rest)
	const utime, stime, tick = 11, 12, time.Second / 100
	if len(fields) <= stime {
		return 0
	}
	user, _ := strconv.ParseInt(fields[utime], 10, 64) // the kernel's own numbers
	system, _ := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+system) * tick
}

// LoadAverage is the machine's load over the last minute: how many others want the processors. Empty when not known.
func LoadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// Handlers is what a part can do, by name. They run one at a time.
type Handlers map[string]func(arg json.RawMessage) (reply any, err error)

// Handle makes a handler of a function with an argument of its own type.
func Handle[A any](f func(arg A) (any, error)) func(json.RawMessage) (any, error) {
	return func(raw json.RawMessage) (any, error) {
		var arg A
		if err := json.Unmarshal(raw, &arg); err != nil {
			return nil, err
		}
		return f(arg)
	}
}

// Serve is the child's side: it answers until the input ends.
func Serve(in io.Reader, out io.Writer, h Handlers) error {
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r struct {
			Do  string          `json:"do"`
			Arg json.RawMessage `json:"arg"`
		}
		if err := requests.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if err := answers.Encode(h.answer(r.Do, r.Arg)); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func (h Handlers) answer(do string, arg json.RawMessage) answer {
	f := h[do]
	if f == nil {
		return answer{Err: "no such request"}
	}
	reply, err := f(arg)
	if err != nil {
		return answer{Err: err.Error()}
	}
	b, err := json.Marshal(reply)
	if err != nil {
		return answer{Err: err.Error()}
	}
	return answer{Reply: b}
}
