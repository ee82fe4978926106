package testkit

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Program is the path of a program built for a test.
type Program string

// Tickwire builds the tickwire program.
func Tickwire(t testing.TB) Program {
	t.Helper()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tickwire")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./services/cmd/tickwire")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return Program(path)
}

// Addrs are the addresses of `tickwire all`.
type Addrs struct {
	WS    string `json:"ws"`
	SSE   string `json:"sse"`
	Admin string `json:"admin"`
	Kafka string `json:"kafka"`
}

// startTimeout is how long a program may take until it listens.
const startTimeout = 30 * time.Second

// All starts everything on free ports, and returns once the market has arrived. It ends with the test.
func (p Program) All(t testing.TB, args ...string) (a Addrs) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "addrs.json")
	cmd := exec.Command(string(p), append([]string{ //nolint:gosec // the test's own
		"all", "--ws-addr", "127.0.0.1:0", "--sse-addr", "127.0.0.1:0", "--webhook-addr", "127.0.0.1:0", "--broker-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--addr-file", file,
	}, args...)...)
	done := Start(t, cmd)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(startTimeout); ; {
		if b, err := os.ReadFile(file); err == nil {
			if err := json.Unmarshal(b, &a); err != nil {
				t.Fatal(err)
			}
			return a
		}
		select {
		case <-poll.C:
		case <-done:
			t.Fatalf("tickwire all ended: %v", cmd.ProcessState)
		case <-late:
			t.Fatal("tickwire all is not ready")
		}
	}
}

// Edge starts an edge by its subcommand, and returns the address that it says it listens on. It ends with the test.
func (p Program) Edge(t testing.TB, args ...string) (addr string, cmd *exec.Cmd) {
	t.Helper()
	cmd = exec.Command(string(p), args...) //nolint:gosec // the test's own
	said := &listening{addr: make(chan string, 1)}
	cmd.Stderr = said
	done := Start(t, cmd)
	select {
	case addr = <-said.addr:
		return addr, cmd
	case <-done:
		t.Fatalf("tickwire %v ended: %v", args, cmd.ProcessState)
	case <-time.After(startTimeout):
		t.Fatalf("tickwire %v does not listen", args)
	}
	return "", nil
}

// listening looks in log lines for the address of a listener.
type listening struct {
	addr chan string
	line []byte
}

func (l *listening) Write(b []byte) (int, error) {
	l.line = append(l.line, b...)
	for {
		line, rest, found := bytes.Cut(l.line, []byte("\n"))
		if !found {
			return len(b), nil
		}
		l.line = rest
		var m struct{ Msg, Addr string }
		if json.Unmarshal(line, &m) == nil && m.Msg == "listening" {
			l.addr <- m.Addr
		}
	}
}

// Start starts a process that ends with the test, and returns what is closed when it has ended. What it says on stderr is
// shown when the test fails, unless the caller reads it.
func Start(t testing.TB, cmd *exec.Cmd) <-chan struct{} {
	t.Helper()
	said := &tail{}
	if cmd.Stderr == nil {
		cmd.Stderr = said
	} else {
		cmd.Stderr = io.MultiWriter(cmd.Stderr, said)
	}
	p, err := startProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.signal(syscall.SIGKILL) // it may have ended already
		<-p.done
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(cmd.Path), said.last())
		}
	})
	return p.done
}

// tail keeps the last lines of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 4 << 10

func (w *tail) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b, b...)
	if over := len(w.b) - tailBytes; over > 0 {
		w.b = append(w.b[:0], w.b[over:]...)
	}
	return len(b), nil
}

func (w *tail) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.b)
}

// Missing ends a test for want of a tool. In CI nothing may be missing.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Tool finds a program by its names; without it the test ends by Missing with a hint.
func Tool(t testing.TB, hint string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	Missing(t, "no %s: %s", strings.Join(names, ", "), hint)
	return ""
}

// Eventually calls f, now and each 20 ms, until it returns no error. When that takes too long the test ends with the last one.
func Eventually(t testing.TB, within time.Duration, f func() error) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for late := time.Now().Add(within); ; <-poll.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("after %v: %v", within, err)
		}
	}
}
