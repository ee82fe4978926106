package ingest

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/ingest/decode"
)

// metrics are the service's. Those of the hot path are counted in plain integers by the loop of a partition, and added here
// once per batch.
type metrics struct {
	records       *prometheus.CounterVec // source
	events        *prometheus.CounterVec // kind
	quarantined   *prometheus.CounterVec // reason
	dropped       *prometheus.CounterVec // why
	gaps          prometheus.Counter
	stale         prometheus.Counter
	mismatches    prometheus.Counter
	apply         prometheus.Histogram
	staleBooks    *prometheus.GaugeVec // partition
	instruments   *prometheus.GaugeVec // partition
	lag           *prometheus.GaugeVec // partition
	snapshotBytes prometheus.Counter
	snapshotsBusy prometheus.Counter
	takeovers     *prometheus.CounterVec // how
	fenced        prometheus.Counter
	failures      prometheus.Counter
	diverged      prometheus.Counter
	stalls        prometheus.Counter
	unquarantined prometheus.Counter
	retries       prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "ingest_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	counters := func(name, label, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ingest_" + name, Help: help}, []string{label})
		r.MustRegister(c)
		return c
	}
	gauges := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "ingest_" + name, Help: help}, []string{"partition"})
		r.MustRegister(g)
		return g
	}
	m := &metrics{
		records:       counters("records_total", "source", "Raw records applied."),
		events:        counters("events_total", "kind", "Events written to md.events."),
		quarantined:   counters("quarantined_total", "reason", "Raw records that went to md.quarantine."),
		dropped:       counters("dropped_total", "why", "Raw records, or trades in them, without effect: duplicates and the like."),
		gaps:          counter("trade_gaps_total", "Gaps put into trades."),
		stale:         counter("books_stale_total", "Books that became stale."),
		mismatches:    counter("snapshot_mismatches_total", "Snapshots that disagreed with the live book of the same sequence."),
		staleBooks:    gauges("stale_books", "Books that are stale now."),
		instruments:   gauges("instruments", "Instruments of the partition."),
		lag:           gauges("lag_records", "Raw records not yet applied."),
		snapshotBytes: counter("snapshot_bytes_total", "Bytes handed over to md.snapshots."),
		snapshotsBusy: counter("snapshots_put_off_total", "Snapshots put off because too many were under way."),
		takeovers:     counters("takeovers_total", "how", "Partitions taken over: cold, replay, or rebuild from md.events."),
		fenced:        counter("fenced_total", "Partitions lost to another owner."),
		failures:      counter("partition_failures_total", "Partitions given up because of an error, to be taken over again."),
		diverged:      counter("diverged_total", "Takeovers stopped because the replay differed from md.events. Alarm on any."),
		stalls:        counter("stalls_total", "Partitions whose loop stood still for too long."),
		unquarantined: counter("quarantine_lost_total", "Bad records that could not be kept in md.quarantine."),
		retries:       counter("produce_retries_total", "Produce requests to md.events that had to be made again."),
	}
	m.apply = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "ingest_apply_seconds", Help: "Time to apply one batch of raw records.",
		Buckets: prometheus.ExponentialBuckets(10e-6, 4, 10),
	})
	r.MustRegister(m.apply)
	return m
}

// tally is what a partition's loop counts between two turns.
type tally struct {
	records [5]uint64 // by sourceLabels
	events  [wire.TemplateBarGap + 1]uint64
	before  stats // of the core, as last added
}

var sourceLabels = [...]string{decode.Tickwire, decode.Binance, decode.Kraken, decode.Coinbase, "other"}

func (t *tally) count(source []byte, out *output) {
	i := len(sourceLabels) - 1
	for n, label := range sourceLabels[:i] {
		if string(source) == label {
			i = n
		}
	}
	if len(source) == 0 {
		i = 0
	}
	t.records[i]++
	for tmpl, n := range out.counts {
		t.events[tmpl] += uint64(n)
	}
}

var eventLabels = [wire.TemplateBarGap + 1]string{
	wire.TemplateBookSnapshot: "book_snapshot", wire.TemplateBookUpdate: "book_update", wire.TemplateTrade: "trade",
	wire.TemplateTradeGap: "trade_gap", wire.TemplateBar: "bar", wire.TemplateStatus: "status",
}

// publish adds what was counted to the metrics.
func (t *tally) publish(m *metrics, now stats) {
	for i, n := range t.records {
		if n > 0 {
			m.records.WithLabelValues(sourceLabels[i]).Add(float64(n))
		}
	}
	for i, n := range t.events {
		if n > 0 {
			m.events.WithLabelValues(eventLabels[i]).Add(float64(n))
		}
	}
	b := &t.before
	for _, d := range [...]struct {
		why string
		n   uint64
	}{
		{"ignored", now.ignored - b.ignored},
		{"duplicate", now.duplicates - b.duplicates},
		{"outdated", now.outdated - b.outdated},
		{"other_ids", now.otherIDs - b.otherIDs},
		{"delisted", now.delisted - b.delisted},
	} {
		if d.n > 0 {
			m.dropped.WithLabelValues(d.why).Add(float64(d.n))
		}
	}
	m.gaps.Add(float64(now.gaps - b.gaps))
	m.stale.Add(float64(now.stale - b.stale))
	m.mismatches.Add(float64(now.mismatches - b.mismatches))
	*t = tally{before: now}
}

// gauges are one partition's.
type gauges struct {
	staleBooks, instruments, lag prometheus.Gauge
	forget                       func()
}

func (m *metrics) gauges(partition int) gauges {
	label := strconv.Itoa(partition)
	return gauges{
		m.staleBooks.WithLabelValues(label), m.instruments.WithLabelValues(label), m.lag.WithLabelValues(label),
		func() {
			m.staleBooks.DeleteLabelValues(label)
			m.instruments.DeleteLabelValues(label)
			m.lag.DeleteLabelValues(label)
		},
	}
}
