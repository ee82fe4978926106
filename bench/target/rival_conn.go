package target

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	dialLimit = 10 * time.Second
	takeLimit = 20 * time.Second // that a server may take for what is published at once
)

// conn is the connection that messages are published on: one writer at a time.
type conn struct {
	net.Conn
	in      *bufio.Reader
	mu      sync.Mutex // guards writing
	closing chan struct{}
	reading sync.WaitGroup
	said    error // what the server has said at the end, once nothing is read any more
}

// word is what a server says when it is not content.
type word string

func (w word) Error() string { return "the server says " + string(w) }

// reason is why a write has failed: what the server said before it hung up, if it did.
func (c *conn) reason(err error) error {
	_ = c.SetReadDeadline(time.Now().Add(time.Second)) // there is nothing to read, or it is there already
	c.reading.Wait()
	return cmp.Or(c.said, err)
}

// tls is how secure connections are made.
func (c *Config) tls(host string) *tls.Config {
	return &tls.Config{ServerName: host, InsecureSkipVerify: c.Insecure, MinVersion: tls.VersionTLS12} //nolint:gosec // if that is what the user wants
}

// dial connects to a URL's host, in TLS unless secure is nil.
func dial(u *url.URL, port string, secure *tls.Config) (*conn, error) {
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), port)
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	d := &net.Dialer{}
	var c net.Conn
	var err error
	if secure != nil {
		c, err = (&tls.Dialer{NetDialer: d, Config: secure}).DialContext(ctx, "tcp", host)
	} else {
		c, err = d.DialContext(ctx, "tcp", host)
	}
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, in: bufio.NewReaderSize(c, 64<<10), closing: make(chan struct{})}, nil
}

// write writes all of b before anybody else does, unless the server takes none of it for too long.
func (c *conn) write(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.SetWriteDeadline(time.Now().Add(takeLimit))
	if err == nil {
		_, err = c.Write(b)
	}
	return err
}

// listen reads until the connection ends. If we have not ended it, that is the end of publishing.
func (r *rival) listen(c *conn, read func() error) {
	r.hangUp = func() error {
		close(c.closing)
		err := c.Close()
		c.reading.Wait()
		return err
	}
	c.reading.Go(func() {
		var err error
		for err == nil {
			err = read()
		}
		select {
		case <-c.closing:
			return
		default:
		}
		var said word
		switch {
		case errors.As(err, &said):
			c.said = err
		case errors.Is(err, io.EOF):
			err = errors.New("the server has hung up")
		}
		for _, l := range r.lanes {
			r.fail(l, err)
		}
	})
}

// toNATS publishes by the client protocol over TCP, to nats://HOST:PORT or tls://HOST:PORT. Whatever has gathered goes in one
// write. The key is a token, or user:password.
func (r *rival) toNATS(cfg *Config) error {
	u, err := url.Parse(cfg.Publish)
	if err != nil {
		return err
	}
	if u.Scheme != "nats" && u.Scheme != "tls" || u.Host == "" {
		return fmt.Errorf("%q is no nats:// or tls:// URL", cfg.Publish)
	}
	c, err := dial(u, "4222", nil)
	if err != nil {
		return err
	}
	if err := natsGreet(c, u, cfg); err != nil {
		return errors.Join(err, c.Close())
	}
	r.start(1, func() func(*batch) error {
		var out []byte
		return func(b *batch) error {
			out = out[:0]
			for i := range b.len() {
				topic, payload := b.message(i)
				out = append(append(append(out, "PUB "...), r.names[topic]...), ' ')
				out = append(strconv.AppendInt(out, int64(len(payload)), 10), "\r\n"...)
				out = append(append(out, payload...), "\r\n"...)
			}
			if err := c.write(out); err != nil {
				return c.reason(err)
			}
			return nil
		}
	})
	r.listen(c, func() error {
		line, err := c.in.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case bytes.HasPrefix(line, []byte("PING")):
			return c.write([]byte("PONG\r\n"))
		case bytes.HasPrefix(line, []byte("-ERR")):
			return word(bytes.TrimSpace(line))
		}
		return nil
	})
	return nil
}

// natsGreet says who we are, and waits until the server has agreed.
func natsGreet(c *conn, u *url.URL, cfg *Config) error {
	if err := c.SetDeadline(time.Now().Add(dialLimit)); err != nil {
		return err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read INFO: %w", err)
	}
	text, ok := bytes.CutPrefix(line, []byte("INFO "))
	if !ok {
		return fmt.Errorf("%.60q is no greeting of NATS", line)
	}
	var info struct {
		TLSRequired bool `json:"tls_required"`
	}
	if err := json.Unmarshal(text, &info); err != nil {
		return fmt.Errorf("read INFO: %w", err)
	}
	if info.TLSRequired || u.Scheme == "tls" {
		c.Conn = tls.Client(c.Conn, cfg.tls(u.Hostname()))
		c.in.Reset(c.Conn)
	}
	if err := c.write(append(NATSConnect(cfg.PublishKey), "PING\r\n"...)); err != nil {
		return err
	}
	for {
		line, err := c.in.ReadSlice('\n')
		switch {
		case err != nil:
			return fmt.Errorf("read PONG: %w", err)
		case bytes.HasPrefix(line, []byte("-ERR")):
			return word(bytes.TrimSpace(line))
		case bytes.HasPrefix(line, []byte("PONG")):
			return c.SetDeadline(time.Time{})
		}
	}
}

