package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/store"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if postgres.server != nil {
		postgres.server.Close()
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// postgres is the server of all tests. It is started by the first that needs it.
var postgres struct {
	once   sync.Once
	server *testkit.Postgres
	err    error
}

// onPostgres returns the URL of an empty database. Without PostgreSQL the test is skipped, or fails where it must not be.
func onPostgres(t testing.TB) string {
	t.Helper()
	postgres.once.Do(func() { postgres.server, postgres.err = testkit.StartPostgres() })
	switch err := postgres.err; {
	case errors.Is(err, testkit.ErrNoPostgres) && os.Getenv("TICKWIRE_REQUIRE_POSTGRES") == "":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return postgres.server.Database(t)
}

// on runs a test on each database. open gives a store on it, as another process would have it; SQLite's can be open once.
func on(t *testing.T, test func(t *testing.T, open func() *store.Store)) {
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		test(t, func() *store.Store { return open(t, store.Config{Dir: dir, Ephemeral: true}) })
	})
	t.Run("postgres", func(t *testing.T) {
		url := onPostgres(t)
		test(t, func() *store.Store { return open(t, store.Config{URL: url, Ephemeral: true}) })
	})
}

func open(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), cfg, zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func tenant(t testing.TB, s *store.Store) int64 {
	t.Helper()
	x := store.Tenant{Name: fmt.Sprint("tenant ", store.NewID())}
	must(t, s.CreateTenant(t.Context(), &x, nil))
	return x.Num
}

func endpoint(t testing.TB, s *store.Store, tenant int64, with func(*store.Endpoint)) *store.Endpoint {
	t.Helper()
	e := store.Endpoint{
		Tenant: tenant, URL: "https://example.org/hook", State: store.EndpointEnabled, Format: store.FormatJSON, Profile: store.ProfileRealtime,
		MaxInFlight: 10, Timeout: 15 * time.Second, Ordering: store.OrderNone, Batch: 1, Verify: store.VerifyNone,
		Secrets: []store.Secret{{Kind: store.SecretV1, Text: "whsec_secret", Created: time.Now()}},
	}
	if with != nil {
		with(&e)
	}
	must(t, s.CreateEndpoint(t.Context(), &e, nil))
	return &e
}

func alerts(t testing.TB, s *store.Store, tenant int64, n int) []*store.Alert {
	t.Helper()
	list := make([]*store.Alert, n)
	for i := range list {
		list[i] = &store.Alert{Name: "a", Sym: "BTC-USDT", Inst: 7, Rule: `{"series":"last"}`}
	}
	must(t, s.CreateAlerts(t.Context(), tenant, list, nil))
	return list
}

// lease takes all leases of a kind, and gives them back when the test ends.
func lease(t testing.TB, s *store.Store, kind string, total int) []store.Lease {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan store.Lease, total)
	done := make(chan error, 1)
	go func() {
		done <- s.Own(ctx, kind, total, func(ctx context.Context, l store.Lease) error {
			got <- l
			<-ctx.Done()
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Own: %v", err)
		}
	})
	leases := make([]store.Lease, total)
	for range total {
		select {
		case l := <-got:
			leases[l.N] = l
		case <-time.After(20 * time.Second):
			t.Fatal("no lease")
		}
	}
	return leases
}

// activate does for new alerts what the owner of partition 0 does.
func activate(t testing.TB, s *store.Store, l store.Lease) {
	t.Helper()
	changes, err := s.Changes(t.Context(), 0, 1000)
	must(t, err)
	c := store.Commit{Lease: l, LogID: "log", Offset: 1}
	for _, a := range changes {
		ap := store.Applied{Alert: a.Num, Version: a.Version, Eval: store.Eval{ArmSeq: a.Eval.ArmSeq, ValidFrom: 2, Clock: 5, Value: "1.5", Blob: []byte("new")}}
		if a.State == store.AlertPending {
			ap.State = store.AlertActive
		}
		c.Applied = append(c.Applied, ap)
	}
	must(t, s.Commit(t.Context(), &c))
}

func fire(a *store.Alert, seq uint32) store.Event {
	return store.Event{ID: store.AlertEventID(a.Num, seq), Type: store.TypeAlertFired, Alert: a.Num, ArmSeq: seq, Sym: a.Sym, Body: []byte(`{"id":1}`)}
}

