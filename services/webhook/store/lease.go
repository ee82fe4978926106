package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// The kinds of leases.
const (
	KindPartition = "partition"
	KindSlot      = "slot"
)

// Slots is how many parts the endpoints are dealt into; that of an endpoint is SlotOf its number.
const Slots = 64

// SlotOf returns the slot of an endpoint.
func SlotOf(endpoint int64) int {
	return int(uint64(endpoint) * 0x9e3779b97f4a7c15 >> 58) // an id's low bits are the process's number
}

// Lease is the right to write for a partition or a slot. Each new owner has a greater epoch.
type Lease struct {
	Kind  string
	N     int
	Epoch int64
}

// Own takes a fair share of the total leases of a kind, and calls run for each in a goroutine of its own. The context of run
// ends when the lease is lost or must be given up; Own waits for run before it gives the lease back. When run returns an
// error while it has its lease, Own ends with it. When run returns nil, the lease is free for anybody.
//
// It returns when ctx has ended, with its error. With SQLite, whose folder is locked for one process, members live for ever.
func (s *Store) Own(ctx context.Context, kind string, total int, run func(ctx context.Context, l Lease) error) error {
	o := &owner{s: s, kind: kind, total: total, id: s.ids.next(), run: run, held: map[int]*holding{}}
	o.group, o.ctx = errgroup.WithContext(ctx)
	o.keep()
	err := o.group.Wait()
	// What is left is given back at once, so that others need not wait for the member to die.
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.LeaseTTL)
	defer cancel()
	if leave := s.write(bye, func(t *tx) error { return t.DropMember(t.ctx, o.id) }); leave != nil {
		s.log.Warn("leave the members; others wait until the leases expire", zap.String("kind", kind), zap.Error(leave))
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// owner is one call of Own. Its maps are the keeping goroutine's alone.
type owner struct {
	s     *Store
	kind  string
	total int
	id    int64
	run   func(context.Context, Lease) error
	ctx   context.Context
	group *errgroup.Group
	made  bool // the leases' rows are there
	held  map[int]*holding
}

type holding struct {
	lease  Lease
	cancel context.CancelFunc
	ending bool          // it was told to
	done   chan struct{} // closed when run has returned
}

func (h *holding) end() {
	h.ending = true
	h.cancel()
}

// keep renews, takes and gives back until the context ends.
func (o *owner) keep() {
	ttl := o.s.cfg.LeaseTTL
	tick := time.NewTicker(ttl / 3)
	defer tick.Stop()
	renewed := time.Now()
	for {
		began := time.Now()
		round, cancel := context.WithTimeout(o.ctx, ttl/3)
		err := o.round(round)
		cancel()
		if err == nil {
			renewed = began
		} else if o.ctx.Err() == nil {
			o.s.log.Warn("renew leases", zap.String("kind", o.kind), zap.Error(err))
			if o.s.db.shared() && time.Since(renewed) >= ttl {
				// Others may own the leases by now. Fencing keeps our commits out; this ends what goes on beside commits.
				for _, h := range o.held {
					h.end()
				}
			}
		}
		select {
		case <-tick.C:
		case <-o.ctx.Done():
			return
		}
	}
}

// round is one renewal. A lease is lost when somebody has taken it, not when we were late.
func (o *owner) round(ctx context.Context) error {
	for n, h := range o.held {
		select {
		case <-h.done:
			delete(o.held, n)
		default:
		}
	}
	now, err := o.s.db.now(ctx)
	if err != nil {
		return err
	}
	members, owned, err := o.renew(ctx, now)
	if err != nil {
		return err
	}
	ours := map[int]int64{}
	for _, l := range owned {
		ours[int(l.N)] = l.Epoch
		if o.held[int(l.N)] == nil {
			// It was taken, or should have been given back, by a commit of which we did not hear.
			o.giveBack(Lease{Kind: o.kind, N: int(l.N), Epoch: l.Epoch})
		}
	}
	live := 0
	for n, h := range o.held {
		if epoch, ok := ours[n]; !ok || epoch != h.lease.Epoch {
			h.end()
		}
		if !h.ending {
			live++
		}
	}
	share := o.share(members)
	for _, h := range o.held {
		if live > share && !h.ending {
			h.end() // it gives the lease back when it has returned
			live--
		}
	}
	return o.take(ctx, now, share-len(o.held))
}

func (o *owner) renew(ctx context.Context, now time.Time) (members []int64, owned []query.OwnedLeasesRow, err error) {
	until := now.Add(o.s.cfg.LeaseTTL).UnixMicro()
	if !o.s.db.shared() {
		until = math.MaxInt64
	}
	err = o.s.write(ctx, func(t *tx) (err error) {
		if err := t.PutMember(t.ctx, o.id, o.kind, until); err != nil {
			return err
		}
		if err := t.DropMembers(t.ctx, now.Add(-time.Hour).UnixMicro()); err != nil {
			return err
		}
		if members, err = t.Members(t.ctx, o.kind, now.UnixMicro()); err != nil {
			return err
		}
		owned, err = t.OwnedLeases(t.ctx, o.kind, o.id)
		return err
	})
	return members, owned, err
}

// share is how many leases are ours when all members have about the same number.
func (o *owner) share(members []int64) int {
	at, ok := slices.BinarySearch(members, o.id)
	if !ok || len(members) == 0 {
		return 0
	}
	share := o.total / len(members)
	if at < o.total%len(members) {
		share++
	}
	return share
}

func (o *owner) take(ctx context.Context, now time.Time, n int) error {
	if n <= 0 {
		return nil
	}
	var taken []Lease
	err := o.s.write(ctx, func(t *tx) error {
		taken = taken[:0]
		for n := 0; n < o.total && !o.made; n++ {
			if err := t.MakeLease(t.ctx, o.kind, int32(n)); err != nil {
				return err
			}
		}
		free, err := t.FreeLeases(t.ctx, query.FreeLeasesParams{Kind: o.kind, N: int32(o.total), Until: now.UnixMicro(), Limit: int32(n)})
		if err != nil {
			return err
		}
		for _, n := range free {
			epoch, err := t.TakeLease(t.ctx, o.kind, n, o.id)
			if err != nil {
				return err
			}
			taken = append(taken, Lease{Kind: o.kind, N: int(n), Epoch: epoch})
		}
		return nil
	})
	if err != nil {
		return err
	}
	o.made = true
	for _, l := range taken {
		o.start(l)
	}
	return nil
}

func (o *owner) start(l Lease) {
	ctx, cancel := context.WithCancel(o.ctx)
	h := &holding{lease: l, cancel: cancel, done: make(chan struct{})}
	o.held[l.N] = h
	o.group.Go(func() error {
		defer close(h.done)
		defer cancel()
		err := o.run(ctx, l)
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrFenced) {
			return fmt.Errorf("%s %d: %w", l.Kind, l.N, err)
		}
		o.giveBack(l)
		return nil
	})
}

// giveBack frees a lease that is still ours.
func (o *owner) giveBack(l Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(o.ctx), o.s.cfg.LeaseTTL)
	defer cancel()
	err := o.s.write(ctx, func(t *tx) error { return t.GiveLease(t.ctx, l.Kind, int32(l.N), l.Epoch) })
	if err != nil {
		o.s.log.Warn("give a lease back; it is free when this member has left", zap.String("kind", l.Kind), zap.Int("n", l.N), zap.Error(err))
	}
}

// fence fails unless the lease is still this epoch's, and keeps it so until the transaction ends.
func (t *tx) fence(l Lease) error {
	epoch, err := t.Fence(t.ctx, l.Kind, int32(l.N))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if err != nil || epoch != l.Epoch {
		return fmt.Errorf("%s %d, epoch %d: %w", l.Kind, l.N, l.Epoch, ErrFenced)
	}
	return nil
}
