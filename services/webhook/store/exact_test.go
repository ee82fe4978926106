package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// soon ends what a lost delivery would leave waiting for ever.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// inPartitions makes an active alert in each of n partitions.
func inPartitions(t *testing.T, s *store.Store, tenant int64, n int) []*store.Alert {
	t.Helper()
	list := make([]*store.Alert, n)
	for i := range list {
		list[i] = &store.Alert{Sym: "BTC-USDT", Inst: uint32(i + 1), Partition: i, Rule: "{}"}
	}
	must(t, s.CreateAlerts(t.Context(), tenant, list, nil))
	for _, a := range list {
		must(t, s.Activate(t.Context(), a.Num))
	}
	return list
}

// TestNoEventIsMissed: whoever pages through a tenant's events while several owners commit gets each, in order, with no gap.
func TestNoEventIsMissed(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		const partitions, commits, fires = 4, 25, 7
		s := open()
		tenants := []int64{tenant(t, s), tenant(t, s)}
		leases := lease(t, s, store.KindPartition, partitions)
		lists := [][]*store.Alert{inPartitions(t, s, tenants[0], partitions), inPartitions(t, s, tenants[1], partitions)}
		g, ctx := errgroup.WithContext(soon(t))
		for p := range partitions {
			g.Go(func() error {
				for n := range commits {
					c := store.Commit{Lease: leases[p], Partition: p, LogID: "log", Offset: int64(n)}
					for i := range fires {
						c.Fires = append(c.Fires, fire(lists[i%2][p], uint32(n*fires+i)))
					}
					if err := s.Commit(ctx, &c); err != nil {
						return err
					}
				}
				return nil
			})
		}
		for i, tn := range tenants {
			want := partitions * commits * ((fires - i + 1) / 2) // of an odd number of fires, the first tenant has one more
			g.Go(func() error {
				last := int64(0)
				for int(last) < want {
					events, err := s.Events(ctx, store.EventFilter{Tenant: tn, After: last, Limit: 5})
					if err != nil {
						return err
					}
					for _, e := range events {
						if e.Seq != last+1 {
							return fmt.Errorf("event %d after %d", e.Seq, last)
						}
						last = e.Seq
					}
				}
				return nil
			})
		}
		must(t, g.Wait())
	})
}

func TestQuotaAtOnce(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		x := store.Tenant{Name: "small", Quota: store.Quota{Alerts: 55, Endpoints: 1}}
		must(t, s.CreateTenant(t.Context(), &x, nil))
		var g errgroup.Group
		var mu sync.Mutex
		made, refused := 0, 0
		for range 20 {
			g.Go(func() error {
				list := make([]*store.Alert, 10)
				for i := range list {
					list[i] = &store.Alert{Sym: "BTC-USDT", Rule: "{}"}
				}
				err := s.CreateAlerts(t.Context(), x.Num, list, nil)
				var quota *store.QuotaError
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					made++
				case errors.As(err, &quota) && quota.Limit == 55 && quota.What == "alerts":
					refused++
				default:
					return err
				}
				return nil
			})
		}
		must(t, g.Wait())
		if made != 5 || refused != 15 {
			t.Errorf("%d made, %d refused", made, refused)
		}
		endpoint(t, s, x.Num, nil)
		err := s.CreateEndpoint(t.Context(), &store.Endpoint{Tenant: x.Num}, nil)
		var quota *store.QuotaError
		if !errors.As(err, &quota) || quota.What != "endpoints" {
			t.Errorf("second endpoint: %v", err)
		}
	})
}

func TestOnceAtOnce(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		tn := tenant(t, s)
		var g errgroup.Group
		answers := make([]string, 12)
		for i := range answers {
			g.Go(func() error {
				a := &store.Alert{Sym: "BTC-USDT", Rule: "{}"}
				o := &store.Once{Key: "k", Request: sha256.Sum256([]byte("ask"))}
				o.Render = func() []byte { return []byte(store.FormatID(store.AlertPrefix, a.Num)) }
				err := s.CreateAlerts(t.Context(), tn, []*store.Alert{a}, o)
				answers[i] = string(o.Answer)
				if errors.Is(err, store.ErrRepeated) {
					return nil
				}
				return err
			})
		}
		must(t, g.Wait())
		for _, a := range answers {
			if a != answers[0] || a == "" {
				t.Fatalf("answers: %q", answers)
			}
		}
		if _, usage, _ := s.Tenant(t.Context(), tn); usage.Alerts != 1 {
			t.Errorf("%d alerts", usage.Alerts)
		}
	})
}

