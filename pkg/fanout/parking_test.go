package fanout

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// secured makes the two configurations of a TLS connection.
func secured(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	server = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}
	return server, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: "localhost"}
}

// secure shakes hands over a connection. The returned server is still read by a goroutine, as an edge would.
func secure(t testing.TB, server, client net.Conn) (net.Conn, net.Conn) {
	t.Helper()
	serverConfig, clientConfig := secured(t)
	s, c := ServerTLS(server, serverConfig), tls.Client(client, clientConfig)
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return s, c
}

func securePair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	server, client = pair(t)
	return secure(t, server, client)
}

// portableOnly makes a hub use the portable poller for everything.
func portableOnly(h *Hub) *Hub {
	h.portable = newRetrier(h)
	h.descriptors = h.portable.(*retrier).twin()
	return h
}

// twin is the same poller, for the hub to close twice.
func (r *retrier) twin() poller { return borrowed{r} }

type borrowed struct{ *retrier }

func (borrowed) close() {}

// TestBlockedConnections stops many readers: they cost no goroutine, hold up nobody, and catch up when they read on.
func TestBlockedConnections(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := func(h *Hub, connect func(testing.TB) (net.Conn, net.Conn), n int) {
		t.Helper()
		defer h.Close()
		book := newCounter(h, Merge, Limits{Entries: 64})
		book.pad = 8 << 10
		clients := make([]net.Conn, n)
		for i := range clients {
			var server net.Conn
			server, clients[i] = connect(t)
			conn, _ := attach(t, h, server)
			start(conn, book.topic, Start{Snapshot: true})
		}
		server, client := connect(t)
		conn, _ := attach(t, h, server)
		start(conn, book.topic, Start{Snapshot: true})
		before := runtime.NumGoroutine()
		lively, in := &replica{t: t}, bufio.NewReader(client)
		catchUp := func(r *replica, in *bufio.Reader) {
			t.Helper()
			for r.seq < book.seq || r.parts > 0 {
				m, err := read(in)
				if err != nil {
					t.Fatal(err)
				}
				if string(m.payload) != "lag" {
					r.apply(m.payload)
				}
			}
			if r.regs != book.regs {
				t.Errorf("got %v, want %v", r.regs, book.regs)
			}
		}
		for i := 0; parkedConns(h) < n; i++ {
			if i > 20_000 {
				t.Fatalf("%d of %d blocked", parkedConns(h), n)
			}
			book.set(i%16, uint64(i))
			catchUp(lively, in)
		}
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines with %d blocked connections, %d without", after, n, before)
		}
		for _, client := range clients {
			catchUp(&replica{t: t}, bufio.NewReader(client))
		}
		eventually(t, "connections are blocked at the end", func() bool { return parkedConns(h) == 0 })
	}
	f(started(Config{}), pair, 50)
	f(started(Config{Shards: 3}), pair, 50)
	f(started(Config{}), securePair, 20)
	f(portableOnly(started(Config{})), pair, 20)
	f(portableOnly(started(Config{})), securePair, 5)
}

// TestStutteringReader is a client that stops in the middle of a message, or of a TLS record, many times.
func TestStutteringReader(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := func(h *Hub, connect func(testing.TB) (net.Conn, net.Conn), n int) {
		t.Helper()
		defer h.Close()
		log := newCounter(h, Log, Limits{Entries: 1 << 20})
		log.pad = 5000
		server, client := connect(t)
		conn, _ := attach(t, h, server)
		start(conn, log.topic, Start{Position: 1})
		var writing sync.WaitGroup
		defer writing.Wait()
		writing.Go(func() {
			for i := range n {
				log.set(0, uint64(i))
			}
		})
		r, in := &replica{t: t}, bufio.NewReaderSize(client, 16)
		for r.seq < uint64(n) {
			m, err := read(in)
			if err != nil {
				t.Fatal(err)
			}
			r.apply(m.payload)
			if r.seq%200 == 0 {
				time.Sleep(10 * time.Millisecond) // until the transport is full
			}
		}
		if r.gaps > 0 || r.updates != n {
			t.Errorf("%d gaps, %d of %d", r.gaps, r.updates, n)
		}
		if h.Stats().Blocked.Load() == 0 {
			t.Error("the transport was never full")
		}
	}
	n := 2000
	if testing.Short() {
		n = 600
	}
	f(started(Config{}), pair, n)
	f(started(Config{}), securePair, n)
	f(portableOnly(started(Config{})), securePair, 400)
}

