package webhook

import (
	"crypto/sha256"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// key is an API key as the API tells it.
type key struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Prefix  string   `json:"prefix"`
	Scopes  []string `json:"scopes"`
	Created *string  `json:"created_at"`
	Expires *string  `json:"expires_at"`
	Revoked *string  `json:"revoked_at"`
	Used    *string  `json:"used_at"`
	Secret  string   `json:"secret,omitempty"` // where it is made
}

func tellKey(k *store.Key) key {
	return key{
		ID: store.FormatID(store.KeyPrefix, k.Num), Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes,
		Created: at(k.Created), Expires: at(k.Expires), Revoked: at(k.Revoked), Used: at(k.Used),
	}
}

func (a *api) listKeys(c *call) (*answer, error) {
	all, err := a.deps.Store.Keys(c.ctx, c.tenant.Num, c.page())
	if err != nil {
		return nil, err
	}
	return paged(c, all, tellKey, func(k key) string { return k.ID })
}

func (a *api) getKey(c *call) (*answer, error) {
	return fetched(c, store.KeyPrefix, a.deps.Store.Key, tellKey)
}

const (
	maxKeyName = 100
	shownOfKey = 6 // characters behind keyPrefix
)

// createKey makes a key. It can't have scopes that whoever asks lacks, nor outlive the key that they ask by.
func (a *api) createKey(c *call) (*answer, error) {
	o := c.body
	o.need("name")
	secret := newKeySecret()
	k := &store.Key{
		Tenant: c.tenant.Num, Name: o.text("name", maxKeyName), Prefix: secret[:len(keyPrefix)+shownOfKey], Scopes: c.scopes,
		Created: c.now, Expires: o.when("expires_at"),
	}
	if o.has("scopes") {
		k.Scopes = some(o, "scopes", allScopes)
	}
	if wrong := o.end(); wrong != nil {
		return nil, wrong
	}
	if k.Expires.IsZero() {
		k.Expires = c.until
	}
	switch {
	case k.Name == "":
		o.refuse("name", "must not be empty")
	case !c.until.IsZero() && k.Expires.After(c.until):
		o.refuse("expires_at", "is after your own key expires")
	case !k.Expires.IsZero() && !k.Expires.After(c.now):
		o.refuse("expires_at", "has passed")
	}
	for i, scope := range k.Scopes {
		if !c.may(scope) {
			o.bad(o.item("scopes", i), "your key has not that scope itself")
		}
	}
	if *o.wrong != nil {
		return nil, *o.wrong
	}
	return c.once(func(o *store.Once) error {
		err := a.deps.Store.CreateKey(c.ctx, k, sha256.Sum256([]byte(secret)), o)
		if err == nil {
			a.log.Info("key made", zap.String("tenant", store.FormatID(store.TenantPrefix, k.Tenant)), zap.String("key", store.FormatID(store.KeyPrefix, k.Num)), zap.Strings("scopes", k.Scopes))
		}
		return err
	}, func() (*answer, error) {
		told := tellKey(k)
		told.Secret = secret
		return made(told, "/v1/keys/"+told.ID, fasthttp.StatusCreated)
	})
}

// revokeKey makes a key good for nothing any more. It stays, so that people can see that it was there.
func (a *api) revokeKey(c *call) (*answer, error) {
	return a.act(c, store.KeyPrefix, func(num int64) (*answer, error) {
		if err := a.deps.Store.RevokeKey(c.ctx, c.tenant.Num, num); err != nil {
			return nil, err
		}
		a.log.Info("key revoked", zap.String("tenant", store.FormatID(store.TenantPrefix, c.tenant.Num)), zap.String("key", c.id))
		return a.getKey(c)
	})
}

// tenant is a tenant as the API tells it.
type tenant struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	Quota   quotas  `json:"quota"`
	Created *string `json:"created_at"`
}

// quotas leaves out what is the service's default.
type quotas struct {
	Alerts    int     `json:"alerts,omitempty"`
	Endpoints int     `json:"endpoints,omitempty"`
	Rate      float64 `json:"rate,omitempty"`
}

func tellTenant(t *store.Tenant) tenant {
	return tenant{ID: store.FormatID(store.TenantPrefix, t.Num), Name: t.Name, Quota: quotas(t.Quota), Created: at(t.Created)}
}

func (a *api) listTenants(c *call) (*answer, error) {
	all, err := a.deps.Store.Tenants(c.ctx, c.page())
	if err != nil {
		return nil, err
	}
	return paged(c, all, tellTenant, func(t tenant) string { return t.ID })
}

func (a *api) getTenant(c *call) (*answer, error) {
	num, err := c.num(store.TenantPrefix)
	if err != nil {
		return nil, err
	}
	t, _, err := a.deps.Store.Tenant(c.ctx, num)
	if err != nil {
		return nil, err
	}
	return reply(fasthttp.StatusOK, tellTenant(t))
}

func (a *api) createTenant(c *call) (*answer, error) {
	c.body.need("name")
	t := &store.Tenant{Created: c.now}
	if err := readTenant(c.body, t); err != nil {
		return nil, err
	}
	return c.once(func(o *store.Once) error { return a.deps.Store.CreateTenant(c.ctx, t, o) }, func() (*answer, error) {
		told := tellTenant(t)
		return made(told, "/v1/tenants/"+told.ID, fasthttp.StatusCreated)
	})
}

func (a *api) changeTenant(c *call) (*answer, error) {
	num, err := c.num(store.TenantPrefix)
	if err != nil {
		return nil, err
	}
	t, _, err := a.deps.Store.Tenant(c.ctx, num)
	if err != nil {
		return nil, err
	}
	if err := readTenant(c.body, t); err != nil {
		return nil, err
	}
	if err := a.deps.Store.UpdateTenant(c.ctx, t); err != nil {
		return nil, err
	}
	return reply(fasthttp.StatusOK, tellTenant(t))
}

// Greatest quotas.
const (
	mostAlerts    = 100_000_000
	mostEndpoints = 1_000_000
	mostRate      = 1_000_000
)

func readTenant(o *object, t *store.Tenant) error {
	if o.has("name") {
		if t.Name = o.text("name", maxKeyName); t.Name == "" {
			o.refuse("name", "must not be empty")
		}
	}
	if q, ok := o.member("quota"); ok {
		t.Quota = store.Quota{
			Alerts: q.integer("alerts", 0, mostAlerts, 0), Endpoints: q.integer("endpoints", 0, mostEndpoints, 0), Rate: q.number("rate", 0, mostRate, 0),
		}
		_ = q.end() // the problem is the whole body's
	}
	if wrong := o.end(); wrong != nil {
		return wrong
	}
	return nil
}

func (a *api) health(*call) (*answer, error) {
	return reply(fasthttp.StatusOK, struct {
		OK bool `json:"ok"`
	}{true})
}

func (a *api) document(*call) (*answer, error) {
	return &answer{Status: fasthttp.StatusOK, Body: openapiYAML}, nil
}
