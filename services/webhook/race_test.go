package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/rule"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// bench is a service with a log, a tenant and one alert, which is active.
type bench struct {
	w      *logWriter
	s      *Service
	tenant int64
	alert  int64
	hook   atomic.Pointer[func(*owner, string)]
}

// onBench runs do beside a service. The price is at 100.00.
func onBench(t *testing.T, text string, do func(b *bench)) {
	t.Helper()
	cluster := testCluster(t)
	b := &bench{w: newLogWriterOf(t, cluster, "SYM-1")}
	cfg := testConfig(t)
	st := openDatabase(t, cfg)
	ten := &store.Tenant{Name: "t"}
	must(t, st.CreateTenant(t.Context(), ten, nil))
	a := &store.Alert{Sym: "SYM-1", Inst: 1, Rule: text}
	must(t, st.CreateAlerts(t.Context(), ten.Num, []*store.Alert{a}, nil))
	must(t, st.Close())
	b.tenant, b.alert = ten.Num, a.Num
	activate(t, cfg, cluster, b.tenant, 1)
	s, err := New(cfg, Deps{Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)), Cluster: cluster})
	must(t, err)
	b.s = s
	s.step = func(o *owner, step string) {
		if f := b.hook.Load(); f != nil {
			(*f)(o, step)
		}
	}
	running(t, s, func() { do(b) })
}

// fired waits for n alert.fired, and returns their objects.
func (b *bench) fired(t *testing.T, n int) []fired {
	t.Helper()
	var all []fired
	testkit.Eventually(t, 10*time.Second, func() error {
		events, err := b.s.st.Events(t.Context(), store.EventFilter{Tenant: b.tenant, Type: store.TypeAlertFired, Limit: 100})
		if err != nil {
			return err
		}
		all = all[:0]
		for _, e := range events {
			var body struct {
				Data struct{ Object fired }
			}
			must(t, json.Unmarshal(e.Body, &body))
			all = append(all, body.Data.Object)
		}
		if len(all) < n {
			return fmt.Errorf("%d events", len(all))
		}
		return nil
	})
	return all
}

// trade writes one trade, and what follows it in the same batch.
func (w *logWriter) trade(t *testing.T, price market.Price, more ...[]byte) {
	t.Helper()
	w.seq[0]++
	trade := market.Trade{Price: price, Size: 100, ID: market.NumericTradeID(w.seq[0])}
	trade.Head = market.Head{Inst: 1, Epoch: testEpoch, Prev: w.seq[0] - 1, Seq: w.seq[0], Time: market.FromTime(time.Now())}
	w.o.Events.Add(wire.AppendTrade(nil, &trade))
	for _, b := range more {
		w.o.Events.Add(b)
	}
	w.input++
	must(t, w.o.Events.Commit(w.input))
	w.o.Events.Flush()
	must(t, w.o.Events.Wait(t.Context()))
}

// What an alert's old rule has fired, and nobody has committed yet, is not its new one's: that one fires when its own time has
// come, and once.
func TestChangedWhileFiring(t *testing.T) {
	for name, change := range map[string]func(st *store.Store, tenant, alert int64) error{
		"changed": func(st *store.Store, tenant, alert int64) error {
			_, err := st.UpdateAlert(t.Context(), tenant, alert, func(a *store.Alert) error {
				a.Rule = `{"series":"last","op":"crosses_above","limit":"300.00"}`
				return nil
			})
			return err
		},
		"paused and resumed": func(st *store.Store, tenant, alert int64) error {
			if _, err := st.PauseAlert(t.Context(), tenant, alert); err != nil {
				return err
			}
			_, err := st.ResumeAlert(t.Context(), tenant, alert)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, `{"series":"last","op":"crosses_above","limit":"150.00"}`, func(b *bench) {
				changed := make(chan error, 1)
				step := func(o *owner, at string) {
					if at == "applied" && len(o.out.Fires) > 0 && len(changed) == 0 {
						changed <- change(b.s.st, b.tenant, b.alert)
						o.wake()
					}
				}
				b.hook.Store(&step)
				b.w.trade(t, 20_000)
				testkit.Eventually(t, 10*time.Second, func() error {
					if len(changed) == 0 {
						return errors.New("not fired")
					}
					a, err := b.s.st.Alert(t.Context(), b.tenant, b.alert)
					if err == nil && (a.State != store.AlertActive || a.Applied != a.Version) {
						err = fmt.Errorf("it is %s", a.State)
					}
					return err
				})
				must(t, <-changed)
				b.hook.Store(nil)
				b.w.trade(t, 10_000)
				b.w.trade(t, 40_000)
				all := b.fired(t, 1)
				if f := all[0]; len(all) != 1 || f.ArmSeq != 1 || f.Value != "400" {
					t.Errorf("fired %+v", all)
				}
			})
		})
	}
}

