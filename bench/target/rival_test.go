package target

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// TestPipe has lanes that stand still: what is queued has a bound, topics stay in order, and nothing is left out.
func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const topics, lanes = 5, 2
		var p pipe
		var mu sync.Mutex
		last := map[int]int{}
		sent, allowed := 0, make(chan struct{})
		p.start(lanes, func() func(*batch) error {
			return func(b *batch) error {
				<-allowed
				mu.Lock()
				defer mu.Unlock()
				for i := range b.len() {
					topic, payload := b.message(i)
					n := 0
					if _, err := fmt.Sscanf(string(payload), "%d", &n); err != nil || n != last[topic]+1 {
						t.Errorf("topic %d: %q after %d, %v", topic, payload, last[topic], err)
					}
					last[topic] = n
					sent++
				}
				return nil
			}
		})
		const each = 3 * maxQueued
		done := false
		var putting sync.WaitGroup
		putting.Go(func() {
			for i := range topics * each {
				if err := p.put(i%topics, fmt.Append(nil, i/topics+1)); err != nil {
					t.Error(err)
				}
			}
			done = true
		})
		synctest.Wait()
		if queued := p.lanes[0].queue.len() + p.lanes[1].queue.len(); done || queued < maxQueued || queued > lanes*maxQueued || p.blocked.Load() == 0 {
			t.Errorf("%d are queued, the schedule is through: %v", queued, done)
		}
		close(allowed)
		putting.Wait()
		if err := p.close(); err != nil || sent != topics*each || p.sent.Load() != uint64(sent) {
			t.Errorf("%d of %d were sent, %v", sent, topics*each, err)
		}
	})
}

// TestPipeFails has a lane whose server refuses: a schedule that waits for room goes on, with the error.
func TestPipeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pipe
		refused, ended := errors.New("no"), make(chan struct{})
		p.start(1, func() func(*batch) error {
			return func(*batch) error {
				<-ended
				return refused
			}
		})
		var putting sync.WaitGroup
		putting.Go(func() {
			var err error
			for range 3 * maxQueued {
				if err = p.put(0, nil); err != nil {
					break
				}
			}
			if !errors.Is(err, refused) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		close(ended)
		putting.Wait()
		if err := p.close(); !errors.Is(err, refused) || p.sent.Load() > 0 {
			t.Errorf("%v, and %d were sent", err, p.sent.Load())
		}
	})
}

// taker is a server that takes everything: requests, and messages of a WebSocket.
type taker struct {
	on  sync.WaitGroup // its WebSockets
	mu  sync.Mutex     // guards got
	got []string
}

func (s *taker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		b, _ := io.ReadAll(r.Body) // what came is compared
		s.mu.Lock()
		s.got = append(s.got, r.URL.Path+" "+r.Header.Get("Authorization")+r.Header.Get("X-API-Key")+" "+string(b))
		s.mu.Unlock()
		_, _ = w.Write([]byte("{}")) // the publisher sees it if it fails
		return
	}
	s.on.Add(1)
	defer s.on.Done()
	conn, in, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
	b, _ := io.ReadAll(in) // until the publisher has gone
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, string(b))
}

