package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// A log that was made anew may number its instruments otherwise, and have some of them later. Alerts go on with the instrument
// of their name, as soon as there is one, also when the service was started again before that.
func TestAnotherLog(t *testing.T) {
	cfg := testConfig(t)
	tenant := seedGap(t, cfg)
	old := testCluster(t)
	newLogWriter(t, old).trades(t, 20)
	activate(t, cfg, old, tenant, 2)

	cluster := testCluster(t)
	w := newLogWriterOf(t, cluster, "SYM-2")
	w.trades(t, 1)
	name, err := cluster.LogID(t.Context())
	must(t, err)
	ready := func(s *Service) {
		testkit.Eventually(t, 10*time.Second, func() error {
			at, err := s.st.Checkpoint(t.Context(), 0)
			if err == nil && at.LogID != name {
				err = fmt.Errorf("the checkpoint is of log %s", at.LogID)
			}
			return errors.Join(err, s.Ready())
		})
	}
	with(t, cfg, cluster, ready)
	with(t, cfg, cluster, func(s *Service) {
		ready(s)
		active, err := s.st.Alerts(t.Context(), store.AlertFilter{Tenant: tenant, State: store.AlertActive, Page: store.Page{Limit: 10}})
		must(t, err)
		if len(active) != 2 {
			t.Fatalf("%d alerts are active", len(active))
		}
		w.define("SYM-1")
		for w.seq[1] == 0 {
			w.price[1] = 1_000
			w.trades(t, 1)
		}
		var bodies []string
		testkit.Eventually(t, 10*time.Second, func() error {
			w.price[0], w.price[1] = 5_000, 50_000
			w.trades(t, 1)
			events, err := s.st.Events(t.Context(), store.EventFilter{Tenant: tenant, Type: store.TypeAlertFired, Limit: 100})
			if err != nil {
				return err
			}
			bodies = bodies[:0]
			for _, e := range events {
				bodies = append(bodies, string(e.Body))
			}
			if len(bodies) < 2 {
				return fmt.Errorf("%d events", len(bodies))
			}
			return nil
		})
		for _, b := range bodies {
			var e struct {
				Data struct{ Object struct{ Sym, Value string } }
			}
			must(t, json.Unmarshal([]byte(b), &e))
			if o := e.Data.Object; o.Sym != "SYM-1" || o.Value < "400" {
				t.Errorf("fired with %s", b)
			}
		}
	})
}

// An alert that can't go on after a gap ends, and its tenant is told.
func TestEndedInGap(t *testing.T) {
	cfg := testConfig(t)
	tenant := seedGap(t, cfg)
	old := testCluster(t)
	newLogWriter(t, old)
	activate(t, cfg, old, tenant, 2)
	cluster := testCluster(t)
	w := newLogWriterOf(t, cluster)
	gone := market.Status{State: market.Delisted, Book: market.Stale, Why: market.Start}
	gone.Head = market.Head{Inst: 1, Epoch: testEpoch, Seq: 1, Time: market.FromTime(time.Now())}
	gone.Instrument = market.Instrument{ID: 1, Sym: "SYM-1", Source: "test", Symbol: "S", PriceScale: 2, SizeScale: 3}
	w.o.Events.Add(wire.AppendStatus(nil, &gone))
	w.trades(t, 1)
	with(t, cfg, cluster, func(s *Service) {
		testkit.Eventually(t, 10*time.Second, func() error {
			events, err := s.st.Events(t.Context(), store.EventFilter{Tenant: tenant, Type: store.TypeAlertEnded, Limit: 100})
			if err == nil && len(events) != 2 {
				err = fmt.Errorf("%d events", len(events))
			}
			return err
		})
		ended, err := s.st.Alerts(t.Context(), store.AlertFilter{Tenant: tenant, State: store.AlertEnded, Page: store.Page{Limit: 10}})
		must(t, err)
		if len(ended) != 2 {
			t.Errorf("%d alerts have ended", len(ended))
		}
	})
}

func testCluster(t *testing.T) *stream.Cluster {
	t.Helper()
	cluster, err := stream.Open(stream.Config{Brokers: []string{testkit.Broker(t).Addr()}})
	must(t, err)
	t.Cleanup(cluster.Close)
	return cluster
}

// An alert does not fire for what happened before it was made, however much the owner has to catch up with.
func TestNewWhileBehind(t *testing.T) {
	cfg := testConfig(t)
	tenant := seedGap(t, cfg)
	cluster := testCluster(t)
	w := newLogWriterOf(t, cluster, "SYM-1")
	activate(t, cfg, cluster, tenant, 2)
	st := openDatabase(t, cfg)
	for range 5 {
		w.trade(t, 17_000)
		w.trade(t, 10_000)
	}
	a := &store.Alert{Sym: "SYM-1", Inst: 1, Rule: `{"series":"last","op":"crosses_above","limit":"160"}`}
	must(t, st.CreateAlerts(t.Context(), tenant, []*store.Alert{a}, nil))
	must(t, st.Close())
	with(t, cfg, cluster, func(s *Service) {
		testkit.Eventually(t, 10*time.Second, func() error { return s.st.AwaitApplied(t.Context(), []int64{a.Num}) })
		events, err := s.st.Events(t.Context(), store.EventFilter{Tenant: tenant, Limit: 10})
		must(t, err)
		for _, e := range events {
			if e.Alert == a.Num {
				t.Errorf("fired %s", e.Body)
			}
		}
		if len(events) != 2 {
			t.Errorf("%d events", len(events))
		}
	})
}
