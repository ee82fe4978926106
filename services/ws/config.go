package ws

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/services/internal/conf"
	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/mirror"
)

// Config of the WebSocket edge.
type Config struct {
	Addr       string // host:port; port 0 takes any free one
	MaxConns   int
	MaxPerIP   int      // connections from one address; 0 is no limit
	Origins    []string // of web pages that may connect; none is all
	MaxTopics  int      // of one connection
	MaxMessage int      // bytes of a client's message
	Ops        float64  // requests per second of one connection
	OpsBurst   int
	Idle       time.Duration // how long a connection may have no subscription; 0 is for ever
	Drain      time.Duration // how long clients are sent away at the end
	Shards     int           // loops that write; 0 is for the fan-out to decide
	Flush      time.Duration // from one write to the next to the same client
	Deflate    bool          // accept permessage-deflate
	Edge       conf.Edge
	Mirror     mirror.Config

	maxControl int // bytes that wait for one client; 0 is the fan-out's own
}

// DefaultConfig listens on loopback, port 8081, without TLS.
func DefaultConfig() Config {
	return Config{
		Addr: "127.0.0.1:8081", MaxConns: 20_000, MaxPerIP: 1000, MaxTopics: 1000, MaxMessage: 4 << 10, Ops: 50, OpsBurst: 200,
		Idle: time.Minute, Drain: 5 * time.Second, Deflate: true, Edge: conf.DefaultEdge(), Mirror: mirror.DefaultConfig(),
	}
}

// Times of one connection.
const (
	handshakeTimeout = 5 * time.Second  // TLS, the request and its answer together
	messageTimeout   = 10 * time.Second // from a message's first byte to its last
	idleTimeout      = 70 * time.Second // without a byte, though pings ask for one
	sweepEvery       = time.Second      // how often these three are looked at
	pingEvery        = 20 * time.Second
	writeTimeout     = 60 * time.Second // without progress
	closeTimeout     = time.Second      // for the peer's half of the farewell
	behindTimeout    = 2 * time.Second  // for this edge to reach a client that was ahead of it
	maxHeader        = 16 << 10
	maxPass          = 32 << 10 // together with unsentBytes, what may be old when a client that stopped reads on
	unsentBytes      = 16 << 10
)

// RegisterFlags defines the flags of this edge alone; those of Edge and Mirror are shared with other edges.
func (c *Config) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Addr, "ws-addr", c.Addr, "`ADDRESS` of the WebSocket listener; port 0 takes any free one")
	fs.IntVar(&c.MaxConns, "ws-max-conns", c.MaxConns, "connections at a time")
	fs.IntVar(&c.MaxPerIP, "ws-max-conns-per-ip", c.MaxPerIP, "connections at a time from one IPv4 address or IPv6 /64; loopback and proxies are not counted; 0 for no limit")
	fs.StringSliceVar(&c.Origins, "ws-origins", c.Origins, "`ORIGIN,…` of the web pages that may connect, such as https://app.example.org or https://*.example.org (default: all)")
	fs.IntVar(&c.MaxTopics, "ws-max-topics", c.MaxTopics, "topics of one connection")
	fs.IntVar(&c.MaxMessage, "ws-max-message", c.MaxMessage, "bytes of a client's message")
	fs.Float64Var(&c.Ops, "ws-ops", c.Ops, "requests per second of one connection")
	fs.IntVar(&c.OpsBurst, "ws-ops-burst", c.OpsBurst, "requests of one connection at once")
	fs.DurationVar(&c.Idle, "ws-idle", c.Idle, "how long a connection may be without a subscription; 0 for ever")
	fs.DurationVar(&c.Drain, "ws-drain", c.Drain, "how long clients are sent away at the end, spread evenly")
	fs.IntVar(&c.Shards, "ws-shards", c.Shards, "loops that write to the clients; 0 takes one for each four processors")
	fs.DurationVar(&c.Flush, "ws-flush", c.Flush, "from one write to the next to the same client, for very large audiences: 0, 5ms, 20ms or 50ms")
	fs.BoolVar(&c.Deflate, "ws-deflate", c.Deflate, "compress messages for clients that offer permessage-deflate")
}

// Validate says which flag is wrong.
func (c *Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("--ws-addr: %w", err)
	}
	switch {
	case c.MaxConns < 1:
		return errors.New("--ws-max-conns: at least 1")
	case c.MaxPerIP < 0:
		return errors.New("--ws-max-conns-per-ip: not negative")
	case c.Idle < 0:
		return errors.New("--ws-idle: not negative")
	case c.MaxTopics < 1:
		return errors.New("--ws-max-topics: at least 1")
	case c.MaxMessage < 1<<10 || c.MaxMessage > 16<<10:
		return errors.New("--ws-max-message: from 1024 to 16384")
	case c.Ops <= 0 || c.OpsBurst < 1:
		return errors.New("--ws-ops and --ws-ops-burst: above 0")
	case c.Drain < 0:
		return errors.New("--ws-drain: not negative")
	case c.Shards < 0 || c.Shards > 64:
		return errors.New("--ws-shards: from 0 to 64")
	case c.Flush < 0 || c.Flush > time.Second:
		return errors.New("--ws-flush: from 0 to 1s")
	}
	if _, err := door.ParseOrigins(c.Origins); err != nil {
		return fmt.Errorf("--ws-origins: %w", err)
	}
	return errors.Join(c.Edge.Validate(), c.Mirror.Validate())
}
