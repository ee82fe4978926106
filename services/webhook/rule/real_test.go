package rule_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/sim"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/broker"
	"github.com/tickwire/tickwire/services/ingest"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/venue/capture"
	"github.com/tickwire/tickwire/services/venue/pump"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

// ingested takes raw records through Kafka and ingest and returns the events that came out. They are stamped anew by their
// own event times, so that an hour of the source is an hour of the log clock, with a heartbeat in each beat of that.
func ingested(t *testing.T, src pump.Source, beat time.Duration) *eventLog {
	t.Helper()
	b := testkit.BrokerWith(t, broker.Config{Partitions: 1, TopicBytes: 1 << 30})
	cluster, err := stream.Open(stream.Config{Brokers: []string{b.Addr()}, Dial: b.Dial})
	must(t, err)
	defer cluster.Close()
	cfg := ingest.DefaultConfig()
	cfg.Partitions, cfg.SnapshotEvery = []int{0}, time.Second
	in, err := ingest.New(cfg, ingest.Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Cluster: cluster})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	raw, err := cluster.RawWriter(ctx, cluster.Topics().Raw, stream.RawWriterConfig{})
	must(t, err)
	_, err = pump.Run(ctx, src, raw, pump.Config{})
	must(t, err)
	must(t, raw.Wait(ctx))
	must(t, raw.Close(ctx))
	_, end, err := cluster.Offsets(ctx, cluster.Topics().Raw, 0)
	must(t, err)
	f, err := cluster.Begin(ctx, 0, time.Hour, func(*stream.Snapshot) error { return nil })
	must(t, err)
	defer f.Close()
	l := &eventLog{beat: market.Time(beat)}
	for l.input < end-1 {
		batch, err := f.Next(ctx)
		must(t, err)
		var ev stream.Event
		for batch.Next(&ev) {
			l.add(&ev)
		}
		must(t, batch.Err())
		if !batch.Marker && batch.Last >= 0 {
			l.input = batch.Owner.InputOffset
		}
	}
	testkit.Eventually(t, 20*time.Second, func() error { // until the snapshots are of the end
		l.snapshots = nil
		late, err := cluster.Begin(ctx, 0, 0, func(s *stream.Snapshot) error {
			l.snapshots = append(l.snapshots, *s)
			return nil
		})
		if err != nil {
			return err
		}
		defer late.Close()
		if late.Offset() <= l.last {
			return fmt.Errorf("the snapshots are of event %d, the last one is %d", late.Offset(), l.last)
		}
		return nil
	})
	return l
}

// eventLog is what ingested gathers.
type eventLog struct {
	events []stream.Event
	last   int64 // the offset of the last one in md.events

	snapshots []stream.Snapshot // of md.snapshots at the end

	input  int64
	clock  market.Time
	beat   market.Time
	memory []byte
}

func (l *eventLog) add(ev *stream.Event) {
	if !ev.Template.IsEvent() {
		return
	}
	head, err := wire.HeadOf(ev.Value)
	if err != nil {
		panic(err)
	}
	at := head.Time.Truncate(time.Millisecond)
	if l.clock == 0 {
		l.clock = at
	}
	for ; at-l.clock >= l.beat; l.clock += l.beat {
		l.events = append(l.events, stream.Event{
			Offset: int64(len(l.events)), Time: l.clock + l.beat, Template: wire.TemplateOwnerHeartbeat,
		})
	}
	l.last = ev.Offset
	from := len(l.memory)
	if from+len(ev.Value) > cap(l.memory) {
		l.memory, from = make([]byte, 0, 1<<20+len(ev.Value)), 0
	}
	l.memory = append(l.memory, ev.Value...)
	l.events = append(l.events, stream.Event{
		Offset: int64(len(l.events)), Time: at, Template: ev.Template, Value: l.memory[from:len(l.memory):len(l.memory)],
	})
}

// compare runs the events past an owner that dies now and then and past the oracle, with rules around the present values
// that are added as time passes. In the end a partition that begins with the snapshots must know the same values.
func compare(t *testing.T, l *eventLog, batch, rules int, windows []uint16) {
	events := l.events
	t.Helper()
	r := rand.New(rand.NewPCG(7, 7))
	e, o := newEngine(t), newOracle(t)
	next, restarts := int64(0), 0
	for at := 0; at < len(events); {
		at = min(len(events), at+1+r.IntN(2*batch))
		e.apply(events[:at])
		if r.IntN(20) == 0 {
			e.restart(events)
			restarts++
			e.apply(events[:at])
		}
		for i := e.commit; i < at; i++ {
			o.apply(&events[i])
		}
		e.save(r.IntN(3), e.p.Clock()-market.Time(20*time.Second))
		for want := int64(rules) * int64(at) / int64(len(events)); next < want; next++ {
			inst, s := around(r, o, windows)
			if inst == 0 {
				break
			}
			_, err := e.p.Add(next, inst, s, rule.State{})
			must(t, err)
			of, _ := e.p.Scales(inst)
			e.rules[next] = &stored{inst: inst, spec: s, made: of}
			o.add(next, inst, s)
		}
	}
	if err := e.same(o); err != nil {
		t.Fatal(err)
	}
	series := map[rule.Series]int{}
	for _, f := range e.fires {
		series[o.made[f.Rule]]++
	}
	t.Logf("%d events, %v of log clock, %d rules, %d fires, %d crossings lost in cooldowns, %d restarts", len(events),
		time.Duration(events[len(events)-1].Time-events[0].Time).Round(time.Second), next, len(e.fires), o.lost, restarts)
	for s := range rule.MADiff + 1 {
		t.Logf("%-14v %d fires", s, series[s])
		if series[s] == 0 {
			t.Errorf("no rule on %v has fired", s)
		}
	}
	l.checkColdStart(t, o, windows)
}

