package deliver

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// metrics count all endpoints together: a series for each would be as many as users make.
type metrics struct {
	attempts  map[kind]prometheus.Counter
	took      prometheus.Histogram
	delivery  prometheus.Histogram
	exhausted prometheus.Counter
	disabled  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, s *Sender) (*metrics, error) {
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "webhook_attempts_total", Help: "Requests to endpoints, by result: delivered, gone (410), status (another answer), timeout, forbidden (by the guard), network, unfit (the endpoint's configuration), cut (we stopped).",
	}, []string{"result"})
	m := &metrics{
		attempts: make(map[kind]prometheus.Counter, len(kinds)),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "webhook_attempt_seconds", Help: "How long requests took, failed ones too.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15},
		}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "webhook_delivery_seconds", Help: "From an event's commit to its being delivered, waits and attempts before included.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600, 72 * 3600},
		}),
		exhausted: prometheus.NewCounter(prometheus.CounterOpts{Name: "webhook_exhausted_total", Help: "Deliveries that became dead letters."}),
		disabled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_endpoints_disabled_total", Help: "Endpoints that were disabled, by why: gone (410), failing (for days).",
		}, []string{"why"}),
	}
	for _, k := range kinds {
		m.attempts[k] = attempts.WithLabelValues(string(k))
	}
	for _, why := range []string{whyGone, whyFailing} {
		m.disabled.WithLabelValues(why)
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(value())
		})
	}
	const flying = "Requests on their way: to endpoints that answer (well), and to those that take longer than a second, or did last (sick)."
	all := []prometheus.Collector{
		attempts, m.took, m.delivery, m.exhausted, m.disabled,
		gauge("webhook_requests_in_flight", flying, prometheus.Labels{"endpoints": "well"}, func() int { return s.flying[0] }),
		gauge("webhook_requests_in_flight", flying, prometheus.Labels{"endpoints": "sick"}, func() int { return s.flying[1] }),
		gauge("webhook_queue_deliveries", "Deliveries in memory: about to be sent, on their way, or about to be committed.", nil, func() int { return s.inMemory }),
		gauge("webhook_queue_lanes", "Endpoints whose turn is to come.", nil, func() int { return s.ready[0].len() + s.ready[1].len() }),
		gauge("webhook_queue_outcomes", "Outcomes that are about to be committed.", nil, func() int {
			n := 0
			for _, sl := range s.slots {
				n += len(sl.pending)
			}
			return n
		}),
		gauge("webhook_endpoints", "Endpoints of this sender's slots.", nil, func() int { return len(s.lanes) }),
		gauge("webhook_endpoints_open", "Endpoints to which nothing is sent at present because they failed, or asked for a pause.", nil, s.waiting),
	}
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

// waiting counts the lanes that are sick or paused. The caller holds the lock.
func (s *Sender) waiting() int {
	n := 0
	for _, l := range s.lanes {
		if l.target != nil && l.target.State == store.EndpointEnabled && (l.breaker.probing() || l.health.PausedUntil.After(l.health.LastFailure)) {
			n++
		}
	}
	return n
}

func (m *metrics) attempted(r *Result) {
	m.attempts[r.kind].Inc()
	m.took.Observe(r.Took.Seconds())
}
