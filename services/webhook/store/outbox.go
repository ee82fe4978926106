package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// Job is a delivery with its event.
type Job struct {
	Delivery Delivery
	Event    Event
}

// Outcome is what came of one attempt of one delivery. A delivery that is not queued any more, because it was cancelled or
// held meanwhile, stays as it is but for the attempt, and what State says if it was delivered.
type Outcome struct {
	Delivery int64 // 0: none; the outcome is the endpoint's alone
	Endpoint int64
	State    DeliveryState // queued again until NextAt, held, delivered or exhausted
	NextAt   time.Time
	Attempt  Attempt // counts: Attempts and Round grow by one, unless At is zero, for what was only put off; N is the store's

	Health  *Health // of the endpoint; nil: unchanged
	Disable string  // the endpoint, and why: "gone" or "failing"; empty: not
	Events  []Event // for operators; ID, Tenant, Type, About and Body are set. They don't go to the endpoint they are about
}

// Endpoint returns an endpoint with its secrets, nil when there is none of that number.
func (s *Store) Endpoint(ctx context.Context, num int64) (*Endpoint, error) {
	row, err := s.read.Endpoint(ctx, num)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, s.found(err)
	}
	return s.endpoint(ctx, s.read, row)
}

// SlotEndpoints returns the endpoints of a slot, with their secrets. Those whose secrets can't be opened are left out, and
// logged: the others can do without them.
func (s *Store) SlotEndpoints(ctx context.Context, slot int) ([]Endpoint, error) {
	rows, err := s.read.SlotEndpoints(ctx, int32(slot))
	if err != nil {
		return nil, s.found(err)
	}
	list := make([]Endpoint, 0, len(rows))
	for _, row := range rows {
		e, err := s.endpoint(ctx, s.read, row)
		var closed sealedError
		switch {
		case errors.As(err, &closed):
			s.log.Error("an endpoint is left out", zap.String("endpoint", FormatID(EndpointPrefix, row.Num)), zap.Error(err))
		case err != nil:
			return nil, err
		default:
			list = append(list, *e)
		}
	}
	return list, nil
}

// SlotNums returns the numbers of the endpoints of a slot.
func (s *Store) SlotNums(ctx context.Context, slot int) ([]int64, error) {
	nums, err := s.read.SlotNums(ctx, int32(slot))
	return nums, s.found(err)
}

func (s *Store) endpoints(ctx context.Context, rows []query.Endpoint) ([]Endpoint, error) {
	list := make([]Endpoint, 0, len(rows))
	for _, row := range rows {
		e, err := s.endpoint(ctx, s.read, row)
		if err != nil {
			return nil, err
		}
		list = append(list, *e)
	}
	return list, nil
}

var jobsByNum = newBulk(`SELECT d.num, d.tenant, d.event, d.endpoint, d.state, d.attempts, d.round, d.turn, d.batch, d.manual, d.next_at, d.created, d.finished,
 d.last_code, d.last_err, e.id, e.seq, e.type, e.alert, e.arm_seq, e.sym, e.about, e.body, e.created FROM delivery d JOIN event e ON e.num = d.event
 WHERE d.num IN {list}`, "")

// Due returns up to limit deliveries of an endpoint that are due at now and not excluded, which those are that are on their
// way. What is due longest comes first; of those that wait for one another, only the first is ever due. The time is
// when the next one will be due, zero if none will, or if the limit was reached.
func (s *Store) Due(ctx context.Context, endpoint int64, now time.Time, exclude func(delivery int64) bool, limit int) ([]Job, time.Time, error) {
	var nums []int64
	after := query.DueAfterParams{Endpoint: endpoint, NextAt: -1, Num: 0}
	for {
		after.Max = int32(limit-len(nums)) + 1
		page, err := s.read.DueAfter(ctx, after)
		if err != nil {
			return nil, time.Time{}, s.found(err)
		}
		for _, row := range page {
			after.NextAt, after.Num = row.NextAt, row.Num
			switch {
			case row.NextAt > now.UnixMicro():
				next := time.Time{}
				if row.NextAt != never {
					next = fromMicros(row.NextAt)
				}
				jobs, err := s.jobs(ctx, nums)
				return jobs, next, err
			case exclude != nil && exclude(row.Num):
			default:
				nums = append(nums, row.Num)
			}
			if len(nums) == limit {
				jobs, err := s.jobs(ctx, nums)
				return jobs, time.Time{}, err
			}
		}
		if len(page) < int(after.Max) {
			jobs, err := s.jobs(ctx, nums)
			return jobs, time.Time{}, err
		}
	}
}

