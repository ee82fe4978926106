package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/venue/capture"
)

// benchCopies is how many instruments the recorded session is written for, so that starting up weighs little.
const benchCopies = 8

// BenchmarkKafkaDepth measures everything that ingest spends on a recorded depth message (35 levels and more): fetch, decode,
// book, sequence, encode, produce, snapshots, and taking the partitions over at the start. The broker is real Kafka in a
// process of its own, and md.raw is written beforehand, so the processor time of this process is ingest's alone.
//
//	cd services && go test -run '^$' -bench KafkaDepth ./ingest
func BenchmarkKafkaDepth(b *testing.B) {
	dir := testkit.Data(b, "binance-spot")
	k := testkit.Kafka(b, 1)
	for n := range b.N {
		suffix := fmt.Sprintf(".%d", n)
		topics := stream.Topics{
			Raw: stream.RawTopic + suffix, Events: stream.EventsTopic + suffix, Snapshots: stream.SnapshotsTopic + suffix,
			Quarantine: stream.QuarantineTopic + suffix,
		}
		cluster, err := stream.Open(stream.Config{Brokers: k.Addrs(), Topics: topics})
		if err != nil {
			b.Fatal(err)
		}
		if err := cluster.CreateTopics(b.Context(), stream.Plan(topics, stream.PlanOptions{Partitions: 2, Replicas: 1})); err != nil {
			b.Fatal(err)
		}
		depth, all := writeDepth(b, cluster, dir)
		spent := ingestAll(b, cluster, all)
		b.ReportMetric(float64(spent.Nanoseconds())/float64(depth), "cpu-ns/depth-msg")
		cluster.Close()
	}
	b.ReportMetric(0, "ns/op") // the wall clock says nothing here
}

// writeDepth writes the session's instruments, snapshots and depth frames, and nothing else of it, for several instruments.
func writeDepth(b *testing.B, cluster *stream.Cluster, dir string) (depth, all int) {
	b.Helper()
	r, err := capture.Open(capture.Config{
		Format: capture.BinanceLines, Session: "bench",
		Files: []string{filepath.Join(dir, "btcusdt_20240808.gz"), filepath.Join(dir, "btcusdt_20240809.gz")},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	w, err := cluster.RawWriter(b.Context(), cluster.Topics().Raw, stream.RawWriterConfig{})
	if err != nil {
		b.Fatal(err)
	}
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			b.Fatal(err)
		}
		isDepth := bytes.Contains(rec.Value, []byte(`"depthUpdate"`))
		if !isDepth && !bytes.Contains(rec.Value, []byte(`"lastUpdateId"`)) && !bytes.Contains(rec.Value, []byte(`"type":"instrument"`)) {
			continue
		}
		for i := range benchCopies {
			symbol := fmt.Appendf(nil, "BTCUSD%d", i)
			out := stream.Record{
				Key:   bytes.Replace(rec.Key, []byte("USDT"), symbol[3:], 1),
				Value: bytes.ReplaceAll(bytes.ReplaceAll(rec.Value, []byte("BTCUSDT"), symbol), []byte("BTC-USDT"), append([]byte("BTC-"), symbol[3:]...)), Headers: rec.Headers,
			}
			if err := w.Write(&out); err != nil {
				b.Fatal(err)
			}
			all++
			if isDepth {
				depth++
			}
		}
	}
	if err := w.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	return depth, all
}

// ingestAll runs the service until it has dealt with all records, and returns the processor time of this process.
func ingestAll(b *testing.B, cluster *stream.Cluster, all int) time.Duration {
	b.Helper()
	cfg := DefaultConfig()
	cfg.Partitions = []int{0, 1}
	reg := prometheus.NewRegistry()
	s, err := New(cfg, Deps{Log: zap.NewNop(), Metrics: reg, Cluster: cluster})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	before := processorTime(b)
	go func() { done <- s.Run(ctx) }()
	p := &process{t: b, s: s, reg: reg}
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for p.value("ingest_records_total") < float64(all) {
		select {
		case err := <-done:
			b.Fatalf("ingest ended: %v", err)
		case <-poll.C:
		}
	}
	stop()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) { // with everything written
		b.Fatal(err)
	}
	spent := processorTime(b) - before
	if got := p.value("ingest_books_stale_total"); got != 0 || p.value("ingest_quarantined_total") != 0 {
		b.Fatalf("%v books became stale, %v records were bad", got, p.value("ingest_quarantined_total"))
	}
	return spent
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
