// Package all runs every process of Tickwire in one: an embedded Kafka-protocol broker, a market, ingest, and the edges. It
// is what `tickwire all` starts, and where the end-to-end tests begin.
package all

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/broker"
	"github.com/tickwire/tickwire/services/ingest"
	"github.com/tickwire/tickwire/services/internal/conf"
	"github.com/tickwire/tickwire/services/internal/mirror"
	"github.com/tickwire/tickwire/services/internal/ops"
	"github.com/tickwire/tickwire/services/sse"
	"github.com/tickwire/tickwire/services/webhook"
	"github.com/tickwire/tickwire/services/ws"
)

// Config of everything.
type Config struct {
	Kafka      conf.Kafka // without brokers an embedded one is started
	BrokerAddr string     // of the embedded broker
	Market     Market
	Ingest     ingest.Config
	WS         ws.Config
	SSE        sse.Config
	Webhook    webhook.Config
	Edge       conf.Edge     // of both edges, whatever their own say
	Mirror     mirror.Config // which they share
	Admin      ops.Config
	AddrFile   string // where the real addresses are written, as JSON; empty for nowhere
}

// DefaultConfig is a simulated market on an embedded broker, on the well-known ports.
func DefaultConfig() Config {
	return Config{
		Kafka:      conf.Kafka{Topics: stream.DefaultTopics()},
		BrokerAddr: "127.0.0.1:19092", Market: DefaultMarket(), Ingest: ingest.DefaultConfig(), WS: ws.DefaultConfig(), SSE: sse.DefaultConfig(),
		Webhook: defaultAlerts(),
		Edge:    conf.DefaultEdge(), Mirror: mirror.DefaultConfig(), Admin: ops.DefaultConfig(),
	}
}

// RegisterFlags defines the flags of everything.
func (c *Config) RegisterFlags(fs *pflag.FlagSet) {
	c.Kafka.RegisterFlags(fs)
	fs.Lookup("kafka").Usage = "use this Kafka cluster, `HOST:PORT,…`, and start no broker"
	fs.StringVar(&c.BrokerAddr, "broker-addr", c.BrokerAddr, "`ADDRESS` of the embedded broker, on loopback; port 0 takes any free one")
	c.Market.RegisterFlags(fs)
	c.Ingest.RegisterFlags(fs)
	c.WS.RegisterFlags(fs)
	c.SSE.RegisterFlags(fs)
	c.Webhook.RegisterFlags(fs)
	fs.Lookup("webhook-addr").Usage = "`ADDRESS` of the alerts API; port 0 takes any free one, and an empty one leaves the webhook service out"
	fs.Lookup("data").Usage = "`FOLDER` of the database of alerts and deliveries (default: a temporary one, which ends with the process)"
	c.Edge.RegisterFlags(fs)
	c.Mirror.RegisterFlags(fs)
	c.Admin.RegisterFlags(fs)
	fs.StringVar(&c.AddrFile, "addr-file", c.AddrFile, "write the real addresses to `FILE` as JSON once everything listens")
}

// Validate says which flag is wrong.
func (c *Config) Validate() error {
	if len(c.Kafka.Brokers) > 0 {
		if err := c.Kafka.Validate(); err != nil {
			return err
		}
	}
	return errors.Join(c.Market.Validate(), c.Ingest.Validate(), c.WS.Validate(), c.SSE.Validate(), c.validateAlerts(), c.Edge.Validate(), c.Mirror.Validate())
}

// Deps are what everything needs from outside.
type Deps struct {
	Log     *zap.Logger
	Metrics *prometheus.Registry
	Out     io.Writer // for the person who started it: where to look
}

// Kafka is how a cluster is reached, for programs that measure one.
type Kafka = conf.Kafka

// Addrs are the addresses that everything listens on.
type Addrs struct {
	WS     string `json:"ws"`
	SSE    string `json:"sse"`
	Alerts string `json:"webhook,omitempty"`
	Admin  string `json:"admin,omitempty"`
	Kafka  string `json:"kafka"`
}

// Service is everything.
type Service struct {
	cfg   Config
	deps  Deps
	ready chan struct{}
	addrs Addrs // set before ready is closed
}