// Batch returns the deliveries of a batch that are still queued, in the order of their numbers.
func (s *Store) Batch(ctx context.Context, endpoint, batch int64) ([]Job, error) {
	nums, err := s.read.BatchOf(ctx, endpoint, batch)
	if err != nil {
		return nil, s.found(err)
	}
	return s.jobs(ctx, nums)
}

// jobs reads jobs, in the order of nums.
func (s *Store) jobs(ctx context.Context, nums []int64) ([]Job, error) {
	at := make(map[int64]int, len(nums))
	for i, n := range nums {
		at[n] = i
	}
	list := make([]Job, len(nums))
	err := s.rows(ctx, s.db.reader(), jobsByNum, nums, func(rows *sql.Rows) error {
		var d query.Delivery
		var e query.Event
		err := rows.Scan(&d.Num, &d.Tenant, &d.Event, &d.Endpoint, &d.State, &d.Attempts, &d.Round, &d.Turn, &d.Batch, &d.Manual, &d.NextAt, &d.Created, &d.Finished,
			&d.LastCode, &d.LastErr, &e.ID, &e.Seq, &e.Type, &e.Alert, &e.ArmSeq, &e.Sym, &e.About, &e.Body, &e.Created)
		e.Num, e.Tenant = d.Event, d.Tenant
		j := Job{Delivery: toDelivery(d), Event: toEvent(e)}
		j.Delivery.EventID = e.ID
		list[at[d.Num]] = j
		return err
	})
	// What was delivered or cancelled between the two queries is still told; what was purged is not.
	list = slices.DeleteFunc(list, func(j Job) bool { return j.Delivery.Num == 0 })
	return list, s.db.cause(err)
}

func toDelivery(r query.Delivery) Delivery {
	d := Delivery{
		Num: r.Num, Tenant: r.Tenant, Event: r.Event, Endpoint: r.Endpoint, State: DeliveryState(r.State), Attempts: int(r.Attempts),
		Round: int(r.Round), Key: r.Turn, Batch: r.Batch, Manual: r.Manual != 0, Created: fromMicros(r.Created), Finished: fromMicros(r.Finished),
		LastCode: int(r.LastCode), LastErr: r.LastErr,
	}
	if r.NextAt != never {
		d.NextAt = fromMicros(r.NextAt)
	}
	return d
}

// AssignBatch makes queued deliveries that are in no batch yet a batch. What belongs together once stays so at each
// attempt, until it is delivered, exhausted or sent again by hand.
func (s *Store) AssignBatch(ctx context.Context, l Lease, batch int64, deliveries []int64) error {
	nums := slices.Sorted(slices.Values(deliveries))
	return s.write(ctx, func(t *tx) error {
		if err := t.fence(l); err != nil {
			return err
		}
		return t.exec(assignBatch, len(nums), func(args []any, i int) []any { return append(args, nums[i], batch) })
	})
}

var assignBatch = newBulk("UPDATE delivery SET batch = v.column2 FROM {rows} WHERE delivery.num = v.column1 AND state = 'queued' AND batch = 0", "BB")

// Finish commits outcomes, all or nothing. ErrFenced says that the slot has another owner by now. What was delivered is
// delivered, whatever it has become meanwhile; otherwise a delivery that was cancelled or held stays so.
func (s *Store) Finish(ctx context.Context, l Lease, outcomes []Outcome) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.fence(l); err != nil {
			return err
		}
		return t.finish(outcomes)
	})
}

