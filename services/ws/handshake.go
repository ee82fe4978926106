package ws

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/lxzan/gws"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/wire"
)

// refusal is an HTTP answer that says why there is no WebSocket.
type refusal struct {
	status  int
	msg     string
	headers string
}

func (r *refusal) Error() string { return r.msg }

// handshake turns a connection into a session.
func (s *Server) handshake(ctx context.Context, conn net.Conn) {
	c, err := s.upgrade(ctx, conn)
	if err != nil {
		s.metrics.handshakeFailures.Inc()
		s.log.Debug("handshake", zap.Stringer("peer", conn.RemoteAddr()), zap.Error(err))
		s.refuse(conn, err)
		s.leave()
		return
	}
	// On a goroutine of its own: the stack that the handshake needed is given back.
	s.running.Go(c.serve)
}

func (s *Server) upgrade(ctx context.Context, raw net.Conn) (*session, error) {
	conn := raw
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	limitUnsent(raw)
	if s.tls != nil {
		secure := tls.Server(raw, s.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	header := &headerReader{r: conn, left: maxHeader}
	buffered := bufio.NewReaderSize(header, 4<<10)
	request, err := http.ReadRequest(buffered)
	if err != nil {
		return nil, header.refusal(err)
	}
	protocol, err := negotiate(request)
	if err != nil {
		return nil, err
	}
	early, err := buffered.Peek(buffered.Buffered())
	if err != nil {
		return nil, err
	}
	c := newSession(s, conn, protocol, bytes.Clone(early))
	socket, err := s.upgraders[protocol].UpgradeFromConn(&c.socket, bufio.NewReaderSize(&c.socket, 512), request)
	if err != nil {
		return nil, err
	}
	return c, c.begin(socket)
}

// headerReader reads a request's header, up to a limit, and remembers what went wrong: package http reports half a line
// as malformed, whatever cut it short.
type headerReader struct {
	r    io.Reader
	left int
	err  error
}

var errHeaderTooLarge = errors.New("the request's header is too large")

func (h *headerReader) Read(b []byte) (int, error) {
	if h.left <= 0 {
		h.err = errHeaderTooLarge
		return 0, h.err
	}
	n, err := h.r.Read(b[:min(len(b), h.left)])
	h.left -= n
	if err != nil {
		h.err = err
	}
	return n, err
}

// refusal says what is wrong with a request that can't be read; nothing but the cause when the peer has gone.
func (h *headerReader) refusal(err error) error {
	var network net.Error
	switch {
	case errors.Is(h.err, errHeaderTooLarge):
		return &refusal{status: http.StatusRequestHeaderFieldsTooLarge, msg: h.err.Error()}
	case errors.As(h.err, &network) && network.Timeout():
		return &refusal{status: http.StatusRequestTimeout, msg: "the request took too long"}
	case h.err != nil:
		return h.err
	}
	return &refusal{status: http.StatusBadRequest, msg: "not an HTTP request: " + err.Error()}
}

// negotiate checks the upgrade, and rewrites the headers to the one form that gws reads right. It returns the subprotocol,
// the first one of the client's that we know, or none.
func negotiate(r *http.Request) (string, error) {
	h := r.Header
	switch {
	case r.URL.Path != "/v1/ws":
		return "", &refusal{status: http.StatusNotFound, msg: "not found; the WebSocket is at /v1/ws"}
	case r.Method != http.MethodGet:
		return "", &refusal{status: http.StatusMethodNotAllowed, msg: "the WebSocket begins with GET", headers: "Allow: GET\r\n"}
	case !contains(h, "Upgrade", "websocket"), !contains(h, "Connection", "upgrade"), !r.ProtoAtLeast(1, 1):
		return "", &refusal{
			status: http.StatusUpgradeRequired, msg: "this is a WebSocket: connect with a WebSocket client",
			headers: "Upgrade: websocket\r\nConnection: Upgrade\r\n",
		}
	case len(h.Values("Sec-WebSocket-Version")) != 1 || h.Get("Sec-WebSocket-Version") != "13":
		return "", &refusal{status: http.StatusUpgradeRequired, msg: "WebSocket version 13 is spoken here", headers: "Sec-WebSocket-Version: 13\r\n"}
	}
	if key, err := base64.StdEncoding.DecodeString(h.Get("Sec-WebSocket-Key")); err != nil || len(key) != 16 {
		return "", &refusal{status: http.StatusBadRequest, msg: "Sec-WebSocket-Key is not 16 bytes in base64"}
	}
	protocol := ""
	for _, offer := range tokens(h, "Sec-WebSocket-Protocol") {
		if protocol == "" && (offer == wire.SubprotocolJSON || offer == wire.SubprotocolSBE) {
			protocol = offer
		}
	}
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", "websocket")
	h.Del("Sec-WebSocket-Extensions") // compression is declined
	h.Del("Sec-WebSocket-Protocol")
	if protocol != "" {
		h.Set("Sec-WebSocket-Protocol", protocol)
	}
	return protocol, nil
}

// tokens lists the comma-separated values of a header, of all its lines.
func tokens(h http.Header, key string) (all []string) {
	for _, line := range h.Values(key) {
		for _, token := range strings.Split(line, ",") {
			if token = strings.TrimSpace(token); token != "" {
				all = append(all, token)
			}
		}
	}
	return all
}

func contains(h http.Header, key, token string) bool {
	for _, t := range tokens(h, key) {
		if strings.EqualFold(t, token) {
			return true
		}
	}
	return false
}

// refuse answers with what went wrong, if there is something to say, and closes the connection.
func (s *Server) refuse(conn net.Conn, err error) {
	var r *refusal
	if errors.As(err, &r) {
		text := r.msg + "\n"
		_ = conn.SetDeadline(time.Now().Add(closeTimeout)) // fails on a dead connection, as the write then does
		_, err := fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
			r.status, http.StatusText(r.status), r.headers, len(text), text)
		if err == nil {
			linger(conn)
		}
	}
	_ = conn.Close() // nothing was lost by it
}

// linger ends the writing side and reads what the peer still sends, for a while: closing a socket with unread input would
// make the kernel throw away what the peer has not read yet.
func linger(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // a dead connection has nobody to tell
	}
	_ = conn.SetReadDeadline(time.Now().Add(closeTimeout)) // as above
	_, _ = io.CopyN(io.Discard, conn, 8<<20)               // how it ends does not matter
}

func newUpgrader(protocol string, maxMessage int) *gws.Upgrader {
	option := &gws.ServerOption{
		ReadMaxPayloadSize: maxMessage,
		CheckUtf8Enabled:   true,
		HandshakeTimeout:   handshakeTimeout,
		Logger:             silent{},
		Recovery:           func(gws.Logger) {}, // panics are caught around ReadLoop, which they end
		NewSession:         func() gws.SessionStorage { return nil },
	}
	if protocol != "" {
		option.SubProtocols = []string{protocol}
	}
	return gws.NewUpgrader(handler{}, option)
}

// silent drops gws's own log lines; what matters is counted.
type silent struct{}

func (silent) Error(...any) {}