// checkColdStart begins with the snapshots of the end, and wants every series to be what the oracle says.
func (l *eventLog) checkColdStart(t *testing.T, o *oracle, windows []uint16) {
	t.Helper()
	p := rule.NewPartition()
	for i := range l.snapshots {
		must(t, p.Snapshot(&l.snapshots[i]))
	}
	beat := stream.Event{Time: o.clock, Template: wire.TemplateOwnerHeartbeat}
	must(t, p.Replay(&beat))
	id, same := int64(0), 0
	for inst, in := range o.insts {
		for series := range rule.MADiff + 1 {
			for i, w := range windows {
				s := rule.Spec{Series: series}
				switch series {
				case rule.ChangePct, rule.FromHighPct, rule.FromLowPct, rule.Volume:
					s.W1 = w
				case rule.VolumeRatio, rule.MADiff:
					s.W1, s.W2 = w, windows[(i+1)%len(windows)]
				}
				id++
				v, err := p.Add(id, inst, s, rule.State{})
				must(t, err)
				want := o.value(in, s)
				switch {
				case want == nil && !v.HasValue:
				case want != nil && v.HasValue && want.Int64() == v.Value:
					same++
				default:
					t.Errorf("after a cold start %v over %d and %d minutes of %d is %+v, want %v", series, s.W1, s.W2, inst, v, want)
				}
			}
		}
	}
	t.Logf("%d values are the same after a cold start", same)
}

// around is a rule near what its series is now, so that it has something to do.
func around(r *rand.Rand, o *oracle, windows []uint16) (uint32, rule.Spec) {
	var insts []uint32
	for inst := range o.insts {
		insts = append(insts, inst)
	}
	if len(insts) == 0 {
		return 0, rule.Spec{}
	}
	inst := insts[0]
	for _, i := range insts { // not in the order of a map
		inst = min(inst, i)
	}
	inst += uint32(r.IntN(len(insts))) * (maxOf(insts) - inst) / max(1, uint32(len(insts)-1))
	s := rule.Spec{
		Series: rule.Series(r.IntN(int(rule.MADiff) + 1)), Op: rule.Op(r.IntN(4)), OnGap: rule.OnGap(r.IntN(2)), Once: r.IntN(5) == 0,
	}
	switch s.Series {
	case rule.ChangePct, rule.FromHighPct, rule.FromLowPct, rule.Volume:
		s.W1 = windows[r.IntN(len(windows))]
	case rule.VolumeRatio, rule.MADiff:
		i := r.IntN(len(windows))
		s.W1, s.W2 = windows[i], windows[(i+1)%len(windows)]
	}
	in := o.insts[inst]
	v, span := int64(0), int64(10_000)
	if now := o.value(in, s); now != nil {
		v = now.Int64()
	}
	switch s.Series {
	case rule.Last, rule.Mid, rule.Bid, rule.Ask:
		span = v / 500
	case rule.Volume, rule.VolumeRatio:
		span = v / 3
	case rule.MADiff:
		span = int64(in.price) / 10
	case rule.SpreadBps:
		span = v / 2
	}
	s.Limit = v + r.Int64N(2*span+1) - span
	s.Hysteresis = r.Int64N(span/20 + 1)
	if r.IntN(2) == 0 {
		s.Cooldown = time.Duration(r.IntN(600)) * time.Second
	}
	if r.IntN(3) == 0 {
		s.HoldFor = time.Duration(r.IntN(60_000)) * time.Millisecond
	}
	if r.IntN(5) == 0 {
		s.Expires = o.clock + market.Time(r.Int64N(int64(12*time.Hour)))
	}
	return inst, s
}

func maxOf(insts []uint32) (most uint32) {
	for _, i := range insts {
		most = max(most, i)
	}
	return most
}

// TestOracleOnRecording is eleven minutes of Binance's BTC-USDT.
func TestOracleOnRecording(t *testing.T) {
	var files []string
	for _, name := range []string{"binance-spot/btcusdt_20240808.gz", "binance-spot/btcusdt_20240809.gz"} {
		files = append(files, testkit.Data(t, filepath.FromSlash(name)))
	}
	src, err := capture.Open(capture.Config{Format: capture.BinanceLines, Files: files, Session: "recorded"})
	must(t, err)
	defer func() { _ = src.Close() }()
	compare(t, ingested(t, src, time.Second), 20, 300, []uint16{1, 2, 3, 5})
}

// everyMinute drops the clocks of a simulated market but for one a minute.
type everyMinute struct {
	*pump.Sim
	last market.Time
}

func (s *everyMinute) Next() (*capture.Record, error) {
	for {
		r, err := s.Sim.Next()
		if err != nil || len(r.Key) > 0 {
			return r, err
		}
		if r.At-s.last >= market.Time(time.Minute) {
			s.last = r.At
			return r, nil
		}
	}
}

// TestOracleOnWeek is a week of a quiet simulated market: two instruments, a record a second. In a short run it is one day.
func TestOracleOnWeek(t *testing.T) {
	if raced {
		t.Skip("the race detector has seen everything on the recording, and makes this slow")
	}
	days, rules := 7, 120
	if testing.Short() {
		days, rules = 1, 250 // so that each series has some that fire
	}
	start := market.FromTime(time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC))
	end := start + market.Time(days)*market.Time(24*time.Hour)
	src := &everyMinute{Sim: pump.NewSim(sim.Config{Seed: 3, Instruments: 2, Rate: 1, Depth: 1, Start: start}, end)}
	compare(t, ingested(t, src, 20*time.Second), 200, rules, []uint16{5, 60, 1440})
}
