package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/webhook/store/query"
)

var insertAlerts = newBulk(`INSERT INTO alert (num, tenant, name, sym, inst, part, rule, endpoints, metadata, labels, state, version, applied, created, updated,
 last_fire, arm_seq, valid_from, clock, value, blob) SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, column11,
 1, 0, column12, column12, 0, 0, 0, 0, '', column13 FROM {rows}`, "BBTTBBTTTTTBY")

// CreateAlerts adds a tenant's alerts, all or none: pending, unless they are paused. They get numbers where they have none. A
// QuotaError says that the tenant may not have so many.
func (s *Store) CreateAlerts(ctx context.Context, tenant int64, alerts []*Alert, once *Once) error {
	return s.write(ctx, func(t *tx) error {
		return t.once(tenant, once, func() error {
			if err := t.room(tenant, len(alerts), 0); err != nil {
				return err
			}
			for _, a := range alerts {
				a.Num, a.Tenant, a.Created = cmp0(a.Num, s.ids), tenant, orNow(a.Created)
				a.Updated, a.Version, a.Applied = a.Created, 1, 0
				if a.State != AlertPaused {
					a.State = AlertPending
				}
				t.changed[a.Partition] = struct{}{}
			}
			return t.exec(insertAlerts, len(alerts), func(args []any, i int) []any {
				a := alerts[i]
				return append(args, a.Num, a.Tenant, a.Name, a.Sym, int64(a.Inst), int64(a.Partition), a.Rule, toList(a.Endpoints), a.Metadata, toList(a.Labels),
					string(a.State), micros(a.Created), []byte{})
			})
		})
	})
}

// Alert returns a tenant's alert, be it deleted.
func (s *Store) Alert(ctx context.Context, tenant, num int64) (*Alert, error) {
	row, err := s.read.Alert(ctx, tenant, num)
	if err != nil {
		return nil, s.found(err)
	}
	a, err := toAlert(row)
	return &a, err
}

// AlertFilter says which alerts of a tenant are asked for.
type AlertFilter struct {
	Tenant int64
	State  AlertState // empty: all but deleted ones
	Sym    string     // empty: all
	Label  string     // empty: all
	Page
}

