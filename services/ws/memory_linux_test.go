package ws

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowdEnv makes a test binary the clients of another one: the edge's address and how many connections to open.
const crowdEnv = "TICKWIRE_TEST_CROWD"

// TestCrowdClients is the other process of TestMemoryPerConnection.
func TestCrowdClients(t *testing.T) {
	addr, count, ok := strings.Cut(os.Getenv(crowdEnv), " ")
	if !ok {
		t.Skip("runs in a process of its own, for TestMemoryPerConnection")
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		var d net.Dialer
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%4))}
		conn, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(append([]byte(upgradeRequest("/v1/ws", "")), masked(0x81, crowdRequest(i))...)); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }() // until the process ends
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has measured
	os.Exit(0)
}

// TestMemoryPerConnection measures what an idle connection with 20 subscriptions costs this process, while the clients are
// in another one. TICKWIRE_TEST_CONNS is how many connections (2,000), TICKWIRE_TEST_HEAP a file for a heap profile.
func TestMemoryPerConnection(t *testing.T) {
	if testing.Short() || raced {
		t.Skip("measures the memory of a process")
	}
	n := 2000
	if text := os.Getenv("TICKWIRE_TEST_CONNS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	e := startEdge(t, nil).instruments(crowdInstruments)
	e.connect("") // what the first one alone brings about
	debug.FreeOSMemory()
	before := rss(t)
	clients := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrowdClients$")
	clients.Env = append(os.Environ(), crowdEnv+"="+e.s.Addr()+" "+strconv.Itoa(n))
	clients.Stderr = os.Stderr
	leave, err := clients.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := clients.Start(); err != nil {
		t.Fatal(err)
	}
	var gone sync.WaitGroup
	gone.Go(func() { _ = clients.Wait() })
	defer gone.Wait()
	defer func() { _ = leave.Close() }()
	for deadline := time.Now().Add(time.Minute); e.s.subscriptions() < n*crowdTopics; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d subscriptions of %d", e.s.subscriptions(), n*crowdTopics)
		}
	}
	time.Sleep(5 * time.Second) // heartbeats, and the collector's own pace
	runtime.GC()
	runtime.GC() // the second one shrinks the stacks that the first one saw idle
	after := rss(t)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.FreeOSMemory()
	freed := rss(t)
	each := func(bytes int64) float64 { return float64(bytes) / 1024 / float64(n) }
	t.Logf("%d connections with %d subscriptions: %.2f KiB each, %.2f after FreeOSMemory; of all memory, heap %.2f, stacks %.2f",
		n, crowdTopics, each(after-before), each(freed-before), each(int64(m.HeapAlloc)), each(int64(m.StackInuse)))
	if file := os.Getenv("TICKWIRE_TEST_HEAP"); file != "" {
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := pprof.WriteHeapProfile(f); err != nil {
			t.Error(err)
		}
		_ = f.Close()
	}
	if got := each(after - before); got > 8 {
		t.Errorf("%.2f KiB for each connection", got)
	}
	if got := each(int64(m.StackInuse)); got > 3 {
		t.Errorf("%.2f KiB of stack for each connection: reading no longer fits 2 KiB", got)
	}
}

// rss is the resident memory of this process in bytes.
func rss(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}
