package testkit

import (
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child that does not outlive us, however we end.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and was waited for
}

// startProcess starts cmd from a thread of its own that lives as long as the child: the kernel kills the child when the
// thread that started it ends, and Go ends threads at will.
func startProcess(cmd *exec.Cmd) (*process, error) { return startProcessAs(cmd, nil) }

// startProcessAs is startProcess for another user; nil is ours.
func startProcessAs(cmd *exec.Cmd, as *syscall.Credential) (*process, error) {
	cmd.SysProcAttr = diesWithParent()
	if as != nil {
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Credential = as
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed, as a rule
		}
	}()
	return p, <-started
}

func (p *process) signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }
