package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// never is the time of deliveries that wait for their turn.
const never = math.MaxInt64

var (
	insertEvents = newBulk("INSERT INTO event (num, id, tenant, seq, type, alert, arm_seq, sym, about, body, created) SELECT * FROM {rows}", "BTBBTBBTBYB")
	insertQueued = newBulk(`INSERT INTO delivery (num, tenant, event, endpoint, state, attempts, round, turn, batch, manual, next_at, created, finished, last_code, last_err)
 SELECT column1, column2, column3, column4, column5, 0, 0, column6, 0, 0, column7, column8, 0, 0, '' FROM {rows}`, "BBBBTBBB")
)

// addEvents inserts events and their deliveries. The lock on a tenant's row, which is held until the commit, makes its
// numbering the order in which events become visible: who has read up to a number misses none before it.
func (t *tx) addEvents(events []*Event, m *moved) error {
	counts := map[int64]int64{}
	for _, e := range events {
		if f, ok := m.fired[e.Alert]; ok {
			e.Tenant = f.tenant
		}
		counts[e.Tenant]++
	}
	for tenant := range m.ended {
		counts[tenant] += 0
	}
	next := make(map[int64]int64, len(counts))
	tenants := slices.Sorted(maps.Keys(counts))
	for _, tenant := range tenants {
		seq, err := t.CountInTenant(t.ctx, query.CountInTenantParams{Events: counts[tenant], Alerts: -m.ended[tenant], Endpoints: 0, Num: tenant})
		if err != nil {
			return fmt.Errorf("tenant %d: %w", tenant, t.s.found(err))
		}
		next[tenant] = seq - counts[tenant] + 1
	}
	if len(events) == 0 {
		return nil
	}
	targets := make(map[int64][]target, len(tenants))
	for _, tenant := range tenants {
		list, err := t.targets(tenant)
		if err != nil {
			return err
		}
		targets[tenant] = list
	}
	q := queueing{t: t, turns: map[[2]int64]bool{}}
	return t.s.inSizes(len(events), func(from, to int) error {
		part := events[from:to]
		now := time.Now()
		for _, e := range part {
			e.Num = t.s.ids.next()
			if e.ID == "" {
				e.ID = FormatID(EventPrefix, e.Num)
			}
			if e.Created.IsZero() {
				e.Created = now
			}
			e.Seq = next[e.Tenant]
			next[e.Tenant]++
		}
		err := t.exec(insertEvents, len(part), func(args []any, i int) []any {
			e := part[i]
			return append(args, e.Num, e.ID, e.Tenant, e.Seq, e.Type, e.Alert, int64(e.ArmSeq), e.Sym, e.About, noNil(e.Body), micros(e.Created))
		})
		if err != nil {
			return fmt.Errorf("insert events: %w", err)
		}
		for _, e := range part {
			if err := q.add(e, m.fired[e.Alert], targets[e.Tenant]); err != nil {
				return err
			}
		}
		return q.flush()
	})
}

// target is what must be known of an endpoint to queue deliveries for it.
type target struct {
	num      int64
	enabled  bool
	types    []string
	ordering Ordering
}

func (t *tx) targets(tenant int64) ([]target, error) {
	rows, err := t.Targets(t.ctx, tenant)
	if err != nil {
		return nil, err
	}
	list := make([]target, 0, len(rows))
	for _, row := range rows {
		types, err := fromList[string](row.EventTypes)
		if err != nil {
			return nil, fmt.Errorf("endpoint %d: event types: %w", row.Num, err)
		}
		list = append(list, target{num: row.Num, enabled: EndpointState(row.State) == EndpointEnabled, types: types, ordering: Ordering(row.Ordering)})
	}
	return list, nil
}

// wants tells whether the endpoint gets an event. One that is about the endpoint itself is for the others.
func (x *target) wants(e *Event) bool {
	if e.About == x.num {
		return false
	}
	return len(x.types) == 0 || slices.Contains(x.types, e.Type)
}

// turn is the key of the deliveries that wait for one another; 0 is none.
func (x *target) turn(e *Event, f fired) int64 {
	switch x.ordering {
	case OrderAlert:
		return e.Alert
	case OrderInstrument:
		return f.inst
	}
	return 0
}

// queueing collects deliveries to be inserted.
type queueing struct {
	t     *tx
	list  []Delivery
	turns map[[2]int64]bool // endpoint and turn, whether something is queued
}

func (q *queueing) add(e *Event, f fired, targets []target) error {
	only, err := fromList[int64](f.endpoints)
	if err != nil {
		return fmt.Errorf("alert %d: endpoints: %w", e.Alert, err)
	}
	for i := range targets {
		x := &targets[i]
		if !x.wants(e) || len(only) > 0 && !slices.Contains(only, x.num) {
			continue
		}
		d := Delivery{Num: q.t.s.ids.next(), Tenant: e.Tenant, Event: e.Num, Endpoint: x.num, State: DeliveryHeld, Key: x.turn(e, f), NextAt: e.Created, Created: e.Created}
		if x.enabled {
			d.State = DeliveryQueued
			q.t.queued[x.num] = struct{}{}
			if waits, err := q.waits(x.num, d.Key); err != nil {
				return err
			} else if waits {
				d.NextAt = time.Time{}
			}
		}
		q.list = append(q.list, d)
	}
	return nil
}

// waits tells whether another delivery of the turn is queued already.
func (q *queueing) waits(endpoint, turn int64) (bool, error) {
	if turn == 0 {
		return false, nil
	}
	key := [2]int64{endpoint, turn}
	if q.turns[key] {
		return true, nil
	}
	q.turns[key] = true
	first, err := q.t.FirstOfTurn(q.t.ctx, endpoint, turn)
	return first != 0, err
}

func (q *queueing) flush() error {
	err := q.t.exec(insertQueued, len(q.list), func(args []any, i int) []any {
		d := &q.list[i]
		at := micros(d.NextAt)
		if d.NextAt.IsZero() {
			at = never
		}
		return append(args, d.Num, d.Tenant, d.Event, d.Endpoint, string(d.State), d.Key, at, micros(d.Created))
	})
	q.list = q.list[:0]
	if err != nil {
		return fmt.Errorf("insert deliveries: %w", err)
	}
	return nil
}

// AddEvents adds events that no alert's evaluation made.
func (s *Store) AddEvents(ctx context.Context, events []Event) error {
	return s.write(ctx, func(t *tx) error { return t.addEvents(pointers(events), &moved{}) })
}

func pointers(events []Event) []*Event {
	list := make([]*Event, len(events))
	for i := range events {
		list[i] = &events[i]
	}
	return list
}

// EventFilter says which events of a tenant are asked for.
type EventFilter struct {
	Tenant int64
	After  int64  // Seq
	Type   string // empty: all
	Alert  int64  // 0: all
	Limit  int
}

// Events returns events in their tenant's order.
func (s *Store) Events(ctx context.Context, f EventFilter) ([]Event, error) {
	var rows []query.Event
	var err error
	if f.Alert != 0 {
		rows, err = s.read.EventsOfAlert(ctx, query.EventsOfAlertParams{Alert: f.Alert, Tenant: f.Tenant, After: f.After, Type: f.Type, Max: int32(f.Limit)})
	} else {
		rows, err = s.read.EventsAfter(ctx, query.EventsAfterParams{Tenant: f.Tenant, After: f.After, Type: f.Type, Max: int32(f.Limit)})
	}
	if err != nil {
		return nil, s.found(err)
	}
	events := make([]Event, len(rows))
	for i, row := range rows {
		events[i] = toEvent(row)
	}
	return events, nil
}

// Event returns an event by its public id.
func (s *Store) Event(ctx context.Context, tenant int64, id string) (*Event, error) {
	row, err := s.read.EventByID(ctx, tenant, id)
	if err != nil {
		return nil, s.found(err)
	}
	e := toEvent(row)
	return &e, nil
}

// FirstEvent returns the Seq of the oldest event that a tenant still has; if it has none, that of the next one.
func (s *Store) FirstEvent(ctx context.Context, tenant int64) (int64, error) {
	seq, err := s.read.OldestEvent(ctx, tenant)
	return seq, s.found(err)
}

func toEvent(r query.Event) Event {
	return Event{
		Num: r.Num, ID: r.ID, Tenant: r.Tenant, Seq: r.Seq, Type: r.Type, Alert: r.Alert, ArmSeq: uint32(r.ArmSeq), Sym: r.Sym,
		About: r.About, Body: r.Body, Created: fromMicros(r.Created),
	}
}

// toList prints a list for a column; none is empty text, as most lists are.
func toList[T any](list []T) string {
	if len(list) == 0 {
		return ""
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return string(b)
}

func fromList[T any](text string) (list []T, err error) {
	if text == "" {
		return nil, nil
	}
	return list, json.Unmarshal([]byte(text), &list)
}
