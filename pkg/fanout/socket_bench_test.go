//go:build unix

package fanout

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// drainEnv makes a test binary the clients of a benchmark: address, number of connections, tcp or tls.
const drainEnv = "TICKWIRE_FANOUT_DRAIN"

// TestMain becomes the other process of BenchmarkSockets when it is asked to: what clients cost must not count.
func TestMain(m *testing.M) {
	if what := os.Getenv(drainEnv); what != "" {
		drainAll(what)
		return
	}
	os.Exit(m.Run())
}

func drainAll(what string) {
	var addr, kind string
	var n int
	if _, err := fmt.Sscan(what, &addr, &n, &kind); err != nil {
		panic(err)
	}
	for range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			panic(err)
		}
		if kind == "tls" {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a benchmark's own
		}
		go func() {
			b := make([]byte, 8<<10)
			for {
				if _, err := conn.Read(b); err != nil {
					return
				}
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark ends
}

// crowd starts a process with n clients and returns the server's ends of their connections.
func crowd(b *testing.B, n int, kind string) []net.Conn {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", drainEnv, ln.Addr(), n, kind))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	conf, _ := secured(b)
	conns := make([]net.Conn, n)
	var shaking sync.WaitGroup
	for i := range conns {
		conn, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		if kind == "tls" {
			secure := ServerTLS(conn, conf)
			shaking.Go(func() {
				if err := secure.Handshake(); err != nil {
					b.Error(err)
				}
			})
			conn = secure
		}
		conns[i] = conn
		b.Cleanup(func() { _ = conn.Close() })
	}
	shaking.Wait()
	return conns
}

// shape is a load.
type shape struct {
	name    string
	clients int
	topics  int
	each    int // topics of a client
	rate    int // messages a second, all topics together; 0 is as fast as at most 8 in flight allow
}

var shapes = []shape{
	{"market-1000", 1000, 200, 20, 1000},
	{"market-5000", 1000, 200, 20, 5000},
	{"one-100", 1000, 1, 1, 100},
	{"one-1000", 1000, 1, 1, 1000},
	{"one-max", 1000, 1, 1, 0},
}

// subscribers draws who gets which topic.
func (s shape) subscribers() [][]int {
	rnd := rand.New(rand.NewPCG(1, 2))
	to := make([][]int, s.topics)
	for c := range s.clients {
		for _, t := range rnd.Perm(s.topics)[:s.each] {
			to[t] = append(to[t], c)
		}
	}
	return to
}

// pace waits until message i of n a second is due.
func pace(begin time.Time, i, perSecond int) {
	if perSecond > 0 {
		if wait := time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(perSecond))); wait > 0 {
			time.Sleep(wait)
		}
	}
}

// BenchmarkSockets sends frames of 154 bytes to clients in another process. It reports what a delivery costs this process; floor
// is a loop of write(2), one for each delivery.
func BenchmarkSockets(b *testing.B) {
	const size = 150
	for _, s := range shapes {
		b.Run(s.name+"/floor", func(b *testing.B) { benchmarkFloor(b, s, size) })
		for _, flush := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond} {
			if flush > 0 && (s.rate == 100 || s.rate == 0) {
				continue
			}
			b.Run(fmt.Sprintf("%s/flush=%v", s.name, flush), func(b *testing.B) {
				benchmarkHub(b, s, size, "tcp", Config{FlushInterval: flush})
			})
		}
	}
}

// BenchmarkForms compares plain frames with encrypted and compressed ones, at one topic.
func BenchmarkForms(b *testing.B) {
	s := shape{"one", 1000, 1, 1, 50} // slow enough for a write to carry one message
	for _, size := range []int{150, 1000} {
		for _, kind := range []string{"tcp", "tls", "deflate"} {
			b.Run(fmt.Sprintf("%d/%s", size, kind), func(b *testing.B) { benchmarkHub(b, s, size, kind, Config{}) })
		}
	}
}

