package store

import (
	"context"
	"fmt"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// Usage is how much of its quota a tenant has used.
type Usage struct{ Alerts, Endpoints int64 }

// CreateTenant adds a tenant; ErrExists says that there is one of its name.
func (s *Store) CreateTenant(ctx context.Context, x *Tenant, once *Once) error {
	return s.write(ctx, func(t *tx) error {
		return t.once(0, once, func() error {
			x.Num, x.Created = cmp0(x.Num, s.ids), orNow(x.Created)
			return t.AddTenant(t.ctx, query.AddTenantParams{
				Num: x.Num, Name: x.Name, QuotaAlerts: int64(x.Quota.Alerts), QuotaEndpoints: int64(x.Quota.Endpoints), QuotaRate: x.Quota.Rate, Created: micros(x.Created),
			})
		})
	})
}

// Tenant returns a tenant, and what it has.
func (s *Store) Tenant(ctx context.Context, num int64) (*Tenant, Usage, error) {
	row, err := s.read.Tenant(ctx, num)
	if err != nil {
		return nil, Usage{}, s.found(err)
	}
	return toTenant(row), Usage{Alerts: row.Alerts, Endpoints: row.Endpoints}, nil
}

// TenantByName returns the tenant of a name.
func (s *Store) TenantByName(ctx context.Context, name string) (*Tenant, error) {
	row, err := s.read.TenantByName(ctx, name)
	if err != nil {
		return nil, s.found(err)
	}
	return toTenant(row), nil
}

// Tenants returns tenants.
func (s *Store) Tenants(ctx context.Context, p Page) ([]Tenant, error) {
	rows, err := s.read.Tenants(ctx, p.before(), int32(p.Limit))
	list := make([]Tenant, len(rows))
	for i, row := range rows {
		list[i] = *toTenant(row)
	}
	return list, s.found(err)
}

// UpdateTenant sets a tenant's name and quota.
func (s *Store) UpdateTenant(ctx context.Context, x *Tenant) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.SetTenant(t.ctx, query.SetTenantParams{Num: x.Num, Name: x.Name, QuotaAlerts: int64(x.Quota.Alerts), QuotaEndpoints: int64(x.Quota.Endpoints), QuotaRate: x.Quota.Rate})
		return one(n, err)
	})
}

// one turns a change of no row into ErrNotFound.
func one(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

func toTenant(r query.Tenant) *Tenant {
	return &Tenant{Num: r.Num, Name: r.Name, Created: fromMicros(r.Created), Quota: Quota{Alerts: int(r.QuotaAlerts), Endpoints: int(r.QuotaEndpoints), Rate: r.QuotaRate}}
}

// room counts new alerts and endpoints of a tenant, or fails with a QuotaError when it may not have so many.
func (t *tx) room(tenant int64, alerts, endpoints int) error {
	row, err := t.LockTenant(t.ctx, tenant)
	if err != nil {
		return t.s.found(err)
	}
	for _, q := range []struct {
		what        string
		has, quota  int64
		standard, n int
	}{
		{"alerts", row.Alerts, row.QuotaAlerts, t.s.cfg.Quota.Alerts, alerts},
		{"endpoints", row.Endpoints, row.QuotaEndpoints, t.s.cfg.Quota.Endpoints, endpoints},
	} {
		limit := q.quota
		if limit == 0 {
			limit = int64(q.standard)
		}
		if q.n > 0 && limit > 0 && q.has+int64(q.n) > limit {
			return &QuotaError{What: q.what, Limit: int(limit)}
		}
	}
	_, err = t.CountInTenant(t.ctx, query.CountInTenantParams{Alerts: int64(alerts), Endpoints: int64(endpoints), Num: tenant})
	return err
}

// CreateKey adds an API key, of whose secret hash is the SHA-256.
func (s *Store) CreateKey(ctx context.Context, k *Key, hash [32]byte, once *Once) error {
	return s.write(ctx, func(t *tx) error {
		return t.once(k.Tenant, once, func() error {
			if _, err := t.Tenant(t.ctx, k.Tenant); err != nil {
				return s.found(err)
			}
			k.Num, k.Created = cmp0(k.Num, s.ids), orNow(k.Created)
			return t.AddKey(t.ctx, query.AddKeyParams{
				Num: k.Num, Tenant: k.Tenant, Name: k.Name, Prefix: k.Prefix, Hash: hash[:], Scopes: toList(k.Scopes), Created: micros(k.Created), Expires: micros(k.Expires),
			})
		})
	})
}

// KeyByHash returns the key whose secret has this hash, be it revoked or expired.
func (s *Store) KeyByHash(ctx context.Context, hash [32]byte) (*Key, error) {
	row, err := s.read.KeyByHash(ctx, hash[:])
	if err != nil {
		return nil, s.found(err)
	}
	return toKey(row)
}

// Key returns a tenant's key.
func (s *Store) Key(ctx context.Context, tenant, num int64) (*Key, error) {
	row, err := s.read.Key(ctx, tenant, num)
	if err != nil {
		return nil, s.found(err)
	}
	return toKey(row)
}

// Keys returns a tenant's keys.
func (s *Store) Keys(ctx context.Context, tenant int64, p Page) ([]Key, error) {
	rows, err := s.read.Keys(ctx, tenant, p.before(), int32(p.Limit))
	if err != nil {
		return nil, s.found(err)
	}
	list := make([]Key, 0, len(rows))
	for _, row := range rows {
		k, err := toKey(row)
		if err != nil {
			return nil, err
		}
		list = append(list, *k)
	}
	return list, nil
}

func toKey(r query.ApiKey) (*Key, error) {
	scopes, err := fromList[string](r.Scopes)
	if err != nil {
		return nil, fmt.Errorf("key %d: scopes: %w", r.Num, err)
	}
	return &Key{
		Num: r.Num, Tenant: r.Tenant, Name: r.Name, Prefix: r.Prefix, Scopes: scopes, Created: fromMicros(r.Created), Expires: fromMicros(r.Expires),
		Revoked: fromMicros(r.Revoked), Used: fromMicros(r.Used),
	}, nil
}

// RevokeKey makes a key no good any more.
func (s *Store) RevokeKey(ctx context.Context, tenant, num int64) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.Queries.RevokeKey(t.ctx, tenant, num, time.Now().UnixMicro())
		return one(n, err)
	})
}

// UseKey notes when a key was used. Callers do so once in a while, not at each request.
func (s *Store) UseKey(ctx context.Context, num int64, at time.Time) error {
	return s.write(ctx, func(t *tx) error { return t.Queries.UseKey(t.ctx, num, micros(at)) })
}
