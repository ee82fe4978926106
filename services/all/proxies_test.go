package all

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/services/internal/testkit"
)

// TestProxies runs the configurations of docs/proxies in the real programs, as an ordinary user, between everything and its
// clients.
func TestProxies(t *testing.T) {
	if os.Getenv("TICKWIRE_PROXIES") == "" {
		t.Skip("nginx and haproxy have to be installed: make proxies")
	}
	program := testkit.Tickwire(t)
	addrs := program.All(t, "--trusted-proxies", "127.0.0.1", "--sse-max-conns-per-ip", strconv.Itoa(perAddress), "--ws-max-conns-per-ip", strconv.Itoa(perAddress))
	cert, key, pool := testkit.Certificate(t)
	for name, start := range map[string]func(*testing.T, testkit.Addrs, string, string) string{"nginx": startNginx, "haproxy": startHAProxy} {
		t.Run(name, func(t *testing.T) {
			p := &behind{program: program, edge: addrs, addr: start(t, addrs, cert, key), cert: cert, pool: pool}
			p.await(t)
			t.Run("WebSocket", p.webSocket)
			t.Run("WebSocketOverHTTP2", p.webSocketOverHTTP2)
			t.Run("Plain", p.plain)
			t.Run("Unbuffered", p.unbuffered)
			t.Run("Gzip", p.gzip)
			t.Run("Curl", p.curl)
			t.Run("HangUp", p.hangUp)
			t.Run("Addresses", p.addresses)
		})
	}
}

// perAddress is how many connections the edges take from one address.
const perAddress = 3

