package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Encoding is how market data travels; control messages are JSON in both.
type Encoding uint8

// The encodings. SBE is exact, smaller and several times cheaper to read; JSON can be read in a network trace.
const (
	SBE Encoding = iota
	JSON
)

// Mode says what the edge does when the client reads too slowly.
type Mode = wire.Mode

// The modes.
const (
	// Conflate skips what a newer state replaces; missing trades and final bars are said by a gap.
	Conflate = wire.Conflate
	// Lossless skips nothing: an edge that can't keep that promise closes the connection, and the client resumes.
	Lossless = wire.Lossless
)

// Hello is what an edge says first.
type Hello = wire.Hello

// BarGap says that final bars are missing.
type BarGap = wire.BarGap

// Config says how to reach an edge and how to behave. URL is required, everything else has a good zero value.
type Config struct {
	URL      string   // ws://host:port or wss://host; the path is /v1/ws unless given
	Encoding Encoding // SBE unless given
	Mode     Mode     // Conflate unless given
	Handler  Handler  // callbacks

	// Token returns the bearer token for the next connection, and another one when the edge says that the token of the open
	// connection is about to expire. It is called from a goroutine of its own then, and must return when ctx is done.
	Token func(ctx context.Context) (string, error)
	// Header is added to the handshake request.
	Header http.Header
	// TLS is used for wss://. Its ServerName is taken from the URL unless set.
	TLS *tls.Config
	// Compress offers permessage-deflate.
	Compress bool
	// Dial opens the transport; nil means TCP. Tests and proxies replace it.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// HandshakeTimeout bounds connecting, TLS and the WebSocket handshake, together. 10 s unless given.
	HandshakeTimeout time.Duration
	// HeartbeatTimeout is how long the edge may be silent (it sends something each second) before what we hold counts as
	// stale and the connection is given up. 5 s unless given.
	HeartbeatTimeout time.Duration
	// MinBackoff and MaxBackoff bound the waits between connections: before attempt n the client waits a random part of
	// min(MaxBackoff, MinBackoff * 2^n) ("full jitter"). 250 ms and 30 s unless given.
	MinBackoff time.Duration
	MaxBackoff time.Duration
	// Jitter returns a number in [0, 1) for each wait. Random unless given.
	Jitter func() float64

	// Window is how many bytes the edge may send beyond what the handler has dealt with: 64 KiB unless given, doubled up
	// to 1 MiB while the handler keeps up. Negative turns flow control off, and with it every bound on how old the data
	// in the kernel's buffers may get.
	Window int
	// ReadLimit is the size of the greatest message that is accepted. 1 MiB unless given: the edge keeps its binary frames
	// below 256 KiB, which is about 700 KiB as JSON.
	ReadLimit int
}

// Handler holds the callbacks; each may be nil. All of one client run one after the other, in the order of the stream, on the
// goroutine that reads the connection: a callback that takes long makes the edge send less (see Config.Window). What a
// callback gets through a pointer is valid until it returns. A callback may subscribe, unsubscribe and read any
// subscription; it must not call Close or wait for something that only a later message brings.
type Handler struct {
	OnConnect    func(h *Hello)
	OnDisconnect func(err error, retry time.Duration) // the next attempt begins after retry

	// OnState says that a subscription's State changed, to s.
	OnState func(t *Topic, s State)
	// OnError says what went wrong and was dealt with: *GapError, *HashError, *RefusedError.
	OnError func(t *Topic, err error)

	OnBook     func(b *Book, u *BookUpdate)
	OnTrade    func(t *Trades, m *market.Trade)
	OnTradeGap func(t *Trades, m *market.TradeGap)
	OnBBO      func(t *BBO, m *market.BBO)
	OnTicker   func(t *Ticker, m *market.Ticker)
	OnBar      func(t *Bars, m *market.Bar)
	OnBarGap   func(t *Bars, m *BarGap)
	OnStatus   func(t *Status, m *market.Status)
}

// defaultWindow is the flow window a connection begins with.
const defaultWindow = 64 << 10

// withDefaults fills what the caller left out and checks the rest.
func (cfg Config) withDefaults() (Config, *url.URL, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return cfg, nil, fmt.Errorf("client: %w", err)
	case u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "":
		return cfg, nil, fmt.Errorf("client: URL %q is not ws://host:port or wss://host:port", cfg.URL)
	case cfg.Encoding > JSON || cfg.Mode > Lossless:
		return cfg, nil, errors.New("client: unknown Encoding or Mode")
	case cfg.Window > 0 && (cfg.Window < wire.MinWindow || cfg.Window > wire.MaxWindow):
		return cfg, nil, fmt.Errorf("client: Window %d is not between %d and %d", cfg.Window, wire.MinWindow, wire.MaxWindow)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/ws"
	}
	setDefault(&cfg.HandshakeTimeout, 10*time.Second)
	setDefault(&cfg.HeartbeatTimeout, 5*time.Second)
	setDefault(&cfg.MinBackoff, 250*time.Millisecond)
	setDefault(&cfg.MaxBackoff, 30*time.Second)
	setDefault(&cfg.Window, defaultWindow)
	setDefault(&cfg.ReadLimit, 1<<20)
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	return cfg, u, nil
}

func setDefault[T ~int | ~int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
