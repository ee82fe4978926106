package store_test

import (
	"testing"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// TestHeldForNobody: what the sender holds for an endpoint that has been enabled meanwhile goes out all the same.
func TestHeldForNobody(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		ctx := t.Context()
		s := open()
		tn := tenant(t, s)
		e := endpoint(t, s, tn, nil)
		a := alerts(t, s, tn, 1)[0]
		must(t, s.Activate(ctx, a.Num))
		leases, end := holdAll(t, s)
		defer end()
		slot := leases[store.KindSlot][store.SlotOf(e.Num)]
		must(t, s.Commit(ctx, &store.Commit{Lease: leases[store.KindPartition][0], LogID: "log", Fires: []store.Event{fire(a, 1), fire(a, 2)}}))
		jobs, _, err := s.Due(ctx, e.Num, time.Now(), nil, 2)
		must(t, err)
		_, err = s.DisableEndpoint(ctx, tn, e.Num, "user")
		must(t, err)
		// Both requests are still on their way when it is enabled, and fail before the sender has seen it.
		_, _, err = s.EnableEndpoint(ctx, tn, e.Num, store.HeldReleased)
		must(t, err)
		for more := true; more; {
			more, err = s.ReplayStep(ctx, 10)
			must(t, err)
		}
		held := func(j store.Job, disable string) store.Outcome {
			return store.Outcome{Delivery: j.Delivery.Num, Endpoint: e.Num, State: store.DeliveryHeld, NextAt: time.Now(), Attempt: store.Attempt{At: time.Now(), Err: "no answer"}, Disable: disable}
		}
		must(t, s.Finish(ctx, slot, []store.Outcome{held(jobs[0], "")}))
		n, err := count(ctx, s, tn, store.DeliveryQueued)
		must(t, err)
		if n != 2 {
			t.Errorf("%d queued", n)
		}
		// One that disables it holds everything.
		must(t, s.Finish(ctx, slot, []store.Outcome{held(jobs[0], ""), held(jobs[1], "gone")}))
		n, err = count(ctx, s, tn, store.DeliveryHeld)
		must(t, err)
		if n != 2 {
			t.Errorf("%d held", n)
		}
		must(t, s.Finish(ctx, slot, []store.Outcome{held(jobs[0], "")}))
		n, err = count(ctx, s, tn, store.DeliveryHeld)
		must(t, err)
		if n != 2 {
			t.Errorf("%d held by a disabled endpoint", n)
		}
	})
}

// TestReplaysOfMany: a tenant with very many replays does not hold up another one's.
func TestReplaysOfMany(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		ctx := t.Context()
		s := open()
		begin := func(n int) (r store.Replay) {
			tn := tenant(t, s)
			endpoint(t, s, tn, nil)
			events := []store.Event{}
			for range 20 {
				events = append(events, store.Event{Tenant: tn, Type: store.TypeTest, Body: []byte("{}")})
			}
			must(t, s.AddEvents(ctx, events))
			for range n {
				r = store.Replay{Tenant: tn, States: []store.DeliveryState{store.DeliveryDelivered}}
				must(t, s.CreateReplay(ctx, &r, nil))
			}
			return r
		}
		begin(50)
		mine := begin(1)
		for range 60 { // it takes 11 steps
			_, err := s.ReplayStep(ctx, 2)
			must(t, err)
		}
		r, err := s.Replay(ctx, mine.Tenant, mine.Num)
		must(t, err)
		if r.State != store.ReplayDone {
			t.Error(r.State)
		}
	})
}

// TestDamagedEndpoint: one whose secret can't be opened leaves the others of its slot in peace.
func TestDamagedEndpoint(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		ctx := t.Context()
		s := open()
		tn := tenant(t, s)
		whole, damaged := endpoint(t, s, tn, nil), endpoint(t, s, tn, nil)
		for store.SlotOf(damaged.Num) != store.SlotOf(whole.Num) {
			damaged = endpoint(t, s, tn, nil)
		}
		other := endpoint(t, s, tn, nil)
		must(t, s.MoveSecret(ctx, other.Secrets[0].Num, damaged.Num))
		list, err := s.SlotEndpoints(ctx, store.SlotOf(whole.Num))
		must(t, err)
		found := false
		for _, e := range list {
			found = found || e.Num == whole.Num
			if e.Num == damaged.Num {
				t.Error("the damaged one is there")
			}
		}
		if !found {
			t.Error("the other one is not there")
		}
	})
}
