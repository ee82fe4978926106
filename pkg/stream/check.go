package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

// TopicSpec is what a Kafka topic must be.
type TopicSpec struct {
	Name       string
	Partitions int
	Replicas   int
	Config     map[string]string
}

// TopicPlan is what the Kafka topics of a market must be.
type TopicPlan []TopicSpec

// PlanOptions are the choices in a plan.
type PlanOptions struct {
	Partitions int // of md.raw, md.events and md.snapshots; 0 is 12; never changed afterwards
	Replicas   int // 0 is 3
}

const (
	sixHours = "21600000"
	oneDay   = "86400000"
	oneWeek  = "604800000"
	megabyte = 1 << 20

	// minIDExpiration is the least transactional.id.expiration.ms that the daily renewal of producer ids leaves safe.
	minIDExpiration = 3 * 24 * time.Hour
)

// Plan returns the topics of production. The snapshots topic is compacted in small steps, so that a starting reader has
// little to read.
func Plan(t Topics, o PlanOptions) TopicPlan {
	if o.Partitions == 0 {
		o.Partitions = 12
	}
	if o.Replicas == 0 {
		o.Replicas = 3
	}
	spec := func(name string, partitions, maxMessage int, config map[string]string) TopicSpec {
		config["max.message.bytes"] = strconv.Itoa(maxMessage)
		config["min.insync.replicas"] = strconv.Itoa(max(1, min(2, o.Replicas-1)))
		config["unclean.leader.election.enable"] = "false"
		return TopicSpec{Name: name, Partitions: partitions, Replicas: o.Replicas, Config: config}
	}
	return TopicPlan{
		spec(t.Raw, o.Partitions, 16*megabyte, map[string]string{
			"cleanup.policy": "delete", "retention.ms": sixHours, "message.timestamp.type": "LogAppendTime",
		}),
		spec(t.Events, o.Partitions, 8*megabyte, map[string]string{"cleanup.policy": "delete", "retention.ms": sixHours}),
		spec(t.Snapshots, o.Partitions, 8*megabyte, map[string]string{
			"cleanup.policy": "compact", "segment.bytes": strconv.Itoa(16 * megabyte), "segment.ms": "600000",
			"min.cleanable.dirty.ratio": "0.1", "max.compaction.lag.ms": "900000", "delete.retention.ms": oneDay,
		}),
		spec(t.Quarantine, 1, megabyte, map[string]string{"cleanup.policy": "delete", "retention.ms": oneWeek}),
	}
}

// TopicReport is what Check found out about one topic.
type TopicReport struct {
	Name       string
	Created    bool
	Partitions int
	Replicas   int
	Problems   []string
	Notes      []string // what the brokers do not tell, and so was not checked
}

// Report is what Check found out.
type Report struct {
	Brokers  int
	Topics   []TopicReport
	Problems []string // of the cluster
}

// OK tells whether everything is as it must be.
func (r *Report) OK() bool {
	return len(r.Problems) == 0 && !slices.ContainsFunc(r.Topics, func(t TopicReport) bool { return len(t.Problems) > 0 })
}

// String is the report for people, a line per topic and problem.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster: %d broker(s)\n", r.Brokers)
	list := func(what string, items []string) {
		for _, item := range items {
			fmt.Fprintf(&b, "  %s: %s\n", what, item)
		}
	}
	list("problem", r.Problems)
	for i := range r.Topics {
		t := &r.Topics[i]
		state := "ok"
		if t.Created {
			state = "created"
		}
		if len(t.Problems) > 0 {
			state = "wrong"
		}
		fmt.Fprintf(&b, "%s: %s, %d partition(s), %d replica(s)\n", t.Name, state, t.Partitions, t.Replicas)
		list("problem", t.Problems)
		list("not checked", t.Notes)
	}
	return b.String()
}