// TestSecure publishes over TLS, to a server that nobody vouches for.
func TestSecure(t *testing.T) {
	f := func(kind, scheme, want string) {
		t.Helper()
		s := &taker{}
		server := httptest.NewUnstartedServer(s)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		m := newMaker(market.Trades, 2, 80)
		cfg := Config{Kind: kind, Publish: strings.Replace(server.URL, "https", scheme, 1) + "/{topic}", PublishKey: "key", TopicName: "md:{topic}"}
		if kind == Centrifugo || kind == Mercure {
			cfg.Publish = strings.TrimSuffix(cfg.Publish, "/{topic}")
		}
		publish := func(cfg Config) error {
			r, err := startRival(&cfg, &m)
			if err != nil {
				return err
			}
			template, b := m.make(1, 5_000_000)
			return errors.Join(r.publish(1, template, b), r.close())
		}
		if err := publish(cfg); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: a stranger is trusted: %v", kind, err)
		}
		cfg.Insecure = true
		if err := publish(cfg); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		server.Close()
		s.on.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		got, err := url.QueryUnescape(strings.Join(s.got, "\n"))
		if err != nil || !strings.Contains(got, want) || !strings.Contains(got, `"sym":"S0001"`) || !strings.Contains(got, `"ts":5000000`) {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
	f(Centrifugo, "https", `/api/batch key {"commands":[{"publish":{"channel":"md:S0001","data":{`)
	f(Mercure, "https", "/.well-known/mercure Bearer ey")
	f(Mercure, "https", "topic=md:S0001&data={")
	f(Nchan, "https", "/md:S0001 Bearer key {")
	f(WS, "wss", "\x81\xfe\x00")
}

// TestNATSPublisher has a server that wants TLS, asks whether we are there, and refuses in the end.
func TestNATSPublisher(t *testing.T) {
	certificates := httptest.NewUnstartedServer(nil)
	certificates.StartTLS()
	defer certificates.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	var serving sync.WaitGroup
	var heard []string
	serving.Go(func() {
		conn, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write([]byte("INFO {\"tls_required\":true}\r\n"))
		conn = tls.Server(conn, &tls.Config{Certificates: certificates.TLS.Certificates, MinVersion: tls.VersionTLS12})
		in := bufio.NewReader(conn)
		for pinged, published := false, false; !pinged || !published; { // in either order
			line, err := in.ReadString('\n')
			if err != nil {
				t.Error(err)
				return
			}
			heard = append(heard, line)
			pinged, published = pinged || line == "PONG\r\n", published || strings.HasPrefix(line, "PUB ")
			if line == "PING\r\n" {
				_, _ = conn.Write([]byte("+OK\r\nPONG\r\nPING\r\n")) // the publisher sees
			}
		}
		_, _ = conn.Write([]byte("-ERR 'Permissions Violation'\r\n"))
		_, _ = io.Copy(io.Discard, in) // until the publisher has gone
	})
	m := newMaker(market.Trades, 2, 80)
	r, err := startRival(&Config{Kind: NATS, Publish: "nats://" + ln.Addr().String(), PublishKey: "me:secret", Insecure: true, Binary: true}, &m)
	if err != nil {
		t.Fatal(err)
	}
	template, b := m.make(1, 5_000_000)
	var refused error
	for refused == nil { // until the server's word has come
		refused = r.publish(1, template, b)
	}
	if err := r.close(); !strings.Contains(refused.Error(), "Permissions Violation") || err == nil {
		t.Errorf("%v, %v", refused, err)
	}
	serving.Wait()
	all := strings.Join(heard, "")
	if !strings.Contains(all, `"user":"me","pass":"secret"`) || !strings.Contains(all, "PONG\r\n") || !strings.Contains(all, fmt.Sprintf("PUB S0001 %d\r\n", len(b))) {
		t.Errorf("%q", all)
	}
	if _, err := startRival(&Config{Kind: NATS, Publish: "nats://" + ln.Addr().String() + "0"}, &m); err == nil {
		t.Error("a port that is none is connected to")
	}
}

// TestFrameLengths has payloads of each length's form.
func TestFrameLengths(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		b := appendFrame(nil, wsText, bytes.Repeat([]byte{'x'}, n))
		if head := len(b) - n - 4; b[0] != 0x81 || b[1]&0x80 == 0 || head != map[bool]int{true: 2}[n < 126]+map[bool]int{true: 4}[n >= 126 && n < 65536]+map[bool]int{true: 10}[n >= 65536] {
			t.Errorf("%d bytes: %x", n, b[:min(len(b), 14)])
		}
	}
}

// TestSkipFrame has a server's messages skipped, its pings answered, and its word taken when it hangs up.
func TestSkipFrame(t *testing.T) {
	var out bytes.Buffer
	in := "\x82\x7e\x00\x80" + strings.Repeat("x", 128) + "\x89\x02hi" + "\x01\x01x\x80\x00" + "\x88\x04\x03\xe8no"
	c := &conn{Conn: recorder{out: &out}, in: bufio.NewReader(strings.NewReader(in))}
	var err error
	frames := -1
	for ; err == nil; frames++ {
		err = c.skipFrame()
	}
	if frames != 4 || !strings.Contains(err.Error(), "no") || out.String() != "\x8a\x82\x00\x00\x00\x00hi" {
		t.Errorf("%d frames, %v, answers %q", frames, err, &out)
	}
}

// FuzzSkipFrame reads what no server should send: it must end, and panic at nothing.
func FuzzSkipFrame(f *testing.F) {
	f.Add([]byte("\x81\x02hi\x89\x02hi\x88\x02\x03\xe8"))
	f.Add([]byte("\x82\x7e\x00\x80" + strings.Repeat("x", 128)))
	f.Add([]byte("\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		c := &conn{Conn: recorder{out: io.Discard}, in: bufio.NewReader(bytes.NewReader(b))}
		for c.skipFrame() == nil { //nolint:revive // each call takes two bytes at least
		}
	})
}

// recorder is a connection that is written to.
type recorder struct {
	net.Conn
	out io.Writer
}

func (recorder) SetWriteDeadline(time.Time) error { return nil }

func (r recorder) Write(b []byte) (int, error) { return r.out.Write(b) }

// FuzzCentrifugoAnswer reads what no server should answer.
func FuzzCentrifugoAnswer(f *testing.F) {
	f.Add([]byte(`{"replies":[{"error":{"code":102}}]}`))
	f.Add([]byte(`{"error":null,"replies":[{}]}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = centrifugoRefused(b) })
}

// BenchmarkPublish is what a message costs on its way into a lane.
func BenchmarkPublish(b *testing.B) {
	m := newMaker(market.Trades, 4, 80)
	r := &rival{topics: m.topics, json: true}
	r.start(1, func() func(*batch) error { return func(*batch) error { return nil } })
	b.ReportAllocs()
	for b.Loop() {
		template, payload := m.make(1, 5_000_000)
		if err := r.publish(1, template, payload); err != nil {
			b.Fatal(err)
		}
	}
	if err := r.close(); err != nil {
		b.Fatal(err)
	}
}
