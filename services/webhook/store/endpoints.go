package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// Page is a part of a list that begins with the newest.
type Page struct {
	Before int64 // the number of the last one of the page before; 0: the newest
	Limit  int
}

func (p Page) before() int64 {
	if p.Before == 0 {
		return math.MaxInt64
	}
	return p.Before
}

// CreateEndpoint adds an endpoint; it and its secrets get numbers where they have none. once may be nil.
func (s *Store) CreateEndpoint(ctx context.Context, e *Endpoint, once *Once) error {
	return s.write(ctx, func(t *tx) error {
		return t.once(e.Tenant, once, func() error {
			if err := t.room(e.Tenant, 0, 1); err != nil {
				return err
			}
			e.Num = cmp0(e.Num, s.ids)
			e.Created = orNow(e.Created)
			e.Updated, e.Version = e.Created, 1
			p := setEndpoint(s.keys, e)
			err := t.AddEndpoint(t.ctx, query.AddEndpointParams{
				Num: e.Num, Tenant: e.Tenant, Slot: int32(SlotOf(e.Num)), Url: p.Url, Description: p.Description, State: p.State, Why: p.Why,
				EventTypes: p.EventTypes, Created: micros(e.Created), Updated: p.Updated, Version: p.Version, Format: p.Format, Profile: p.Profile,
				MaxInFlight: p.MaxInFlight, Rate: p.Rate, TimeoutUs: p.TimeoutUs, Ordering: p.Ordering, Batch: p.Batch, Headers: p.Headers,
				Signatures: p.Signatures, Tls: p.Tls, Verify: p.Verify,
			})
			if err != nil {
				return err
			}
			t.queued[e.Num] = struct{}{}
			return t.putSecrets(e)
		})
	})
}

// Endpoints returns a tenant's endpoints.
func (s *Store) Endpoints(ctx context.Context, tenant int64, p Page) ([]Endpoint, error) {
	rows, err := s.read.Endpoints(ctx, tenant, p.before(), int32(p.Limit))
	if err != nil {
		return nil, s.found(err)
	}
	return s.endpoints(ctx, rows)
}

// UpdateEndpoint lets change alter an endpoint, and keeps what it made of it: everything but State, Why and Health. Of the state
// it can say that the endpoint is unverified; what is queued is held then. Secrets that it took away are gone, those that
// it added get numbers. change may be called again, with the endpoint as it is then. once may be nil; its Render may look at what
// change was given last.
func (s *Store) UpdateEndpoint(ctx context.Context, tenant, num int64, change func(*Endpoint) error, once *Once) (*Endpoint, error) {
	return s.endpointTx(ctx, tenant, num, once, func(t *tx, e *Endpoint) error {
		state, why, before := e.State, e.Why, slices.Clone(e.Secrets)
		if err := change(e); err != nil {
			return err
		}
		if state != EndpointUnverified && e.State == EndpointUnverified {
			if err := t.hold(num); err != nil {
				return err
			}
			state, why = EndpointUnverified, ""
		}
		e.State, e.Why = state, why
		for _, x := range before {
			if !slices.ContainsFunc(e.Secrets, func(y Secret) bool { return y.Num == x.Num }) {
				if err := t.DropSecret(t.ctx, x.Num); err != nil {
					return err
				}
			}
		}
		if reflect.DeepEqual(before, e.Secrets) {
			return nil
		}
		return t.putSecrets(e)
	})
}

// Held says what becomes of the deliveries that are held for an endpoint when it is enabled.
type Held string

// What may become of them.
const (
	HeldReleased Held = "release" // they go out, by a replay
	HeldKept     Held = "keep"    // they stay held
	HeldDropped  Held = "drop"    // they are cancelled
)

