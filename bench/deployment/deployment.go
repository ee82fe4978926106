// Package deployment is where the system under test is: at addresses that the user names, or in a process that is started for
// the measurement.
package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/all"
)

// Config names what is there already. With nothing named, or Kafka alone, the servers are started.
type Config struct {
	WS     string    // of the WebSocket edge: ws://… or wss://…
	SSE    string    // of the public edge: http://… or https://…
	Alerts string    // of the alerts' API: http://… or https://…
	Kafka  all.Kafka // where md.raw is; without brokers a market that runs already is looked at
	Token  string    // for edges that ask for one
	PID    int       // of the server, when it runs on this machine: its CPU time and memory are measured

	Insecure bool     // take any certificate
	Sources  []string // addresses that clients come from, in turn
	Symbols  []string // that clients subscribe to, and that are published with Kafka; without any see Instruments
	Rival    Rival    // that runs at WS or SSE instead of a server of ours
}

// RegisterFlags adds a flag for each field.
func (c *Config) RegisterFlags(f *pflag.FlagSet) {
	f.StringVar(&c.WS, "ws", "", "`URL` of a running WebSocket edge, ws://HOST:PORT, instead of starting one")
	f.StringVar(&c.SSE, "sse", "", "`URL` of a running public edge, http://HOST:PORT")
	f.StringVar(&c.Alerts, "alerts", "", "`URL` of a running alerts' API, http://HOST:PORT")
	c.Kafka.RegisterFlags(f)
	f.Lookup("kafka").Usage = "Kafka `HOST:PORT,…` of the running servers; alone: start the servers on this cluster instead of the embedded broker"
	f.StringVar(&c.Token, "token", "", "bearer `TOKEN` for running servers that ask for one")
	f.IntVar(&c.PID, "pid", 0, "process `ID` of the running server, if it is on this machine: its CPU time and memory are measured")
	f.BoolVar(&c.Insecure, "insecure", false, "take any certificate of wss:// and https://, as of servers that have signed their own")
	f.StringSliceVar(&c.Sources, "source", nil, "`IP,…` of this machine that clients come from, in turn: each has some 28,000 ports towards a server (default: the system's choice)")
	f.StringSliceVar(&c.Symbols, "symbols", nil, "`SYMBOL,…` that clients subscribe to. With --kafka they are published: name none that others publish (default: BENCH-…; without --kafka the first ones of the running market)")
}

// Validate says which flag is wrong.
func (c *Config) Validate() error {
	if err := errors.Join(
		checkURL("--ws", c.WS, "ws", "wss"), checkURL("--sse", c.SSE, "http", "https"), checkURL("--alerts", c.Alerts, "http", "https"),
	); err != nil {
		return err
	}
	if k := &c.Kafka; len(k.Brokers) == 0 && (k.TLS || k.Mechanism != "" || k.Username != "") {
		return errors.New("--kafka-tls, --kafka-sasl and --kafka-username: for brokers, which --kafka names")
	} else if len(k.Brokers) > 0 && k.Topics != (stream.Topics{}) {
		if err := k.Validate(); err != nil {
			return err
		}
	}
	for _, broker := range c.Kafka.Brokers {
		if host, port, err := net.SplitHostPort(broker); err != nil || host == "" || port == "" {
			return fmt.Errorf("--kafka: %q is not HOST:PORT", broker)
		}
	}
	for _, s := range c.Sources {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("--source: %q is not an IP address", s)
		}
	}
	for i, sym := range c.Symbols {
		if sym == "" || slices.Contains(c.Symbols[:i], sym) {
			return fmt.Errorf("--symbols: %q is empty or there twice", sym)
		}
	}
	switch {
	case c.Token != "" && !c.Named():
		return errors.New("--token: for running servers, which --ws, --sse or --alerts name")
	case c.Insecure && !c.Secure() && !c.Rival.secure():
		return errors.New("--insecure: for wss:// and https:// only")
	case c.PID > 0 && !c.Named():
		return errors.New("--pid: for running servers, which --ws, --sse or --alerts name")
	case c.PID < 0:
		return errors.New("--pid: not negative")
	}
	return nil
}

// Secure tells whether any server is reached by TLS.
func (c *Config) Secure() bool {
	return strings.HasPrefix(c.WS, "wss:") || strings.HasPrefix(c.SSE, "https:") || strings.HasPrefix(c.Alerts, "https:")
}

// checkURL checks a URL that may be left out.
func checkURL(flag, text, scheme, secure string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != scheme && u.Scheme != secure || u.Host == "":
		return fmt.Errorf("%s: %q is not a URL like %s://HOST:PORT or %s://HOST", flag, text, scheme, secure)
	case u.User != nil:
		return fmt.Errorf("%s: a URL without a user; --token is for that", flag)
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%s: %q: a URL without ? and #", flag, text)
	}
	return nil
}