// Alerts returns alerts.
func (s *Store) Alerts(ctx context.Context, f AlertFilter) ([]Alert, error) {
	p := query.AlertsParams{Tenant: f.Tenant, Before: f.before(), State: string(f.State), Sym: f.Sym, Max: int32(f.Limit)}
	if f.Label != "" {
		label := strings.TrimSuffix(strings.TrimPrefix(toList([]string{f.Label}), "["), "]")
		p.Label = "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(label) + "%"
	}
	rows, err := s.read.Alerts(ctx, p)
	if err != nil {
		return nil, s.found(err)
	}
	list := make([]Alert, 0, len(rows))
	for _, row := range rows {
		a, err := toAlert(row)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// UpdateAlert lets change alter an alert's Name, Endpoints, Metadata, Labels, Rule, Sym, Inst and Partition. Another rule or
// instrument makes it pending again, unless it is paused: what the old rule would fire from now on is dropped. An alert that has
// ended begins anew that way. change may be called again, with the alert as it is then.
func (s *Store) UpdateAlert(ctx context.Context, tenant, num int64, change func(*Alert) error) (*Alert, error) {
	return s.alertTx(ctx, tenant, num, func(_ *tx, a *Alert) error {
		before := *a
		if err := change(a); err != nil {
			return err
		}
		a.State = before.State
		if a.Rule == before.Rule && a.Inst == before.Inst && a.Sym == before.Sym && a.Partition == before.Partition {
			return nil
		}
		a.Version++
		if a.State != AlertPaused {
			a.State = AlertPending
		}
		return nil
	})
}

// PauseAlert stops an alert. What it would fire from now on is dropped.
func (s *Store) PauseAlert(ctx context.Context, tenant, num int64) (*Alert, error) {
	return s.alertTx(ctx, tenant, num, func(_ *tx, a *Alert) error {
		switch a.State {
		case AlertPaused:
			return nil
		case AlertPending, AlertActive:
			a.State = AlertPaused
			a.Version++
			return nil
		}
		return fmt.Errorf("%w: it is %s", ErrState, a.State)
	})
}

// ResumeAlert starts an alert that was paused, or one that has ended, as if it were new; only its fires are counted on.
func (s *Store) ResumeAlert(ctx context.Context, tenant, num int64) (*Alert, error) {
	return s.alertTx(ctx, tenant, num, func(_ *tx, a *Alert) error {
		if a.State == AlertPending || a.State == AlertActive {
			return nil
		}
		a.State = AlertPending
		a.Version++
		return nil
	})
}

// DeleteAlert ends an alert. It is kept as long as its events are.
func (s *Store) DeleteAlert(ctx context.Context, tenant, num int64) error {
	_, err := s.alertTx(ctx, tenant, num, func(_ *tx, a *Alert) error {
		a.State = AlertDeleted
		a.Version++
		return nil
	})
	return err
}

// alertTx changes an alert under its lock, and counts it for the quota.
func (s *Store) alertTx(ctx context.Context, tenant, num int64, change func(*tx, *Alert) error) (*Alert, error) {
	var a Alert
	err := s.write(ctx, func(t *tx) error {
		row, err := t.LockAlert(t.ctx, tenant, num)
		if err != nil {
			return s.found(err)
		}
		if a, err = toAlert(row); err != nil {
			return err
		}
		if a.State == AlertDeleted {
			return ErrNotFound
		}
		before := a
		if err := change(t, &a); err != nil {
			return err
		}
		if err := t.recount(tenant, before.State, a.State); err != nil {
			return err
		}
		if a.Version != before.Version {
			t.changed[a.Partition] = struct{}{}
			t.changed[before.Partition] = struct{}{}
		}
		a.Updated = time.Now()
		return t.SetAlert(t.ctx, query.SetAlertParams{
			Num: num, Name: a.Name, Sym: a.Sym, Inst: int64(a.Inst), Part: int32(a.Partition), Rule: a.Rule, Endpoints: toList(a.Endpoints), Metadata: a.Metadata,
			Labels: toList(a.Labels), State: string(a.State), Version: a.Version, Updated: micros(a.Updated),
		})
	})
	if err != nil {
		return nil, err
	}
	return &a, nil
}

func (t *tx) recount(tenant int64, before, after AlertState) error {
	switch {
	case before.live() == after.live():
		return nil
	case after.live():
		return t.room(tenant, 1, 0)
	}
	_, err := t.CountInTenant(t.ctx, query.CountInTenantParams{Alerts: -1, Num: tenant})
	return err
}

// PutInstruments tells what the API must know of instruments. Owners do so by Commit.
func (s *Store) PutInstruments(ctx context.Context, list []Instrument) error {
	return s.write(ctx, func(t *tx) error { return t.putInstruments(list) })
}

func (t *tx) putInstruments(list []Instrument) error {
	for _, x := range list {
		err := t.PutInstrument(t.ctx, query.PutInstrumentParams{
			Sym: x.Sym, Inst: int64(x.Inst), Part: int32(x.Partition), PriceScale: int32(x.PriceScale), SizeScale: int32(x.SizeScale), State: x.State,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Instrument returns an instrument by its canonical id.
func (s *Store) Instrument(ctx context.Context, sym string) (*Instrument, error) {
	row, err := s.read.Instrument(ctx, sym)
	if err != nil {
		return nil, s.found(err)
	}
	x := toInstrument(row)
	return &x, nil
}

// Instruments returns all instruments.
func (s *Store) Instruments(ctx context.Context) ([]Instrument, error) {
	rows, err := s.read.Instruments(ctx)
	list := make([]Instrument, len(rows))
	for i, row := range rows {
		list[i] = toInstrument(row)
	}
	return list, s.found(err)
}

func toInstrument(r query.Instrument) Instrument {
	return Instrument{Sym: r.Sym, Inst: uint32(r.Inst), Partition: int(r.Part), PriceScale: uint8(r.PriceScale), SizeScale: uint8(r.SizeScale), State: r.State}
}

func toAlert(r query.Alert) (Alert, error) {
	endpoints, err := fromList[int64](r.Endpoints)
	if err != nil {
		return Alert{}, fmt.Errorf("alert %d: endpoints: %w", r.Num, err)
	}
	labels, err := fromList[string](r.Labels)
	if err != nil {
		return Alert{}, fmt.Errorf("alert %d: labels: %w", r.Num, err)
	}
	return Alert{
		Num: r.Num, Tenant: r.Tenant, Name: r.Name, Sym: r.Sym, Inst: uint32(r.Inst), Partition: int(r.Part), Rule: r.Rule, Endpoints: endpoints,
		Metadata: r.Metadata, Labels: labels, State: AlertState(r.State), Version: r.Version, Applied: r.Applied, Created: fromMicros(r.Created),
		Updated: fromMicros(r.Updated), LastFire: fromMicros(r.LastFire),
		Eval: Eval{ArmSeq: uint32(r.ArmSeq), ValidFrom: r.ValidFrom, Clock: market.Time(r.Clock), Value: r.Value, Blob: r.Blob},
	}, nil
}