// TestPeerClosesWhileBlocked must end the connection, though nothing is being written.
func TestPeerClosesWhileBlocked(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := func(connect func(testing.TB) (net.Conn, net.Conn)) {
		t.Helper()
		h := started(roomy)
		defer h.Close()
		server, client := connect(t)
		conn, rec := attach(t, h, server)
		block(t, h, conn)
		_ = client.Close()
		if err := <-rec.closed; err == nil || errors.Is(err, ErrClosed) {
			t.Errorf("closed by %v", err)
		}
		if h.Conns() != 0 || parkedConns(h) != 0 {
			t.Errorf("%d connections, %d parked", h.Conns(), parkedConns(h))
		}
	}
	f(pair)
	f(securePair)
}

// block sends more than the kernel's buffers can hold, which grow in the meantime.
func block(t *testing.T, h *Hub, c *Conn) { t.Helper(); blockBy(t, h, c, 32<<20) }

func blockBy(t *testing.T, h *Hub, c *Conn, bytes int) {
	t.Helper()
	c.Send(NewFrame(Text, make([]byte, bytes)))
	eventually(t, "the connection does not block", func() bool { return parked(h, c) })
}

// roomy lets block do so.
var roomy = Config{MaxControl: 64 << 20}

func parked(h *Hub, c *Conn) bool {
	h.parking.mu.Lock()
	defer h.parking.mu.Unlock()
	return h.parking.conns[c.id] != nil
}

func parkedConns(h *Hub) int {
	h.parking.mu.Lock()
	defer h.parking.mu.Unlock()
	return len(h.parking.conns)
}

// eventually waits for what other goroutines are about to do.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func TestWriteTimeout(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := started(Config{WriteTimeout: 100 * time.Millisecond, MaxControl: 64 << 20})
	defer h.Close()
	server, _ := pair(t)
	conn, rec := attach(t, h, server)
	begin := time.Now()
	conn.Send(NewFrame(Text, make([]byte, 32<<20))) // more than the kernel's buffers can hold
	if err := <-rec.closed; !errors.Is(err, ErrSlow) {
		t.Errorf("closed by %v", err)
	}
	if d := time.Since(begin); d < 90*time.Millisecond {
		t.Errorf("after %v", d)
	}
}

// TestReusedDescriptors closes blocked connections from both sides while new ones get their descriptors: no connection may
// get another's bytes, and none is forgotten.
func TestReusedDescriptors(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := started(Config{Shards: 2, MaxControl: 64 << 20})
	defer h.Close()
	workers, rounds := 8, 20
	if testing.Short() {
		rounds = 6
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			rnd := mathrand.New(mathrand.NewPCG(uint64(w), 1))
			for range rounds {
				server, client := pair(t)
				conn, rec := attach(t, h, server)
				mark := binary.BigEndian.AppendUint64(nil, conn.id)
				frame := NewFrame(Binary, bytes.Repeat(mark, 2<<10))
				for range 40 + rnd.IntN(40) {
					conn.Send(frame)
				}
				conn.Close(NewFrame(Close, mark))
				switch rnd.IntN(3) {
				case 0:
					conn.Abort()
				case 1:
					_ = client.Close()
				default:
					in := bufio.NewReader(client)
					for {
						m, err := read(in)
						if err != nil {
							t.Errorf("before the close frame: %v", err)
							break
						}
						if !bytes.HasPrefix(m.payload, mark) {
							t.Errorf("connection %d got %x", conn.id, m.payload[:8])
						}
						if m.op == byte(Close) {
							break
						}
					}
				}
				if err := <-rec.closed; err == nil {
					t.Error("no reason")
				}
				_, _ = server.Close(), client.Close()
			}
		})
	}
	all.Wait()
	if h.Conns() != 0 || parkedConns(h) != 0 {
		t.Errorf("%d connections, %d parked", h.Conns(), parkedConns(h))
	}
}