// A fire is told at the scales of its record, also when they have changed before it was committed.
func TestRescaledWhileFiring(t *testing.T) {
	onBench(t, `{"series":"last","op":"crosses_above","limit":"150.25","mode":"recurring"}`, func(b *bench) {
		coarse := market.Status{State: market.Live, Book: market.Stale, Why: market.Start}
		coarse.Head = market.Head{Inst: 1, Epoch: testEpoch + 1, Seq: 1, Time: market.FromTime(time.Now())}
		coarse.Instrument = market.Instrument{ID: 1, Sym: "SYM-1", Source: "test", Symbol: "S", PriceScale: 1, SizeScale: 3}
		b.w.trade(t, 20_050, wire.AppendStatus(nil, &coarse))
		if f := b.fired(t, 1)[0]; f.Value != "200.5" || f.Limit != "150.25" {
			t.Errorf("fired %+v", f)
		}
		all, err := b.s.st.Events(t.Context(), store.EventFilter{Tenant: b.tenant, Type: store.TypeAlertGap, Limit: 10})
		must(t, err) // it is of the same commit
		if len(all) != 1 || !strings.Contains(string(all[0].Body), `"sym":"SYM-1","why":"epoch"`) {
			t.Errorf("of the new numbering: %+v", all)
		}
	})
}

// A record that nobody can read is left out; the alerts go on.
func TestUnreadableRecord(t *testing.T) {
	onBench(t, `{"series":"last","op":"crosses_above","limit":"150"}`, func(b *bench) {
		var trade market.Trade
		trade.Head = market.Head{Inst: 1, Epoch: testEpoch, Seq: 1}
		b.w.trade(t, 10_000, wire.AppendTrade(nil, &trade)[:30])
		b.w.trade(t, 20_000)
		if f := b.fired(t, 1)[0]; f.Value != "200" {
			t.Errorf("fired %+v", f)
		}
	})
}

// A commit has the instruments that are new, or not as they were.
func TestInstrumentsOfCommits(t *testing.T) {
	o := &owner{rules: rule.NewPartition(), told: map[uint32]store.Instrument{}}
	for i, want := range []int{1, 0, 1, 0} {
		s := market.Status{State: market.Live, Book: market.Stale, Why: market.Start}
		s.Head = market.Head{Inst: 1, Epoch: testEpoch, Seq: uint64(i + 1)}
		s.Instrument = market.Instrument{ID: 1, Sym: "SYM-1", Source: "test", Symbol: "S", PriceScale: uint8(2 + i/2), SizeScale: 3}
		ev := stream.Event{Offset: int64(i), Time: 1, Template: wire.TemplateStatus, Value: wire.AppendStatus(nil, &s)}
		var out rule.Output
		must(t, o.rules.Apply(&ev, &out))
		var c store.Commit
		o.take(&c, 0, 0)
		if len(c.Instruments) != want {
			t.Errorf("%d: %+v", i, c.Instruments)
		}
	}
}

// A service that can't read the log is not ready.
func TestLostLog(t *testing.T) {
	broker := testkit.Broker(t)
	cluster, err := stream.Open(stream.Config{Brokers: []string{broker.Addr()}})
	must(t, err)
	t.Cleanup(cluster.Close)
	t.Run("log", func(t *testing.T) { newLogWriter(t, cluster) }) // which leaves before the broker does
	with(t, testConfig(t), cluster, func(s *Service) {
		testkit.Eventually(t, 10*time.Second, func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.owners) == 0 {
				return errTakingOver
			}
			return nil
		})
		testkit.Eventually(t, 10*time.Second, s.Ready)
		broker.Close()
		testkit.Eventually(t, 10*time.Second, func() error {
			if s.Ready() == nil {
				return errors.New("it is ready")
			}
			return nil
		})
	})
}

// Images do not wait for a log clock that stands.
func TestImagesWhileClockStands(t *testing.T) {
	start := time.Now()
	o := &owner{ticked: start}
	clock := market.Time(time.Hour)
	for _, c := range []struct {
		saved, clock market.Time
		after        time.Duration
		want         market.Time
	}{
		{0, clock, 0, clock - imageAge},
		{clock, clock, 20 * time.Second, clock - imageAge},
		{clock, clock, 40 * time.Second, math.MaxInt64},
		{clock, clock + 1, 50 * time.Second, clock + 1 - imageAge},
	} {
		o.saved.Clock = c.saved
		if got := o.settled(c.clock, start.Add(c.after)); got != c.want {
			t.Errorf("after %v: %d, want %d", c.after, got, c.want)
		}
	}
}
