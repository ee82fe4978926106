// Package clients tests streams by the clients that other people use. README.md says how, and what each client needs.
package clients

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/services/internal/testkit"
)

const (
	enough  = 20 // cuts of each client
	patient = 150 * time.Second
	settle  = 40 * time.Second // for all to catch up, once nothing is cut any more
)

var symbols = []string{"BTC-USDT", "ETH-USDT", "SOL-USDT"}

// streams are what each client follows at the same time: trades as they come, and gathered, which is what can be compressed;
// bars of a second, which become final soon.
var streams = []string{
	"/v1/sse/trades?symbols=BTC-USDT,ETH-USDT",
	"/v1/sse/trades?symbols=BTC-USDT,ETH-USDT,SOL-USDT&rate=250ms",
	"/v1/sse/bars?symbols=BTC-USDT,ETH-USDT&iv=1s&rate=100ms",
}

// clients are the programs that follow them; each returns its command without the URLs.
var clients = map[string]func(t *testing.T) *exec.Cmd{
	"chromium":           func(t *testing.T) *exec.Cmd { return browserClient(t) },
	"chromium-module":    func(t *testing.T) *exec.Cmd { return browserClient(t, "--module") },
	"eventsource":        func(t *testing.T) *exec.Cmd { return nodeClient(t, "eventsource_client.mjs") },
	"httpx-sse":          func(t *testing.T) *exec.Cmd { return pythonClient(t, "httpx_sse_client.py") },
	"sseclient-py":       func(t *testing.T) *exec.Cmd { return pythonClient(t, "sseclient_py_client.py") },
	"aiohttp-sse-client": func(t *testing.T) *exec.Cmd { return pythonClient(t, "aiohttp_sse_client_client.py") },
	"go-sse":             func(t *testing.T) *exec.Cmd { return exec.Command(goSSE(t)) },
	"curl":               func(t *testing.T) *exec.Cmd { return curlClient(t, "--http1.1") },
	"curl-http1.0":       func(t *testing.T) *exec.Cmd { return curlClient(t, "--http1.0") },
	"curl-compressed":    func(t *testing.T) *exec.Cmd { return curlClient(t, "--compressed") },
}

func nodeClient(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	node, dir := node(t)
	cmd := exec.Command(node, args...)
	cmd.Dir = dir
	return cmd
}

func browserClient(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path := chromium(t)
	cmd := nodeClient(t, append([]string{"chromium_client.mjs"}, args...)...)
	cmd.Env = append(os.Environ(), "CHROMIUM="+path)
	return cmd
}

func pythonClient(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	python, dir := python(t)
	cmd := exec.Command(python, script)
	cmd.Dir = dir
	return cmd
}

func curlClient(t *testing.T, flags string) *exec.Cmd {
	t.Helper()
	testkit.Tool(t, "apt-get install curl", "curl")
	cmd := pythonClient(t, "curl_client.py")
	cmd.Env = append(os.Environ(), "CURL_FLAGS="+flags)
	return cmd
}

func wanted(t *testing.T) {
	t.Helper()
	if os.Getenv("TICKWIRE_SSE_CLIENTS") == "" {
		t.Skip("other people's clients, which have to be installed: make sse-clients")
	}
}

// TestModule runs the tests of the browsers' module.
func TestModule(t *testing.T) {
	wanted(t)
	path, module := chromium(t), abs(t, "../web/tickwire-sse.js")
	node, dir := node(t)
	cmd := exec.CommandContext(t.Context(), node, "--test", "module.test.mjs")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CHROMIUM="+path, "TICKWIRE_MODULE="+module)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, count := range []string{"pass", "fail"} {
		if _, rest, ok := bytes.Cut(out, []byte("\n# "+count+" ")); ok {
			n, _, _ := bytes.Cut(rest, []byte("\n"))
			t.Logf("%s %s", count, n)
		}
	}
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestClients cuts the clients' connections, and has them go from edge to edge.
func TestClients(t *testing.T) {
	wanted(t)
	program := testkit.Tickwire(t)
	all := program.All(t)
	edge := func() (string, *exec.Cmd) {
		addr, cmd := program.Edge(t, "sse", "--kafka", all.Kafka, "--sse-addr", "127.0.0.1:0", "--admin-addr", "", "--sse-max-conns-per-ip", "0", "--rest-rate", "0")
		awaitReady(t, addr)
		return addr, cmd
	}
	a, _ := edge()
	truth := watch(t, all.WS, symbols)
	truth.await(t, 100) // so that B begins at another place than A
	b, second := edge()

	var running []*subject
	for i, name := range sorted(clients) {
		t.Run("install "+name, func(t *testing.T) {
			running = append(running, &subject{name: name, cmd: clients[name](t)})
		})
		if n := len(running); n > 0 && running[n-1].name == name {
			running[n-1].killer = startKiller(t, uint64(i)+1, a, b)
		}
	}
	for _, c := range running {
		c.start(t, truth)
	}
	pause := stopAndGo(t, second)
	begin := time.Now()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for slices.ContainsFunc(running, func(c *subject) bool { return c.killer.counts().all < enough || !c.whole() }) && time.Since(begin) < patient {
		<-poll.C
	}
	for _, c := range running {
		c.killer.quiet.Store(true)
	}
	pause()
	mark := truth.now()
	for late := time.Now().Add(settle); slices.ContainsFunc(running, func(c *subject) bool { return !c.reached(mark) }) && time.Now().Before(late); {
		<-poll.C
	}
	t.Logf("cut for %v", time.Since(begin).Round(time.Second))
	for _, c := range running {
		t.Run(c.name, func(t *testing.T) { c.check(t, mark) })
	}
}

