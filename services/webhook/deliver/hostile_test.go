package deliver

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// hostile is a receiver that does what it likes with each connection. It ends with the test.
func hostile(t testing.TB, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// headers reads a request up to its body.
func headers(c net.Conn) error {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err
		}
	}
}

// outcome is what a test expects of one request to a hostile receiver.
type outcome struct {
	kind  kind
	code  int
	err   string        // a part of it
	least time.Duration // it takes
	most  time.Duration
	alloc uint64 // bytes, at most
}

const (
	someTime = time.Second
	someMore = 700 * time.Millisecond // what a busy machine adds
)

// suffers sends one request and looks at what it cost.
func suffers(t *testing.T, s *Sender, ep store.Endpoint, body string, want outcome) Result {
	t.Helper()
	if ep.Timeout == 0 {
		ep.Timeout = someTime
	}
	ev := &store.Event{ID: "evt_1", Type: store.TypeTest, Body: []byte(body)}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	r := s.Test(t.Context(), &ep, ev)
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	if r.kind != want.kind || r.Code != want.code || !strings.Contains(r.Err, want.err) {
		t.Errorf("%s, %d, %q; want %s, %d, %q", r.kind, r.Code, r.Err, want.kind, want.code, want.err)
	}
	if took < want.least || took > want.most+someMore {
		t.Errorf("took %v, want %v to %v", took, want.least, want.most)
	}
	if got := after.TotalAlloc - before.TotalAlloc; want.alloc > 0 && got > want.alloc {
		t.Errorf("allocated %d bytes, want at most %d", got, want.alloc)
	}
	if len(r.body) > maxResponse || len(r.Response) > 4*2048 {
		t.Errorf("%d bytes of body, %d of response", len(r.body), len(r.Response))
	}
	return r
}

// plain is an endpoint without TLS.
func plain(addr string) store.Endpoint { return endpoint(1, "http://"+addr+"/hook") }