// nobody makes a folder for a program that runs as an ordinary user, and returns what its command line begins with.
func nobody(t *testing.T) (dir string, as []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tickwire-proxy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Geteuid() != 0 {
		return dir, nil
	}
	const id = 65534
	if err := os.Chown(dir, id, id); err != nil {
		t.Fatal(err)
	}
	return dir, []string{testkit.Tool(t, "apt-get install util-linux", "setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"}
}

// give writes a file that the owner of its folder may read.
func give(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err == nil && os.Geteuid() == 0 {
		owner := info.Sys().(*syscall.Stat_t)
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// changed is a configuration of docs/proxies with other addresses and files; each of the old ones must be there.
func changed(t *testing.T, name string, pairs ...string) []byte {
	t.Helper()
	text := read(t, filepath.Join("..", "..", "docs", "proxies", name))
	for i := 0; i < len(pairs); i += 2 {
		if !bytes.Contains(text, []byte(pairs[i])) {
			t.Fatalf("%s does not have %q", name, pairs[i])
		}
		text = bytes.ReplaceAll(text, []byte(pairs[i]), []byte(pairs[i+1]))
	}
	return text
}

func startNginx(t *testing.T, edge testkit.Addrs, cert, key string) (addr string) {
	nginx := testkit.Tool(t, "apt-get install nginx-light", "nginx", "/usr/sbin/nginx")
	dir, as := nobody(t)
	addr = testkit.FreeAddr()
	give(t, filepath.Join(dir, "cert.pem"), read(t, cert))
	give(t, filepath.Join(dir, "key.pem"), read(t, key))
	give(t, filepath.Join(dir, "tickwire.conf"), changed(t, "nginx.conf",
		"listen 443 ssl", "listen "+addr+" ssl",
		"/etc/ssl/certs/tickwire.pem", dir+"/cert.pem", "/etc/ssl/private/tickwire.key", dir+"/key.pem",
		"server 127.0.0.1:8080", "server "+edge.SSE, "server 127.0.0.1:8081", "server "+edge.WS))
	// What a system's own nginx.conf may have around it, at its worst.
	give(t, filepath.Join(dir, "nginx.conf"), []byte(strings.ReplaceAll(`
		daemon off; master_process off; pid DIR/pid; error_log stderr warn;
		events { worker_connections 512; }
		http {
			access_log off; gzip on; gzip_min_length 0; gzip_types text/event-stream application/json; proxy_buffering on;
			client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
			include DIR/tickwire.conf;
		}`, "DIR", dir)))
	args := append(as, nginx, "-e", "stderr", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	testkit.Start(t, exec.Command(args[0], args[1:]...))
	return addr
}

func startHAProxy(t *testing.T, edge testkit.Addrs, cert, key string) (addr string) {
	haproxy := testkit.Tool(t, "apt-get install haproxy", "haproxy", "/usr/sbin/haproxy")
	dir, as := nobody(t)
	addr = testkit.FreeAddr()
	_, admin, err := net.SplitHostPort(edge.Admin)
	if err != nil {
		t.Fatal(err)
	}
	give(t, filepath.Join(dir, "both.pem"), slices.Concat(read(t, cert), read(t, key)))
	give(t, filepath.Join(dir, "haproxy.cfg"), changed(t, "haproxy.cfg",
		"bind :443", "bind "+addr, "/etc/haproxy/certs/tickwire.pem", dir+"/both.pem",
		"server a 127.0.0.1:8080", "server a "+edge.SSE, "server a 127.0.0.1:8081", "server a "+edge.WS, "check port 9090", "check port "+admin))
	args := append(as, haproxy, "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	testkit.Start(t, exec.Command(args[0], args[1:]...))
	return addr
}

// behind is everything as seen through a proxy.
type behind struct {
	program testkit.Program
	edge    testkit.Addrs
	addr    string // of the proxy
	cert    string
	pool    *x509.CertPool
}

// way is how a request gets there.
type way struct {
	direct bool   // to the edge itself
	h2     bool   // through the proxy
	source string // address that it comes from
}

// through makes a client of its own, whose connections nobody else uses, and the URL that its paths follow.
func (p *behind) through(t *testing.T, w way) (c *http.Client, base string) {
	t.Helper()
	addr, base := p.addr, "https://localhost"
	if w.direct {
		addr, base = p.edge.SSE, "http://localhost"
	}
	var protocols http.Protocols
	protocols.SetHTTP1(!w.h2)
	protocols.SetHTTP2(w.h2)
	dialer := &net.Dialer{}
	if w.source != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(w.source)}
	}
	tr := &http.Transport{
		Protocols: &protocols, DisableCompression: true, ResponseHeaderTimeout: 10 * time.Second, TLSClientConfig: &tls.Config{RootCAs: p.pool, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}, base
}

// get asks, and ends the answer with the test at the latest, or by stop.
func (p *behind) get(t *testing.T, w way, path string, headers ...string) (resp *http.Response, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c, base := p.through(t, w)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err = c.Do(req)
	if err != nil {
		t.Fatalf("%+v %s: %v", w, path, err)
	}
	stop = func() {
		cancel()
		_ = resp.Body.Close()
		c.CloseIdleConnections()
	}
	t.Cleanup(stop)
	return resp, stop
}

// await waits until the proxy answers, and has found the edge.
func (p *behind) await(t *testing.T) {
	t.Helper()
	c, base := p.through(t, way{})
	testkit.Eventually(t, 20*time.Second, func() error {
		resp, err := c.Get(base + "/v1/time")
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

// tickwire runs the program with the proxy's certificate.
func (p *behind) tickwire(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), string(p.program), args...)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+p.cert)
	return cmd
}

func (p *behind) port() string {
	_, port, _ := net.SplitHostPort(p.addr)
	return port
}

// webSocket has the program's own client show a book, and verify one for some seconds.
func (p *behind) webSocket(t *testing.T) {
	addr := "wss://localhost:" + p.port()
	out, err := p.tickwire(t, "book", "BTC-USDT", "--once", "--addr", addr).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(`"sym":"BTC-USDT"`)) {
		t.Fatalf("book --once: %v\n%s", err, out)
	}
	verify := p.tickwire(t, "book", "BTC-USDT", "--verify", "--every", "1s", "--addr", addr)
	verify.Cancel = func() error { return verify.Process.Signal(os.Interrupt) }
	var said bytes.Buffer
	verify.Stdout, verify.Stderr = &said, &said
	if err := verify.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(5*time.Second, func() { _ = verify.Cancel() })
	defer timer.Stop()
	if err := verify.Wait(); err != nil {
		t.Errorf("book --verify: %v\n%s", err, said.Bytes())
	}
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	t.Logf("book --verify: %s", lines[len(lines)-1])
}

// webSocketOverHTTP2 is what browsers do where the proxy offers it.
func (p *behind) webSocketOverHTTP2(t *testing.T) {
	node := testkit.Tool(t, "apt-get install nodejs", "node")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, node, filepath.Join("testdata", "websocket-h2.mjs"), "https://localhost:"+p.port()).Output()
	if err != nil || !bytes.HasPrefix(out, []byte("not offered")) && !bytes.Contains(out, []byte(`"ev":"hello"`)) {
		t.Errorf("%v: %s", err, out)
	}
	t.Logf("%.60s", out)
}

// plain asks for what is no stream.
func (p *behind) plain(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		resp, stop := p.get(t, way{h2: h2}, "/v1/sse/trades?symbols=BTC-USDT", "Accept", "application/json")
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || !bytes.Contains(body, []byte(`"items":[{"sym":"BTC-USDT"`)) {
			t.Errorf("%s %v %.200s", resp.Status, err, body)
		}
		if (resp.ProtoMajor == 2) != h2 {
			t.Errorf("%s", resp.Proto)
		}
		stop()
		resp, stop = p.get(t, way{h2: h2}, "/v1/book/BTC-USDT?depth=10")
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !bytes.Contains(body, []byte(`"sym":"BTC-USDT"`)) {
			t.Errorf("%s %v %.200s", resp.Status, err, body)
		}
		stop()
		resp, stop = p.get(t, way{h2: h2}, "/tickwire-sse.js")
		etag := resp.Header.Get("ETag")
		stop()
		resp, stop = p.get(t, way{h2: h2}, "/tickwire-sse.js", "If-None-Match", etag)
		if resp.StatusCode != http.StatusNotModified {
			t.Errorf("ETag %s: %s", etag, resp.Status)
		}
		stop()
	}
}

// event is one as it arrived.
type event struct {
	name, id string
	at       time.Time
}

// events reads a stream until it ends or f has had enough.
func events(r io.Reader, f func(event) bool) {
	var e event
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case name == "event":
			e.name = value
		case name == "id":
			e.id = value
		case name == "" && e.name != "":
			e.at = time.Now()
			if !f(e) {
				return
			}
			e = event{}
		}
	}
}

