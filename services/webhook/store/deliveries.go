package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// DeliveryFilter says which deliveries of a tenant are asked for.
type DeliveryFilter struct {
	Tenant   int64
	Endpoint int64         // 0: all
	Event    int64         // Num; 0: all
	State    DeliveryState // empty: all
	Page
}

// trouble tells states that few deliveries are in, so that they have an index of their own.
func (d DeliveryState) trouble() bool {
	return d == DeliveryExhausted || d == DeliveryHeld || d == DeliveryCancelled
}

// Deliveries returns deliveries.
func (s *Store) Deliveries(ctx context.Context, f DeliveryFilter) ([]Delivery, error) {
	var list []Delivery
	add := func(row query.Delivery, id string) {
		d := toDelivery(row)
		d.EventID = id
		list = append(list, d)
	}
	switch {
	case f.State.trouble() && f.Event == 0:
		rows, err := s.read.DeliveriesInTrouble(ctx, query.DeliveriesInTroubleParams{
			Tenant: f.Tenant, Before: f.before(), Endpoint: f.Endpoint, State: string(f.State), Max: int32(f.Limit),
		})
		for _, r := range rows {
			add(r.Delivery, r.ID)
		}
		return list, s.found(err)
	case f.Endpoint != 0:
		rows, err := s.read.DeliveriesOfEndpoint(ctx, query.DeliveriesOfEndpointParams{
			Endpoint: f.Endpoint, Tenant: f.Tenant, Before: f.before(), Event: f.Event, State: string(f.State), Max: int32(f.Limit),
		})
		for _, r := range rows {
			add(r.Delivery, r.ID)
		}
		return list, s.found(err)
	case f.Event != 0:
		rows, err := s.read.DeliveriesOfEvent(ctx, query.DeliveriesOfEventParams{Event: f.Event, Tenant: f.Tenant, Before: f.before(), State: string(f.State), Max: int32(f.Limit)})
		for _, r := range rows {
			add(r.Delivery, r.ID)
		}
		return list, s.found(err)
	}
	rows, err := s.read.Deliveries(ctx, query.DeliveriesParams{Tenant: f.Tenant, Before: f.before(), State: string(f.State), Max: int32(f.Limit)})
	for _, r := range rows {
		add(r.Delivery, r.ID)
	}
	return list, s.found(err)
}

// Delivery returns a tenant's delivery with its event.
func (s *Store) Delivery(ctx context.Context, tenant, num int64) (*Job, error) {
	jobs, err := s.jobs(ctx, []int64{num})
	if err != nil {
		return nil, err
	}
	if len(jobs) == 0 || jobs[0].Delivery.Tenant != tenant {
		return nil, ErrNotFound
	}
	return &jobs[0], nil
}

// Attempts returns the requests that were made for a delivery.
func (s *Store) Attempts(ctx context.Context, delivery int64) ([]Attempt, error) {
	rows, err := s.read.Attempts(ctx, delivery)
	list := make([]Attempt, len(rows))
	for i, r := range rows {
		list[i] = Attempt{
			Delivery: r.Delivery, N: int(r.N), At: fromMicros(r.At), Took: time.Duration(r.TookUs) * time.Microsecond, Code: int(r.Code), Err: r.Err,
			Response: r.Response, Manual: r.Manual != 0,
		}
	}
	return list, s.found(err)
}

// Resend makes a delivery due now, whatever became of it, at the beginning of its retry profile. ErrState says that its
// endpoint is not enabled, or gone.
func (s *Store) Resend(ctx context.Context, tenant, num int64) (*Delivery, error) {
	return s.deliveryTx(ctx, tenant, num, func(t *tx, d *query.Delivery) error {
		row, err := t.Endpoint(t.ctx, d.Endpoint)
		if err = s.found(err); err != nil {
			return fmt.Errorf("%w: its endpoint is %w", ErrState, err)
		}
		if EndpointState(row.State) != EndpointEnabled {
			return fmt.Errorf("%w: its endpoint is %s", ErrState, row.State)
		}
		return t.again(d, true)
	})
}

// again queues a delivery for another round, in its turn.
func (t *tx) again(d *query.Delivery, manual bool) error {
	d.State, d.Round, d.Manual, d.Finished = string(DeliveryQueued), 0, flag(manual), 0
	d.NextAt = time.Now().UnixMicro()
	if d.Turn != 0 && !manual {
		if _, err := t.LockEndpoint(t.ctx, d.Endpoint); err != nil {
			return t.s.found(err)
		}
		first, err := t.FirstOfTurn(t.ctx, d.Endpoint, d.Turn)
		if err != nil {
			return err
		}
		if first != 0 && first != d.Num {
			d.NextAt = never
		}
	}
	t.queued[d.Endpoint] = struct{}{}
	return t.setDelivery(d)
}

func (t *tx) setDelivery(d *query.Delivery) error {
	return t.SetDelivery(t.ctx, query.SetDeliveryParams{Num: d.Num, State: d.State, Round: d.Round, Manual: d.Manual, NextAt: d.NextAt, Finished: d.Finished})
}

// Cancel ends a delivery that is queued or held. One whose request is on its way may still arrive, and is delivered then.
func (s *Store) Cancel(ctx context.Context, tenant, num int64) (*Delivery, error) {
	return s.deliveryTx(ctx, tenant, num, func(t *tx, d *query.Delivery) error {
		if state := DeliveryState(d.State); state != DeliveryQueued && state != DeliveryHeld {
			return fmt.Errorf("%w: it is %s", ErrState, state)
		}
		d.State, d.Finished, d.Manual = string(DeliveryCancelled), time.Now().UnixMicro(), 0
		t.queued[d.Endpoint] = struct{}{} // the sender may have read it already
		if err := t.setDelivery(d); err != nil {
			return err
		}
		if d.Turn == 0 {
			return nil
		}
		return t.nextTurn(d.Endpoint, d.Turn)
	})
}

// deliveryTx changes a delivery under the locks of its endpoint and itself.
func (s *Store) deliveryTx(ctx context.Context, tenant, num int64, change func(*tx, *query.Delivery) error) (*Delivery, error) {
	var d query.Delivery
	err := s.write(ctx, func(t *tx) error {
		row, err := t.Delivery(t.ctx, tenant, num)
		if err != nil {
			return s.found(err)
		}
		if _, err := t.LockEndpoint(t.ctx, row.Endpoint); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if d, err = t.LockDelivery(t.ctx, tenant, num); err != nil {
			return s.found(err)
		}
		return change(t, &d)
	})
	if err != nil {
		return nil, err
	}
	out := toDelivery(d)
	return &out, nil
}
