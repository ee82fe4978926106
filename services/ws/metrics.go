package ws

import (
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the edge tells its operator. What the fan-out and the mirror count is read when asked for.
type metrics struct {
	refused    *prometheus.CounterVec
	violations prometheus.Counter
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
		panics:     counter("ws_panics_total", "Panics while reading from a client."),
		requests:   counter("ws_requests_total", "Requests of clients."),
		errors:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ws_errors_total", Help: "Requests and topics refused."}, []string{"code"}),
	}
	all := []prometheus.Collector{m.refused, m.violations, m.panics, m.requests, m.errors, latency{s}}
	all = append(all, s.access.collectors()...)
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

// subscriptions counts what clients are subscribed to.
func (s *Server) subscriptions() (n int) {
	for _, c := range s.all(nil) {
		c.mu.Lock()
		n += max(0, len(c.subs)-own)
		c.mu.Unlock()
	}
	return n
}

// latency shows the fan-out's histogram.
type latency struct{ s *Server }

var latencyDesc = prometheus.NewDesc("ws_publish_to_write_seconds",
	"From publishing the oldest message of a write to the end of the write.", nil, nil)

// Describe implements prometheus.Collector.
func (latency) Describe(ch chan<- *prometheus.Desc) { ch <- latencyDesc }

// Collect implements prometheus.Collector.
func (l latency) Collect(ch chan<- prometheus.Metric) {
	bounds, count, sum := l.s.hub.Stats().Latency.Buckets()
	ch <- prometheus.MustNewConstHistogram(latencyDesc, count, sum, bounds)
}