// NATSConnect is the operation by which a client says who it is. The key is a token, or user:password.
func NATSConnect(key string) []byte {
	hello := struct {
		Verbose   bool   `json:"verbose"`
		Pedantic  bool   `json:"pedantic"`
		Name      string `json:"name"`
		Lang      string `json:"lang"`
		Version   string `json:"version"`
		Protocol  int    `json:"protocol"` // 1: further INFOs are understood
		User      string `json:"user,omitempty"`
		Pass      string `json:"pass,omitempty"`
		AuthToken string `json:"auth_token,omitempty"`
	}{Name: "tickwire-bench", Lang: "go", Version: "1", Protocol: 1}
	if user, pass, ok := strings.Cut(key, ":"); ok {
		hello.User, hello.Pass = user, pass
	} else {
		hello.AuthToken = key
	}
	b, err := json.Marshal(&hello) //nolint:gosec // the server must have them
	if err != nil {
		panic("target: a greeting that is no JSON: " + err.Error())
	}
	return append(append([]byte("CONNECT "), b...), "\r\n"...)
}

// toWS publishes on a WebSocket connection, a message in a frame; whatever has gathered goes in one write. What the server
// sends to us too is read, and thrown away.
func (r *rival) toWS(cfg *Config) error {
	u, err := url.Parse(cfg.Publish)
	if err != nil {
		return err
	}
	if u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return fmt.Errorf("%q is no ws:// or wss:// URL", cfg.Publish)
	}
	var secure *tls.Config
	port := "80"
	if u.Scheme == "wss" {
		secure, port = cfg.tls(u.Hostname()), "443"
	}
	c, err := dial(u, port, secure)
	if err != nil {
		return err
	}
	if err := upgrade(c, u, cfg.PublishKey); err != nil {
		return errors.Join(err, c.Close())
	}
	opcode := byte(wsText)
	if !r.json {
		opcode = wsBinary
	}
	r.start(1, func() func(*batch) error {
		var out []byte
		return func(b *batch) error {
			out = out[:0]
			for i := range b.len() {
				_, payload := b.message(i)
				out = appendFrame(out, opcode, payload)
			}
			if err := c.write(out); err != nil {
				return c.reason(err)
			}
			return nil
		}
	})
	r.listen(c, c.skipFrame)
	return nil
}

const (
	wsText   = 1
	wsBinary = 2
	wsClose  = 8
	wsPing   = 9
	wsPong   = 10
)

// upgrade makes a WebSocket of a connection.
func upgrade(c *conn, u *url.URL, key string) error {
	if err := c.SetDeadline(time.Now().Add(dialLimit)); err != nil {
		return err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-WebSocket-Version": {"13"},
		"Sec-WebSocket-Key": {base64.StdEncoding.EncodeToString(random[:])},
	}}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if err := req.Write(c); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // what there is of it helps
		_ = resp.Body.Close()                                 // as the connection is, next
		return fmt.Errorf("%s: %s: %s", u, resp.Status, bytes.TrimSpace(body))
	}
	return c.SetDeadline(time.Time{})
}

// appendFrame appends a client's frame. Its mask is zero, which masks as well as any other does here.
func appendFrame(b []byte, opcode byte, payload []byte) []byte {
	b = append(b, 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// skipFrame reads a server's frame, and answers a ping.
func (c *conn) skipFrame() error {
	var head [10]byte
	if _, err := io.ReadFull(c.in, head[:2]); err != nil {
		return err
	}
	n := uint64(head[1]) // a server masks nothing
	switch n {
	case 126:
		if _, err := io.ReadFull(c.in, head[2:4]); err != nil {
			return err
		}
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		if _, err := io.ReadFull(c.in, head[2:10]); err != nil {
			return err
		}
		n = binary.BigEndian.Uint64(head[2:])
	}
	opcode := head[0] & 0xF
	if opcode < wsClose {
		_, err := io.CopyN(io.Discard, c.in, int64(min(n, 1<<62)))
		return err
	}
	if n > 125 {
		return fmt.Errorf("a control frame of %d bytes", n)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return err
	}
	switch opcode {
	case wsPing:
		return c.write(appendFrame(nil, wsPong, payload))
	case wsClose:
		return word(fmt.Sprintf("%q", payload))
	}
	return nil
}
