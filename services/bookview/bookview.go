// Package bookview shows the order book of one instrument in a terminal, as a WebSocket client of an edge; it is what
// `tickwire book` runs. On a terminal it draws a ladder that follows the book; elsewhere it prints a line each second. It can
// also print one snapshot, or do nothing but check for ever that the local book equals the edge's.
package bookview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Config says which book to show, and how.
type Config struct {
	Sym    string
	Addr   string        // of the edge: host:port, or a ws:// or wss:// URL
	Token  string        // shown to the edge; empty for none
	Depth  uint16        // levels a side: 10, 25, 50 or 100; 0 is all
	Millis uint16        // merge updates over so long: 100, 250 or 1000; 0 shows each
	JSON   bool          // speak JSON instead of SBE
	Once   bool          // print one snapshot and end
	Verify bool          // check sequence and hash, for ever
	Every  time.Duration // between the lines of Verify
}

// DefaultConfig follows the whole book of an edge on this machine.
func DefaultConfig() Config { return Config{Addr: "127.0.0.1:8081", Every: 5 * time.Second} }

// RegisterFlags defines the flags.
func (c *Config) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Addr, "addr", c.Addr, "`ADDRESS` of the WebSocket edge: host:port, or a ws:// or wss:// URL")
	fs.StringVar(&c.Token, "token", c.Token, "`TOKEN` for an edge that asks for one; on a shared machine rather by the environment, where ps does not show it")
	fs.Uint16Var(&c.Depth, "depth", c.Depth, "levels a side to follow: 10, 25, 50 or 100; 0 is the whole book")
	fs.Uint16Var(&c.Millis, "ms", c.Millis, "merge updates over so many milliseconds: 100, 250 or 1000; 0 takes each one")
	fs.BoolVar(&c.JSON, "json", c.JSON, "speak JSON to the edge instead of SBE")
	fs.BoolVar(&c.Once, "once", c.Once, "print one snapshot as JSON and end")
	fs.BoolVar(&c.Verify, "verify", c.Verify, "check sequence and hash behind each update, for ever; end with exit code 1 on a mismatch")
	fs.DurationVar(&c.Every, "every", c.Every, "time between the lines of --verify")
}

// Validate says which flag is wrong.
func (c *Config) Validate() error {
	switch {
	case c.Sym == "":
		return errors.New("name an instrument, such as BTC-USDT")
	case c.Addr == "":
		return errors.New("--addr: name the edge, host:port")
	case c.Once && c.Verify:
		return errors.New("--once and --verify exclude each other")
	case c.Every <= 0:
		return errors.New("--every: a positive time")
	}
	return nil
}

// Command is `tickwire book`.
func Command() *cobra.Command {
	cfg := DefaultConfig()
	cmd := &cobra.Command{
		Use:   "book SYM",
		Short: "Show a live order book in the terminal",
		Long: `Show the order book of an instrument, live, as a client of the WebSocket edge sees it.

The local book's hash is compared with the edge's behind every update.`,
		Example: "  tickwire book BTC-USDT\n  tickwire book BTC-USDT --once\n  tickwire book BTC-USDT --verify",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one instrument: tickwire book BTC-USDT")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Sym = args[0]
			return Run(cmd.Context(), cfg, cmd.OutOrStdout())
		},
	}
	cfg.RegisterFlags(cmd.Flags())
	return cmd
}

// dialTimeout is how long an edge may take to say hello, and then to bring a book.
const dialTimeout = 10 * time.Second

// Run shows the book until ctx is done, which is no error.
func Run(ctx context.Context, cfg Config, out io.Writer) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	v := &viewer{cfg: cfg, out: out, failed: make(chan error, 1)}
	if err := v.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return v.explain(ctx, err)
	}
	defer func() { _ = v.client.Close() }()
	var err error
	switch {
	case cfg.Once:
		err = v.once()
	case cfg.Verify:
		err = v.verify(ctx)
	default:
		err = v.follow(ctx)
	}
	return v.explain(ctx, err)
}

// viewer is one run.
type viewer struct {
	cfg    Config
	out    io.Writer
	client *client.Client
	book   *client.Book
	trades *client.Trades
	meter  meter
	failed chan error // the first hash that differed
}

func (v *viewer) clientConfig() client.Config {
	url := v.cfg.Addr
	if !strings.Contains(url, "://") {
		url = "ws://" + url
	}
	cfg := client.Config{URL: url, Handler: client.Handler{OnError: v.onError, OnBook: v.meter.onBook, OnDisconnect: v.meter.onDisconnect, OnConnect: v.meter.onConnect}}
	if v.cfg.Token != "" {
		cfg.Token = func(context.Context) (string, error) { return v.cfg.Token, nil }
	}
	if v.cfg.JSON {
		cfg.Encoding = client.JSON
	}
	return cfg
}

// onError keeps the first mismatch.
func (v *viewer) onError(_ *client.Topic, err error) {
	var hash *client.HashError
	if errors.As(err, &hash) {
		select {
		case v.failed <- err:
		default:
		}
	}
}