func TestIDs(t *testing.T) {
	n := store.NewID()
	text := store.FormatID(store.AlertPrefix, n)
	if got, err := store.ParseID(store.AlertPrefix, text); err != nil || got != n {
		t.Errorf("%s: %d, %v", text, got, err)
	}
	for _, bad := range []string{"", "al_", text + "0", text[:len(text)-1], "ep_" + text[3:], "al_ILOU000000000", "al_0000000000000", "al_zzzzzzzzzzzzz", "al_000000000000\n"} {
		if n, err := store.ParseID(store.AlertPrefix, bad); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
	last := int64(0)
	for range 100_000 {
		n := store.NewID()
		if n <= last {
			t.Fatalf("%d after %d", n, last)
		}
		last = n
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(store.FormatID(store.AlertPrefix, 1))
	f.Add(store.FormatID(store.AlertPrefix, 1<<62))
	f.Fuzz(func(t *testing.T, s string) {
		n, err := store.ParseID(store.AlertPrefix, s)
		if err == nil && (n <= 0 || store.FormatID(store.AlertPrefix, n) != s) {
			t.Errorf("%q is %d, which is %q", s, n, store.FormatID(store.AlertPrefix, n))
		}
	})
}

func TestFireAndDeliver(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		ctx := t.Context()
		s := open()
		tn := tenant(t, s)
		e := endpoint(t, s, tn, nil)
		endpoint(t, s, tn, func(e *store.Endpoint) { e.EventTypes = []string{store.TypeEndpointFailing} })
		as := alerts(t, s, tn, 3)
		l := lease(t, s, store.KindPartition, 1)[0]
		activate(t, s, l)
		must(t, s.AwaitApplied(ctx, []int64{as[0].Num, as[1].Num}))

		_, err := s.PauseAlert(ctx, tn, as[1].Num)
		must(t, err)
		c := store.Commit{
			Lease: l, LogID: "log", Offset: 9, Clock: 77,
			Images:      []store.Image{{Inst: 0, Data: []byte("clock")}, {Inst: 7, Data: []byte("book")}},
			Instruments: []store.Instrument{{Sym: "BTC-USDT", Inst: 7, PriceScale: 2, SizeScale: 8, State: "live"}},
			Fires:       []store.Event{fire(as[0], 1), fire(as[1], 1), fire(as[2], 1)},
			Evals: []store.EvalUpdate{
				{Alert: as[0].Num, Eval: store.Eval{ArmSeq: 1, Blob: []byte("moved")}, State: store.AlertFired},
				{Alert: as[1].Num, Eval: store.Eval{ArmSeq: 1}, State: store.AlertFired},
				{Alert: as[2].Num, Eval: store.Eval{ArmSeq: 1, Blob: []byte("moved")}},
			},
		}
		must(t, s.Commit(ctx, &c))
		if len(c.Dropped) != 1 || c.Dropped[0] != as[1].Num {
			t.Errorf("dropped: %v", c.Dropped)
		}
		at, err := s.Checkpoint(ctx, 0)
		must(t, err)
		if at != (store.Checkpoint{LogID: "log", Offset: 9, Clock: 77}) {
			t.Errorf("checkpoint: %+v", at)
		}
		a, err := s.Alert(ctx, tn, as[0].Num)
		must(t, err)
		if a.State != store.AlertFired || a.Eval.ArmSeq != 1 || a.Eval.ValidFrom != 2 || string(a.Eval.Blob) != "moved" || a.LastFire.IsZero() {
			t.Errorf("alert: %+v", a)
		}
		if a, _ = s.Alert(ctx, tn, as[1].Num); a.State != store.AlertPaused || a.Eval.ArmSeq != 0 {
			t.Errorf("paused alert: %+v", a)
		}
		if _, usage, _ := s.Tenant(ctx, tn); usage != (store.Usage{Alerts: 2, Endpoints: 2}) {
			t.Errorf("usage: %+v", usage)
		}
		events, err := s.Events(ctx, store.EventFilter{Tenant: tn, Limit: 10})
		must(t, err)
		if len(events) != 2 || events[0].Seq != 1 || events[1].Seq != 2 || events[0].ID != store.AlertEventID(as[0].Num, 1) {
			t.Errorf("events: %+v", events)
		}

		for filter, want := range map[store.EventFilter]int{
			{Tenant: tn, Alert: as[2].Num}:                               1,
			{Tenant: tn, Alert: as[2].Num, After: 2}:                     0,
			{Tenant: tn + 1, Alert: as[2].Num}:                           0,
			{Tenant: tn, Type: store.TypeAlertFired, After: 1}:           1,
			{Tenant: tn, Alert: as[2].Num, Type: store.TypeAlertExpired}: 0,
			{Tenant: tn, Alert: as[1].Num, Type: store.TypeAlertFired}:   0,
			{Tenant: tn, Alert: as[0].Num, Type: store.TypeAlertFired}:   1,
		} {
			filter.Limit = 10
			if got, err := s.Events(ctx, filter); err != nil || len(got) != want {
				t.Errorf("%+v: %d events, %v", filter, len(got), err)
			}
		}

		// The same fire again: not even half of the commit is done.
		again := store.Commit{Lease: l, LogID: "log", Offset: 10, Fires: []store.Event{fire(as[2], 2), fire(as[2], 1)}}
		wantErr(t, s.Commit(ctx, &again), store.ErrExists)
		if at, _ := s.Checkpoint(ctx, 0); at.Offset != 9 {
			t.Errorf("checkpoint after a refused commit: %+v", at)
		}

		slots := lease(t, s, store.KindSlot, store.Slots)
		slot := slots[store.SlotOf(e.Num)]
		inSlot, err := s.SlotEndpoints(ctx, slot.N)
		must(t, err)
		if len(inSlot) == 0 || inSlot[0].Secrets[0].Text != "whsec_secret" {
			t.Errorf("slot: %+v", inSlot)
		}
		jobs, _, err := s.Due(ctx, e.Num, time.Now(), nil, 10)
		must(t, err)
		if len(jobs) != 2 || string(jobs[0].Event.Body) != `{"id":1}` || jobs[0].Event.Seq != 1 {
			t.Fatalf("due: %+v", jobs)
		}
		now := time.Now()
		retry := now.Add(time.Hour)
		must(t, s.Finish(ctx, slot, []store.Outcome{
			{Endpoint: e.Num, Delivery: jobs[0].Delivery.Num, State: store.DeliveryDelivered, Attempt: store.Attempt{At: now, Code: 200}, Health: &store.Health{LastSuccess: now}},
			{Endpoint: e.Num, Delivery: jobs[1].Delivery.Num, State: store.DeliveryQueued, NextAt: retry, Attempt: store.Attempt{At: now, Code: 500, Err: "500", Response: "oh"}},
		}))
		left, next, err := s.Due(ctx, e.Num, now, nil, 10)
		must(t, err)
		if len(left) != 0 || next.UnixMicro() != retry.UnixMicro() {
			t.Errorf("due: %+v, then %v", left, next)
		}
		list, err := s.Deliveries(ctx, store.DeliveryFilter{Tenant: tn, State: store.DeliveryDelivered, Page: store.Page{Limit: 10}})
		must(t, err)
		if len(list) != 1 || list[0].Num != jobs[0].Delivery.Num || list[0].LastCode != 200 || list[0].Finished.IsZero() {
			t.Errorf("delivered: %+v", list)
		}
		tries, err := s.Attempts(ctx, jobs[1].Delivery.Num)
		must(t, err)
		if len(tries) != 1 || tries[0].N != 1 || tries[0].Code != 500 || tries[0].Response != "oh" {
			t.Errorf("attempts: %+v", tries)
		}
		stale := slot
		stale.Epoch--
		wantErr(t, s.Finish(ctx, stale, nil), store.ErrFenced)
		c.Lease.Epoch--
		wantErr(t, s.Commit(ctx, &c), store.ErrFenced)
	})
}