// work delivers what is due for an endpoint until stop says so, and fails some attempts at first.
func work(ctx context.Context, s *store.Store, l store.Lease, endpoint int64, seen func([]store.Job) error, stop func() bool) error {
	for !stop() {
		jobs, _, err := s.Due(ctx, endpoint, time.Now().Add(time.Second), nil, 16)
		if err != nil {
			return err
		}
		if err := seen(jobs); err != nil {
			return err
		}
		var outcomes []store.Outcome
		for _, j := range jobs {
			o := store.Outcome{Delivery: j.Delivery.Num, Endpoint: endpoint, State: store.DeliveryDelivered, Attempt: store.Attempt{At: time.Now(), Code: 200}}
			if rand.IntN(4) == 0 && j.Delivery.Round < 3 {
				o.State, o.NextAt, o.Attempt.Code = store.DeliveryQueued, time.Now(), 500
			}
			outcomes = append(outcomes, o)
		}
		if err := s.Finish(ctx, l, outcomes); err != nil {
			return err
		}
	}
	return nil
}

func count(ctx context.Context, s *store.Store, tenant int64, state store.DeliveryState) (int, error) {
	list, err := s.Deliveries(ctx, store.DeliveryFilter{Tenant: tenant, State: state, Page: store.Page{Limit: 1 << 20}})
	return len(list), err
}

// TestTurns: deliveries of an alert go out one after the other, in the order of its fires, while more are fired.
func TestTurns(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		const partitions, fires = 3, 40
		s := open()
		tn := tenant(t, s)
		e := endpoint(t, s, tn, func(e *store.Endpoint) { e.Ordering = store.OrderAlert })
		leases := lease(t, s, store.KindPartition, partitions)
		slot := lease(t, s, store.KindSlot, store.Slots)[store.SlotOf(e.Num)]
		list := inPartitions(t, s, tn, partitions)
		g, ctx := errgroup.WithContext(soon(t))
		for p := range partitions {
			g.Go(func() error {
				for n := 0; n < fires; n += 2 {
					c := store.Commit{Lease: leases[p], Partition: p, LogID: "log", Offset: int64(n), Fires: []store.Event{fire(list[p], uint32(n)), fire(list[p], uint32(n+1))}}
					if err := s.Commit(ctx, &c); err != nil {
						return err
					}
				}
				return nil
			})
		}
		next := map[int64]uint32{}
		total := 0
		g.Go(func() error {
			return work(ctx, s, slot, e.Num, func(jobs []store.Job) error {
				turns := map[int64]bool{}
				for _, j := range jobs {
					if turns[j.Delivery.Key] || j.Delivery.Key != j.Event.Alert {
						return fmt.Errorf("two of alert %d at once", j.Event.Alert)
					}
					turns[j.Delivery.Key] = true
					switch at := next[j.Event.Alert]; j.Event.ArmSeq {
					case at: // the first attempt
						next[j.Event.Alert]++
						total++
					case at - 1:
					default:
						return fmt.Errorf("fire %d of alert %d, want %d", j.Event.ArmSeq, j.Event.Alert, at)
					}
				}
				return nil
			}, func() bool {
				n, err := count(ctx, s, tn, store.DeliveryDelivered)
				return err != nil || n == partitions*fires
			})
		})
		must(t, g.Wait())
		if total != partitions*fires {
			t.Errorf("%d deliveries", total)
		}
	})
}

// TestHeldAndReleased disables and enables an endpoint while its tenant's alerts fire. At last everything is delivered.
func TestHeldAndReleased(t *testing.T) {
	for _, ordering := range []store.Ordering{store.OrderNone, store.OrderInstrument} {
		t.Run(string(ordering), func(t *testing.T) {
			on(t, func(t *testing.T, open func() *store.Store) {
				const fires = 60
				s := open()
				tn := tenant(t, s)
				e := endpoint(t, s, tn, func(e *store.Endpoint) { e.Ordering = ordering })
				l := lease(t, s, store.KindPartition, 1)[0]
				slot := lease(t, s, store.KindSlot, store.Slots)[store.SlotOf(e.Num)]
				a := inPartitions(t, s, tn, 1)[0]
				g, ctx := errgroup.WithContext(soon(t))
				fired := make(chan struct{})
				g.Go(func() error {
					defer close(fired)
					for n := range fires {
						if err := s.Commit(ctx, &store.Commit{Lease: l, LogID: "log", Offset: int64(n), Fires: []store.Event{fire(a, uint32(n))}}); err != nil {
							return err
						}
					}
					return nil
				})
				g.Go(func() error {
					for n := 0; ; n++ {
						if _, err := s.DisableEndpoint(ctx, tn, e.Num, "user"); err != nil {
							return err
						}
						if _, _, err := s.EnableEndpoint(ctx, tn, e.Num, store.HeldReleased); err != nil {
							return err
						}
						select {
						case <-fired:
							if n > 3 {
								return nil
							}
						default:
						}
					}
				})
				g.Go(func() error {
					for {
						n, err := count(ctx, s, tn, store.DeliveryDelivered)
						if n == fires || err != nil {
							return err
						}
						if _, err := s.ReplayStep(ctx, 10); err != nil {
							return err
						}
					}
				})
				g.Go(func() error {
					return work(ctx, s, slot, e.Num, func([]store.Job) error { return nil }, func() bool {
						n, err := count(ctx, s, tn, store.DeliveryDelivered)
						return err != nil || n == fires
					})
				})
				must(t, g.Wait())
			})
		})
	}
}