var (
	lockDeliveries = newBulk(`SELECT num, tenant, event, endpoint, state, attempts, round, turn, batch, manual, next_at, created, finished, last_code, last_err
 FROM delivery WHERE num IN {list} ORDER BY num FOR UPDATE`, "")
	moveDeliveries = newBulk(`UPDATE delivery SET state = v.column2, attempts = v.column3, round = v.column4, batch = v.column5, manual = v.column6,
 next_at = v.column7, finished = v.column8, last_code = v.column9, last_err = v.column10 FROM {rows} WHERE delivery.num = v.column1`, "BTBBBBBBBT")
	insertAttempts = newBulk("INSERT INTO attempt (delivery, n, at, took_us, code, err, response, manual) SELECT * FROM {rows}", "BBBBBTTB")
)

func (t *tx) finish(outcomes []Outcome) error {
	byDelivery := make(map[int64]*Outcome, len(outcomes))
	health := map[int64]*Health{}
	disable := map[int64]string{}
	holding := map[int64]bool{}
	tenants, endpoints := map[int64]struct{}{}, map[int64]struct{}{}
	var events []*Event
	for i := range outcomes {
		o := &outcomes[i]
		if o.Delivery != 0 {
			byDelivery[o.Delivery] = o
		}
		if o.Health != nil {
			health[o.Endpoint] = o.Health
		}
		if o.Disable != "" {
			disable[o.Endpoint] = o.Disable
		}
		if o.State == DeliveryHeld {
			holding[o.Endpoint] = true
		}
		endpoints[o.Endpoint] = struct{}{}
		for j := range o.Events {
			events = append(events, &o.Events[j])
			tenants[o.Events[j].Tenant] = struct{}{}
		}
	}
	// The locks of later steps, in the order that all transactions take them in.
	for _, tenant := range slices.Sorted(maps.Keys(tenants)) {
		if _, err := t.LockTenant(t.ctx, tenant); err != nil {
			return fmt.Errorf("tenant %d: %w", tenant, t.s.found(err))
		}
	}
	ordered, err := t.lockOrdered(endpoints, disable, holding)
	if err != nil {
		return err
	}
	for i := range outcomes {
		// The sender may not know yet that the endpoint has been enabled. Nobody would release what is held for it from now on.
		if o := &outcomes[i]; o.State == DeliveryHeld && !holding[o.Endpoint] {
			o.State = DeliveryQueued
		}
	}
	if err := t.moveDeliveries(byDelivery, ordered); err != nil {
		return err
	}
	for _, endpoint := range slices.Sorted(maps.Keys(health)) {
		if _, there := ordered[endpoint]; !there {
			continue // deleted meanwhile
		}
		if err := t.putHealth(endpoint, health[endpoint]); err != nil {
			return err
		}
	}
	for _, endpoint := range slices.Sorted(maps.Keys(disable)) {
		if err := t.disable(endpoint, disable[endpoint]); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return t.addEvents(events, &moved{})
}

// lockOrdered locks endpoints that are to be disabled, that something is to be held for, or that have turns, and tells the last of
// these. It takes out of holding those that are enabled and stay so.
func (t *tx) lockOrdered(endpoints map[int64]struct{}, disable map[int64]string, holding map[int64]bool) (map[int64]bool, error) {
	ordered := map[int64]bool{}
	for _, num := range slices.Sorted(maps.Keys(endpoints)) {
		ordering, err := t.OrderingOf(t.ctx, num)
		if errors.Is(err, sql.ErrNoRows) {
			continue // deleted meanwhile
		} else if err != nil {
			return nil, err
		}
		ordered[num] = Ordering(ordering) != OrderNone
		if ordered[num] || disable[num] != "" || holding[num] {
			row, err := t.LockEndpoint(t.ctx, num)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return nil, err
			}
			if holding[num] && disable[num] == "" && err == nil && EndpointState(row.State) == EndpointEnabled {
				holding[num] = false
			}
		}
	}
	return ordered, nil
}