// TestStatementsAreKept: what has been read once is not prepared again.
func TestStatementsAreKept(t *testing.T) {
	s := open(t, store.Config{Dir: t.TempDir(), Ephemeral: true})
	before := s.Prepared()
	for range 3 {
		_, err := s.Delivery(t.Context(), 1, 1)
		wantErr(t, err, store.ErrNotFound)
		_, err = s.Checkpoint(t.Context(), 0)
		must(t, err)
	}
	if n := s.Prepared() - before; n != 2 {
		t.Errorf("%d statements were prepared for two", n)
	}
}

func TestOnce(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		ctx := t.Context()
		s := open()
		tn := tenant(t, s)
		create := func(key, ask string) (*store.Once, error) {
			a := &store.Alert{Sym: "BTC-USDT", Rule: ask}
			o := &store.Once{Key: key, Request: sha256.Sum256([]byte(ask))}
			o.Render = func() []byte { return []byte(store.FormatID(store.AlertPrefix, a.Num)) }
			return o, s.CreateAlerts(ctx, tn, []*store.Alert{a}, o)
		}
		first, err := create("k", "ask")
		must(t, err)
		second, err := create("k", "ask")
		wantErr(t, err, store.ErrRepeated)
		if string(second.Answer) != string(first.Answer) || len(first.Answer) == 0 {
			t.Errorf("answered %q, then %q", first.Answer, second.Answer)
		}
		large := &store.Once{Key: "large", Answer: bytes.Repeat([]byte("an answer "), 100_000)}
		must(t, s.Once(ctx, tn, large))
		again := &store.Once{Key: "large"}
		wantErr(t, s.Answered(ctx, tn, again), store.ErrRepeated)
		if !bytes.Equal(again.Answer, large.Answer) {
			t.Errorf("a large answer has %d bytes, then %d", len(large.Answer), len(again.Answer))
		}
		_, err = create("k", "something else")
		wantErr(t, err, store.ErrReused)
		if _, usage, _ := s.Tenant(ctx, tn); usage.Alerts != 1 {
			t.Errorf("%d alerts", usage.Alerts)
		}
	})
}

