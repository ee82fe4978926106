// Package stream moves market events through Kafka: it reads and writes md.raw, md.events and md.snapshots with the
// guarantees the rest of Tickwire builds on.
//
// # The log is the truth
//
// One process at a time owns a partition: the ingest that consumes partition p of md.raw and writes partition p of
// md.events and md.snapshots. Every batch it writes to md.events begins with a wire.OwnerBatch that says which input
// offset the batch reaches and which owner wrote it, so the output is the checkpoint and nothing else needs committing.
//
// An owner begins with a marker record; the offset of that marker in md.events is its owner epoch. The broker fences older
// owners through Kafka's producer epochs, and every reader fences them again through the log: a batch whose owner epoch is
// lower than the newest marker before it is dropped and counted. The second fence holds when the first has expired.
//
//	md.events   … [batch 3][batch 3] [marker @812] [batch 812][batch 3: dropped][batch 812] …
//
// # The parts
//
// [Cluster] is the connection. [Cluster.TakeOver] makes an [Owner] with its [EventWriter] and snapshots, [Cluster.RunGroup]
// assigns partitions to owners, [Cluster.RawWriter] is what connectors write with, [Reader] is how edges follow every
// partition, [Fetcher] and [Producer] are what all of them are made of, and [Cluster.Check] verifies or creates the topics.
//
// Requests go through kafka-go's Transport; record batches are encoded and decoded here, so that a message costs no
// allocation on either path.
package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// The default names of Tickwire's Kafka topics.
const (
	RawTopic        = "md.raw"
	EventsTopic     = "md.events"
	SnapshotsTopic  = "md.snapshots"
	QuarantineTopic = "md.quarantine"
)

// Topics names the Kafka topics of one market.
type Topics struct {
	Raw        string
	Events     string
	Snapshots  string
	Quarantine string
}

// DefaultTopics returns the default names.
func DefaultTopics() Topics {
	return Topics{Raw: RawTopic, Events: EventsTopic, Snapshots: SnapshotsTopic, Quarantine: QuarantineTopic}
}

func (t Topics) names() []string { return []string{t.Raw, t.Events, t.Snapshots, t.Quarantine} }

// The SASL mechanisms; the empty string is none.
const (
	SASLPlain    = "plain"
	SASLScram256 = "scram-sha-256"
	SASLScram512 = "scram-sha-512"
)

// SASL says how to authenticate to the brokers.
type SASL struct {
	Mechanism string // "", or one of the SASL constants
	Username  string
	Password  string
}

// Config says how to reach a Kafka cluster.
type Config struct {
	Brokers  []string // host:port of some brokers; the others are found through them
	ClientID string
	TLS      *tls.Config                                                       // nil speaks plain text
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil is the network's
	SASL     SASL
	Topics   Topics   // the zero value means DefaultTopics
	Also     []string // further Kafka topics that will be read or written; others are unknown to the Cluster
}

// Times that bound every request. A paused broker looks like a lost connection after at most attemptTimeout.
const (
	dialTimeout    = 2 * time.Second
	metadataTTL    = 750 * time.Millisecond
	attemptTimeout = 1500 * time.Millisecond
	retryPause     = 50 * time.Millisecond
	maxRetryPause  = time.Second
)

// Cluster is a connection to a Kafka cluster. It is safe for concurrent use; all that was made from it must be closed
// before it.
type Cluster struct {
	addr      net.Addr
	brokers   []string
	clientID  string
	topics    Topics
	transport *kafka.Transport
	client    *kafka.Client
	dialer    *kafka.Dialer
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	closeOnce sync.Once
	running   sync.WaitGroup // of the fetch lanes

	mu           sync.Mutex
	produceLanes map[laneKey]*produceLane
	fetchLanes   map[laneKey]*fetchLane
}

// Open prepares a connection. It dials nothing: unreachable brokers show in the calls that need them.
func Open(cfg Config) (*Cluster, error) {
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("open kafka: no brokers")
	}
	mechanism, err := cfg.SASL.mechanism()
	if err != nil {
		return nil, fmt.Errorf("open kafka: %w", err)
	}
	if cfg.Topics == (Topics{}) {
		cfg.Topics = DefaultTopics()
	}
	if cfg.ClientID == "" {
		cfg.ClientID = "tickwire"
	}
	ctx, cancel := context.WithCancel(context.Background())
	transport := &kafka.Transport{
		ClientID:       cfg.ClientID,
		Dial:           cfg.Dial,
		DialTimeout:    dialTimeout,
		MetadataTTL:    metadataTTL,
		MetadataTopics: append(cfg.Topics.names(), cfg.Also...),
		TLS:            cfg.TLS,
		SASL:           mechanism,
		Context:        ctx,
	}
	addr := bootstrap(cfg.Brokers)
	return &Cluster{
		addr:      addr,
		brokers:   cfg.Brokers,
		clientID:  cfg.ClientID,
		topics:    cfg.Topics,
		transport: transport,
		client:    &kafka.Client{Addr: addr, Transport: transport},
		dialer: &kafka.Dialer{
			ClientID: cfg.ClientID, Timeout: dialTimeout, DialFunc: cfg.Dial, TLS: cfg.TLS, SASLMechanism: mechanism,
		},
		ctx:          ctx,
		cancel:       cancel,
		produceLanes: make(map[laneKey]*produceLane),
		fetchLanes:   make(map[laneKey]*fetchLane),
	}, nil
}

// Topics returns the names the Cluster was opened with.
func (c *Cluster) Topics() Topics { return c.topics }

