package streamtest

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/broker"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// cpu is the time that the processor has spent on this process. With the embedded broker that is broker and client, with
// real Kafka the client alone.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchTopics opens the broker's default topics.
func benchTopics(b *testing.B, brokers []string) *stream.Cluster {
	b.Helper()
	c, err := stream.Open(stream.Config{Brokers: brokers})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	if err := c.CreateTopics(b.Context(), stream.Plan(c.Topics(), stream.PlanOptions{Partitions: 1, Replicas: 1})); err != nil {
		b.Fatal(err)
	}
	return c
}

func BenchmarkEmbedded(b *testing.B) {
	// Retention must not take what the next benchmark reads.
	embedded := testkit.BrokerWith(b, broker.Config{NoTopics: true})
	benchmarks(b, benchTopics(b, []string{embedded.Addr()}))
}

func BenchmarkKafka(b *testing.B) {
	benchmarks(b, benchTopics(b, testkit.Kafka(b, 1).Addrs()))
}

func benchmarks(b *testing.B, c *stream.Cluster) {
	b.Run("events", func(b *testing.B) { benchmarkEvents(b, c) })
	b.Run("fetch", func(b *testing.B) { benchmarkFetch(b, c) })
	b.Run("latency-1k", func(b *testing.B) { benchmarkLatency(b, c) })
}

// benchmarkEvents commits a value of 200 bytes per input, as fast as they are acknowledged.
func benchmarkEvents(b *testing.B, c *stream.Cluster) {
	o, err := c.TakeOver(b.Context(), 0, stream.OwnerOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = o.Close(context.Background()) }() // Wait has told
	o.Start(-1)
	value := make([]byte, 200)
	b.ReportAllocs()
	b.ResetTimer()
	began := cpu(b)
	for i := range b.N {
		o.Events.Add(value)
		if err := o.Events.Commit(int64(i)); err != nil {
			b.Fatal(err)
		}
		if i%100 == 99 {
			o.Events.Flush()
		}
	}
	if err := o.Events.Wait(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(b.N), "cpu-ns/op")
}

// benchmarkFetch reads what benchmarkEvents has written, over and over.
func benchmarkFetch(b *testing.B, c *stream.Cluster) {
	first, end, err := c.Offsets(b.Context(), stream.EventsTopic, 0)
	if err != nil || end-first < 1000 {
		b.Skip("nothing to read: run it together with events")
	}
	f := c.Fetcher(stream.EventsTopic, 0, first)
	b.ReportAllocs()
	b.ResetTimer()
	began := cpu(b)
	var rec stream.Record
	for n := 0; n < b.N; {
		if f.Offset() >= end {
			f = c.Fetcher(stream.EventsTopic, 0, first)
		}
		batch, err := f.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for batch.Next(&rec) {
			n++
		}
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(b.N), "cpu-ns/op")
}

// benchmarkLatency writes a thousand records a second and reads them in another goroutine; times are from when a record was
// due, not from when it was sent.
func benchmarkLatency(b *testing.B, c *stream.Cluster) {
	ctx := b.Context()
	_, end, err := c.Offsets(ctx, stream.RawTopic, 0)
	if err != nil {
		b.Fatal(err)
	}
	w, err := c.RawWriter(ctx, stream.RawTopic, stream.RawWriterConfig{})
	if err != nil {
		b.Fatal(err)
	}
	const every = time.Millisecond
	began, used := time.Now().Add(10*time.Millisecond), cpu(b)
	read := make(chan []time.Duration)
	go func() { read <- latencies(ctx, c.Fetcher(stream.RawTopic, 0, end), b.N, began, every) }()
	value := make([]byte, 200)
	for i := range b.N {
		time.Sleep(time.Until(began.Add(time.Duration(i) * every)))
		if err := w.WriteTo(0, &stream.Record{Value: value}); err != nil {
			b.Fatal(err)
		}
	}
	took := <-read
	if err := w.Close(ctx); err != nil {
		b.Fatal(err)
	}
	if len(took) == 0 {
		b.Fatal("nothing was read")
	}
	slices.Sort(took)
	b.ReportMetric(float64(cpu(b)-used)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
}

func latencies(ctx context.Context, f *stream.Fetcher, n int, began time.Time, every time.Duration) (took []time.Duration) {
	var rec stream.Record
	for len(took) < n {
		batch, err := f.Next(ctx)
		if err != nil {
			return nil
		}
		now := time.Now()
		for batch.Next(&rec) {
			took = append(took, now.Sub(began.Add(time.Duration(len(took))*every)))
		}
	}
	return took
}