// EnableEndpoint lets deliveries go out to an endpoint again. The replay is that of those that are released, or nil.
func (s *Store) EnableEndpoint(ctx context.Context, tenant, num int64, held Held) (*Endpoint, *Replay, error) {
	var replay *Replay
	e, err := s.endpointTx(ctx, tenant, num, nil, func(t *tx, e *Endpoint) error {
		e.State, e.Why = EndpointEnabled, ""
		e.Health = Health{LastSuccess: e.Health.LastSuccess, LastFailure: e.Health.LastFailure, LastError: e.Health.LastError}
		if err := t.putHealth(num, &e.Health); err != nil {
			return err
		}
		switch held {
		case HeldReleased:
			replay = &Replay{Tenant: tenant, Endpoint: num, States: []DeliveryState{DeliveryHeld}}
			return t.addReplay(replay)
		case HeldDropped:
			_, err := t.CancelHeld(t.ctx, num, time.Now().UnixMicro())
			return err
		}
		return nil
	})
	return e, replay, err
}

func (t *tx) putHealth(endpoint int64, h *Health) error {
	return t.SetHealth(t.ctx, query.SetHealthParams{
		Endpoint: endpoint, FailingSince: micros(h.FailingSince), Failing: flag(h.Failing), PausedUntil: micros(h.PausedUntil),
		LastSuccess: micros(h.LastSuccess), LastFailure: micros(h.LastFailure), LastError: h.LastError,
	})
}

// DisableEndpoint lets no deliveries go out to an endpoint. What is queued is held, and so is what is fired from now on. One that
// has to be verified first stays so: nothing goes out to it either.
func (s *Store) DisableEndpoint(ctx context.Context, tenant, num int64, why string) (*Endpoint, error) {
	return s.endpointTx(ctx, tenant, num, nil, func(t *tx, e *Endpoint) error {
		if e.State == EndpointUnverified && e.Verify != VerifyNone {
			return nil
		}
		e.State, e.Why = EndpointDisabled, why
		return t.hold(num)
	})
}

// endpointTx changes an endpoint under its lock, and raises its version.
func (s *Store) endpointTx(ctx context.Context, tenant, num int64, once *Once, change func(*tx, *Endpoint) error) (*Endpoint, error) {
	var e *Endpoint
	err := s.write(ctx, func(t *tx) error {
		return t.once(tenant, once, func() error {
			row, err := t.LockEndpoint(t.ctx, num)
			if err != nil {
				return s.found(err)
			}
			if row.Tenant != tenant {
				return ErrNotFound
			}
			if e, err = t.endpoint(row); err != nil {
				return err
			}
			if err := change(t, e); err != nil {
				return err
			}
			return t.changeEndpoint(e)
		})
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (t *tx) changeEndpoint(e *Endpoint) error {
	e.Version++
	e.Updated = time.Now()
	t.queued[e.Num] = struct{}{}
	return t.SetEndpoint(t.ctx, setEndpoint(t.s.keys, e))
}

// disable is the sender's way of disabling.
func (t *tx) disable(num int64, why string) error {
	row, err := t.LockEndpoint(t.ctx, num)
	if err != nil {
		return t.s.found(err)
	}
	e, err := t.endpoint(row)
	if err != nil {
		return err
	}
	e.State, e.Why = EndpointDisabled, why
	if err := t.hold(num); err != nil {
		return err
	}
	return t.changeEndpoint(e)
}

func (t *tx) hold(endpoint int64) error {
	_, err := t.HoldDeliveries(t.ctx, endpoint)
	return err
}

// DeleteEndpoint removes an endpoint with its secrets, and cancels what is not delivered yet.
func (s *Store) DeleteEndpoint(ctx context.Context, tenant, num int64) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.LockTenant(t.ctx, tenant); err != nil {
			return s.found(err)
		}
		row, err := t.LockEndpoint(t.ctx, num)
		if err != nil {
			return s.found(err)
		}
		if row.Tenant != tenant {
			return ErrNotFound
		}
		for _, drop := range []func(context.Context, int64) error{t.DropSecrets, t.DropHealth} {
			if err := drop(t.ctx, num); err != nil {
				return err
			}
		}
		if _, err := t.DropEndpoint(t.ctx, num); err != nil {
			return err
		}
		if _, err := t.CancelDeliveries(t.ctx, num, time.Now().UnixMicro()); err != nil {
			return err
		}
		t.queued[num] = struct{}{}
		_, err = t.CountInTenant(t.ctx, query.CountInTenantParams{Endpoints: -1, Num: tenant})
		return err
	})
}

