package broker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tickwire/tickwire/pkg/stream"
)

// TestLeaderMoves has the leader of a partition change again and again, while the old one lives on and answers: a reader that
// waits at the end of the log and a writer, who both share their requests with others, must find the new one.
func TestLeaderMoves(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(3, stream.RawTopic))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := stream.Open(stream.Config{Brokers: cluster.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := c.RawWriter(ctx, stream.RawTopic, stream.RawWriterConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close(ctx) }()
	fetchers := make([]*stream.Fetcher, 3)
	for p := range fetchers {
		fetchers[p] = c.Fetcher(stream.RawTopic, p, 0)
		defer fetchers[p].Close()
	}
	for round := range 4 {
		for p, f := range fetchers {
			if err := w.WriteTo(p, &stream.Record{Value: fmt.Append(nil, round)}); err != nil {
				t.Fatal(err)
			}
			for f.Offset() <= int64(round) {
				if _, err := f.Next(ctx); err != nil {
					t.Fatalf("round %d, partition %d: %v", round, p, err)
				}
			}
		}
		for _, f := range fetchers { // once more, so that all wait at the end, among the others
			if _, err := f.Next(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := cluster.MoveTopicPartition(stream.RawTopic, 1, int32(round%2)); err != nil {
			t.Fatal(err)
		}
	}
}