// Check compares the cluster with the plan, and with create makes the topics that are missing. What is wrong stands in the
// report; an error means that the question could not be asked. Existing topics are never changed.
func (c *Cluster) Check(ctx context.Context, plan TopicPlan, create bool) (Report, error) {
	var created map[string]error
	if create {
		var err error
		if created, err = c.createTopics(ctx, plan); err != nil {
			return Report{}, fmt.Errorf("create topics: %w", err)
		}
	}
	r := Report{}
	var meta *kafka.MetadataResponse
	err := c.retry(ctx, func(ctx context.Context) (err error) {
		if meta, err = c.client.Metadata(ctx, &kafka.MetadataRequest{}); err == nil && len(meta.Brokers) == 0 {
			err = errors.New("no broker known yet")
		}
		if err == nil && !knows(meta, created) {
			err = ErrNoTopic // the news of a new topic takes time to reach every broker
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrNoTopic) {
		return r, fmt.Errorf("check: %w", err)
	}
	r.Brokers = len(meta.Brokers)
	if err := c.checkBroker(ctx, meta.Brokers[0].ID, &r); err != nil {
		return r, err
	}
	for i := range plan {
		t, err := c.checkTopic(ctx, &plan[i], meta)
		if err != nil {
			return r, err
		}
		if cause, tried := created[t.Name]; tried {
			t.Created = cause == nil
			if cause != nil {
				t.Problems = append(t.Problems, "not created: "+cause.Error())
			}
		}
		r.Topics = append(r.Topics, t)
	}
	return r, nil
}

// knows tells whether the metadata has the topics that were just created.
func knows(meta *kafka.MetadataResponse, created map[string]error) bool {
	for name, err := range created {
		if err == nil && indexTopic(meta, name) < 0 {
			return false
		}
	}
	return true
}

func indexTopic(meta *kafka.MetadataResponse, name string) int {
	return slices.IndexFunc(meta.Topics, func(t kafka.Topic) bool { return t.Name == name && t.Error == nil })
}

// checkBroker refuses brokers that forget producer ids before we renew them.
func (c *Cluster) checkBroker(ctx context.Context, id int, r *Report) error {
	const name = "transactional.id.expiration.ms"
	config, err := c.describe(ctx, kafka.ResourceTypeBroker, strconv.Itoa(id))
	if err != nil {
		return err
	}
	value, ok := config[name]
	if !ok {
		return nil
	}
	ms, err := strconv.ParseInt(value, 10, 64)
	if err != nil || time.Duration(ms)*time.Millisecond < minIDExpiration {
		r.Problems = append(r.Problems, fmt.Sprintf(
			"%s is %s; below %d the brokers may forget an owner's producer id and stop fencing", name, value, minIDExpiration.Milliseconds()))
	}
	return nil
}

func (c *Cluster) checkTopic(ctx context.Context, want *TopicSpec, meta *kafka.MetadataResponse) (TopicReport, error) {
	r := TopicReport{Name: want.Name}
	i := indexTopic(meta, want.Name)
	if i < 0 {
		r.Problems = append(r.Problems, "missing")
		return r, nil
	}
	r.Partitions = len(meta.Topics[i].Partitions)
	for _, p := range meta.Topics[i].Partitions {
		if n := len(p.Replicas); r.Replicas == 0 || n < r.Replicas {
			r.Replicas = n
		}
	}
	if r.Partitions != want.Partitions {
		r.Problems = append(r.Problems, fmt.Sprintf("%d partitions, not %d", r.Partitions, want.Partitions))
	}
	if r.Replicas < want.Replicas {
		r.Problems = append(r.Problems, fmt.Sprintf("%d replica(s), not %d", r.Replicas, want.Replicas))
	}
	have, err := c.describe(ctx, kafka.ResourceTypeTopic, want.Name)
	if err != nil {
		return r, err
	}
	for _, name := range slices.Sorted(maps.Keys(want.Config)) {
		value, ok := have[name]
		switch {
		case !ok:
			r.Notes = append(r.Notes, name+": the brokers do not tell")
		case !sameConfig(value, want.Config[name]):
			r.Problems = append(r.Problems, fmt.Sprintf("%s is %s, not %s", name, value, want.Config[name]))
		}
	}
	return r, nil
}

// sameConfig compares numbers as numbers: a broker may write 0.1 or 0.10.
func sameConfig(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

func (c *Cluster) describe(ctx context.Context, kind kafka.ResourceType, name string) (map[string]string, error) {
	config := make(map[string]string)
	err := c.retry(ctx, func(ctx context.Context) error {
		res, err := c.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
			Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kind, ResourceName: name}},
		})
		if err != nil {
			return err
		}
		for _, r := range res.Resources {
			if r.Error != nil {
				return r.Error
			}
			for _, e := range r.ConfigEntries {
				config[e.ConfigName] = e.ConfigValue
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", name, err)
	}
	return config, nil
}

// CreateTopics makes the topics of the plan that do not exist.
func (c *Cluster) CreateTopics(ctx context.Context, plan TopicPlan) error {
	results, err := c.createTopics(ctx, plan)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		if results[name] != nil {
			return fmt.Errorf("create %s: %w", name, results[name])
		}
	}
	return nil
}

// createTopics returns an entry for each topic that did not exist: nil when it was made.
func (c *Cluster) createTopics(ctx context.Context, plan TopicPlan) (map[string]error, error) {
	results := make(map[string]error)
	for i := range plan {
		err := c.createTopic(ctx, &plan[i], false)
		if errors.Is(err, kafka.InvalidConfiguration) {
			err = c.createTopic(ctx, &plan[i], true)
		}
		switch {
		case errors.Is(err, kafka.TopicAlreadyExists):
		case ctx.Err() != nil:
			return results, ctx.Err()
		default:
			results[plan[i].Name] = err
		}
	}
	return results, nil
}

// portable are the settings that every broker knows; the embedded one refuses others.
var portable = []string{
	"cleanup.policy", "delete.retention.ms", "max.message.bytes", "min.insync.replicas", "retention.bytes", "retention.ms",
	"segment.bytes", "message.timestamp.type",
}

func (c *Cluster) createTopic(ctx context.Context, spec *TopicSpec, portableOnly bool) error {
	topic := kafka.TopicConfig{Topic: spec.Name, NumPartitions: spec.Partitions, ReplicationFactor: spec.Replicas}
	for _, name := range slices.Sorted(maps.Keys(spec.Config)) {
		if !portableOnly || slices.Contains(portable, name) {
			topic.ConfigEntries = append(topic.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: spec.Config[name]})
		}
	}
	return c.retry(ctx, func(ctx context.Context) error {
		res, err := c.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
		if err != nil {
			return err
		}
		return res.Errors[spec.Name]
	})
}
