package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// The states of a replay.
const (
	ReplayRunning   = "running"
	ReplayDone      = "done"
	ReplayCancelled = "cancelled"
)

// CreateReplay adds a replay, which ReplayStep works off. Without States, it is of what was not delivered: exhausted and held.
func (s *Store) CreateReplay(ctx context.Context, r *Replay, once *Once) error {
	return s.write(ctx, func(t *tx) error {
		return t.once(r.Tenant, once, func() error { return t.addReplay(r) })
	})
}

func (t *tx) addReplay(r *Replay) error {
	r.Num, r.Created = cmp0(r.Num, t.s.ids), orNow(r.Created)
	r.State, r.Matched, r.Finished = ReplayRunning, 0, time.Time{}
	if len(r.States) == 0 {
		r.States = []DeliveryState{DeliveryExhausted, DeliveryHeld}
	}
	if r.To.IsZero() {
		r.To = r.Created // what comes later is nothing to be replayed
	}
	place := int64(0)
	if !r.From.IsZero() {
		place = firstID(r.From.Add(-time.Hour)) // ids have the clock of their process, events that of their market
	}
	return t.AddReplay(t.ctx, query.AddReplayParams{
		Num: r.Num, Tenant: r.Tenant, Endpoint: r.Endpoint, States: toList(r.States), Type: r.Type, FromAt: micros(r.From), ToAt: micros(r.To),
		State: r.State, Place: place, Created: micros(r.Created),
	})
}

// Replay returns a tenant's replay.
func (s *Store) Replay(ctx context.Context, tenant, num int64) (*Replay, error) {
	row, err := s.read.Replay(ctx, tenant, num)
	if err != nil {
		return nil, s.found(err)
	}
	return toReplay(row)
}

// Replays returns a tenant's replays.
func (s *Store) Replays(ctx context.Context, tenant int64, p Page) ([]Replay, error) {
	rows, err := s.read.Replays(ctx, tenant, p.before(), int32(p.Limit))
	if err != nil {
		return nil, s.found(err)
	}
	list := make([]Replay, 0, len(rows))
	for _, row := range rows {
		r, err := toReplay(row)
		if err != nil {
			return nil, err
		}
		list = append(list, *r)
	}
	return list, nil
}

// CancelReplay ends a replay where it is.
func (s *Store) CancelReplay(ctx context.Context, tenant, num int64) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.Queries.CancelReplay(t.ctx, tenant, num, time.Now().UnixMicro())
		return one(n, err)
	})
}

func toReplay(r query.Replay) (*Replay, error) {
	states, err := fromList[DeliveryState](r.States)
	if err != nil {
		return nil, fmt.Errorf("replay %d: states: %w", r.Num, err)
	}
	return &Replay{
		Num: r.Num, Tenant: r.Tenant, Endpoint: r.Endpoint, States: states, Type: r.Type, From: fromMicros(r.FromAt), To: fromMicros(r.ToAt),
		State: r.State, Matched: r.Matched, Created: fromMicros(r.Created), Finished: fromMicros(r.Finished),
	}, nil
}

// ReplayStep looks at up to limit deliveries of a running replay, and queues again what it is about; each step is a
// transaction. It returns false when no replay is running that nobody else works at.
func (s *Store) ReplayStep(ctx context.Context, limit int) (more bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		row, err := t.LockRunningReplay(t.ctx)
		if errors.Is(err, sql.ErrNoRows) {
			more = false
			return nil
		} else if err != nil {
			return err
		}
		more = true
		r, err := toReplay(row)
		if err != nil {
			return err
		}
		return t.replayStep(r, row.Place, limit)
	})
	return more, err
}

func (t *tx) replayStep(r *Replay, place int64, limit int) error {
	nums, seen, err := t.replayScan(r, &place, limit)
	if err != nil {
		return err
	}
	for _, num := range nums {
		d, err := t.LockDelivery(t.ctx, r.Tenant, num)
		if errors.Is(err, sql.ErrNoRows) || err == nil && !slices.Contains(r.States, DeliveryState(d.State)) {
			continue
		} else if err != nil {
			return err
		}
		if err := t.again(&d, false); err != nil {
			return err
		}
		r.Matched++
	}
	if seen < limit {
		r.State, r.Finished = ReplayDone, time.Now()
	}
	return t.SetReplay(t.ctx, query.SetReplayParams{Num: r.Num, State: r.State, Matched: r.Matched, Place: place, Finished: micros(r.Finished)})
}