// TestAlertsChangeMeanwhile changes alerts at random while they fire. What counts for the quota is what is there, and no
// alert has fired after it was seen paused or deleted.
func TestAlertsChangeMeanwhile(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		tn := tenant(t, s)
		endpoint(t, s, tn, nil)
		l := lease(t, s, store.KindPartition, 1)[0]
		list := alerts(t, s, tn, 30)
		g, ctx := errgroup.WithContext(soon(t))
		quiet := map[int64]int64{} // alerts that must not fire any more, and the newest event when that was seen
		var mu sync.Mutex
		for w := range 3 {
			g.Go(func() error {
				r := rand.New(rand.NewPCG(1, uint64(w)))
				for range 40 {
					a := list[r.IntN(len(list)/3)*3+w]
					var err error
					gone := false
					switch r.IntN(6) {
					case 0, 1:
						_, err = s.PauseAlert(ctx, tn, a.Num)
					case 2, 3:
						_, err = s.ResumeAlert(ctx, tn, a.Num)
					case 4:
						_, err = s.UpdateAlert(ctx, tn, a.Num, func(a *store.Alert) error { a.Rule += " "; return nil })
					case 5:
						err = s.DeleteAlert(ctx, tn, a.Num)
						gone = err == nil
					}
					if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrState) {
						return err
					}
					if gone {
						events, err := s.Events(ctx, store.EventFilter{Tenant: tn, Limit: 1 << 20})
						if err != nil {
							return err
						}
						mu.Lock()
						quiet[a.Num] = int64(len(events))
						mu.Unlock()
					}
				}
				return nil
			})
		}
		g.Go(func() error {
			for n := range 60 {
				changes, err := s.Changes(ctx, 0, 10)
				if err != nil {
					return err
				}
				c := store.Commit{Lease: l, LogID: "log", Offset: int64(n)}
				for _, a := range changes {
					ap := store.Applied{Alert: a.Num, Version: a.Version}
					if a.State == store.AlertPending {
						ap.State, ap.Eval = store.AlertActive, store.Eval{ArmSeq: a.Eval.ArmSeq}
					}
					c.Applied = append(c.Applied, ap)
				}
				for _, a := range list {
					if rand.IntN(3) == 0 {
						c.Fires = append(c.Fires, fire(a, uint32(n)))
						up := store.EvalUpdate{Alert: a.Num, Eval: store.Eval{ArmSeq: uint32(n)}}
						if rand.IntN(4) == 0 {
							up.State = store.AlertFired
						}
						c.Evals = append(c.Evals, up)
					}
				}
				if err := s.Commit(ctx, &c); err != nil {
					return err
				}
			}
			return nil
		})
		must(t, g.Wait())
		live := int64(0)
		for _, a := range list {
			now, err := s.Alert(t.Context(), tn, a.Num)
			must(t, err)
			if now.State == store.AlertPending || now.State == store.AlertActive || now.State == store.AlertPaused {
				live++
			}
		}
		if _, usage, _ := s.Tenant(t.Context(), tn); usage.Alerts != live {
			t.Errorf("counted %d alerts, there are %d", usage.Alerts, live)
		}
		events, err := s.Events(t.Context(), store.EventFilter{Tenant: tn, Limit: 1 << 20})
		must(t, err)
		for _, e := range events {
			if last, ok := quiet[e.Alert]; ok && e.Seq > last {
				t.Errorf("event %d of an alert that was deleted when there were %d", e.Seq, last)
			}
		}
		if len(events) == 0 || len(quiet) == 0 {
			t.Errorf("%d events, %d deleted alerts: nothing was tested", len(events), len(quiet))
		}
	})
}

