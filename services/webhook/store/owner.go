package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// Checkpoint is how far the owners of a partition have come.
type Checkpoint struct {
	LogID  string
	Offset int64 // of the last record in md.events that was applied; -1: none
	Clock  market.Time
}

// Image is the state of an instrument's series at some offset; that of instrument 0 is the partition's own.
type Image struct {
	Inst uint32
	Data []byte
}

// EvalUpdate is where the evaluation of an alert stands now. It counts for an active alert only, and of Eval only ArmSeq and
// Blob.
type EvalUpdate struct {
	Alert int64
	Eval  Eval
	State AlertState // "" is unchanged
}

// Applied says that the owner has taken over a Version of an alert. With a State, the alert gets it, and Eval, unless
// there is a newer Version already.
type Applied struct {
	Alert   int64
	Version int64
	Eval    Eval
	State   AlertState
}

// Commit is what a batch of market events did. The store sets Num, Seq and, where they are missing, ID and Created of
// the Fires; events get a delivery for each of their alert's endpoints, or all of the tenant's, that want their type.
type Commit struct {
	Lease       Lease // of the partition
	Partition   int
	LogID       string
	Offset      int64
	Clock       market.Time
	After       *Checkpoint // that this one goes on from; nil: any
	Anew        bool        // the partition's former images are of no use any more
	Images      []Image
	Instruments []Instrument
	Applied     []Applied // before Evals and Fires
	Evals       []EvalUpdate
	Fires       []Event

	Dropped []int64 // set: alerts whose fires were not taken, because they are not active any more
}

// Checkpoint returns how far a partition has been evaluated.
func (s *Store) Checkpoint(ctx context.Context, partition int) (Checkpoint, error) {
	row, err := s.read.Checkpoint(ctx, int32(partition))
	if errors.Is(err, sql.ErrNoRows) {
		return Checkpoint{Offset: -1}, nil
	}
	return Checkpoint{LogID: row.LogID, Offset: row.Place, Clock: market.Time(row.Clock)}, s.found(err)
}

const pageRows = 256

// Images calls do with each image of a partition; it must not keep the bytes.
func (s *Store) Images(ctx context.Context, partition int, do func(inst uint32, image []byte) error) error {
	for after := int64(-1); ; {
		page, err := s.read.Images(ctx, int32(partition), after, pageRows)
		if err != nil {
			return s.found(err)
		}
		for _, row := range page {
			if err := do(uint32(row.Inst), row.Image); err != nil {
				return err
			}
			after = row.Inst
		}
		if len(page) < pageRows {
			return nil
		}
	}
}

// Rules calls do with each active alert of a partition. Only Num, Sym, Rule, Eval.ArmSeq and Eval.Blob are set.
func (s *Store) Rules(ctx context.Context, partition int, do func(*Alert) error) error {
	for after := int64(0); ; {
		page, err := s.read.ActiveAlerts(ctx, int32(partition), after, pageRows)
		if err != nil {
			return s.found(err)
		}
		for _, r := range page {
			a := Alert{Num: r.Num, Sym: r.Sym, Rule: r.Rule, Eval: Eval{ArmSeq: uint32(r.ArmSeq), Blob: r.Blob}}
			if err := do(&a); err != nil {
				return err
			}
			after = r.Num
		}
		if len(page) < pageRows {
			return nil
		}
	}
}

// TenantAlerts is how many active alerts of a partition are a tenant's.
type TenantAlerts struct{ Tenant, Alerts int64 }

// ActiveByTenant returns the tenants that have active alerts in a partition, or on one instrument of it.
func (s *Store) ActiveByTenant(ctx context.Context, partition int, sym string) ([]TenantAlerts, error) {
	rows, err := s.read.ActiveByTenant(ctx, int32(partition), sym)
	list := make([]TenantAlerts, len(rows))
	for i, row := range rows {
		list[i] = TenantAlerts(row)
	}
	return list, s.found(err)
}

// Changes returns alerts that the owner has not taken over as they are now: new, changed, paused, ended and deleted ones.
func (s *Store) Changes(ctx context.Context, partition int, most int) ([]Alert, error) {
	rows, err := s.read.ChangedAlerts(ctx, int32(partition), int32(most))
	if err != nil {
		return nil, s.found(err)
	}
	alerts := make([]Alert, 0, len(rows))
	for _, row := range rows {
		a, err := toAlert(row)
		if err != nil {
			return nil, err
		}
		alerts = append(alerts, a)
	}
	return alerts, nil
}

var alertsByNum = newBulk(`SELECT num, tenant, name, sym, inst, part, rule, endpoints, metadata, labels, state, version, applied, created, updated,
 last_fire, arm_seq, valid_from, clock, value, blob FROM alert WHERE num IN {list}`, "")

