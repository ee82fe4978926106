package ws

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/lxzan/gws"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/sockopt"
)

// refusal is an HTTP answer that says why there is no WebSocket.
type refusal struct {
	status  int
	msg     string
	headers string
	reason  string // of metrics; "" when the request itself is wrong
}

func (r *refusal) Error() string { return r.msg }

// The refusals of those who would be welcome at another time, or from elsewhere.
var (
	refusedDraining = refusal{
		status: http.StatusServiceUnavailable, msg: "the server restarts; try another one",
		headers: "Retry-After: 1\r\n", reason: reasonDraining,
	}
	refusedFull = refusal{
		status: http.StatusTooManyRequests, msg: "too many connections; try another server",
		headers: "Retry-After: 10\r\n", reason: reasonCrowd,
	}
	refusedPlace = refusal{
		status: http.StatusTooManyRequests, msg: "too many connections from your address",
		headers: "Retry-After: 10\r\n", reason: reasonAddress,
	}
	refusedOrigin = refusal{status: http.StatusForbidden, msg: "this origin may not connect", reason: reasonOrigin}
)

// readBuffer is the least that there is. What a client says at a time is in the socket's inbox.
const readBuffer = 16

// readers read the requests of handshakes. They hold no more than an inbox does.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// visitor is a connection that is not a session yet.
type visitor struct {
	conn   net.Conn
	peer   netip.Addr
	place  door.Place
	seated bool
	tokens []string
	who    identity
}

// visitors are borrowed: between what a storm of them leaves for good there would be as many holes.
var visitors = sync.Pool{New: func() any { return new(visitor) }}

func (v *visitor) giveBack() {
	*v = visitor{}
	visitors.Put(v)
}

// handshake turns a connection into a session.
func (s *Server) handshake(ctx context.Context, v *visitor) {
	defer v.giveBack()
	await(v.conn)
	c, ws, err := s.upgrade(ctx, v)
	if err != nil {
		s.refuse(v.conn, err)
		s.crowd.Leave(v.place, v.seated)
		s.access.Leave(v.who.party)
		return
	}
	// On a goroutine of its own, the stack that the handshake needed is given back. WaitGroup.Go, and a method, would need
	// more of it.
	s.running.Add(1)
	go func() {
		defer c.served()
		ws.ReadLoop()
	}()
}

// await waits until the client says something, or the time for the handshake is over, with little of a stack: the runtime
// gives new goroutines as much as it finds those that wait to need on the average, and those that serve must get the least.
func await(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout)) // a dead connection fails in the next steps, too
	if raw := rawConn(conn); raw != nil {
		_ = raw.Read(readable)
	}
}

func (s *Server) upgrade(ctx context.Context, v *visitor) (*session, *gws.Conn, error) {
	raw := v.conn
	sockopt.LimitUnsent(raw, unsentBytes)
	if s.tls != nil {
		secure := fanout.ServerTLS(raw, s.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, nil, err
		}
		v.conn = secure
	}
	header := &headerReader{r: v.conn, left: maxHeader}
	buffered := readers.Get().(*bufio.Reader)
	defer readers.Put(buffered)
	defer buffered.Reset(nil)
	buffered.Reset(header)
	request, err := http.ReadRequest(buffered)
	if err != nil {
		return nil, nil, header.refusal()
	}
	v.tokens = bearers(request.Header)
	agreed, err := negotiate(request, s.cfg.Deflate)
	if err != nil {
		return nil, nil, err
	}
	if err := s.admit(ctx, v, request); err != nil {
		return nil, nil, err
	}
	early, err := buffered.Peek(buffered.Buffered())
	if err != nil {
		return nil, nil, err
	}
	c := newSession(s, v, agreed, early)
	ws, err := s.upgraders[agreed].UpgradeFromConn(&c.socket, bufio.NewReaderSize(&c.socket, readBuffer), request)
	if err != nil {
		return nil, nil, err
	}
	return c, ws, c.begin()
}