// TestReplayGoesOn: a replay is worked off in steps, and goes on where it was after a restart.
func TestReplayGoesOn(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		const fires = 95
		ctx := t.Context()
		s := open()
		tn := tenant(t, s)
		e := endpoint(t, s, tn, nil)
		other := endpoint(t, s, tn, nil)
		a := alerts(t, s, tn, 1)[0]
		must(t, s.Activate(ctx, a.Num))
		first, end := holdAll(t, s)
		c := store.Commit{Lease: first[store.KindPartition][0], LogID: "log"}
		for n := range fires {
			c.Fires = append(c.Fires, fire(a, uint32(n)))
		}
		must(t, s.Commit(ctx, &c))
		jobs, _, err := s.Due(ctx, e.Num, time.Now(), nil, fires)
		must(t, err)
		var outcomes []store.Outcome
		for i, j := range jobs {
			o := store.Outcome{Delivery: j.Delivery.Num, Endpoint: e.Num, State: store.DeliveryExhausted, Attempt: store.Attempt{At: time.Now(), Code: 500}}
			if i >= 90 {
				o.State = store.DeliveryDelivered
			}
			outcomes = append(outcomes, o)
		}
		must(t, s.Finish(ctx, first[store.KindSlot][store.SlotOf(e.Num)], outcomes))
		r := store.Replay{Tenant: tn, Endpoint: e.Num}
		must(t, s.CreateReplay(ctx, &r, nil))
		for range 3 {
			more, err := s.ReplayStep(ctx, 10)
			must(t, err)
			if !more {
				t.Fatal("the replay has ended")
			}
		}
		end()
		must(t, s.Close())

		s = open()
		steps := 0
		for more := true; more; steps++ {
			more, err = s.ReplayStep(ctx, 10)
			must(t, err)
		}
		if steps != 8 { // 60 that are left, one that finds no more, one that finds nothing running
			t.Errorf("%d steps", steps)
		}
		now, err := s.Replay(ctx, tn, r.Num)
		must(t, err)
		if now.State != store.ReplayDone || now.Matched != 90 || now.Finished.IsZero() {
			t.Errorf("replay: %+v", now)
		}
		left, _, err := s.Due(ctx, e.Num, time.Now(), nil, 200)
		must(t, err)
		if len(left) != 90 || left[0].Delivery.Round != 0 || left[0].Delivery.Attempts != 1 {
			t.Errorf("%d are due again: %+v", len(left), left[0].Delivery)
		}
		if left, _, _ = s.Due(ctx, other.Num, time.Now(), nil, 200); len(left) != fires {
			t.Errorf("the other endpoint has %d due", len(left))
		}
	})
}

// holdAll takes the leases of one partition and all slots until end is called.
func holdAll(t *testing.T, s *store.Store) (map[string]map[int]store.Lease, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	var mu sync.Mutex
	leases := map[string]map[int]store.Lease{store.KindPartition: {}, store.KindSlot: {}}
	for kind, total := range map[string]int{store.KindPartition: 1, store.KindSlot: store.Slots} {
		g.Go(func() error {
			return s.Own(ctx, kind, total, func(ctx context.Context, l store.Lease) error {
				mu.Lock()
				leases[kind][l.N] = l
				mu.Unlock()
				<-ctx.Done()
				return nil
			})
		})
	}
	eventually(t, "all leases", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(leases[store.KindPartition]) == 1 && len(leases[store.KindSlot]) == store.Slots
	})
	return leases, func() {
		cancel()
		_ = g.Wait()
	}
}