// New checks the configuration.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.WS.Edge, cfg.WS.Mirror = cfg.Edge, cfg.Mirror
	cfg.SSE.Edge, cfg.SSE.Mirror = cfg.Edge, cfg.Mirror
	return &Service{cfg: cfg, deps: deps, ready: make(chan struct{})}, nil
}

// Ready is closed when everything listens, and the edges know the market.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Addrs are the real addresses, known once Ready is closed.
func (s *Service) Addrs() Addrs {
	<-s.ready
	return s.addrs
}

// Run starts everything, in the order in which it depends on each other, and returns when all has stopped: when ctx ends,
// or when a part fails.
func (s *Service) Run(ctx context.Context) (err error) {
	cfg, log := s.cfg, s.deps.Log
	embedded := len(cfg.Kafka.Brokers) == 0
	var b *broker.Broker
	if embedded {
		b, err = broker.Start(broker.Config{Addr: cfg.BrokerAddr, Topics: cfg.Kafka.Topics})
		if err != nil {
			return fmt.Errorf("--broker-addr: %w", err)
		}
		defer b.Close()
		cfg.Kafka.Brokers = []string{b.Addr()}
	}
	kafka, err := cfg.Kafka.Stream("tickwire-all")
	if err != nil {
		return err
	}
	if embedded {
		kafka.Dial = b.Dial
	}
	cluster, err := stream.Open(kafka)
	if err != nil {
		return err
	}
	defer cluster.Close()
	partitions, err := topics(ctx, cluster)
	if err != nil {
		return err
	}
	if embedded && len(cfg.Ingest.Partitions) == 0 {
		for p := range partitions { // nobody to share them with
			cfg.Ingest.Partitions = append(cfg.Ingest.Partitions, p)
		}
	}
	in, err := ingest.New(cfg.Ingest, ingest.Deps{Log: log.Named("ingest"), Metrics: s.deps.Metrics, Cluster: cluster})
	if err != nil {
		return err
	}
	access, err := cfg.Edge.Access(log.Named("auth"))
	if err != nil {
		return err
	}
	// It is followed until the last client has gone.
	follow, unfollow := context.WithCancel(context.WithoutCancel(ctx))
	var following sync.WaitGroup
	following.Go(func() { access.Run(follow) })
	defer following.Wait()
	defer unfollow()
	edge, err := ws.New(cfg.WS, ws.Deps{Log: log.Named("ws"), Metrics: s.deps.Metrics, Cluster: cluster, Access: access})
	if err != nil {
		return err
	}
	public, err := sse.New(cfg.SSE, sse.Deps{
		Log: log.Named("sse"), Metrics: s.deps.Metrics, Cluster: cluster, Mirror: edge.Mirror(), Access: access,
		WebSocket: func() string { return webSocketURL(&cfg.Edge, edge.Addr()) },
	})
	if err != nil {
		return err
	}
	kafka.ClientID = "tickwire-webhook"
	alerts, tidy, err := cfg.openAlerts(kafka, s.deps)
	if err != nil {
		return err
	}
	defer tidy()
	feed, err := cfg.Market.open(cluster)
	if err != nil {
		return err
	}
	defer feed.close()
	var health ops.Readiness
	health.Add("ingest", in.Ready)
	health.Add("ws", edge.Ready)
	health.Add("sse", public.Ready)
	if alerts != nil {
		health.Add("webhook", alerts.Ready)
	}

	group, ctx := errgroup.WithContext(ctx)
	if cfg.Admin.Addr != "" {
		admin, err := ops.Listen(cfg.Admin, s.deps.Metrics, &health)
		if err != nil {
			return err
		}
		s.addrs.Admin = admin.Addr()
		group.Go(func() error { return admin.Run(ctx) })
	}
	group.Go(func() error { return in.Run(ctx) })
	group.Go(func() error { return edge.Run(ctx) })
	group.Go(func() error { return public.Run(ctx) })
	if alerts != nil {
		group.Go(func() error { return alerts.Run(ctx) })
	}
	group.Go(func() error { return feed.run(ctx, log.Named("market")) })
	group.Go(func() error { return s.announce(ctx, edge, public, alerts, &health, embedded, cfg.Kafka.Brokers, feed) })
	err = group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// webSocketURL is where clients find the WebSocket edge, "" while it does not listen.
func webSocketURL(edge *conf.Edge, addr string) string {
	switch {
	case addr == "":
		return ""
	case edge.TLSCert != "":
		return "wss://" + addr + "/v1/ws"
	}
	return "ws://" + addr + "/v1/ws"
}

// topics checks that md.raw is there, and counts its partitions.
func topics(ctx context.Context, cluster *stream.Cluster) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	n, err := cluster.Partitions(ctx, cluster.Topics().Raw)
	if errors.Is(err, stream.ErrNoTopic) {
		return 0, fmt.Errorf("%w; make the Kafka topics with: tickwire check --create-topics --kafka …", err)
	}
	return n, err
}