// AlertsByNum returns those alerts that there are.
func (s *Store) AlertsByNum(ctx context.Context, nums []int64) (map[int64]*Alert, error) {
	found := make(map[int64]*Alert, len(nums))
	err := s.rows(ctx, s.db.reader(), alertsByNum, nums, func(rows *sql.Rows) error {
		row, err := scanAlert(rows)
		if err != nil {
			return err
		}
		a, err := toAlert(row)
		found[a.Num] = &a
		return err
	})
	return found, s.db.cause(err)
}

func scanAlert(rows *sql.Rows) (a query.Alert, err error) {
	err = rows.Scan(&a.Num, &a.Tenant, &a.Name, &a.Sym, &a.Inst, &a.Part, &a.Rule, &a.Endpoints, &a.Metadata, &a.Labels, &a.State,
		&a.Version, &a.Applied, &a.Created, &a.Updated, &a.LastFire, &a.ArmSeq, &a.ValidFrom, &a.Clock, &a.Value, &a.Blob)
	return a, err
}

var waitingAlerts = newBulk("SELECT num FROM alert WHERE num IN {list} AND version > applied", "")

// AwaitApplied waits until the owners have taken over the alerts as they are now, or ctx ends. It returns ctx's error then.
func (s *Store) AwaitApplied(ctx context.Context, alerts []int64) error {
	waiting := alerts
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		var still []int64
		err := s.rows(ctx, s.db.reader(), waitingAlerts, waiting, func(rows *sql.Rows) error {
			var n int64
			err := rows.Scan(&n)
			still = append(still, n)
			return err
		})
		if err != nil {
			return s.db.cause(err)
		}
		if len(still) == 0 {
			return nil
		}
		waiting = still
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Commit commits what a batch did, all or nothing. ErrFenced says that the partition has another owner by now.
func (s *Store) Commit(ctx context.Context, c *Commit) error {
	if c.Lease.Kind != KindPartition || c.Lease.N != c.Partition {
		return fmt.Errorf("commit for partition %d with the lease of %s %d", c.Partition, c.Lease.Kind, c.Lease.N)
	}
	return s.write(ctx, func(t *tx) error { return t.commit(c) })
}

var putImages = newBulk("INSERT INTO image (part, inst, image) SELECT * FROM {rows} WHERE true ON CONFLICT (part, inst) DO UPDATE SET image = excluded.image", "BBY")

// commit takes its locks in the order that all transactions do: lease, alerts, tenants, endpoints, deliveries.
func (t *tx) commit(c *Commit) error {
	if err := t.fence(c.Lease); err != nil {
		return err
	}
	c.Dropped = c.Dropped[:0]
	now := time.Now()
	for i := range c.Fires {
		if c.Fires[i].Created.IsZero() {
			c.Fires[i].Created = now
		}
	}
	m, err := t.moveAlerts(c, now)
	if err != nil {
		return err
	}
	events := make([]*Event, 0, len(c.Fires))
	for i := range c.Fires {
		e := &c.Fires[i]
		if e.Alert != 0 && !m.fired[e.Alert].active {
			c.Dropped = append(c.Dropped, e.Alert)
			continue
		}
		events = append(events, e)
	}
	if err := t.addEvents(events, m); err != nil {
		return err
	}
	if err := t.putInstruments(c.Instruments); err != nil {
		return err
	}
	if c.Anew {
		if err := t.DropImages(t.ctx, int32(c.Partition)); err != nil {
			return err
		}
	}
	err = t.exec(putImages, len(c.Images), func(args []any, i int) []any {
		return append(args, int64(c.Partition), int64(c.Images[i].Inst), c.Images[i].Data)
	})
	if err != nil {
		return err
	}
	if c.After != nil {
		n, err := t.MoveCheckpoint(t.ctx, query.MoveCheckpointParams{
			Part: int32(c.Partition), LogID: c.LogID, Place: c.Offset, Clock: int64(c.Clock), FromLog: c.After.LogID, FromPlace: c.After.Offset,
		})
		if err == nil && n == 0 {
			err = ErrMoved
		}
		return err
	}
	return t.SetCheckpoint(t.ctx, query.SetCheckpointParams{Part: int32(c.Partition), LogID: c.LogID, Place: c.Offset, Clock: int64(c.Clock)})
}

// moved is what the events of a transaction must know of the alerts that it has moved.
type moved struct {
	fired map[int64]fired
	ended map[int64]int64 // alerts by tenant that do not count for its quota any more
}

type fired struct {
	tenant    int64
	inst      int64
	endpoints string
	active    bool
}

var (
	lockAlerts = newBulk(`SELECT num, tenant, inst, endpoints, state, version, applied, last_fire, arm_seq, valid_from, clock, value, blob
 FROM alert WHERE num IN {list} ORDER BY num FOR UPDATE`, "")
	// Most alerts that move are active and stay so; their indexes need not be touched.
	moveEvals  = newBulk("UPDATE alert SET last_fire = v.column2, arm_seq = v.column3, blob = v.column4 FROM {rows} WHERE alert.num = v.column1", "BBBY")
	moveAlerts = newBulk(`UPDATE alert SET state = v.column2, applied = v.column3, last_fire = v.column4, arm_seq = v.column5, valid_from = v.column6,
 clock = v.column7, value = v.column8, blob = v.column9, updated = CASE WHEN alert.state <> v.column2 AND v.column2 NOT IN ('pending', 'active', 'paused') THEN v.column10 ELSE alert.updated END
 FROM {rows} WHERE alert.num = v.column1`, "BTBBBBBTYB")
)

// live tells whether an alert in this state counts for the quota.
func (a AlertState) live() bool { return a == AlertPending || a == AlertActive || a == AlertPaused }

// moveAlerts brings the alerts up to date, some at a time, in the order of their numbers.
func (t *tx) moveAlerts(c *Commit, now time.Time) (*moved, error) {
	applied, evals, last := byAlert(c.Applied, func(a *Applied) int64 { return a.Alert }), byAlert(c.Evals, func(e *EvalUpdate) int64 { return e.Alert }), map[int64]int64{}
	for i := range c.Fires {
		if e := &c.Fires[i]; e.Alert != 0 {
			at := micros(e.Created)
			if e.Type != TypeAlertFired {
				at = 0 // it has ended without
			}
			last[e.Alert] = max(last[e.Alert], at)
		}
	}
	var nums []int64
	for n := range applied {
		nums = append(nums, n)
	}
	for n := range evals {
		nums = append(nums, n)
	}
	for n := range last {
		nums = append(nums, n)
	}
	slices.Sort(nums)
	nums = slices.Compact(nums)

	m := &moved{fired: make(map[int64]fired, len(last)), ended: map[int64]int64{}}
	var page []query.Alert
	var stayed, changed []*query.Alert
	err := t.s.inSizes(len(nums), func(from, to int) error {
		page = page[:0]
		err := t.s.rows(t.ctx, t.db, lockAlerts, nums[from:to], func(rows *sql.Rows) error {
			var a query.Alert
			err := rows.Scan(&a.Num, &a.Tenant, &a.Inst, &a.Endpoints, &a.State, &a.Version, &a.Applied, &a.LastFire, &a.ArmSeq, &a.ValidFrom, &a.Clock, &a.Value, &a.Blob)
			page = append(page, a)
			return err
		})
		if err != nil {
			return err
		}
		stayed, changed = stayed[:0], changed[:0]
		for i := range page {
			row := &page[i]
			before, applied0 := AlertState(row.State), row.Applied
			if a := applied[row.Num]; a != nil {
				a.take(row)
			}
			if at, ok := last[row.Num]; ok {
				active := AlertState(row.State) == AlertActive
				m.fired[row.Num] = fired{tenant: row.Tenant, inst: row.Inst, endpoints: row.Endpoints, active: active}
				if active && at != 0 {
					row.LastFire = at
				}
			}
			if e := evals[row.Num]; e != nil && AlertState(row.State) == AlertActive {
				e.take(row)
			}
			if before.live() && !AlertState(row.State).live() {
				m.ended[row.Tenant]++
			}
			if before == AlertState(row.State) && applied0 == row.Applied {
				stayed = append(stayed, row)
			} else {
				changed = append(changed, row)
			}
		}
		err = t.exec(moveEvals, len(stayed), func(args []any, i int) []any {
			row := stayed[i]
			return append(args, row.Num, row.LastFire, row.ArmSeq, noNil(row.Blob))
		})
		if err != nil {
			return err
		}
		return t.exec(moveAlerts, len(changed), func(args []any, i int) []any {
			row := changed[i]
			return append(args, row.Num, row.State, row.Applied, row.LastFire, row.ArmSeq, row.ValidFrom, row.Clock, row.Value, noNil(row.Blob), micros(now))
		})
	})
	return m, err
}

func byAlert[T any](all []T, num func(*T) int64) map[int64]*T {
	m := make(map[int64]*T, len(all))
	for i := range all {
		m[num(&all[i])] = &all[i] // the last one counts
	}
	return m
}

func (a *Applied) take(row *query.Alert) {
	if a.Version <= row.Applied {
		return
	}
	row.Applied = a.Version
	if a.Version != row.Version || a.State == "" {
		return
	}
	row.State = string(a.State)
	row.ArmSeq, row.Blob = int64(a.Eval.ArmSeq), a.Eval.Blob
	row.ValidFrom, row.Clock, row.Value = a.Eval.ValidFrom, int64(a.Eval.Clock), a.Eval.Value
}

func (e *EvalUpdate) take(row *query.Alert) {
	row.ArmSeq, row.Blob = int64(e.Eval.ArmSeq), e.Eval.Blob
	if e.State != "" {
		row.State = string(e.State)
	}
}

// noNil is for columns that are never NULL.
func noNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
