package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// GroupConfig says how the members of a group divide the partitions of a topic.
type GroupConfig struct {
	ID                string
	Topic             string        // empty is md.raw
	SessionTimeout    time.Duration // 0 is 10 s: how long a dead member keeps its partitions
	HeartbeatInterval time.Duration // 0 is a fifth of it
	RebalanceTimeout  time.Duration // 0 is 30 s: how long the others wait for a member to let go
	// Notice is told what went wrong on the way and will be tried again; it may be nil.
	Notice func(error)
}

// RunGroup takes part in a consumer group until ctx ends or work fails. In each generation of the group it calls work with
// the partitions that are ours (none is possible); work must return soon after its context ends, which it does when the
// generation does, and only then is the next one joined. When work returns nil before that, the group is joined again; an
// error ends RunGroup with it.
//
// The group only assigns: nothing is committed, since the output is the checkpoint. Heartbeats to the group go on while work
// hangs; watching that is the caller's business.
func (c *Cluster) RunGroup(ctx context.Context, cfg GroupConfig, work func(ctx context.Context, partitions []int) error) error {
	group, err := kafka.NewConsumerGroup(cfg.kafka(c))
	if err != nil {
		return fmt.Errorf("join group %s: %w", cfg.ID, err)
	}
	defer func() { _ = group.Close() }() // it has no error to give
	for {
		gen, err := group.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, kafka.ErrGroupClosed):
			return fmt.Errorf("group %s: %w", cfg.ID, err)
		case err != nil:
			cfg.notice(err)
			continue
		}
		if err := runGeneration(ctx, gen, cfg.topic(c), work); err != nil {
			return err
		}
	}
}

// runGeneration runs work within one generation and waits for it.
func runGeneration(ctx context.Context, gen *kafka.Generation, topic string, work func(context.Context, []int) error) error {
	var partitions []int
	for _, a := range gen.Assignments[topic] {
		partitions = append(partitions, a.ID)
	}
	done := make(chan error, 1)
	gen.Start(func(generation context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(generation, cancel)
		defer stop()
		err := work(ctx, partitions)
		if ctx.Err() != nil && generation.Err() != nil {
			err = nil // it was told to stop
		}
		done <- err
	})
	err := <-done
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (g *GroupConfig) topic(c *Cluster) string {
	if g.Topic == "" {
		return c.topics.Raw
	}
	return g.Topic
}

func (g *GroupConfig) notice(err error) {
	if g.Notice != nil {
		g.Notice(err)
	}
}

func (g *GroupConfig) kafka(c *Cluster) kafka.ConsumerGroupConfig {
	session := g.SessionTimeout
	if session == 0 {
		session = 10 * time.Second
	}
	heartbeat := g.HeartbeatInterval
	if heartbeat == 0 {
		heartbeat = session / 5
	}
	return kafka.ConsumerGroupConfig{
		ID: g.ID, Brokers: c.brokers, Dialer: c.dialer, Topics: []string{g.topic(c)},
		SessionTimeout: session, HeartbeatInterval: heartbeat, RebalanceTimeout: g.RebalanceTimeout,
		JoinGroupBackoff: 500 * time.Millisecond,
		Timeout:          5 * time.Second,
	}
}
