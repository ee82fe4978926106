package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// moveCheckpoint makes the database say that another log was evaluated, or more of this one than there is.
func moveCheckpoint(t *testing.T, cfg Config, change func(*store.Commit)) {
	t.Helper()
	st := openDatabase(t, cfg)
	defer func() { must(t, st.Close()) }()
	ctx, cancel := context.WithCancel(t.Context())
	err := st.Own(ctx, store.KindPartition, 1, func(ctx context.Context, l store.Lease) error {
		defer cancel()
		at, err := st.Checkpoint(ctx, 0)
		if err != nil {
			return err
		}
		c := store.Commit{Lease: l, LogID: at.LogID, Offset: at.Offset, Clock: at.Clock}
		change(&c)
		return st.Commit(ctx, &c)
	})
	if ctx.Err() == nil {
		t.Fatal(err)
	}
}

// When the place of the last commit is gone from the log, tenants are told, alerts that want it fire for what they have
// missed, and the others begin anew.
func TestLogGap(t *testing.T) {
	for _, c := range []struct {
		why    string
		change func(*store.Commit)
	}{
		{gapLog, func(c *store.Commit) { c.LogID = "ANOTHER1" }},
		{gapRetention, func(c *store.Commit) { c.Offset = 1 << 40 }},
		{gapDamaged, func(c *store.Commit) { c.Images = []store.Image{{Inst: 2, Data: []byte("no image")}} }},
	} {
		t.Run(c.why, func(t *testing.T) {
			broker := testkit.Broker(t)
			cluster, err := stream.Open(stream.Config{Brokers: []string{broker.Addr()}})
			must(t, err)
			t.Cleanup(cluster.Close)
			w := newLogWriter(t, cluster)
			cfg := testConfig(t)
			tenant := seedGap(t, cfg)
			activate(t, cfg, cluster, tenant, 2)

			moveCheckpoint(t, cfg, c.change)
			w.price[0] = 50_000 // while nobody looks
			w.trades(t, 8)
			var bodies []string
			with(t, cfg, cluster, func(s *Service) {
				testkit.Eventually(t, 10*time.Second, func() error {
					if err := s.Ready(); err != nil {
						return err
					}
					w.price[0] = 50_000
					w.trades(t, 1)
					events, err := s.st.Events(t.Context(), store.EventFilter{Tenant: tenant, Limit: 100})
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
			})
			checkGap(t, bodies, c.why)
		})
	}
}

func checkGap(t *testing.T, bodies []string, why string) {
	t.Helper()
	if len(bodies) != 2 {
		t.Fatalf("%d events:\n%q", len(bodies), bodies)
	}
	var e struct {
		Type string
		Data struct {
			Object struct {
				Name, Why, Value, Prev string
				Alerts                 int
				AfterGap               bool `json:"after_gap"`
			}
		}
	}
	must(t, json.Unmarshal([]byte(bodies[0]), &e))
	if o := e.Data.Object; e.Type != store.TypeAlertGap || o.Why != why || o.Alerts != 2 {
		t.Errorf("the first event is %s", bodies[0])
	}
	must(t, json.Unmarshal([]byte(bodies[1]), &e))
	if o := e.Data.Object; e.Type != store.TypeAlertFired || o.Name != "fire" || !o.AfterGap {
		t.Errorf("the second event is %s", bodies[1])
	}
}

// seedGap puts two alerts into a new database, which do not agree about gaps.
func seedGap(t *testing.T, cfg Config) (tenant int64) {
	t.Helper()
	st := openDatabase(t, cfg)
	defer func() { must(t, st.Close()) }()
	ten := &store.Tenant{Name: "t"}
	must(t, st.CreateTenant(t.Context(), ten, nil))
	var list []*store.Alert
	for _, onGap := range []string{"fire", "reset"} {
		list = append(list, &store.Alert{
			Tenant: ten.Num, Name: onGap, Sym: "SYM-1", Inst: 1, State: store.AlertPending,
			Rule: `{"series":"last","op":"crosses_above","limit":"150.00","on_gap":"` + onGap + `"}`,
		})
	}
	must(t, st.CreateAlerts(t.Context(), ten.Num, list, nil))
	return ten.Num
}