func TestHostile(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	// The receivers themselves allocate, too, but not for what they write again and again.
	const some = 2 << 20
	block := bytes.Repeat([]byte("x"), 64<<10)
	run := func(name string, f func(t *testing.T, s *Sender)) {
		t.Run(name, func(t *testing.T) {
			s := sender(t, newMemory(), nil)
			t.Cleanup(s.shared.CloseIdleConnections)
			f(t, s)
		})
	}
	run("drips headers", func(t *testing.T, s *Sender) {
		addr := hostile(t, func(c net.Conn) {
			_ = headers(c)
			for i := 0; ; i++ {
				if _, err := c.Write([]byte{"HTTP/1.1 200 OK\r\nX-A: "[min(i, 21)]}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
		suffers(t, s, plain(addr), `{}`, outcome{kind: timeout, err: "in time", least: someTime, most: someTime, alloc: some})
	})
	run("drips a body", func(t *testing.T, s *Sender) {
		addr := hostile(t, func(c net.Conn) {
			_ = headers(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
			for {
				if _, err := c.Write([]byte{'x'}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
		ep := plain(addr)
		ep.Timeout = maxTimeout
		r := suffers(t, s, ep, `{}`, outcome{kind: delivered, code: 200, least: bodyTime, most: bodyTime, alloc: some})
		if !strings.HasPrefix(r.Response, "xx") {
			t.Errorf("%q", r.Response)
		}
	})
	run("200 MB", func(t *testing.T, s *Sender) {
		var written atomic.Int64
		addr := hostile(t, func(c net.Conn) {
			_ = headers(c)
			_, _ = io.WriteString(c, "HTTP/1.1 500 Oops\r\nContent-Length: 209715200\r\n\r\n")
			for written.Load() < 200<<20 {
				n, err := c.Write(block)
				written.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		suffers(t, s, plain(addr), `{}`, outcome{kind: status, code: 500, err: "HTTP 500", most: someTime, alloc: some})
		if n := written.Load(); n > 16<<20 {
			t.Errorf("it got rid of %d bytes", n)
		}
	})
	run("200 MB by HTTP/2", func(t *testing.T, s *Sender) {
		var written atomic.Int64
		server, ep := secure(t, func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 {
				t.Errorf("HTTP/%d", r.ProtoMajor)
			}
			for written.Load() < 200<<20 {
				n, err := w.Write(block)
				written.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		defer server.Close()
		suffers(t, s, ep, `{}`, outcome{kind: delivered, code: 200, most: someTime, alloc: 3 << 20})
		if n := written.Load(); n > 1<<20 {
			t.Errorf("it got rid of %d bytes", n)
		}
	})
	run("gzip bomb", func(t *testing.T, s *Sender) {
		var bomb bytes.Buffer
		z := gzip.NewWriter(&bomb)
		for range 1600 { // 100 MB
			_, _ = z.Write(make([]byte, 64<<10))
		}
		_ = z.Close()
		addr := hostile(t, func(c net.Conn) {
			_ = headers(c)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", bomb.Len())
			_, _ = c.Write(bomb.Bytes())
		})
		suffers(t, s, plain(addr), `{}`, outcome{kind: delivered, code: 200, most: someTime, alloc: some})
	})
	run("redirects", func(t *testing.T, s *Sender) {
		var asked atomic.Int64
		inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
		defer inner.Close()
		for _, to := range []string{"http://169.254.169.254/latest/meta-data/", inner.URL, "/elsewhere", "file:///etc/passwd"} {
			for _, code := range []int{301, 302, 303, 307, 308} {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					asked.Add(100)
					w.Header().Set("Location", to)
					w.WriteHeader(code)
				}))
				suffers(t, s, endpoint(1, server.URL), `{}`, outcome{kind: status, code: code, err: "not followed", most: someTime})
				server.Close()
			}
		}
		if asked.Load() != 2000 {
			t.Errorf("%d", asked.Load())
		}
	})
	run("reset before the answer", func(t *testing.T, s *Sender) {
		addr := hostile(t, func(c net.Conn) {
			_ = headers(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-")
			reset(c)
		})
		suffers(t, s, plain(addr), `{}`, outcome{kind: network, most: someTime, alloc: some})
	})
	run("reset in the body", func(t *testing.T, s *Sender) {
		addr := hostile(t, func(c net.Conn) {
			_ = headers(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
			time.Sleep(50 * time.Millisecond)
			reset(c)
		})
		suffers(t, s, plain(addr), `{}`, outcome{kind: delivered, code: 200, most: someTime, alloc: some})
	})
	run("hangs up", func(t *testing.T, s *Sender) {
		var conns atomic.Int64
		addr := hostile(t, func(net.Conn) { conns.Add(1) })
		suffers(t, s, plain(addr), `{}`, outcome{kind: network, most: someTime, alloc: some})
		if conns.Load() != 1 {
			t.Errorf("%d connections", conns.Load())
		}
	})
	run("never reads", func(t *testing.T, s *Sender) {
		end := make(chan struct{})
		addr := hostile(t, func(net.Conn) { <-end })
		t.Cleanup(func() { close(end) })
		suffers(t, s, plain(addr), `{"x":"`+strings.Repeat("x", 32<<20)+`"}`, outcome{kind: timeout, least: someTime, most: someTime + 500*time.Millisecond})
	})
	run("nobody there", func(t *testing.T, s *Sender) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		suffers(t, s, plain(l.Addr().String()), `{}`, outcome{kind: network, err: "refused", most: someTime, alloc: some})
	})
	run("huge headers", func(t *testing.T, s *Sender) {
		for _, line := range []string{"X-A: " + strings.Repeat("y", 1000) + "\r\n", strings.Repeat("y", 1000)} {
			addr := hostile(t, func(c net.Conn) {
				_ = headers(c)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
				for more := []byte(line); ; { // to write a string is to copy it, and that would be measured
					if _, err := c.Write(more); err != nil {
						return
					}
				}
			})
			suffers(t, s, plain(addr), `{}`, outcome{kind: network, most: someTime, alloc: some})
		}
	})
	run("early hints without end", func(t *testing.T, s *Sender) {
		addr := hostile(t, func(c net.Conn) {
			_ = headers(c)
			for hint := []byte("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"); ; {
				if _, err := c.Write(hint); err != nil {
					return
				}
			}
		})
		suffers(t, s, plain(addr), `{}`, outcome{kind: network, most: someTime, alloc: some})
	})
	run("no HTTP", func(t *testing.T, s *Sender) {
		addr := hostile(t, func(c net.Conn) {
			_ = headers(c)
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.9\x1b[31m\r\n")
		})
		r := suffers(t, s, plain(addr), `{}`, outcome{kind: network, most: someTime, alloc: some})
		if strings.ContainsAny(r.Err, "\x1b\r\n") {
			t.Errorf("%q", r.Err)
		}
	})
	run("slow handshake", func(t *testing.T, s *Sender) {
		end := make(chan struct{})
		addr := hostile(t, func(net.Conn) { <-end })
		t.Cleanup(func() { close(end) })
		suffers(t, s, endpoint(1, "https://"+addr), `{}`, outcome{kind: timeout, least: someTime, most: someTime, alloc: some})
	})
	run("dripping handshake", func(t *testing.T, s *Sender) {
		addr := hostile(t, func(c net.Conn) {
			for _, b := range append([]byte{22, 3, 3, 0x3F, 0xFF}, make([]byte, 10_000)...) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
		suffers(t, s, endpoint(1, "https://"+addr), `{}`, outcome{kind: timeout, least: someTime, most: someTime, alloc: some})
	})
	run("no TLS", func(t *testing.T, s *Sender) {
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		defer server.Close()
		suffers(t, s, endpoint(1, strings.Replace(server.URL, "http:", "https:", 1)), `{}`, outcome{kind: network, most: someTime, alloc: some})
	})
	run("unknown authority", func(t *testing.T, s *Sender) {
		server, ep := secure(t, func(http.ResponseWriter, *http.Request) {})
		defer server.Close()
		ep.TLS = nil
		suffers(t, s, ep, `{}`, outcome{kind: network, err: "authority", most: someTime})
	})
	run("another's certificate", func(t *testing.T, s *Sender) {
		server, ep := secure(t, func(http.ResponseWriter, *http.Request) {})
		defer server.Close()
		ep.URL = strings.Replace(ep.URL, "127.0.0.1", "127.0.0.9", 1)
		suffers(t, s, ep, `{}`, outcome{kind: network, most: someTime})
	})
	run("GOAWAY before each answer", func(t *testing.T, s *Sender) {
		var requests atomic.Int64
		_, ep := framed(t, func(f *http2.Framer, _ uint32) bool {
			requests.Add(1)
			_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
			return false
		})
		suffers(t, s, ep, `{}`, outcome{kind: network, most: someTime})
		if n := requests.Load(); n == 0 || n > 1+maxReconnects {
			t.Errorf("%d requests", n)
		}
	})
	run("GOAWAY once", func(t *testing.T, s *Sender) {
		var requests atomic.Int64
		_, ep := framed(t, func(f *http2.Framer, stream uint32) bool {
			if requests.Add(1) == 1 {
				_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
				return false
			}
			answer(f, stream, "204")
			return true
		})
		suffers(t, s, ep, `{}`, outcome{kind: delivered, code: 204, most: someTime})
	})
	run("stream reset", func(t *testing.T, s *Sender) {
		_, ep := framed(t, func(f *http2.Framer, stream uint32) bool {
			_ = f.WriteRSTStream(stream, http2.ErrCodeInternal)
			return true
		})
		suffers(t, s, ep, `{}`, outcome{kind: network, most: someTime})
	})
	run("headers of HTTP/2 without end", func(t *testing.T, s *Sender) {
		var written atomic.Int64
		_, ep := framed(t, func(f *http2.Framer, stream uint32) bool {
			var b bytes.Buffer
			enc := hpack.NewEncoder(&b)
			for range 60 {
				_ = enc.WriteField(hpack.HeaderField{Name: "x-" + rand.Text(), Value: strings.Repeat("y", 100)})
			}
			err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b.Bytes()})
			for err == nil {
				err = f.WriteContinuation(stream, false, b.Bytes())
				written.Add(int64(b.Len()))
			}
			return false
		})
		suffers(t, s, ep, `{}`, outcome{kind: network, most: someTime})
		if n := written.Load(); n > 16<<20 {
			t.Errorf("it got rid of %d bytes", n)
		}
	})
}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// authority is a certificate for 127.0.0.1, which signs itself, in PEM, and its private key.
func authority(t *testing.T) (certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"receiver.example"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// secure serves TLS and HTTP/2, and returns an endpoint that trusts it.
func secure(t *testing.T, f http.HandlerFunc) (*httptest.Server, store.Endpoint) {
	t.Helper()
	cert, key := authority(t)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(f)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.EnableHTTP2 = true
	server.StartTLS()
	ep := endpoint(1, server.URL)
	ep.TLS = &store.ClientTLS{CA: cert}
	return server, ep
}

// framed is a receiver that speaks HTTP/2 frame by frame: answer is called for each request, and says whether to go on.
func framed(t *testing.T, answer func(f *http2.Framer, stream uint32) bool) (addr string, ep store.Endpoint) {
	t.Helper()
	cert, key := authority(t)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	addr = hostile(t, func(c net.Conn) {
		tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
		if tc.Handshake() != nil {
			return
		}
		if _, err := io.ReadFull(tc, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(tc, tc)
		_ = f.WriteSettings()
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				return
			}
			if fr, ok := fr.(*http2.HeadersFrame); ok && !answer(f, fr.StreamID) {
				return
			}
		}
	})
	ep = endpoint(1, "https://"+addr)
	ep.TLS = &store.ClientTLS{CA: cert}
	return addr, ep
}

func answer(f *http2.Framer, stream uint32, status string) {
	var b bytes.Buffer
	_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: status})
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: true})
}

// TestMutualTLS: the endpoint's certificate is shown, and nobody else's.
func TestMutualTLS(t *testing.T) {
	cert, key := authority(t)
	server, ep := secure(t, func(_ http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) != 1 || r.ProtoMajor != 2 || r.Header.Get("X-Mine") != "yes" {
			t.Errorf("%d certificates, HTTP/%d, %v", len(r.TLS.PeerCertificates), r.ProtoMajor, r.Header)
		}
	})
	defer server.Close()
	server.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	server.TLS.ClientCAs = x509.NewCertPool()
	server.TLS.ClientCAs.AppendCertsFromPEM([]byte(cert))
	ep.Headers = []store.Header{{Name: "X-Mine", Value: "yes"}}
	s := sender(t, newMemory(), nil)
	if r := s.Test(t.Context(), &ep, &store.Event{ID: "evt_1", Body: []byte(`{}`)}); r.OK() {
		t.Error("accepted without a certificate")
	}
	ep.TLS.Cert, ep.TLS.Key = cert, key
	if r := s.Test(t.Context(), &ep, &store.Event{ID: "evt_1", Body: []byte(`{}`)}); !r.OK() {
		t.Errorf("%+v", r)
	}
	ep.TLS.Key = strings.Replace(key, "PRIVATE", "PUBLIC", 2)
	if err := CheckTLS(ep.TLS); err == nil {
		t.Error("no private key, and nobody minds")
	}
}

// TestKeepAlive: many deliveries share few connections, with HTTP/2 one or two.
func TestKeepAlive(t *testing.T) {
	var conns sync.Map
	count := func(_ http.ResponseWriter, r *http.Request) { conns.Store(r.RemoteAddr, true) }
	f := func(name string, ep store.Endpoint, most int) {
		t.Helper()
		conns.Clear()
		ep.MaxInFlight = 8
		m := newMemory(ep)
		m.add(ep.Num, 300, nil)
		stop := start(t, sender(t, m, nil))
		testkit.Eventually(t, 20*time.Second, func() error {
			if n := m.count(store.DeliveryDelivered); n < 300 {
				return fmt.Errorf("%s: %d delivered", name, n)
			}
			return nil
		})
		stop()
		n := 0
		conns.Range(func(any, any) bool { n++; return true })
		if n > most {
			t.Errorf("%s: %d connections", name, n)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(count))
	defer server.Close()
	f("HTTP/1.1", endpoint(1, server.URL), 16)
	server, ep := secure(t, count)
	defer server.Close()
	f("HTTP/2", ep, 4)
}

// TestIdleConnectionRace: a receiver that closes each connection after its answer, without a word, costs no attempt.
func TestIdleConnectionRace(t *testing.T) {
	addr := hostile(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	s := sender(t, newMemory(), nil)
	ep := plain(addr)
	ep.Timeout = 5 * time.Second
	tg := s.target(&ep)
	for i := range 200 {
		r := tg.post(context.Background(), &message{id: "evt_1", contentType: "application/json", body: []byte(`{}`)})
		if !r.OK() {
			t.Fatalf("request %d: %+v", i, r)
		}
	}
}

func TestVerify(t *testing.T) {
	s := sender(t, newMemory(), nil)
	f := func(way store.Verify, handler http.HandlerFunc, want string) {
		t.Helper()
		server := httptest.NewServer(handler)
		defer server.Close()
		ep := endpoint(1, server.URL)
		ep.Verify = way
		if err := s.Verify(t.Context(), &ep); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", way, err, want)
		}
	}
	echo := func(change func([]byte) []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err := errors.Join(err, accepts(r, b)); err != nil {
				t.Error(err)
			}
			_, _ = w.Write(change(b))
		}
	}
	same := func(b []byte) []byte { return b }
	f(store.VerifyChallenge, echo(same), "")
	f(store.VerifyChallenge, echo(func(b []byte) []byte {
		_, text, _ := strings.Cut(string(b), `"challenge":"`)
		text, _, _ = strings.Cut(text, `"`)
		return []byte(text + "\n")
	}), "")
	f(store.VerifyChallenge, echo(func([]byte) []byte { return []byte("ok") }), "challenge")
	f(store.VerifyChallenge, echo(func([]byte) []byte { return nil }), "challenge")
	f(store.VerifyChallenge, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "404")
	shake := func(origin string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodOptions || r.Header.Get("WebHook-Request-Origin") != "tickwire" || r.Header.Get("Webhook-Signature") != "" {
				t.Errorf("%s %v", r.Method, r.Header)
			}
			w.Header().Set("WebHook-Allowed-Origin", origin)
		}
	}
	f(store.VerifyCloudEvents, shake("*"), "")
	f(store.VerifyCloudEvents, shake("other.example, tickwire"), "")
	f(store.VerifyCloudEvents, shake("other.example"), "WebHook-Allowed-Origin")
	f(store.VerifyCloudEvents, shake(""), "WebHook-Allowed-Origin")
	f(store.VerifyNone, shake("x"), "")
	f("other", shake("*"), "unknown")
}