// TestPortable has a blocked connection in memory: time passes only while everybody waits.
func TestPortable(t *testing.T) {
	f := func(want error, after, atMost time.Duration, read func(client net.Conn)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			h := started(Config{WriteTimeout: time.Minute})
			defer h.Close()
			server, client := net.Pipe()
			stuck, rec := attach(t, h, server)
			otherServer, other := net.Pipe()
			lively, _ := attach(t, h, otherServer)
			defer func() { _ = other.Close() }()
			hello := make(chan struct{})
			go func() {
				_, _ = io.CopyN(io.Discard, other, 7)
				close(hello)
			}()
			begin := time.Now()
			stuck.Send(NewFrame(Text, make([]byte, 10_000)))
			stuck.Close(NewFrame(Close, nil))
			lively.Send(NewFrame(Text, []byte("hello")))
			<-hello
			if d := time.Since(begin); d > 2*moment {
				t.Errorf("a blocked connection held up another one for %v", d)
			}
			read(client)
			if err := <-rec.closed; !errors.Is(err, want) {
				t.Errorf("closed by %v, want %v", err, want)
			}
			if d := time.Since(begin); d < after || d > atMost {
				t.Errorf("closed after %v", d)
			}
			_ = client.Close()
			time.Sleep(time.Minute) // a reader may be in the middle of a pause
		})
	}
	f(ErrSlow, time.Minute, 65*time.Second, func(net.Conn) {})
	f(ErrClosed, 0, time.Second, func(client net.Conn) {
		go func() { _, _ = io.Copy(io.Discard, client) }()
	})
	f(ErrClosed, 2*time.Minute, time.Hour, func(client net.Conn) { // slow, but it goes on
		go func() {
			b := make([]byte, 200)
			for {
				if _, err := client.Read(b); err != nil {
					return
				}
				time.Sleep(20 * time.Second)
			}
		}()
	})
	f(io.ErrClosedPipe, 0, time.Second, func(client net.Conn) { _ = client.Close() })
}

// TestAlerts has the reading side of TLS say something: it goes out by the shard, also behind what is blocked.
func TestAlerts(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := func(blocked bool) {
		t.Helper()
		h := started(roomy)
		defer h.Close()
		rawServer, rawClient := pair(t)
		server, client := secure(t, rawServer, rawClient)
		conn, _ := attach(t, h, server)
		if blocked {
			blockBy(t, h, conn, 1<<20)
		}
		// Not a TLS record: the server answers with an alert.
		if _, err := rawClient.Write([]byte("this is nonsense, and long enough for a header")); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Read(make([]byte, 1)); err == nil {
			t.Fatal("nonsense was read")
		}
		_, err := io.Copy(io.Discard, client)
		var alert *net.OpError
		if !errors.As(err, &alert) || alert.Op != "remote error" {
			t.Errorf("the client got %v, want an alert", err)
		}
	}
	f(false)
	f(true)
}

// TestTLSTalk bounds what a peer can make TLS answer without reading the answers.
func TestTLSTalk(t *testing.T) {
	h := started(roomy)
	defer h.Close()
	server, _ := securePair(t)
	conn, rec := attach(t, h, server)
	block(t, h, conn)
	w := server.(*TLSConn).wire
	n := 0
	for err := error(nil); err == nil; n++ {
		if n > 1000 {
			t.Fatal("a thousand answers were kept")
		}
		_, err = w.Write(make([]byte, 30)) // as long as the answer to a key update
	}
	if n < 100 {
		t.Errorf("%d answers only", n)
	}
	conn.Abort()
	if err := <-rec.closed; err == nil {
		t.Error("no reason")
	}
}

