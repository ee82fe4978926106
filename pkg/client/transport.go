package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"github.com/tickwire/tickwire/pkg/wire"
)

const (
	// writeTimeout bounds one write: requests are small, so a peer that takes none of one for this long is gone.
	writeTimeout = 10 * time.Second
	// closeTimeout bounds the farewell of a connection that we end.
	closeTimeout = time.Second
	// maxHandshake bounds the response to the handshake, which net/http reads without a limit.
	maxHandshake = 64 << 10
	// readBuffer is gws's, so that one read(2) takes many small messages.
	readBuffer = 32 << 10
)

// transport is the net.Conn under a WebSocket. It puts a deadline on each read and write, says when something was last
// heard, and adds up how long reads waited.
type transport struct {
	net.Conn
	heard   *atomic.Int64 // nanoseconds since base
	base    time.Time
	silence time.Duration
	waited  time.Duration // the reader's own
	request []byte        // the handshake request, held back until the response is read
	budget  int           // bytes the handshake may still bring; negative when it is over
	closing atomic.Bool
}

// open dials, speaks TLS and upgrades, all within HandshakeTimeout and ctx.
func (c *Client) open(ctx context.Context, h gws.Event) (*gws.Conn, *transport, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.HandshakeTimeout)
	defer cancel()
	header, err := c.header(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("client: token: %w", err)
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("client: connect to %s: %w", c.url.Host, err)
	}
	t := &transport{Conn: conn, heard: &c.heard, base: c.base, silence: c.cfg.HandshakeTimeout, budget: maxHandshake}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	ws, resp, err := gws.NewClientFromConn(h, &gws.ClientOption{
		Addr:               c.url.String(),
		RequestHeader:      header,
		HandshakeTimeout:   c.cfg.HandshakeTimeout,
		ReadMaxPayloadSize: c.cfg.ReadLimit,
		ReadBufferSize:     readBuffer,
		PermessageDeflate:  gws.PermessageDeflate{Enabled: c.cfg.Compress},
		CheckUtf8Enabled:   false, // the JSON decoder does
	}, t)
	if !stop() && err == nil {
		_ = conn.Close()
		err = ctx.Err()
	}
	if err != nil {
		return nil, nil, handshakeError(ctx, c.url, resp, err)
	}
	t.budget, t.silence = -1, c.cfg.HeartbeatTimeout
	return ws, t, nil
}

func (c *Client) header(ctx context.Context) (http.Header, error) {
	h := c.cfg.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	sub := wire.SubprotocolSBE
	if c.cfg.Encoding == JSON {
		sub = wire.SubprotocolJSON
	}
	h.Set("Sec-WebSocket-Protocol", sub)
	if c.cfg.Token != nil {
		token, err := c.cfg.Token(ctx)
		if err != nil {
			return nil, err
		}
		h.Set("Authorization", "Bearer "+token)
	}
	return h, nil
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	port := c.url.Port()
	switch {
	case port != "":
	case c.url.Scheme == "wss":
		port = "443"
	default:
		port = "80"
	}
	conn, err := c.cfg.Dial(ctx, "tcp", net.JoinHostPort(c.url.Hostname(), port))
	if err != nil || c.url.Scheme == "ws" {
		return conn, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.cfg.TLS != nil {
		conf = c.cfg.TLS.Clone()
	}
	if conf.ServerName == "" {
		conf.ServerName = c.url.Hostname()
	}
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// handshakeError says why there is no WebSocket: the edge's answer, if it gave one.
func handshakeError(ctx context.Context, u *url.URL, resp *http.Response, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if resp == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return fmt.Errorf("client: handshake with %s: %w", u.Host, err)
	}
	_ = resp.Body.Close()
	e := &HandshakeError{Status: resp.StatusCode, Err: errors.New(http.StatusText(resp.StatusCode))}
	if resp.StatusCode == http.StatusUnauthorized {
		if why, ok := challenge(resp.Header); ok {
			e.Err = errors.New(why)
		}
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	return e
}

// challenge is what an edge says about a token that it does not take (RFC 6750).
func challenge(h http.Header) (string, bool) {
	_, why, ok := strings.Cut(h.Get("WWW-Authenticate"), `error_description="`)
	why, _, _ = strings.Cut(why, `"`)
	return why, ok && why != ""
}

// Write sends p within writeTimeout. gws writes its handshake from a goroutine that it may leave behind, blocked: so
// the handshake is only noted here, and goes out with the first Read.
func (t *transport) Write(p []byte) (int, error) {
	if t.budget >= 0 {
		t.request = append(t.request, p...)
		return len(p), nil
	}
	_ = t.SetWriteDeadline(time.Now().Add(writeTimeout))
	if t.closing.Load() { // set before the short deadline is, so that one of the two of us sees the other
		_ = t.SetWriteDeadline(time.Now().Add(closeTimeout))
	}
	return t.Conn.Write(p)
}

// Read waits for at most the allowed silence.
func (t *transport) Read(p []byte) (int, error) {
	if t.budget >= 0 {
		return t.readHandshake(p)
	}
	begin := time.Now()
	_ = t.SetReadDeadline(begin.Add(t.silence))
	n, err := t.Conn.Read(p)
	now := time.Now()
	t.waited += now.Sub(begin)
	if n > 0 {
		t.heard.Store(int64(now.Sub(t.base)))
	}
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = ErrSilent
	}
	return n, err
}

func (t *transport) readHandshake(p []byte) (int, error) {
	if len(t.request) > 0 {
		if _, err := t.Conn.Write(t.request); err != nil {
			return 0, err
		}
		t.request = nil
	}
	if t.budget == 0 {
		return 0, errors.New("response is too long")
	}
	n, err := t.Conn.Read(p[:min(len(p), t.budget)])
	t.budget -= n
	return n, err
}

// hurry shortens the deadline of the write that runs now and of all that follow.
func (t *transport) hurry() {
	t.closing.Store(true)
	_ = t.SetWriteDeadline(time.Now().Add(closeTimeout))
}