// TestPurge deletes what is old in bounded steps, and nothing that may still go out.
func TestPurge(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		ctx := t.Context()
		s := open()
		tn := tenant(t, s)
		e := endpoint(t, s, tn, nil)
		made := alerts(t, s, tn, 3)
		a, over, live := made[0], made[1], made[2]
		for _, a := range made {
			must(t, s.Activate(ctx, a.Num))
		}
		leases, end := holdAll(t, s)
		defer end()
		c := store.Commit{Lease: leases[store.KindPartition][0], LogID: "log"}
		for n := range 50 {
			c.Fires = append(c.Fires, fire(a, uint32(n)))
		}
		c.Evals = []store.EvalUpdate{{Alert: over.Num, State: store.AlertExpired}}
		must(t, s.Commit(ctx, &c))
		jobs, _, err := s.Due(ctx, e.Num, time.Now(), nil, 45)
		must(t, err)
		var outcomes []store.Outcome
		for _, j := range jobs {
			outcomes = append(outcomes, store.Outcome{Delivery: j.Delivery.Num, Endpoint: e.Num, State: store.DeliveryDelivered, Attempt: store.Attempt{At: time.Now(), Code: 200}})
		}
		must(t, s.Finish(ctx, leases[store.KindSlot][store.SlotOf(e.Num)], outcomes))
		must(t, s.DeleteAlert(ctx, tn, a.Num))

		if n, err := s.Purge(ctx, time.Now().Add(29*24*time.Hour), 10); err != nil || n != 0 {
			t.Errorf("before its time: %d, %v", n, err)
		}
		later := time.Now().Add(31 * 24 * time.Hour)
		steps := 0
		for {
			n, err := s.Purge(ctx, later, 10)
			must(t, err)
			if n > 30 {
				t.Errorf("%d at once", n)
			}
			if n == 0 {
				break
			}
			steps++
		}
		events, err := s.Events(ctx, store.EventFilter{Tenant: tn, Limit: 100})
		must(t, err)
		if len(events) != 5 || events[0].Seq != 46 || steps < 5 {
			t.Errorf("%d events are left after %d steps", len(events), steps)
		}
		if first, _ := s.FirstEvent(ctx, tn); first != 46 {
			t.Errorf("first event: %d", first)
		}
		if left, _ := s.Attempts(ctx, jobs[0].Delivery.Num); len(left) != 0 {
			t.Errorf("attempts: %+v", left)
		}
		if _, err := s.Alert(ctx, tn, over.Num); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("an alert that expired a month ago: %v", err)
		}
		if _, err := s.Alert(ctx, tn, live.Num); err != nil {
			t.Errorf("an active alert: %v", err)
		}
		if left, _, _ := s.Due(ctx, e.Num, time.Now(), nil, 100); len(left) != 5 {
			t.Errorf("%d are due", len(left))
		}
	})
}

// TestReplaysOfAll finds what it is about among all deliveries, where its states do not have an index.
func TestReplaysOfAll(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		ctx := t.Context()
		s := open()
		tn := tenant(t, s)
		a := alerts(t, s, tn, 1)[0]
		must(t, s.Activate(ctx, a.Num))
		ends := []*store.Endpoint{endpoint(t, s, tn, nil), endpoint(t, s, tn, nil)}
		leases, end := holdAll(t, s)
		defer end()
		c := store.Commit{Lease: leases[store.KindPartition][0], LogID: "log", Fires: []store.Event{fire(a, 1), fire(a, 2), fire(a, 3)}}
		must(t, s.Commit(ctx, &c))
		for i, e := range ends {
			jobs, _, err := s.Due(ctx, e.Num, time.Now(), nil, 10)
			must(t, err)
			for j, job := range jobs {
				o := store.Outcome{Delivery: job.Delivery.Num, Endpoint: e.Num, State: store.DeliveryDelivered, Attempt: store.Attempt{At: time.Now(), Code: 200}}
				if i == 1 && j == 0 {
					o.State = store.DeliveryExhausted
				}
				must(t, s.Finish(ctx, leases[store.KindSlot][store.SlotOf(e.Num)], []store.Outcome{o}))
			}
		}
		replay := func(want int64, r store.Replay) {
			t.Helper()
			r.Tenant = tn
			must(t, s.CreateReplay(ctx, &r, nil))
			for more := true; more; {
				var err error
				more, err = s.ReplayStep(ctx, 2)
				must(t, err)
			}
			now, err := s.Replay(ctx, tn, r.Num)
			must(t, err)
			if now.Matched != want || now.State != store.ReplayDone {
				t.Errorf("%+v: %d, want %d", r, now.Matched, want)
			}
		}
		both := []store.DeliveryState{store.DeliveryDelivered, store.DeliveryExhausted}
		replay(0, store.Replay{States: both, Type: store.TypeTest})
		replay(0, store.Replay{States: both, To: time.Now().Add(-time.Minute)})
		replay(0, store.Replay{States: both, From: time.Now().Add(time.Minute), To: time.Now().Add(time.Hour)})
		replay(1, store.Replay{})
		replay(3, store.Replay{States: both, Endpoint: ends[0].Num})
		replay(2, store.Replay{States: both})
		list, err := s.Deliveries(ctx, store.DeliveryFilter{Tenant: tn, Endpoint: ends[1].Num, State: store.DeliveryExhausted, Page: store.Page{Limit: 10}})
		must(t, err)
		if len(list) != 0 {
			t.Errorf("still exhausted: %+v", list)
		}
	})
}