// admit decides whether there is a place for a client whose request is in order.
func (s *Server) admit(ctx context.Context, v *visitor, r *http.Request) error {
	switch {
	case s.draining.Load():
		return &refusedDraining
	case !s.origins.Allow(r.Header.Values("Origin")):
		return &refusedOrigin
	}
	from := door.PlaceOf(s.proxies.Client(v.peer, r.Header.Values("X-Forwarded-For")))
	switch s.crowd.Sit(v.place, from) {
	case door.Full:
		return &refusedFull
	case door.PlaceFull:
		return &refusedPlace
	}
	v.place, v.seated = from, true
	return s.identify(ctx, v)
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
func (h *headerReader) refusal() error {
	var network net.Error
	switch {
	case errors.Is(h.err, errHeaderTooLarge):
		return &refusal{status: http.StatusRequestHeaderFieldsTooLarge, msg: h.err.Error()}
	case errors.As(h.err, &network) && network.Timeout():
		return &refusal{status: http.StatusRequestTimeout, msg: "the request took too long"}
	case h.err != nil:
		return h.err
	}
	return &refusal{status: http.StatusBadRequest, msg: "not an HTTP request"} // what exactly is wrong may quote a token
}

// terms are what a handshake has agreed upon.
type terms struct {
	protocol string // "" is none
	deflate  bool
}

// negotiate checks the upgrade, and rewrites the headers to the one form that gws reads right. The subprotocol is the
// first one of the client's that we know, or none.
func negotiate(r *http.Request, deflate bool) (t terms, err error) {
	if err := checkUpgrade(r); err != nil {
		return t, err
	}
	h := r.Header
	for _, offer := range tokens(h, "Sec-WebSocket-Protocol") {
		if known := subprotocol(offer); t.protocol == "" {
			t.protocol = known
		}
	}
	t.deflate = deflate && offersDeflate(h)
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", "websocket")
	h.Del("Sec-WebSocket-Extensions")
	if t.deflate {
		h.Set("Sec-WebSocket-Extensions", permessageDeflate)
	}
	h.Del("Sec-WebSocket-Protocol")
	if t.protocol != "" {
		h.Set("Sec-WebSocket-Protocol", t.protocol)
	}
	return t, nil
}

func checkUpgrade(r *http.Request) error {
	h := r.Header
	switch {
	case r.URL.Path != "/v1/ws":
		return &refusal{status: http.StatusNotFound, msg: "not found; the WebSocket is at /v1/ws"}
	case r.Method != http.MethodGet:
		return &refusal{status: http.StatusMethodNotAllowed, msg: "the WebSocket begins with GET", headers: "Allow: GET\r\n"}
	case !contains(h, "Upgrade", "websocket"), !contains(h, "Connection", "upgrade"), !r.ProtoAtLeast(1, 1):
		return &refusal{
			status: http.StatusUpgradeRequired, msg: "this is a WebSocket: connect with a WebSocket client",
			headers: "Upgrade: websocket\r\nConnection: Upgrade\r\n",
		}
	case len(h.Values("Sec-WebSocket-Version")) != 1 || h.Get("Sec-WebSocket-Version") != "13":
		return &refusal{status: http.StatusUpgradeRequired, msg: "WebSocket version 13 is spoken here", headers: "Sec-WebSocket-Version: 13\r\n"}
	}
	if key, err := base64.StdEncoding.DecodeString(h.Get("Sec-WebSocket-Key")); err != nil || len(key) != 16 {
		return &refusal{status: http.StatusBadRequest, msg: "Sec-WebSocket-Key is not 16 bytes in base64"}
	}
	return nil
}

// subprotocol returns our own spelling of an offer, which does not hold on to the request, or "".
func subprotocol(offer string) string {
	for _, known := range []string{wire.SubprotocolJSON, wire.SubprotocolSBE} {
		if offer == known {
			return known
		}
	}
	return ""
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
	s.log.Debug("handshake", zap.Stringer("peer", conn.RemoteAddr()), zap.Error(err))
	var r *refusal
	if !errors.As(err, &r) || r.reason == "" {
		s.metrics.refused.WithLabelValues(reasonHandshake).Inc()
	} else {
		s.metrics.refused.WithLabelValues(r.reason).Inc()
	}
	if r != nil {
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

func newUpgrader(t terms, maxMessage int, events gws.Event) *gws.Upgrader {
	option := &gws.ServerOption{
		ReadMaxPayloadSize: maxMessage,
		CheckUtf8Enabled:   true,
		HandshakeTimeout:   handshakeTimeout,
		Logger:             silent{},
		Recovery:           func(gws.Logger) {}, // panics are caught around ReadLoop, which they end
		NewSession:         func() gws.SessionStorage { return nil },
	}
	if t.protocol != "" {
		option.SubProtocols = []string{t.protocol}
	}
	if t.deflate {
		// It inflates what clients send; what they get is compressed by package fanout. Two messages at a time are enough
		// for what clients say, and no context is kept.
		option.PermessageDeflate = gws.PermessageDeflate{Enabled: true, PoolSize: 2}
	}
	return gws.NewUpgrader(events, option)
}

// silent drops gws's own log lines; what matters is counted.
type silent struct{}

func (silent) Error(...any) {}