// unbuffered follows the same trades with and without the proxy, and compares when they come.
func (p *behind) unbuffered(t *testing.T) {
	const path, n = "/v1/sse/trades?symbols=BTC-USDT,ETH-USDT,SOL-USDT", 150
	for _, h2 := range []bool{false, true} {
		begin := time.Now()
		near, stopNear := p.get(t, way{direct: true}, path)
		begun := time.Now()
		far, stopFar := p.get(t, way{h2: h2}, path)
		var first time.Duration
		var seen [2][]event
		var reading sync.WaitGroup
		for i, body := range []io.Reader{near.Body, far.Body} {
			reading.Go(func() {
				events(body, func(e event) bool {
					if i == 1 && first == 0 {
						first = e.at.Sub(begun)
					}
					if e.name == "trade" {
						seen[i] = append(seen[i], e)
					}
					return len(seen[i]) < n && time.Since(begin) < 20*time.Second
				})
			})
		}
		reading.Wait()
		stopNear()
		stopFar()
		if first == 0 || first > time.Second {
			t.Errorf("first event after %v", first)
		}
		compare(t, h2, first, seen)
	}
}

// compare looks at how much later events come by the proxy, and how the gaps between them differ.
func compare(t *testing.T, h2 bool, first time.Duration, seen [2][]event) {
	t.Helper()
	near := make(map[string]time.Time)
	for _, e := range seen[0] {
		near[e.id] = e.at
	}
	var late, gaps []time.Duration
	for _, e := range seen[1] {
		at, both := near[e.id]
		if !both {
			continue
		}
		late = append(late, e.at.Sub(at))
		if n := len(late); n > 1 {
			gaps = append(gaps, (late[n-1] - late[n-2]).Abs())
		}
	}
	if len(gaps) < 50 {
		t.Fatalf("%d events in common", len(late))
	}
	slices.Sort(late)
	slices.Sort(gaps)
	at := func(d []time.Duration, share float64) time.Duration {
		return d[int(share*float64(len(d)-1))].Round(10 * time.Microsecond)
	}
	t.Logf("HTTP/2 %t: first event after %v; %d trades: later by %v (p50), %v (p95), %v (most); gaps between them differ by %v (p50), %v (p95), %v (most)", h2,
		first.Round(10*time.Microsecond), len(late), at(late, 0.5), at(late, 0.95), at(late, 1), at(gaps, 0.5), at(gaps, 0.95), at(gaps, 1))
	// A buffer of 4 KiB would hold some 15 trades back, for half a second.
	if at(late, 0.5) > 50*time.Millisecond || at(late, 0.95) > 250*time.Millisecond || at(gaps, 0.5) > 50*time.Millisecond {
		t.Error("events are held back")
	}
}

// gzip reads a stream that the edge compresses.
func (p *behind) gzip(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		begin := time.Now()
		resp, stop := p.get(t, way{h2: h2}, "/v1/sse/trades?symbols=BTC-USDT,ETH-USDT&rate=250ms", "Accept-Encoding", "gzip")
		if got := resp.Header.Get("Content-Encoding"); got != "gzip" {
			t.Fatalf("Content-Encoding: %q", got)
		}
		text, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		events(text, func(event) bool { n++; return n < 10 })
		if took := time.Since(begin); n < 10 || took > 5*time.Second {
			t.Errorf("%d events in %v", n, took)
		}
		stop()
	}
	resp, stop := p.get(t, way{}, "/v1/sse/trades?symbols=BTC-USDT", "Accept-Encoding", "gzip")
	defer stop()
	if got := resp.Header.Get("Content-Encoding"); got != "" {
		t.Errorf("a stream of single trades: Content-Encoding %q, by the proxy", got)
	}
}

