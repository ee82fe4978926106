package clients

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// killer is a proxy between one client and the edges. It leads each connection to one of them at random, and cuts it.
type killer struct {
	addr  string
	edges []string
	quiet atomic.Bool // cut nothing any more

	mu    sync.Mutex
	rng   *rand.Rand
	cuts  cuts
	conns map[net.Conn]struct{}
	done  bool
}

// cuts counts what a killer did.
type cuts struct {
	all     int
	midLine int    // the last byte that the client got was not the end of a line
	resets  int    // by RST, the rest by FIN
	edges   [2]int // connections led to each
}

// startKiller starts a proxy that ends with the test.
func startKiller(t *testing.T, seed uint64, edges ...string) *killer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &killer{addr: ln.Addr().String(), edges: edges, rng: rand.New(rand.NewPCG(seed, seed)), conns: make(map[net.Conn]struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { k.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		k.mu.Lock()
		k.done = true
		for conn := range k.conns {
			_ = conn.Close()
		}
		k.mu.Unlock()
		serving.Wait()
	})
	return k
}

// plan says when a connection is cut: behind so many bytes, or when it has lasted so long, in the middle of what comes then.
type plan struct {
	edge  int
	bytes int64
	after time.Duration
	extra int64
	reset bool
}

// plan draws one. A quarter of the connections does not outlive its beginning, another quarter its snapshot or replay.
func (k *killer) plan() plan {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := plan{
		edge: k.rng.IntN(len(k.edges)), bytes: 1 << 40, after: time.Duration(300+k.rng.IntN(2200)) * time.Millisecond,
		extra: 1 + k.rng.Int64N(400), reset: k.rng.IntN(2) == 0,
	}
	switch k.rng.IntN(4) {
	case 0:
		p.bytes = 1 + k.rng.Int64N(900)
	case 1:
		p.bytes = 1 + k.rng.Int64N(16<<10)
	}
	k.cuts.edges[p.edge]++
	return p
}

// hold keeps a connection for the end of the test; it reports false when that has come.
func (k *killer) hold(conn net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conns[conn] = struct{}{}
	return !k.done
}

func (k *killer) release(conn net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, conn)
	_ = conn.Close()
}

func (k *killer) serve(client net.Conn) {
	defer k.release(client)
	p := k.plan()
	edge, err := net.Dial("tcp", k.edges[p.edge])
	if err != nil {
		return
	}
	defer k.release(edge)
	if !k.hold(client) || !k.hold(edge) {
		return
	}
	var asking sync.WaitGroup
	asking.Go(func() {
		_, _ = io.Copy(edge, client)
		_ = edge.Close() // the client has hung up, or we have
	})
	defer asking.Wait()
	defer func() { _ = client.Close() }()
	k.answer(client, edge, p)
}

// answer copies the answer until the plan cuts it.
func (k *killer) answer(client, edge net.Conn, p plan) {
	var limit, sent atomic.Int64
	limit.Store(p.bytes)
	timer := time.AfterFunc(p.after, func() { limit.Store(min(limit.Load(), sent.Load()+p.extra)) })
	defer timer.Stop()
	b := make([]byte, 4<<10)
	for {
		n, err := edge.Read(b)
		if left := limit.Load() - sent.Load(); int64(n) >= left && !k.quiet.Load() {
			n = int(max(0, left))
			_, _ = client.Write(b[:n])
			k.cut(client, p, n > 0 && b[n-1] != '\n')
			return
		}
		if _, werr := client.Write(b[:n]); err != nil || werr != nil {
			return
		}
		sent.Add(int64(n))
	}
}

func (k *killer) cut(client net.Conn, p plan, midLine bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cuts.all++
	if midLine {
		k.cuts.midLine++
	}
	if p.reset {
		k.cuts.resets++
		_ = client.(*net.TCPConn).SetLinger(0)
	}
}

func (k *killer) counts() cuts {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cuts
}
