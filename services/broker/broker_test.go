package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/broker"
)

func TestLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.org:0", "127.0.0.1"} {
		if b, err := broker.Start(broker.Config{Addr: addr}); err == nil {
			b.Close()
			t.Errorf("it listens on %q", addr)
		}
	}
}

// TestMemoryIsBounded writes more than a partition may hold and waits until the oldest is gone.
func TestMemoryIsBounded(t *testing.T) {
	b, err := broker.Start(broker.Config{Addr: "localhost:0", Partitions: 1, TopicBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := stream.Open(stream.Config{Brokers: []string{b.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := c.RawWriter(ctx, stream.RawTopic, stream.RawWriterConfig{BatchBytes: 1 << 18})
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 10_000)
	for range 1000 {
		if err := w.Write(&stream.Record{Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for {
		first, end, err := c.Offsets(ctx, stream.RawTopic, 0)
		if err != nil {
			t.Fatal(err)
		}
		if end != 1000 {
			t.Fatalf("the log ends at %d", end)
		}
		if first >= 500 {
			return
		}
		time.Sleep(50 * time.Millisecond) // the cleaner wakes up each second; Offsets fails when ctx ends
	}
}