func (t *tx) moveDeliveries(outcomes map[int64]*Outcome, ordered map[int64]bool) error {
	nums := slices.Sorted(maps.Keys(outcomes))
	var page []query.Delivery
	var attempts []Attempt
	turns := map[[2]int64]struct{}{}
	err := t.s.inSizes(len(nums), func(from, to int) error {
		page, attempts = page[:0], attempts[:0]
		err := t.s.rows(t.ctx, t.db, lockDeliveries, nums[from:to], func(rows *sql.Rows) error {
			d, err := scanDelivery(rows)
			page = append(page, d)
			return err
		})
		if err != nil {
			return err
		}
		for i := range page {
			d := &page[i]
			o := outcomes[d.Num]
			if a := o.Attempt; !a.At.IsZero() {
				a.Delivery, a.N = d.Num, int(d.Attempts)+1
				attempts = append(attempts, a)
			}
			o.take(d)
			if d.Turn != 0 && d.State != string(DeliveryQueued) {
				turns[[2]int64{d.Endpoint, d.Turn}] = struct{}{}
			}
		}
		err = t.exec(moveDeliveries, len(page), func(args []any, i int) []any {
			d := &page[i]
			return append(args, d.Num, d.State, d.Attempts, d.Round, d.Batch, d.Manual, d.NextAt, d.Finished, d.LastCode, d.LastErr)
		})
		if err != nil {
			return err
		}
		return t.exec(insertAttempts, len(attempts), func(args []any, i int) []any {
			a := &attempts[i]
			return append(args, a.Delivery, int64(a.N), micros(a.At), a.Took.Microseconds(), int64(a.Code), a.Err, a.Response, flag(a.Manual))
		})
	})
	if err != nil {
		return err
	}
	for turn := range turns {
		if err := t.nextTurn(turn[0], turn[1]); err != nil {
			return err
		}
	}
	return nil
}

func scanDelivery(rows *sql.Rows) (d query.Delivery, err error) {
	err = rows.Scan(&d.Num, &d.Tenant, &d.Event, &d.Endpoint, &d.State, &d.Attempts, &d.Round, &d.Turn, &d.Batch, &d.Manual, &d.NextAt, &d.Created, &d.Finished, &d.LastCode, &d.LastErr)
	return d, err
}

// take moves a delivery to where the outcome leaves it.
func (o *Outcome) take(d *query.Delivery) {
	asked, tried := d.Manual != 0, !o.Attempt.At.IsZero()
	if tried {
		d.Attempts++
		d.Round++
		d.LastCode, d.LastErr = int64(o.Attempt.Code), o.Attempt.Err
		if o.Attempt.Manual {
			d.Manual = 0
		}
	}
	switch queued := DeliveryState(d.State) == DeliveryQueued; {
	case !queued && o.State != DeliveryDelivered:
	case o.State != DeliveryQueued:
		d.State, d.Manual = string(o.State), 0
		if o.State != DeliveryHeld {
			d.Finished = micros(orNow(o.Attempt.At).Add(o.Attempt.Took))
		}
	case asked && tried && !o.Attempt.Manual:
		d.Round = 0 // somebody asked for an attempt while this one was on its way: that one still comes, at its time
	default:
		d.NextAt = micros(o.NextAt)
	}
}

// nextTurn makes the first of those who wait for a turn due. Where one is due already, that changes nothing.
func (t *tx) nextTurn(endpoint, turn int64) error {
	first, err := t.FirstOfTurn(t.ctx, endpoint, turn)
	if err != nil || first == 0 {
		return err
	}
	n, err := t.Wake(t.ctx, first, time.Now().UnixMicro())
	if n > 0 {
		t.queued[endpoint] = struct{}{}
	}
	return err
}