func sorted[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// awaitReady waits until an edge knows the symbols.
func awaitReady(t *testing.T, addr string) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v1/sse/trades?symbols="+strings.Join(symbols, ","), nil)
		if err != nil {
			return err
		}
		req.Header.Set("Accept", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", resp.Status)
		}
		return nil
	})
}

// stopAndGo stops a process for a while, again and again, until the function that it returns is called.
func stopAndGo(t *testing.T, cmd *exec.Cmd) (end func()) {
	stop := make(chan struct{})
	var going sync.WaitGroup
	going.Go(func() {
		for turn := 0; ; turn++ {
			length := []time.Duration{3 * time.Second, 1500 * time.Millisecond}[turn%2]
			select {
			case <-time.After(length):
			case <-stop:
				_ = cmd.Process.Signal(syscall.SIGCONT)
				return
			}
			_ = cmd.Process.Signal([]os.Signal{syscall.SIGSTOP, syscall.SIGCONT}[turn%2])
		}
	})
	end = sync.OnceFunc(func() {
		close(stop)
		going.Wait()
	})
	t.Cleanup(end)
	return end
}

// subject is a running client, and what it has said.
type subject struct {
	name   string
	cmd    *exec.Cmd
	killer *killer
	input  io.Closer
	done   <-chan struct{}
	read   chan struct{} // closed when its output has ended

	mu        sync.Mutex
	followers []*follower
	lines     [][]line
}

func (c *subject) start(t *testing.T, truth *truth) {
	t.Helper()
	for _, path := range streams {
		c.cmd.Args = append(c.cmd.Args, "http://"+c.killer.addr+path)
		c.followers = append(c.followers, &follower{truth: truth, bars: strings.Contains(path, "/bars"), at: make(map[string]place)})
	}
	c.lines = make([][]line, len(streams))
	input, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, theirs, err := os.Pipe() // not cmd's own, which is closed when the process ends, read or not
	if err != nil {
		t.Fatal(err)
	}
	c.input, c.read, c.cmd.Stdout = input, make(chan struct{}), theirs
	c.done = testkit.Start(t, c.cmd)
	_ = theirs.Close()
	go func() {
		defer close(c.read)
		defer func() { _ = output.Close() }()
		for r := bufio.NewReader(output); ; {
			text, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			c.take(text)
		}
	}()
}

func (c *subject) take(text []byte) {
	var l line
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := json.Unmarshal(text, &l); err != nil || l.Stream < 0 || l.Stream >= len(streams) {
		c.followers[0].fault("printed %q", text)
		return
	}
	c.followers[l.Stream].take(&l)
	c.lines[l.Stream] = append(c.lines[l.Stream], l)
}

// whole tells whether every stream of the client was cut, and has gone on.
func (c *subject) whole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(c.followers, func(f *follower) bool { return f.hellos < 3 || f.events == 0 })
}

// reached tells whether the client has what there was at the mark.
func (c *subject) reached(mark map[bool]map[string]place) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.followers {
		for sym, at := range f.at {
			if want := mark[f.bars][sym]; at.seq < want.seq {
				return false
			}
		}
		if len(f.at) == 0 {
			return false
		}
	}
	return true
}

func (c *subject) check(t *testing.T, mark map[bool]map[string]place) {
	if !c.reached(mark) {
		t.Error("it has not caught up")
	}
	_ = c.input.Close()
	select {
	case <-c.done:
	case <-time.After(10 * time.Second):
		t.Error("it does not end with its input")
		_ = c.cmd.Process.Kill()
	}
	<-c.read
	c.mu.Lock()
	defer c.mu.Unlock()
	cuts, events, hellos := c.killer.counts(), 0, 0
	for i, f := range c.followers {
		f.compare(c.lines[i])
		for _, fault := range f.faults {
			t.Errorf("%s: %s", streams[i], fault)
		}
		events, hellos = events+f.events, hellos+f.hellos
	}
	if cuts.all < enough || cuts.midLine == 0 || cuts.resets == 0 || cuts.resets == cuts.all || cuts.edges[0] == 0 || cuts.edges[1] == 0 {
		t.Errorf("cuts: %+v", cuts)
	}
	t.Logf("%d trades and final bars, %d streams begun; cut %d times, %d of them in a line, %d by RST; connections to A %d, to B %d",
		events, hellos, cuts.all, cuts.midLine, cuts.resets, cuts.edges[0], cuts.edges[1])
}
