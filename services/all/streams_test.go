package all_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/sse"
	"github.com/tickwire/tickwire/services/venue/capture"
)

// listener is a client of event streams whose connection is cut again and again, at any byte, and who then goes to the next
// edge with the id of the last event it has had in full.
type listener struct {
	path   string
	edges  []string
	rnd    *rand.Rand
	most   int64 // bytes of one connection
	last   string
	cuts   int
	seqs   []uint64 // of trades, gaps and final bars
	ids    []string // of trades: the venue's
	resets []string
	trades atomic.Int64
}

// follow reads until ctx ends.
func (l *listener) follow(ctx context.Context) error {
	for ; ctx.Err() == nil; l.cuts++ {
		if err := l.connect(ctx, l.edges[l.cuts%len(l.edges)]); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (l *listener) connect(ctx context.Context, edge string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+edge+l.path, nil)
	if err != nil {
		return err
	}
	if l.last != "" {
		req.Header.Set("Last-Event-ID", l.last)
	}
	resp, err := (&http.Transport{DisableCompression: l.cuts%2 == 0}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", edge, resp.Status)
	}
	in := bufio.NewReader(io.LimitReader(resp.Body, 2000+l.rnd.Int64N(l.most)))
	var id, event, data string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil //nolint:nilerr // cut off; what has come of an event does not count
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			event = value
		case "data":
			data = value
		case "":
			if err := l.take(event, data); err != nil {
				return err
			}
			if id != "" {
				l.last = id
			}
			event, data = "", ""
		}
	}
}

func (l *listener) take(event, data string) error {
	var m struct {
		Seq   uint64 `json:"seq"`
		ID    string `json:"id"`
		Final bool   `json:"final"`
		Items []struct {
			Seq uint64 `json:"seq"`
		} `json:"items"`
	}
	if data != "" {
		if err := json.Unmarshal([]byte(data), &m); err != nil {
			return fmt.Errorf("%s: %w", data, err)
		}
	}
	switch {
	case event == "snapshot" && len(l.seqs) == 0 && m.Items[0].Seq > 0:
		return fmt.Errorf("it has begun late: %s", data)
	case event == "reset":
		l.resets = append(l.resets, data)
	case event == "trade", event == "gap":
		l.seqs, l.ids = append(l.seqs, m.Seq), append(l.ids, m.ID)
		l.trades.Add(1)
	case event == "bar" && m.Final:
		l.seqs = append(l.seqs, m.Seq)
	}
	return nil
}

// TestBinanceStreams replays a recording to two edges, and has clients thrown from one to the other: each trade of the
// recording reaches each of them once, in order, and so does each bar.
func TestBinanceStreams(t *testing.T) {
	dir := testkit.Data(t, "binance-spot")
	files := []string{filepath.Join(dir, "btcusdt_20240808.gz")}
	want := readBinance(t, files)
	reader, err := capture.Open(capture.Config{Format: capture.BinanceLines, Files: files, Session: "binance-1"})
	must(t, err)
	defer func() { _ = reader.Close() }()
	sym := reader.Summary().Instruments[0].Sym
	s := start(t, nil)
	second := s.edge(t)
	var all []*listener
	var following sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 10)
	replayed := s.replay(t, reader, replaySpeed, func() {
		ok := waitFor(t, func() bool { return second.Mirror().Instrument(sym) != nil })
		if !ok {
			t.Fatal("the second edge does not know the instrument")
		}
		for i := range 6 {
			l := &listener{
				path: "/v1/sse/trades?symbols=" + sym, edges: []string{s.sse, second.Addr()}, rnd: rand.New(rand.NewPCG(uint64(i), 1)),
				most: 300_000, // a client that is cut off more often would fall behind on a busy machine, and be told so
			}
			switch i {
			case 3:
				l.path += "&rate=100ms"
			case 4, 5:
				l.path, l.most = "/v1/sse/bars?iv=1s&rate=250ms&symbols="+sym, 40_000
			}
			all = append(all, l)
			following.Go(func() {
				if err := l.follow(ctx); err != nil {
					failed <- err
				}
			})
		}
	})
	must(t, <-replayed)
	waitFor(t, func() bool { // for what is on its way; who misses some is found below
		return !slices.ContainsFunc(all[:4], func(l *listener) bool { return int(l.trades.Load()) < len(want.trades) })
	})
	cancel()
	following.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	for i, l := range all {
		if len(l.resets) > 0 || l.cuts < 3 || len(l.seqs) == 0 {
			t.Errorf("client %d: %d cuts, %d events, resets %v", i, l.cuts, len(l.seqs), l.resets)
		}
		for at, seq := range l.seqs {
			if seq != uint64(at+1) {
				t.Fatalf("client %d: message %d has seq %d", i, at+1, seq)
			}
		}
		if i < 4 && !slices.Equal(l.ids, want.trades) {
			t.Errorf("client %d: %d trades, want %d", i, len(l.ids), len(want.trades))
		}
	}
}

// edge runs another SSE edge on the same cluster, with a mirror of its own.
func (s *stack) edge(t *testing.T) *sse.Server {
	t.Helper()
	cfg := sse.DefaultConfig()
	cfg.Addr, cfg.Drain = "127.0.0.1:0", 100*time.Millisecond
	e, err := sse.New(cfg, sse.Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Cluster: s.cluster})
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		must(t, <-done)
	})
	<-e.Listening()
	if !waitFor(t, func() bool { return e.Ready() == nil }) {
		t.Fatal("the edge is not ready")
	}
	return e
}