// BenchmarkShards compares numbers of shards.
func BenchmarkShards(b *testing.B) {
	for _, shards := range []int{1, 2, 4} {
		b.Run(fmt.Sprint(shards), func(b *testing.B) { benchmarkHub(b, shapes[1], 150, "tcp", Config{Shards: shards}) })
	}
}

func benchmarkHub(b *testing.B, s shape, size int, kind string, cfg Config) {
	h := started(cfg)
	defer h.Close()
	topics := make([]*Topic, s.topics)
	for i := range topics {
		topics[i] = h.NewTopic(Log, Limits{Entries: 1 << 16}, nil)
	}
	transport := kind
	if kind != "tls" {
		transport = "tcp"
	}
	conns := make([]*Conn, s.clients)
	for i, conn := range crowd(b, s.clients, transport) {
		c, err := h.Attach(NewWriter(conn), newRecorder())
		if err != nil {
			b.Fatal(err)
		}
		if kind == "deflate" {
			c.Deflate()
		}
		conns[i] = c
	}
	to := s.subscribers()
	for t, clients := range to {
		for _, c := range clients {
			start(conns[c], topics[t], Start{Position: 1})
		}
	}
	payload := like(size)
	seqs := make([]uint64, s.topics)
	rnd := rand.New(rand.NewPCG(3, 4))
	want := uint64(0)
	b.ResetTimer()
	before, begin := cpuTime(b), time.Now()
	for i := range b.N {
		pace(begin, i, s.rate)
		t := rnd.IntN(s.topics)
		seqs[t]++
		want += uint64(len(to[t]))
		topics[t].Publish(NewEntry(market.Sequence{Epoch: 1, Seq: seqs[t]}, seqs[t]-1, Text, payload))
		for s.rate == 0 && want-h.Stats().Frames.Load() > 8*uint64(s.clients) {
			time.Sleep(50 * time.Microsecond)
		}
	}
	for h.Stats().Frames.Load() < want {
		time.Sleep(time.Millisecond)
	}
	spent, elapsed := cpuTime(b)-before, time.Since(begin)
	b.ReportMetric(float64(spent.Nanoseconds())/float64(want), "cpu-ns/delivery")
	b.ReportMetric(float64(spent.Nanoseconds())/float64(h.Stats().Passes.Load()), "cpu-ns/write")
	b.ReportMetric(float64(want)/float64(h.Stats().Passes.Load()), "deliveries/write")
	b.ReportMetric(float64(want)/elapsed.Seconds(), "deliveries/s")
}

func benchmarkFloor(b *testing.B, s shape, size int) {
	conns := crowd(b, s.clients, "tcp")
	to := s.subscribers()
	transports := make([]transport, len(conns))
	for i, conn := range conns {
		transports[i] = newTransport(conn)
	}
	frame := NewFrame(Text, like(size)).data
	rnd := rand.New(rand.NewPCG(3, 4))
	want := 0
	b.ResetTimer()
	before, begin := cpuTime(b), time.Now()
	for i := range b.N {
		pace(begin, i, s.rate)
		for _, c := range to[rnd.IntN(s.topics)] {
			want++
			for n := 0; n < len(frame); {
				m, err := transports[c].take(frame[n:])
				if err != nil {
					b.Fatal(err)
				}
				n += m
			}
		}
	}
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(want), "cpu-ns/delivery")
	b.ReportMetric(float64(want)/time.Since(begin).Seconds(), "deliveries/s")
}

// like makes a payload that compresses about like a book in JSON.
func like(size int) []byte {
	var sb strings.Builder
	rnd := rand.New(rand.NewPCG(5, 6))
	sb.WriteString(`{"ch":"book","sym":"BTC-USDT","t":"u","ep":1795500000,"prev":123456,"seq":123457,"b":[`)
	for sb.Len() < size {
		fmt.Fprintf(&sb, `["%d.%02d","0.%05d"],`, 61700+rnd.IntN(99), rnd.IntN(100), rnd.IntN(100000))
	}
	return []byte(sb.String())[:size]
}

// cpuTime is the processor time of this process.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
