package sse

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tickwire/tickwire/pkg/fanout"
)

type metrics struct {
	streams  prometheus.Gauge
	chunks   prometheus.Counter
	renders  [numForms]prometheus.Counter
	ends     *prometheus.CounterVec
	goodbyes *prometheus.CounterVec
	tickets  *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, s *Server) (*metrics, error) {
	m := &metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sse_streams", Help: "Streams that are open."}),
		chunks:  prometheus.NewCounter(prometheus.CounterOpts{Name: "sse_chunks_total", Help: "Chunks published, each once for all clients of its stream."}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sse_streams_ended_total", Help: "Streams that have ended, by why: asked (goodbye), slow, gone.",
		}, []string{"why"}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sse_connections_refused_total", Help: "Connections and requests turned away, for want of room in all (crowd) or for their address."}, []string{"reason"}),
		tickets:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sse_tickets_total", Help: "Tickets given, used, refused as not good, or not given because there were too many (full)."}, []string{"result"}),
		goodbyes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sse_goodbyes_total", Help: "Streams sent away, by why."}, []string{"why"}),
	}
	renders := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sse_renders_total", Help: "Chunks, snapshots and replays rendered, by form: each once for all who get it.",
	}, []string{"form"})
	for f, name := range map[form]string{chunked: "chunked", gzipped: "gzip", bare: "bare"} {
		m.renders[f] = renders.WithLabelValues(name)
	}
	stats := s.hub.Stats()
	count := func(name, help string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	all := []prometheus.Collector{
		m.streams, m.chunks, m.ends, m.goodbyes, m.tickets, m.refused, renders,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sse_views", Help: "Different streams that are open or were a moment ago."}, func() float64 {
			s.viewsMu.Lock()
			defer s.viewsMu.Unlock()
			return float64(len(s.views))
		}),
		count("sse_writes_total", "Writes to clients.", stats.Passes.Load),
		count("sse_frames_total", "Chunks written, all clients together.", stats.Frames.Load),
		count("sse_sent_bytes_total", "Bytes written to clients.", stats.Bytes.Load),
		count("sse_conflated_total", "Chunks that slow clients got merged or not at all.", stats.Conflated.Load),
		count("sse_blocked_total", "Times a client's socket was full.", stats.Blocked.Load),
	}
	all = append(all, s.checks.Collectors()...)
	if reg == nil {
		return m, nil
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// encoded counts a rendering.
func (m *metrics) encoded(f form) { m.renders[f].Inc() }

// ended counts a stream's end.
func (m *metrics) ended(err error) {
	why := "gone"
	switch {
	case errors.Is(err, fanout.ErrClosed):
		why = "asked"
	case errors.Is(err, fanout.ErrSlow):
		why = "slow"
	}
	m.ends.WithLabelValues(why).Inc()
}