// endpointReader is what an endpoint's other rows are read from: the pool, or the transaction.
type endpointReader interface {
	Health(ctx context.Context, endpoint int64) (query.Health, error)
	Secrets(ctx context.Context, endpoint int64) ([]query.Secret, error)
}

func (t *tx) endpoint(row query.Endpoint) (*Endpoint, error) {
	return t.s.endpoint(t.ctx, t.Queries, row)
}

func (s *Store) endpoint(ctx context.Context, from endpointReader, row query.Endpoint) (*Endpoint, error) {
	e := &Endpoint{
		Num: row.Num, Tenant: row.Tenant, URL: row.Url, Description: row.Description, State: EndpointState(row.State), Why: row.Why,
		Created: fromMicros(row.Created), Updated: fromMicros(row.Updated), Version: row.Version, Format: Format(row.Format), Profile: Profile(row.Profile),
		MaxInFlight: int(row.MaxInFlight), Rate: row.Rate, Timeout: time.Duration(row.TimeoutUs) * time.Microsecond, Ordering: Ordering(row.Ordering),
		Batch: int(row.Batch), Verify: Verify(row.Verify),
	}
	var err error
	if e.EventTypes, err = fromList[string](row.EventTypes); err != nil {
		return nil, fmt.Errorf("endpoint %d: event types: %w", e.Num, err)
	}
	if e.Signatures, err = fromList[string](row.Signatures); err != nil {
		return nil, fmt.Errorf("endpoint %d: signatures: %w", e.Num, err)
	}
	if err := s.unseal(row.Headers, headersRow(e.Num), &e.Headers); err != nil {
		return nil, err
	}
	if err := s.unseal(row.Tls, tlsRow(e.Num), &e.TLS); err != nil {
		return nil, err
	}
	secrets, err := from.Secrets(ctx, e.Num)
	if err != nil {
		return nil, s.found(err)
	}
	for _, x := range secrets {
		text, err := s.keys.open(x.Sealed, secretRow(x.Num, e.Num))
		if err != nil {
			return nil, err
		}
		e.Secrets = append(e.Secrets, Secret{Num: x.Num, Kind: SecretKind(x.Kind), Text: string(text), Created: fromMicros(x.Created), Expires: fromMicros(x.Expires)})
	}
	h, err := from.Health(ctx, e.Num)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, s.found(err)
	}
	e.Health = Health{
		FailingSince: fromMicros(h.FailingSince), Failing: h.Failing != 0, PausedUntil: fromMicros(h.PausedUntil),
		LastSuccess: fromMicros(h.LastSuccess), LastFailure: fromMicros(h.LastFailure), LastError: h.LastError,
	}
	return e, nil
}

func (s *Store) unseal(sealed []byte, row string, into any) error {
	if len(sealed) == 0 {
		return nil
	}
	plain, err := s.keys.open(sealed, row)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(plain, into); err != nil {
		return fmt.Errorf("%s: %w", row, err)
	}
	return nil
}

func setEndpoint(keys keyring, e *Endpoint) query.SetEndpointParams {
	p := query.SetEndpointParams{
		Num: e.Num, Url: e.URL, Description: e.Description, State: string(e.State), Why: e.Why, EventTypes: toList(e.EventTypes), Updated: micros(e.Updated),
		Version: e.Version, Format: string(e.Format), Profile: string(e.Profile), MaxInFlight: int64(e.MaxInFlight), Rate: e.Rate,
		TimeoutUs: e.Timeout.Microseconds(), Ordering: string(e.Ordering), Batch: int64(e.Batch), Headers: []byte{}, Signatures: toList(e.Signatures),
		Tls: []byte{}, Verify: string(e.Verify),
	}
	if len(e.Headers) > 0 {
		p.Headers = keys.seal([]byte(toList(e.Headers)), headersRow(e.Num))
	}
	if e.TLS != nil {
		text, err := json.Marshal(e.TLS)
		if err != nil {
			panic(err) // of strings
		}
		p.Tls = keys.seal(text, tlsRow(e.Num))
	}
	return p
}

// cmp0 returns n, or a new id in place of 0.
func cmp0(n int64, ids *ids) int64 {
	if n == 0 {
		return ids.next()
	}
	return n
}

func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}