// Named tells whether running servers are named.
func (c *Config) Named() bool { return c.WS != "" || c.SSE != "" || c.Alerts != "" }

// Addresses are those of the running servers.
func (c *Config) Addresses() string {
	var all []string
	for _, s := range []string{c.WS, c.SSE, c.Alerts} {
		if s != "" {
			all = append(all, s)
		}
	}
	return strings.Join(all, ", ")
}

// Deployment is what can be measured.
type Deployment struct {
	Config
	Started bool // for the measurement
	broker  string
	cmd     *exec.Cmd
	dir     string
	ended   chan struct{} // closed when the servers have
	failed  error         // of them, set before
}

// Open uses the running servers, if they are named, or starts `tickwire all` in a process of its own with flags, so that the
// kernel shares the processors out fairly and the servers' time can be told from ours. Ctx bounds their life.
func Open(ctx context.Context, cfg Config, flags ...string) (*Deployment, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Deployment{Config: cfg}
	if cfg.Named() {
		return d, nil
	}
	d.Started, d.broker = true, "the embedded broker"
	if len(cfg.Kafka.Brokers) > 0 {
		d.broker = "Kafka at " + cfg.Kafka.Brokers[0]
	}
	if err := d.start(ctx, append(kafkaFlags(cfg.Kafka), flags...)); err != nil {
		return nil, fmt.Errorf("start the servers: %w", err)
	}
	return d, nil
}

// kafkaFlags are those that reach the same cluster.
func kafkaFlags(k all.Kafka) (flags []string) {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	k.RegisterFlags(f)
	f.VisitAll(func(f *pflag.Flag) {
		v := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			v = strings.Join(list.GetSlice(), ",")
		}
		flags = append(flags, "--"+f.Name+"="+v)
	})
	return flags
}

// Command is the hidden subcommand that runs the servers.
const Command = "serve"

func (d *Deployment) start(ctx context.Context, flags []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "tickwire-bench-"); err != nil {
		return err
	}
	file := filepath.Join(d.dir, "addrs.json")
	d.cmd = exec.CommandContext(ctx, self, append([]string{Command, "--addr-file", file}, flags...)...) //nolint:gosec // it is ourselves, with our own flags
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(syscall.SIGTERM) }
	d.cmd.WaitDelay, d.cmd.Stderr, d.cmd.SysProcAttr = 10*time.Second, os.Stderr, proc.Apart()
	if _, err := d.cmd.StdinPipe(); err != nil { // it ends with us, whatever ends us
		return errors.Join(err, os.RemoveAll(d.dir))
	}
	if err := d.cmd.Start(); err != nil {
		return errors.Join(err, os.RemoveAll(d.dir))
	}
	d.ended = make(chan struct{})
	go func() { // Close waits for it
		d.failed = d.cmd.Wait()
		close(d.ended)
	}()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	var addrs all.Addrs
	for deadline := time.Now().Add(time.Minute); ; {
		select {
		case <-d.ended:
			return errors.Join(errors.New("they ended before they were ready"), d.Close())
		case <-poll.C:
		}
		b, err := os.ReadFile(file) //nolint:gosec // our own
		if err == nil {
			err = json.Unmarshal(b, &addrs)
		}
		if err == nil {
			break
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return errors.Join(errors.New("they are not ready after a minute"), err, d.Close())
		}
	}
	d.WS, d.SSE, d.PID = "ws://"+addrs.WS, "http://"+addrs.SSE, d.cmd.Process.Pid
	d.Kafka.Brokers = strings.Split(addrs.Kafka, ",")
	if addrs.Alerts != "" {
		d.Alerts = "http://" + addrs.Alerts
	}
	return nil
}

// Cluster opens the deployment's Kafka.
func (d *Deployment) Cluster() (*stream.Cluster, error) {
	if len(d.Kafka.Brokers) == 0 {
		return nil, errors.New("--kafka: needed to publish raw records")
	}
	to, err := d.Kafka.Stream("tickwire-bench")
	if err != nil {
		return nil, err
	}
	return stream.Open(to)
}

// Where tells a reader what was measured.
func (d *Deployment) Where() string {
	if d.Started {
		return "started for this run, on " + d.broker
	}
	return d.Addresses()
}

// patience is how long servers may take to end.
const patience = 20 * time.Second

// Close ends the servers if they were started here, and waits for them.
func (d *Deployment) Close() error {
	if !d.Started {
		return nil
	}
	told := d.cmd.Process.Signal(syscall.SIGTERM)
	force := time.AfterFunc(patience, func() { _ = d.cmd.Process.Kill() }) // it may have ended
	defer force.Stop()
	<-d.ended
	if errors.Is(told, os.ErrProcessDone) {
		told = nil
	}
	return errors.Join(told, d.failed, os.RemoveAll(d.dir))
}
