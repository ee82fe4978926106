package sse

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/services/internal/conf"
	"github.com/tickwire/tickwire/services/internal/mirror"
)

// Config of the SSE edge and the REST API.
type Config struct {
	Addr      string // host:port; port 0 takes any free one
	MaxConns  int    // in all
	MaxPerIP  int    // connections from one address; 0 is no limit
	MaxViews  int    // different streams at a time
	MaxPolls  int    // requests for JSON that are being answered, or wait for something to happen
	MaxAge    time.Duration
	Drain     time.Duration // how long clients are sent away at the end
	Shards    int           // loops that write; 0 is for the fan-out to decide
	Flush     time.Duration // from one write to the next to the same client
	RestRate  float64       // requests a second of one place or subject, those for streams among them; 0 is no limit
	RestBurst int           // at once
	WSURL     string        // of the WebSocket edge as clients reach it; empty is for the process to find out
	Cookie    string        // with a token; empty is none
	Origins   []string      // of the web pages whose visitors' cookies count
	Edge      conf.Edge
	Mirror    mirror.Config

	stall time.Duration // how long a stream may make no progress
}

// DefaultConfig listens on loopback, port 8080, without TLS.
func DefaultConfig() Config {
	return Config{
		Addr: "127.0.0.1:8080", MaxConns: 20_000, MaxPerIP: 1000, MaxViews: 2000, MaxPolls: 1000, MaxAge: 30 * time.Minute, Drain: 5 * time.Second,
		RestRate: 20, RestBurst: 100,
		Edge: conf.DefaultEdge(), Mirror: mirror.DefaultConfig(), stall: stallTimeout,
	}
}

// RegisterFlags defines the flags of this edge alone; those of Edge and Mirror are shared with other edges.
func (c *Config) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Addr, "sse-addr", c.Addr, "`ADDRESS` of the listener for SSE and REST; port 0 takes any free one")
	fs.IntVar(&c.MaxConns, "sse-max-conns", c.MaxConns, "connections at a time")
	fs.IntVar(&c.MaxPerIP, "sse-max-conns-per-ip", c.MaxPerIP, "connections at a time from one IPv4 address or IPv6 /64; loopback and proxies are not counted; 0 for no limit")
	fs.IntVar(&c.MaxViews, "sse-max-views", c.MaxViews, "different streams (channel, symbols, rate) at a time")
	fs.IntVar(&c.MaxPolls, "sse-max-polls", c.MaxPolls, "long polls at a time")
	fs.DurationVar(&c.MaxAge, "sse-max-age", c.MaxAge, "how long a stream lasts, give or take a fifth, before its client is asked to connect anew; 0 for ever")
	fs.StringVar(&c.Cookie, "sse-cookie", c.Cookie, "`NAME` of a cookie that may hold the token of who visits a page of --sse-origins (default: none)")
	fs.StringSliceVar(&c.Origins, "sse-origins", c.Origins, "`ORIGIN,…` of the web pages whose visitors' cookies count, such as https://app.example.org; pages of others may read what needs no cookie")
	fs.DurationVar(&c.Drain, "sse-drain", c.Drain, "how long clients are sent away at the end, spread evenly")
	fs.IntVar(&c.Shards, "sse-shards", c.Shards, "loops that write to the clients; 0 takes one for each four processors")
	fs.DurationVar(&c.Flush, "sse-flush", c.Flush, "from one write to the next to the same client, for very large audiences: 0, 5ms, 20ms or 50ms")
	fs.Float64Var(&c.RestRate, "rest-rate", c.RestRate, "requests a second of one IPv4 address, IPv6 /64 or token's subject, those that begin a stream among them; 0 for no limit")
	fs.IntVar(&c.RestBurst, "rest-burst", c.RestBurst, "requests at once, within --rest-rate")
	fs.StringVar(&c.WSURL, "ws-url", c.WSURL, "`URL` of the WebSocket edge as clients reach it, which /v1/streams tells (default: of this process's)")
}

// Validate says which flag is wrong.
func (c *Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("--sse-addr: %w", err)
	}
	switch {
	case c.MaxConns < 1:
		return errors.New("--sse-max-conns: at least 1")
	case c.MaxPerIP < 0:
		return errors.New("--sse-max-conns-per-ip: not negative")
	case c.MaxViews < 1:
		return errors.New("--sse-max-views: at least 1")
	case c.MaxPolls < 1:
		return errors.New("--sse-max-polls: at least 1")
	case c.MaxAge < 0:
		return errors.New("--sse-max-age: not negative")
	case c.Drain < 0:
		return errors.New("--sse-drain: not negative")
	case c.Shards < 0 || c.Shards > 64:
		return errors.New("--sse-shards: from 0 to 64")
	case c.Flush < 0 || c.Flush > time.Second:
		return errors.New("--sse-flush: from 0 to 1s")
	case !(c.RestRate >= 0 && c.RestRate <= 1e6): // not a number is neither
		return errors.New("--rest-rate: from 0 to 1000000")
	case c.RestBurst < 1 || c.RestBurst > 1e6:
		return errors.New("--rest-burst: from 1 to 1000000")
	}
	return errors.Join(c.checkCookie(), c.Edge.Validate(), c.Mirror.Validate())
}