// announce waits until everything is ready and the market has arrived at the edge, then says where to look.
func (s *Service) announce(ctx context.Context, edge *ws.Server, public *sse.Server, alerts *webhook.Service, health *ops.Readiness, embedded bool, brokers []string, feed *feed) error {
	select {
	case <-ctx.Done():
		return nil
	case <-edge.Listening():
	}
	if err := s.await(ctx, func() string {
		if err := health.Err(); err != nil {
			return err.Error()
		}
		if feed.listed && edge.Mirror().Instrument(feed.example) == nil {
			return feed.example + " has not come through Kafka yet"
		}
		return ""
	}); err != nil {
		return nil //nolint:nilerr // it was told to stop
	}
	s.addrs.WS, s.addrs.SSE, s.addrs.Kafka = edge.Addr(), public.Addr(), strings.Join(brokers, ",")
	if alerts != nil {
		s.addrs.Alerts = alerts.Addr()
	}
	if s.cfg.AddrFile != "" {
		if err := writeAddrs(s.cfg.AddrFile, s.addrs); err != nil {
			return err
		}
	}
	close(s.ready)
	kafka := s.addrs.Kafka
	if embedded {
		kafka += "  (" + broker.Warning + ")"
	}
	admin := ""
	if s.addrs.Admin != "" {
		admin = "\n  metrics      http://" + s.addrs.Admin + "/metrics"
	}
	secure := ""
	if s.cfg.Edge.TLSCert != "" {
		secure = "s"
	}
	_, err := fmt.Fprintf(s.deps.Out, `Tickwire is running.
  market       %[1]s
  WebSocket    ws%[2]s://%[3]s/v1/ws
  SSE, REST    http%[2]s://%[4]s/v1/streams%[9]s%[5]s
  Kafka        %[6]s

See a live order book in a second terminal:
  %[7]s book %[8]s --addr %[3]s
A public ticker:
  curl -N 'http%[2]s://%[4]s/v1/sse/ticker?symbols=%[8]s'%[10]s
Stop with Ctrl-C.
`, feed.title, secure, s.addrs.WS, s.addrs.SSE, admin, kafka, program(), feed.example, s.alertsAddr(), s.alertsHint())
	return err
}

// await waits until missing names nothing any more, and says now and then what it waits for.
func (s *Service) await(ctx context.Context, missing func() string) error {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	tell := time.NewTicker(tellEvery)
	defer tell.Stop()
	for what := missing(); what != ""; what = missing() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		case <-tell.C:
			if _, err := fmt.Fprintf(s.deps.Out, "Still waiting: %s.\n", what); err != nil {
				return err
			}
		}
	}
	return nil
}

// tellEvery is how often a person who waits hears why.
const tellEvery = 5 * time.Second

// program is how the person called us.
func program() string {
	if len(os.Args) > 0 && strings.ContainsRune(os.Args[0], filepath.Separator) {
		return os.Args[0]
	}
	return "tickwire"
}

// writeAddrs writes the file whole or not at all, so that whoever waits for it never reads half.
func writeAddrs(file string, a Addrs) error {
	b, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("--addr-file: %w", err)
	}
	tmp := file + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("--addr-file: %w", err)
	}
	if err := os.Rename(tmp, file); err != nil {
		return fmt.Errorf("--addr-file: %w", err)
	}
	return nil
}
