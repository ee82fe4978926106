package ws

import (
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tickwire/tickwire/pkg/fanout"
)

// metrics are what the edge tells its operator. What the fan-out and the mirror count is read when asked for.
type metrics struct {
	refused    *prometheus.CounterVec
	violations prometheus.Counter
	closes     *prometheus.CounterVec
	lag        prometheus.Histogram
	panics     prometheus.Counter
	requests   prometheus.Counter
	errors     *prometheus.CounterVec
}

// Why a connection did not become a session.
const (
	reasonCrowd     = "crowd"
	reasonAddress   = "address"
	reasonOrigin    = "origin"
	reasonDraining  = "draining"
	reasonHandshake = "handshake" // it is not in order, or was broken off
)

func newMetrics(r prometheus.Registerer, s *Server) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ws_connections_refused_total", Help: "Connections that did not become a WebSocket.",
		}, []string{"reason"}),
		violations: counter("ws_protocol_violations_total", "Connections closed because of a frame that is not allowed."),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ws_closes_total", Help: "Connections that ended, by the close code that this edge began with; client when it did not begin.",
		}, []string{"code"}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ws_lag_seconds", Help: "How far behind clients were when they were told that messages had been merged.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 8),
		}),
		panics:   counter("ws_panics_total", "Panics while reading from a client."),
		requests: counter("ws_requests_total", "Requests of clients."),
		errors:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ws_errors_total", Help: "Requests and topics refused."}, []string{"code"}),
	}
	all := []prometheus.Collector{
		m.refused, m.violations, m.closes, m.lag, m.panics, m.requests, m.errors,
		histogram{latencyDesc, &s.hub.Stats().Latency, 1e-6},
		histogram{ageDesc, &s.hub.Stats().Age, 1e-6},
		histogram{batchDesc, &s.hub.Stats().Batch, 1},
	}
	all = append(all, s.checks.Collectors()...)
	hub, mirror := s.hub.Stats(), s.mirror.Stats()
	for _, c := range []struct {
		name, help string
		value      *atomic.Uint64
	}{
		{"ws_writes_total", "Writes to clients' sockets, each with all that was pending.", &hub.Passes},
		{"ws_frames_total", "Frames sent.", &hub.Frames},
		{"ws_sent_bytes_total", "Bytes sent.", &hub.Bytes},
		{"ws_conflated_total", "Messages that a slow client got only merged or skipped.", &hub.Conflated},
		{"ws_gaps_total", "Times a slow client missed trades or bars, and was told.", &hub.Gaps},
		{"ws_blocked_total", "Times a client's socket or flow window was full.", &hub.Blocked},
		{"ws_slow_closes_total", "Connections closed because the client was too slow.", &hub.Slow},
		{"mirror_records_total", "Records read from md.events.", &mirror.Events},
		{"mirror_heartbeats_total", "Heartbeats of partition owners.", &mirror.Heartbeats},
		{"mirror_orphans_total", "Events of instruments that are not known yet.", &mirror.Orphans},
		{"mirror_faults_total", "Events that contradict the state before them.", &mirror.Faults},
		{"mirror_snapshots_total", "Book snapshots encoded.", &mirror.Snapshots},
	} {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: c.name, Help: c.help},
			func() float64 { return float64(c.value.Load()) }))
	}
	for _, g := range []struct {
		name, help string
		value      func() int
	}{
		{"ws_connections", "Clients connected.", s.hub.Conns},
		{"ws_subscriptions", "Topics subscribed, wildcards counted once.", s.subscriptions},
		{"mirror_instruments", "Instruments known.", func() int { return len(s.mirror.Instruments()) }},
	} {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help},
			func() float64 { return float64(g.value()) }))
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("ws metrics: %w", err)
		}
	}
	return m, nil
}

// closed counts a connection that ended.
func (m *metrics) closed(code int) {
	label := "client"
	if code != 0 {
		label = strconv.Itoa(code)
	}
	m.closes.WithLabelValues(label).Inc()
}

// subscriptions counts what clients are subscribed to.
func (s *Server) subscriptions() (n int) {
	for _, c := range s.all(nil) {
		c.mu.Lock()
		n += c.topics.len()
		c.mu.Unlock()
	}
	return n
}

// histogram shows one of the fan-out's.
type histogram struct {
	desc *prometheus.Desc
	from *fanout.Histogram
	unit float64
}

var (
	latencyDesc = prometheus.NewDesc("ws_publish_to_write_seconds",
		"From publishing the oldest message of a write to the end of the write.", nil, nil)
	ageDesc = prometheus.NewDesc("ws_data_age_seconds",
		"From the Kafka timestamp of the raw record behind the oldest message of a write to the end of the write.", nil, nil)
	batchDesc = prometheus.NewDesc("ws_write_frames", "Frames of a write.", nil, nil)
)

// Describe implements prometheus.Collector.
func (h histogram) Describe(ch chan<- *prometheus.Desc) { ch <- h.desc }

// Collect implements prometheus.Collector.
func (h histogram) Collect(ch chan<- prometheus.Metric) {
	bounds, count, sum := h.from.Buckets(h.unit)
	ch <- prometheus.MustNewConstHistogram(h.desc, count, sum, bounds)
}
