// Package broker is the Kafka-protocol broker that runs inside the process: franz-go's kfake, for `tickwire all` on one
// machine and for tests. It listens on loopback only, keeps everything in memory, forgets the oldest records so that memory
// stays bounded, and loses all when it stops.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tickwire/tickwire/pkg/stream"
)

// Warning is what a program should print where people see it when it starts the embedded broker.
const Warning = "embedded broker, not durable"

// Config says how the broker runs. The zero value listens on a free port and creates the default topics.
type Config struct {
	Addr       string        // loopback host:port; empty or port 0 takes a free port
	Topics     stream.Topics // the zero value means stream.DefaultTopics
	Partitions int           // of md.raw, md.events and md.snapshots; 0 is 4
	// TopicBytes bounds the memory of one partition of md.raw or md.events; 0 is 64 MiB.
	TopicBytes int64
	NoTopics   bool        // create none: a test does it
	TLS        *tls.Config // speak TLS
	// SASL makes these users necessary: name to password, for PLAIN and both kinds of SCRAM.
	SASL map[string]string
}

const (
	defaultPartitions = 4
	defaultTopicBytes = 64 << 20
	segmentsPerTopic  = 16
	quarantineBytes   = 16 << 20
	startTimeout      = 10 * time.Second
	retentionEvery    = time.Second
	compactEvery      = 30 // times retentionEvery
)

// Broker is a running broker.
type Broker struct {
	cluster   *kfake.Cluster
	door      *door
	addr      string
	closeOnce sync.Once
	closing   chan struct{}
	cleaning  sync.WaitGroup
}

// Start starts a broker and creates its topics.
func Start(cfg Config) (*Broker, error) {
	if cfg.Topics == (stream.Topics{}) {
		cfg.Topics = stream.DefaultTopics()
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = defaultPartitions
	}
	if cfg.TopicBytes == 0 {
		cfg.TopicBytes = defaultTopicBytes
	}
	b := &Broker{closing: make(chan struct{})}
	opts, err := cfg.options(&b.door)
	if err != nil {
		return nil, fmt.Errorf("start embedded broker: %w", err)
	}
	if b.cluster, err = kfake.NewCluster(opts...); err != nil {
		return nil, fmt.Errorf("start embedded broker: %w", err)
	}
	b.addr = b.cluster.ListenAddrs()[0]
	b.cleaning.Go(b.clean)
	if !cfg.NoTopics {
		if err := b.createTopics(&cfg); err != nil {
			b.Close()
			return nil, fmt.Errorf("start embedded broker: %w", err)
		}
	}
	return b, nil
}

// Addr is the broker's host:port.
func (b *Broker) Addr() string { return b.addr }

// Dial connects to the broker through memory, for clients in this process; it fits stream.Config.
func (b *Broker) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr != b.addr {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	return b.door.dial(ctx)
}

// Close stops the broker and forgets everything.
func (b *Broker) Close() {
	b.closeOnce.Do(func() {
		close(b.closing)
		b.cleaning.Wait()
		b.cluster.Close()
	})
}

// clean keeps memory bounded. kfake's own cleaner does both at once, at one interval; but it serves nobody while it compacts,
// which takes milliseconds, and md.snapshots grows slowly, while md.raw may grow fast.
func (b *Broker) clean() {
	tick := time.NewTicker(retentionEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-b.closing:
			return
		case <-tick.C:
		}
		if n%compactEvery == 0 {
			b.cluster.Compact()
		}
		b.cluster.ApplyRetention()
	}
}

func (cfg *Config) options(d **door) ([]kfake.Opt, error) {
	host, port, err := cfg.listenAddr()
	if err != nil {
		return nil, err
	}
	opts := []kfake.Opt{
		kfake.Ports(port),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			_, p, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			l, err := net.Listen(network, net.JoinHostPort(host, p))
			if err != nil {
				return nil, err
			}
			*d = openDoor(l)
			return *d, nil
		}),
		kfake.GroupMinSessionTimeout(time.Second),
	}
	if cfg.TLS != nil {
		opts = append(opts, kfake.TLS(cfg.TLS))
	}
	if len(cfg.SASL) > 0 {
		opts = append(opts, kfake.EnableSASL())
	}
	for user, password := range cfg.SASL {
		for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
			opts = append(opts, kfake.Superuser(mechanism, user, password))
		}
	}
	return opts, nil
}

func (cfg *Config) listenAddr() (host string, port int, err error) {
	if cfg.Addr == "" {
		return "127.0.0.1", 0, nil
	}
	host, p, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return "", 0, err
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", 0, errors.New("it listens on loopback only, not on " + strconv.Quote(host))
	}
	port, err = strconv.Atoi(p)
	return host, port, err
}

// createTopics speaks to the broker without TLS and SASL problems of its own: through the same door as everyone.
func (b *Broker) createTopics(cfg *Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	client := stream.Config{Brokers: []string{b.addr}, ClientID: "tickwire-broker", Topics: cfg.Topics}
	if cfg.TLS != nil {
		client.TLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // our own listener, on loopback
	}
	for user, password := range cfg.SASL {
		client.SASL = stream.SASL{Mechanism: stream.SASLPlain, Username: user, Password: password}
		break
	}
	c, err := stream.Open(client)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.CreateTopics(ctx, cfg.plan())
}

// plan is the production plan on one broker, with retention by size in place of hours.
func (cfg *Config) plan() stream.TopicPlan {
	plan := stream.Plan(cfg.Topics, stream.PlanOptions{Partitions: cfg.Partitions, Replicas: 1})
	for i := range plan {
		bytes := cfg.TopicBytes
		switch plan[i].Name {
		case cfg.Topics.Snapshots:
			continue
		case cfg.Topics.Quarantine:
			bytes = min(bytes, quarantineBytes)
		}
		plan[i].Config["retention.bytes"] = strconv.FormatInt(bytes, 10)
		plan[i].Config["segment.bytes"] = strconv.FormatInt(max(bytes/segmentsPerTopic, 1<<20), 10)
	}
	return plan
}
