package load

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/pkg/market"
)

// meter measures what many readers get: how much arrives within a window of time, and the latency of what was meant to be sent
// within it, whenever that arrives; or, when that is not known, of what arrives.
type meter struct {
	arrival  bool         // a market that is not ours: what arrives counts, and its age
	whole    bool         // what was due counts as delivered whenever it comes: it is waited for
	from, to atomic.Int64 // the window, in µs since 1970; nothing before open
	shards   [8]shard

	// Of the one goroutine that samples.
	total  tally
	latest tally // of the last sample
}

// shard is for some of the readers, so that they seldom wait for each other.
type shard struct {
	mu sync.Mutex
	tally
}

// tally is what was measured.
type tally struct {
	latency  *hdrhistogram.Histogram // µs from the intended send time, or the event's
	ingest   *hdrhistogram.Histogram // µs from there to the stamp of the broker
	edge     *hdrhistogram.Histogram // µs from there on
	messages int64                   // that came within the window
	updates  int64                   // that they stand for
}

func newTally() tally {
	return tally{latency: schedule.NewHistogram(), ingest: schedule.NewHistogram(), edge: schedule.NewHistogram()}
}

func newMeter(arrival bool) *meter {
	m := &meter{arrival: arrival, total: newTally(), latest: newTally()}
	for i := range m.shards {
		m.shards[i].tally = newTally()
	}
	m.from.Store(math.MaxInt64)
	return m
}

// open sets the window.
func (m *meter) open(from, to time.Time) {
	m.to.Store(to.UnixMicro())
	m.from.Store(from.UnixMicro())
}

// within tells whether a time, in µs since 1970, is in the window.
func (m *meter) within(at int64) bool { return at >= m.from.Load() && at < m.to.Load() }

// record takes a message that reader n has just got, and that stands for so many updates. It counts as delivered if it has come
// within the window, and its latency if it was due then. It tells whether either is so.
func (m *meter) record(n int, h *market.Head, updates int64) bool {
	now, at := time.Now().UnixMicro(), h.Time.Micros()
	came := m.within(now)
	timed := came
	if !m.arrival {
		timed = m.within(at)
	}
	if m.whole {
		came = timed
	}
	if !came && !timed {
		return false
	}
	s := &m.shards[n%len(m.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if came {
		s.messages++
		s.updates += updates
	}
	if !timed {
		return true
	}
	schedule.Record(s.latency, at, now)
	if h.In > 0 {
		in := h.In.Micros() + halfStamp
		schedule.Record(s.ingest, at, in)
		schedule.Record(s.edge, in, now)
	}
	return true
}

// halfStamp is how many µs the broker's stamp, in whole milliseconds, is too early on average.
const halfStamp = 500

// count takes a message whose latency says nothing, because it was held back on purpose.
func (m *meter) count(n int, updates int64) {
	if !m.within(time.Now().UnixMicro()) {
		return
	}
	s := &m.shards[n%len(m.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages++
	s.updates += updates
}

// collect moves to latest, and adds to total, what was measured since the last call.
func (m *meter) collect() {
	m.latest.reset()
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		m.latest.add(&s.tally)
		s.reset()
		s.mu.Unlock()
	}
	m.total.add(&m.latest)
}

func (t *tally) empty() bool { return t.messages == 0 && t.latency.TotalCount() == 0 }

func (t *tally) add(o *tally) {
	if o.empty() {
		return
	}
	t.latency.Merge(o.latency)
	t.ingest.Merge(o.ingest)
	t.edge.Merge(o.edge)
	t.messages += o.messages
	t.updates += o.updates
}

func (t *tally) reset() {
	if t.empty() {
		return
	}
	t.latency.Reset()
	t.ingest.Reset()
	t.edge.Reset()
	t.messages, t.updates = 0, 0
}

func quantile(h *hdrhistogram.Histogram, q float64) float64 {
	if h.TotalCount() == 0 {
		return math.NaN()
	}
	return float64(h.ValueAtPercentile(q)) / 1000
}

// measures adds the figures of a window of that length.
func (m *meter) measures(all map[string]float64, window time.Duration) {
	t, seconds := &m.total, window.Seconds()
	all["messages/s"], all["delivered/s"] = float64(t.messages)/seconds, float64(t.updates)/seconds
	if t.latency.TotalCount() == 0 {
		return
	}
	if m.arrival {
		all["age_p50"], all["age_p99"], all["age_max"] = quantile(t.latency, 50), quantile(t.latency, 99), float64(t.latency.Max())/1000
	} else {
		report.Latencies(all, t.latency)
	}
	if t.ingest.TotalCount() == 0 {
		return
	}
	if !m.arrival {
		all["ingest_p50"], all["ingest_p99"] = quantile(t.ingest, 50), quantile(t.ingest, 99)
	}
	all["edge_p50"], all["edge_p99"] = quantile(t.edge, 50), quantile(t.edge, 99)
}

// sampler gives the recorder how it stands, once a second.
type sampler struct {
	meter   *meter
	rec     *report.Recorder
	server  *proc.Watch
	clients int
	sent    func() int64 // nil when it is not known
	faults  func() int64
	cut     <-chan struct{} // closed when the user wants it to end; nil never is
	tick    *time.Ticker
	at      time.Time
	before  int64     // sent
	rss     []float64 // MiB
}

// start begins to sample. The caller stops tick.
func (s *sampler) start() {
	s.at, s.tick = time.Now(), time.NewTicker(time.Second)
	if s.sent != nil {
		s.before = s.sent()
	}
	s.server.Next()
	s.meter.collect()
}

func (s *sampler) sample() {
	s.meter.collect()
	now := time.Now()
	seconds := now.Sub(s.at).Seconds()
	t, out := &s.meter.latest, report.Sample{Clients: s.clients, Sent: math.NaN(), Faults: s.faults(), Max: math.NaN(), Aged: s.meter.arrival}
	out.Delivered, out.P50, out.P99 = float64(t.updates)/seconds, quantile(t.latency, 50), quantile(t.latency, 99)
	if t.latency.TotalCount() > 0 {
		out.Max = float64(t.latency.Max()) / 1000
	}
	if s.sent != nil {
		n := s.sent()
		out.Sent, s.before = float64(n-s.before)/seconds, n
	}
	if out.CPU, out.RSS = s.server.Next(); out.RSS > 0 {
		s.rss = append(s.rss, out.RSS)
	}
	s.at = now
	s.rec.Sample(out)
}

// until samples each second, until then or until done or cut is closed.
func (s *sampler) until(done <-chan struct{}, end time.Time) {
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-s.cut:
			return
		case <-timer.C:
			return
		case <-s.tick.C:
			s.sample()
		}
	}
}
