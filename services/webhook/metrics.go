package webhook

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the evaluation; package deliver has its own.
type metrics struct {
	partitions prometheus.Gauge
	rules      *prometheus.GaugeVec
	lag        *prometheus.GaugeVec
	fires      prometheus.Counter
	dropped    prometheus.Counter
	late       *prometheus.GaugeVec
	absent     *prometheus.GaugeVec
	ahead      *prometheus.GaugeVec
	faults     *prometheus.GaugeVec
	gaps       *prometheus.CounterVec
	restarts   prometheus.Counter
	unreadable prometheus.Counter
	commits    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	byPartition := []string{"partition"}
	m := &metrics{
		partitions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "webhook_partitions", Help: "Partitions that this process evaluates."}),
		rules:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "webhook_rules", Help: "Rules that are being evaluated."}, byPartition),
		lag:        prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "webhook_lag_records", Help: "Records of md.events that have yet to be evaluated."}, byPartition),
		fires:      prometheus.NewCounter(prometheus.CounterOpts{Name: "webhook_fires_total", Help: "Alerts that have fired, once they are committed."}),
		dropped:    prometheus.NewCounter(prometheus.CounterOpts{Name: "webhook_fires_dropped_total", Help: "Fires of alerts that were paused, changed or deleted a moment before."}),
		late:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "webhook_late_trades", Help: "Trades older than their predecessor, which fire nothing, since the evaluation began."}, byPartition),
		absent:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "webhook_absent_instruments", Help: "Instruments that have alerts and are not in md.events; the alerts wait for them."}, byPartition),
		ahead:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "webhook_log_clock_ahead_seconds", Help: "By how much the log's clock is ahead of ours; negative: behind, by what the log is delayed."}, byPartition),
		faults:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "webhook_contradicting_events", Help: "Events that contradict what came before them, such as books that do not match their hash, since the evaluation began."}, byPartition),
		gaps:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "webhook_log_gaps_total", Help: "Times the evaluation could not go on from the last commit, by why: retention, log, damaged."}, []string{"why"}),
		restarts:   prometheus.NewCounter(prometheus.CounterOpts{Name: "webhook_evaluation_restarts_total", Help: "Times a partition's evaluation started over from its last commit, because something failed."}),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{Name: "webhook_unreadable_records_total", Help: "Records of md.events that could not be read, and were left out."}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "webhook_commit_seconds", Help: "How long a commit of a batch's alerts took.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.partitions, m.rules, m.lag, m.fires, m.dropped, m.late, m.absent, m.ahead, m.faults, m.gaps, m.restarts, m.unreadable, m.commits} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// forget takes a partition out of the metrics, which belongs to somebody else now.
func (m *metrics) forget(partition string) {
	for _, v := range []*prometheus.GaugeVec{m.rules, m.lag, m.late, m.absent, m.ahead, m.faults} {
		v.DeleteLabelValues(partition)
	}
}