// open connects, subscribes and waits for the book.
func (v *viewer) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := client.Dial(ctx, v.clientConfig())
	if err != nil {
		return err
	}
	if v.book, err = c.Book(v.cfg.Sym, client.BookView{Depth: v.cfg.Depth, Millis: v.cfg.Millis}); err == nil {
		err = v.book.Wait(ctx)
	}
	if err == nil && !v.cfg.Once && !v.cfg.Verify {
		v.trades, err = c.Trades(v.cfg.Sym, 1)
	}
	if err != nil {
		_ = c.Close()
		return err
	}
	v.client = c
	return nil
}

// explain turns what went wrong into what to do about it.
func (v *viewer) explain(ctx context.Context, err error) error {
	var refused *client.RefusedError
	var network *net.OpError
	var handshake *client.HandshakeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && refused.Code == wire.CodeUnknownSymbol:
		return v.unknown(ctx)
	case errors.As(err, &refused) && refused.Code == wire.CodeAuthRequired:
		return fmt.Errorf("%s asks for a token: set TICKWIRE_TOKEN, or give --token", v.cfg.Addr)
	case errors.As(err, &handshake) && handshake.Status == http.StatusUnauthorized:
		return fmt.Errorf("%s does not take the token: %w", v.cfg.Addr, handshake.Err)
	case errors.As(err, &refused) && refused.Msg != "":
		return fmt.Errorf("%s: %s", v.cfg.Sym, refused.Msg)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s: start a server with `tickwire all`, or name another one with --addr", v.cfg.Addr)
	case errors.As(err, &network):
		return fmt.Errorf("can't reach %s: %w", v.cfg.Addr, network)
	case errors.Is(err, context.DeadlineExceeded) && v.book != nil:
		return fmt.Errorf("%s has no book at %s yet (waited %v): its state is %v", v.cfg.Sym, v.cfg.Addr, dialTimeout, v.book.State())
	}
	return err
}

// unknown says which instruments there are.
func (v *viewer) unknown(ctx context.Context) error {
	const few = 12
	names, err := client.Symbols(ctx, v.clientConfig(), 2*time.Second)
	switch {
	case err != nil || len(names) == 0:
		return fmt.Errorf("%s: there is no such instrument at %s", v.cfg.Sym, v.cfg.Addr)
	case len(names) > few:
		names = append(names[:few], fmt.Sprintf("and %d more", len(names)-few))
	}
	return fmt.Errorf("%s: there is no such instrument at %s; there are %s", v.cfg.Sym, v.cfg.Addr, strings.Join(names, ", "))
}

// once prints the book as the protocol's snapshot.
func (v *viewer) once() error {
	var s market.Snapshot
	v.book.Snapshot(&s)
	in := v.book.Instrument()
	b := wire.AppendSnapshotJSON(nil, &in, &s, 0)
	_, err := v.out.Write(append(b, '\n'))
	return err
}

// verify prints how far the book was followed, until something differs.
func (v *viewer) verify(ctx context.Context) error {
	tick := time.NewTicker(v.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case err := <-v.failed:
			v.line()
			return err
		case <-v.client.Done():
			v.line()
			return v.client.Err()
		case <-v.book.Closed():
			v.line()
			return v.book.Err()
		case <-ctx.Done():
			v.line()
			if n := v.book.Gaps(); n > 0 {
				return fmt.Errorf("%d gaps in the sequence", n)
			}
			return nil
		case <-tick.C:
			v.line()
		}
	}
}

func (v *viewer) line() {
	s := v.book.BookStats()
	_, _ = fmt.Fprintf(v.out, "%s %s %s at %v: %d updates (%.0f/s), %d hashes verified, %d gaps, %d mismatches, %d snapshots, %d reconnects\n",
		time.Now().Format(time.TimeOnly), v.cfg.Sym, v.status(), s.At, s.Updates, v.meter.rate(time.Now()), s.Verified, s.Gaps, s.Mismatches,
		s.Snapshots, v.client.Stats().Reconnects)
}

// status is the state in words.
func (v *viewer) status() string {
	s := v.book.State().String()
	if d := v.book.StaleFor(); d > 0 {
		s += fmt.Sprintf(" for %.1f s", d.Seconds())
	}
	return s
}

// follow shows the book until ctx is done.
func (v *viewer) follow(ctx context.Context) error {
	if f, ok := v.out.(*os.File); ok {
		if _, _, ok := windowSize(f); ok {
			return v.draw(ctx, func() (int, int) {
				w, h, _ := windowSize(f)
				return w, h
			})
		}
	}
	return v.print(ctx)
}

// print writes a line each second, for whoever is not a terminal.
func (v *viewer) print(ctx context.Context) error {
	var p picture
	return v.each(ctx, time.Second, func() {
		v.shoot(&p, 1)
		_, _ = fmt.Fprintln(v.out, p.line())
	})
}

// each calls f now and then, until there is nothing more to show.
func (v *viewer) each(ctx context.Context, every time.Duration, f func()) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		f()
		select {
		case <-ctx.Done():
			return nil
		case <-v.client.Done():
			return v.client.Err()
		case <-v.book.Closed():
			return v.book.Err()
		case <-tick.C:
		}
	}
}