// replayScan moves place on, over deliveries of endpoints that are enabled. Their locks are taken before those of deliveries.
func (t *tx) replayScan(r *Replay, place *int64, limit int) (nums []int64, seen int, err error) {
	page, err := t.replayPage(r, *place, limit)
	if err != nil {
		return nil, 0, err
	}
	enabled, err := t.targets(r.Tenant)
	if err != nil {
		return nil, 0, err
	}
	for _, d := range page {
		*place = d.Num
		at := fromMicros(d.Created)
		switch {
		case !slices.Contains(r.States, DeliveryState(d.State)), r.Type != "" && d.Type != r.Type:
		case at.Before(r.From), at.After(r.To):
		case !slices.ContainsFunc(enabled, func(x target) bool { return x.num == d.Endpoint && x.enabled }):
		default:
			nums = append(nums, d.Num)
		}
	}
	// Beyond the end of its time nothing is left to be found.
	if n := len(page); n > 0 && r.To.Add(time.Hour).Before(idTime(page[n-1].Num)) {
		return nums, 0, nil
	}
	return nums, len(page), nil
}

// replayPage reads deliveries that a replay may be about: with luck, only those in trouble.
func (t *tx) replayPage(r *Replay, place int64, limit int) (page []query.ReplayScanRow, err error) {
	many := func(d DeliveryState) bool { return !d.trouble() }
	switch {
	case !slices.ContainsFunc(r.States, many):
		rows, err := t.ReplayScanTrouble(t.ctx, query.ReplayScanTroubleParams{Tenant: r.Tenant, Place: place, Endpoint: r.Endpoint, Max: int32(limit)})
		for _, row := range rows {
			page = append(page, query.ReplayScanRow(row))
		}
		return page, err
	case r.Endpoint != 0:
		rows, err := t.ReplayScanEndpoint(t.ctx, r.Endpoint, place, int32(limit))
		for _, row := range rows {
			page = append(page, query.ReplayScanRow(row))
		}
		return page, err
	}
	return t.ReplayScan(t.ctx, r.Tenant, place, int32(limit))
}

func idTime(id int64) time.Time { return time.UnixMilli(id>>(counterBits+nodeBits) + idEpoch) }

// Purge deletes some of what is older than the retention: up to limit of each kind. It returns how much that was; when
// it is 0, there is nothing more to be done.
func (s *Store) Purge(ctx context.Context, now time.Time, limit int) (int, error) {
	var total int
	old, most := now.Add(-s.cfg.Retention), int32(limit)
	err := s.write(ctx, func(t *tx) error {
		total = 0
		deliveries, err := t.OldDeliveries(t.ctx, firstID(old), most)
		if err != nil {
			return err
		}
		events, err := t.OldEvents(t.ctx, firstID(old), most)
		if err != nil {
			return err
		}
		for _, x := range []struct {
			b    *bulk
			nums []int64
		}{{dropAttempts, deliveries}, {dropDeliveries, deliveries}, {dropEvents, events}} {
			if err := t.drop(x.b, x.nums); err != nil {
				return err
			}
		}
		total += len(deliveries) + len(events)
		for _, purge := range []func() (int64, error){
			func() (int64, error) { return t.PurgeOnce(t.ctx, now.Add(-onceKept).UnixMicro(), most) },
			func() (int64, error) { return t.PurgeAlerts(t.ctx, old.UnixMicro(), most) },
			func() (int64, error) { return t.PurgeReplays(t.ctx, old.UnixMicro(), most) },
			func() (int64, error) { return t.PurgeSecrets(t.ctx, now.UnixMicro(), most) },
		} {
			n, err := purge()
			if err != nil {
				return err
			}
			total += int(n)
		}
		return nil
	})
	return total, err
}

var (
	dropAttempts   = newBulk("DELETE FROM attempt WHERE delivery IN {list}", "")
	dropDeliveries = newBulk("DELETE FROM delivery WHERE num IN {list}", "")
	dropEvents     = newBulk("DELETE FROM event WHERE num IN {list}", "")
)

func (t *tx) drop(b *bulk, nums []int64) error {
	return t.exec(b, len(nums), func(args []any, i int) []any { return append(args, nums[i]) })
}
