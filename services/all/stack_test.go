package all_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/all"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/venue/capture"
	"github.com/tickwire/tickwire/services/venue/pump"
)

// stack is everything in this process, without a market of its own.
type stack struct {
	url     string // of the WebSocket edge
	sse     string // address of the SSE edge
	cluster *stream.Cluster
}

// start runs everything on an embedded broker, or on the given brokers, until the test ends.
func start(t *testing.T, brokers []string) *stack {
	t.Helper()
	return startWith(t, brokers, func(*all.Config) {})
}

func startWith(t *testing.T, brokers []string, change func(*all.Config)) *stack {
	t.Helper()
	if brokers == nil {
		brokers = []string{testkit.Broker(t).Addr()}
	}
	cfg := all.DefaultConfig()
	cfg.Kafka.Brokers, cfg.Market.Kind = brokers, "none"
	cfg.WS.Addr, cfg.WS.Drain, cfg.Admin.Addr = "127.0.0.1:0", 100*time.Millisecond, ""
	cfg.SSE.Addr, cfg.SSE.RestRate, cfg.Webhook.Addr = "127.0.0.1:0", 0, "127.0.0.1:0"
	cluster, err := stream.Open(stream.Config{Brokers: brokers})
	must(t, err)
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n, err := cluster.Partitions(ctx, cluster.Topics().Raw)
	must(t, err)
	for p := range n {
		cfg.Ingest.Partitions = append(cfg.Ingest.Partitions, p)
	}
	change(&cfg)
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	service, err := all.New(cfg, all.Deps{Log: log, Metrics: prometheus.NewRegistry(), Out: io.Discard})
	must(t, err)
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- service.Run(run) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("everything ended with: %v", err)
		}
	})
	select {
	case <-service.Ready():
	case err := <-done:
		done <- err
		t.Fatalf("everything ended before it was ready: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("not ready after 30 s")
	}
	return &stack{url: "ws://" + service.Addrs().WS, sse: service.Addrs().SSE, cluster: cluster}
}

// writer makes a writer to md.raw that ends with the test.
func (s *stack) writer(t *testing.T) *stream.RawWriter {
	t.Helper()
	w, err := s.cluster.RawWriter(t.Context(), s.cluster.Topics().Raw, stream.RawWriterConfig{})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = w.Close(ctx)
	})
	return w
}

// split gives the instruments of a recording first, and the rest when asked again, so that clients can subscribe before
// the first price.
type split struct {
	*capture.Reader
	held    *capture.Record
	started bool
}

func (s *split) Next() (*capture.Record, error) {
	if s.held != nil {
		rec := s.held
		s.held = nil
		return rec, nil
	}
	rec, err := s.Reader.Next()
	if err != nil || s.started || isInstrument(rec) {
		return rec, err
	}
	s.held, s.started = rec, true
	return nil, io.EOF
}

// replay writes the recording's instruments, waits until the edge knows them, and then replays the rest in the background.
// subscribe is called in between.
func (s *stack) replay(t *testing.T, reader *capture.Reader, speed float64, subscribe func()) <-chan error {
	t.Helper()
	w, source := s.writer(t), &split{Reader: reader}
	_, err := pump.Run(t.Context(), source, w, pump.Config{})
	must(t, err)
	for _, in := range reader.Summary().Instruments {
		s.waitInstrument(t, in.Sym)
	}
	subscribe()
	done := make(chan error, 1)
	go func() {
		_, err := pump.Run(t.Context(), source, w, pump.Config{Speed: speed})
		if err == nil {
			err = w.Wait(t.Context())
		}
		done <- err
	}()
	return done
}

// waitInstrument waits until the edge knows an instrument.
func (s *stack) waitInstrument(t *testing.T, sym string) {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Config{URL: s.url})
	must(t, err)
	defer func() { _ = c.Close() }()
	known := waitFor(t, func() bool {
		status, err := c.Status(sym)
		if err != nil {
			return errors.Is(err, client.ErrSubscribed)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if status.Wait(ctx) == nil {
			return true
		}
		status.Unsubscribe()
		return false
	})
	if !known {
		t.Fatalf("the edge does not know %s", sym)
	}
}

// isInstrument tells an instrument record of the native format.
func isInstrument(rec *capture.Record) bool {
	return bytes.Contains(rec.Value, []byte(`"type":"instrument"`))
}