// What is in the folder is nobody else's to read.
func TestPrivateFiles(t *testing.T) {
	dir := t.TempDir()
	open(t, store.Config{Dir: dir, Ephemeral: true})
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has the permissions %v", f.Name(), mode)
		}
	}
}

// A commit that seemed to fail may have been taken all the same. What goes on from before it is refused.
func TestMovedCheckpoint(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		l := lease(t, s, store.KindPartition, 1)[0]
		commit := func(after store.Checkpoint, to int64, want error) {
			t.Helper()
			err := s.Commit(t.Context(), &store.Commit{Lease: l, LogID: "log", Offset: to, Clock: 5, After: &after})
			if !errors.Is(err, want) {
				t.Errorf("from %+v to %d: %v, want %v", after, to, err, want)
			}
		}
		at, err := s.Checkpoint(t.Context(), 0)
		must(t, err)
		commit(at, 10, nil)
		commit(at, 8, store.ErrMoved)
		at, err = s.Checkpoint(t.Context(), 0)
		must(t, err)
		commit(at, 11, nil)
		commit(at, 11, store.ErrMoved)
		if at, err = s.Checkpoint(t.Context(), 0); err != nil || at.Offset != 11 {
			t.Errorf("%+v, %v", at, err)
		}
	})
}

// An alert that ends without firing has not fired.
func TestExpiredHasNotFired(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		tn := tenant(t, s)
		a := inPartitions(t, s, tn, 1)[0]
		ev := store.Event{Type: store.TypeAlertExpired, Alert: a.Num, Tenant: tn, Body: []byte("{}")}
		must(t, s.Commit(t.Context(), &store.Commit{
			Lease: lease(t, s, store.KindPartition, 1)[0], LogID: "log", Fires: []store.Event{ev},
			Evals: []store.EvalUpdate{{Alert: a.Num, State: store.AlertExpired}},
		}))
		a, err := s.Alert(t.Context(), tn, a.Num)
		must(t, err)
		if a.State != store.AlertExpired || !a.LastFire.IsZero() {
			t.Errorf("it is %s, and last fired %v", a.State, a.LastFire)
		}
	})
}

// TestAwaitApplied waits for the owner, and not for longer than it may.
func TestAwaitApplied(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		tn := tenant(t, s)
		l := lease(t, s, store.KindPartition, 1)[0]
		a := alerts(t, s, tn, 1)[0]
		short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		wantErr(t, s.AwaitApplied(short, []int64{a.Num}), context.DeadlineExceeded)
		done := make(chan error, 1)
		go func() { done <- s.AwaitApplied(t.Context(), []int64{a.Num}) }()
		activate(t, s, l)
		must(t, <-done)
		_, err := s.UpdateAlert(t.Context(), tn, a.Num, func(a *store.Alert) error { a.Name = "other"; return nil })
		must(t, err)
		must(t, s.AwaitApplied(t.Context(), []int64{a.Num})) // a name is nothing that an owner must know
		now, err := s.Alert(t.Context(), tn, a.Num)
		must(t, err)
		if now.State != store.AlertActive || now.Version != 1 || now.Name != "other" {
			t.Errorf("alert: %+v", now)
		}
	})
}