func TestDeadlinesOfTLS(t *testing.T) {
	h := started(Config{})
	defer h.Close()
	server, client := securePair(t)
	conn, _ := attach(t, h, server)
	if err := server.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := server.SetWriteDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	conn.Send(NewFrame(Text, []byte("still here")))
	if m, err := read(bufio.NewReader(client)); err != nil || string(m.payload) != "still here" {
		t.Errorf("%q %v", m.payload, err)
	}
	if _, err := server.Read(make([]byte, 1)); err == nil {
		t.Error("the deadline for reading has gone")
	}
}

// TestFinishTLS must say goodbye, so that the client knows that nothing was cut off.
func TestFinishTLS(t *testing.T) {
	h := started(Config{})
	defer h.Close()
	server, client := securePair(t)
	conn, rec := attach(t, h, server)
	conn.Send(NewFrame(Text, make([]byte, 100_000)))
	conn.Close(NewFrame(Close, nil))
	if n, err := io.Copy(io.Discard, client); err != nil || n != 100_000+10+2 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := <-rec.closed; !errors.Is(err, ErrClosed) {
		t.Errorf("closed by %v", err)
	}
}

// stopwatch notes when it is written to; each write takes a while.
type stopwatch struct {
	discard
	takes  time.Duration
	writes []time.Time
}

func (s *stopwatch) Write(b []byte) (int, error) {
	s.writes = append(s.writes, time.Now())
	time.Sleep(s.takes)
	return s.discard.Write(b)
}

// TestFlushInterval counts from the beginning of a round to the next, whatever a round takes; the first message after a
// silence does not wait.
func TestFlushInterval(t *testing.T) {
	for _, every := range []time.Duration{5 * time.Millisecond, 20 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			h := started(Config{FlushInterval: every})
			defer h.Close()
			w := &stopwatch{takes: 3 * time.Millisecond}
			conn, err := h.Attach(w, newRecorder())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			begin := time.Now()
			for range 1000 {
				conn.Send(NewFrame(Text, []byte("x")))
				time.Sleep(time.Millisecond)
			}
			synctest.Wait()
			for i, at := range w.writes[:len(w.writes)-1] {
				if want := begin.Add(time.Duration(i) * every); at != want {
					t.Errorf("write %d after %v, want %v", i, at.Sub(begin), want.Sub(begin))
				}
			}
			if n := len(w.writes); n < int(time.Second/every) {
				t.Errorf("%d writes", n)
			}
		})
	}
}

// TestKeyUpdates has OpenSSL change its keys and ask for ours to be changed, which Go's own client can't: the answers go
// out between messages, and what follows is encrypted by the new keys.
func TestKeyUpdates(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs the openssl program: ", err)
	}
	defer goleak.VerifyNone(t)
	h := started(Config{})
	defer h.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	client := exec.Command(openssl, "s_client", "-connect", ln.Addr().String(), "-tls1_3")
	stdin, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = stdin.Close(), client.Wait() }()
	raw, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conf, _ := secured(t)
	server := ServerTLS(raw, conf)
	defer func() { _ = server.Close() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	conn, _ := attach(t, h, server)
	var answers atomic.Int64
	server.wire.onKick(func() { answers.Add(1); conn.kick() })
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewReader(server); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	out := bufio.NewReader(stdout)
	for n := range 20 {
		// OpenSSL takes what it reads for a command if it begins with K.
		if _, err := io.WriteString(stdin, "K\n"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "no answer to a key update", func() bool { return answers.Load() == int64(n+1) })
		line := fmt.Sprintf("line %d\n", n)
		if _, err := io.WriteString(stdin, line); err != nil {
			t.Fatal(err)
		}
		if got := <-lines; got != line {
			t.Fatalf("read %q", got)
		}
		conn.Send(NewFrame(Text, []byte("answer "+line)))
		for got := ""; !strings.Contains(got, "answer "+line); {
			if got, err = out.ReadString('\n'); err != nil {
				t.Fatalf("message %d: %v", n, err)
			}
		}
	}
	conn.Abort()
	for range lines { // until the reader has ended
		t.Error("a line too many")
	}
}