// curl reads a stream over HTTP/2 and over HTTP/1.1.
func (p *behind) curl(t *testing.T) {
	curl := testkit.Tool(t, "apt-get install curl", "curl")
	for flag, version := range map[string]string{"--http2": "2", "--http1.1": "1.1"} {
		cmd := exec.CommandContext(t.Context(), curl, flag, "--cacert", p.cert, "--silent", "--show-error", "--no-buffer", "--max-time", "2", "--write-out", "\nversion %{http_version}\n",
			"https://localhost:"+p.port()+"/v1/sse/ticker?symbols=BTC-USDT&rate=100ms")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 28 { // out of time, as it must be
			t.Errorf("%s: %v", flag, err)
		}
		if !bytes.Contains(out, []byte("event: hello\n")) || bytes.Count(out, []byte("event: ticker\n")) < 2 || !bytes.Contains(out, []byte("\nversion "+version+"\n")) {
			t.Errorf("%s: %s", flag, out)
		}
	}
}

// gauge reads a metric of everything.
func (p *behind) gauge(t *testing.T, name string) (value int) {
	t.Helper()
	resp, err := http.Get("http://" + p.edge.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if text, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			if value, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// becomes waits until a metric has a value, and returns how long that took.
func (p *behind) becomes(t *testing.T, name string, want int) time.Duration {
	t.Helper()
	begin := time.Now()
	testkit.Eventually(t, 10*time.Second, func() error {
		if got := p.gauge(t, name); got != want {
			return fmt.Errorf("%s is %d, want %d", name, got, want)
		}
		return nil
	})
	return time.Since(begin)
}

// hangUp has clients go, and looks when the edges notice.
func (p *behind) hangUp(t *testing.T) {
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	quiet := "/v1/sse/bars?symbols=BTC-USDT&iv=1d&rate=5s" // hardly anything is written to it
	f := func(metric string, w way, path string, headers ...string) {
		t.Helper()
		p.becomes(t, metric, 0)
		var stops []func()
		for range 5 {
			_, stop := p.get(t, w, path, headers...)
			stops = append(stops, stop)
		}
		p.becomes(t, metric, 5)
		for _, stop := range stops {
			stop()
		}
		took := p.becomes(t, metric, 0)
		t.Logf("%s, HTTP/2 %t: noticed after %v", metric, w.h2, took.Round(time.Millisecond))
		if took > time.Second {
			t.Errorf("%s: too late", metric)
		}
	}
	f("sse_streams", way{}, quiet)
	f("sse_streams", way{h2: true}, quiet)
	f("ws_connections", way{}, "/v1/ws", upgrade...)
}

// addresses looks whose connections are counted: each address may have three.
func (p *behind) addresses(t *testing.T) {
	const path, tries = "/v1/sse/ticker?symbols=BTC-USDT", 5
	f := func(want int, w way, forwarded func(i int) string) {
		t.Helper()
		p.becomes(t, "sse_streams", 0)
		served := 0
		for i := range tries {
			resp, stop := p.get(t, w, path, "X-Forwarded-For", forwarded(i))
			defer stop()
			events(resp.Body, func(e event) bool {
				if e.name == "hello" {
					served++
				}
				return false
			})
		}
		if served != want {
			t.Errorf("%+v, X-Forwarded-For: %s, …: %d of %d served, want %d", w, forwarded(0), served, tries, want)
		}
	}
	same := func(int) string { return "198.51.100.7" }
	other := func(i int) string { return fmt.Sprintf("198.51.100.%d", i+1) }
	f(perAddress, way{direct: true}, same)                 // a trusted proxy's word
	f(tries, way{direct: true}, other)                     //
	f(tries, way{direct: true, source: "127.0.0.2"}, same) // not a proxy's: it is loopback, which is not counted
	f(tries, way{}, same)                                  // not the client's own word
	source := ownAddress()
	if source == "" {
		t.Log("this machine has no address but loopback: whether the proxy names the client can't be seen")
		return
	}
	f(perAddress, way{source: source}, other)
	f(perAddress, way{source: source, h2: true}, other)
}

// ownAddress is one of this machine's that is not loopback.
func ownAddress() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	return ""
}