// Close closes the connections.
func (c *Cluster) Close() {
	c.closeOnce.Do(func() {
		c.cancel()
		c.running.Wait()
		// Last: a request that still came after it would make the transport open connections that nobody closes.
		c.transport.CloseIdleConnections()
	})
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case "":
		return nil, nil
	case SASLPlain:
		return plain.Mechanism{Username: s.Username, Password: s.Password}, nil
	case SASLScram256:
		return scram.Mechanism(scram.SHA256, s.Username, s.Password)
	case SASLScram512:
		return scram.Mechanism(scram.SHA512, s.Username, s.Password)
	}
	return nil, fmt.Errorf("unknown SASL mechanism %q", s.Mechanism)
}

// address is kafka-go's way to name several bootstrap brokers as one net.Addr: comma-separated lists. Precomputed, since
// the transport asks for both strings on every request.
type address struct{ network, hosts string }

func (a *address) Network() string { return a.network }
func (a *address) String() string  { return a.hosts }

func bootstrap(brokers []string) net.Addr {
	return &address{
		network: strings.TrimSuffix(strings.Repeat("tcp,", len(brokers)), ","),
		hosts:   strings.Join(brokers, ","),
	}
}

// Partitions returns the number of partitions of a topic; it is ErrNoTopic when there is none.
func (c *Cluster) Partitions(ctx context.Context, topic string) (int, error) {
	n := 0
	err := c.retry(ctx, func(ctx context.Context) error {
		res, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
		if err != nil {
			return err
		}
		for _, t := range res.Topics {
			if t.Name == topic && t.Error == nil {
				n = len(t.Partitions)
				return nil
			}
		}
		return ErrNoTopic
	})
	if err != nil {
		return 0, fmt.Errorf("partitions of %s: %w", topic, err)
	}
	return n, nil
}

// Offsets returns the first offset of a partition's log and the end, the offset that the next record will get.
func (c *Cluster) Offsets(ctx context.Context, topic string, partition int) (first, end int64, err error) {
	if first, err = c.listOffset(ctx, topic, partition, kafka.FirstOffset); err != nil {
		return 0, 0, err
	}
	end, err = c.listOffset(ctx, topic, partition, kafka.LastOffset)
	return first, end, err
}

// OffsetAt returns the offset of the first record stamped at or after t, or the end when there is none.
func (c *Cluster) OffsetAt(ctx context.Context, topic string, partition int, t time.Time) (int64, error) {
	offset, err := c.listOffset(ctx, topic, partition, t.UnixMilli())
	if err == nil && offset < 0 {
		return c.listOffset(ctx, topic, partition, kafka.LastOffset)
	}
	return offset, err
}

// listOffset asks the partition's leader; which is FirstOffset, LastOffset or a time in milliseconds.
func (c *Cluster) listOffset(ctx context.Context, topic string, partition int, which int64) (int64, error) {
	offset := int64(-1)
	err := c.retry(ctx, func(ctx context.Context) error {
		res, err := c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
			Topics: map[string][]kafka.OffsetRequest{topic: {{Partition: partition, Timestamp: which}}},
		})
		if err != nil {
			return err
		}
		for _, p := range res.Topics[topic] {
			if p.Partition != partition {
				continue
			}
			offset = answeredOffset(p, which)
			return p.Error
		}
		return ErrNoTopic
	})
	if err != nil {
		return 0, fmt.Errorf("offsets of %s/%d: %w", topic, partition, err)
	}
	return offset, nil
}

func answeredOffset(p kafka.PartitionOffsets, which int64) int64 {
	switch which {
	case kafka.FirstOffset:
		return p.FirstOffset
	case kafka.LastOffset:
		return p.LastOffset
	}
	for offset := range p.Offsets { // one entry: one time was asked for
		return offset
	}
	return -1
}

// Brokers returns the host:port of the brokers that are in the cluster now.
func (c *Cluster) Brokers(ctx context.Context) ([]string, error) {
	var hosts []string
	err := c.retry(ctx, func(ctx context.Context) error {
		res, err := c.client.Metadata(ctx, &kafka.MetadataRequest{})
		if err != nil {
			return err
		}
		hosts = hosts[:0]
		for _, b := range res.Brokers {
			hosts = append(hosts, brokerAddr(b))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("brokers: %w", err)
	}
	return hosts, nil
}

// Leader returns the host:port of the broker that leads a partition.
func (c *Cluster) Leader(ctx context.Context, topic string, partition int) (string, error) {
	var leader kafka.Broker
	err := c.retry(ctx, func(ctx context.Context) (err error) {
		leader, err = c.leader(ctx, topic, partition)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("leader of %s/%d: %w", topic, partition, err)
	}
	return brokerAddr(leader), nil
}

// leader asks the transport, which keeps the cluster's metadata and renews it.
func (c *Cluster) leader(ctx context.Context, topic string, partition int) (kafka.Broker, error) {
	res, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return kafka.Broker{}, err
	}
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			switch {
			case t.Name != topic || p.ID != partition:
			case p.Leader.Host == "":
				return kafka.Broker{}, errNoLeader
			default:
				return p.Leader, nil
			}
		}
	}
	return kafka.Broker{}, ErrNoTopic
}

// errNoLeader passes when one is elected.
var errNoLeader = errors.New("the partition has no leader")

func brokerAddr(b kafka.Broker) string { return net.JoinHostPort(b.Host, strconv.Itoa(b.Port)) }
