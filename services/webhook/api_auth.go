package webhook

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// caller is who asks, and for whom.
type caller struct {
	tenant *store.Tenant // nil: for none, which the admin may
	scopes []string
	admin  bool
	until  time.Time // when the caller's key expires; zero: never
}

// may tells whether the caller has a scope.
func (c *caller) may(scope string) bool { return slices.Contains(c.scopes, scope) }

// allScopes are those that there are.
var allScopes = []string{
	store.ScopeAlertsRead, store.ScopeAlertsWrite, store.ScopeEndpointsRead, store.ScopeEndpointsWrite,
	store.ScopeEventsRead, store.ScopeDeliveries, store.ScopeKeys,
}

// payer is whose bucket a request is paid from: a tenant, or a place from where tokens come that are not good.
type payer struct {
	tenant int64
	place  door.Place
}

const (
	tenantHeader   = "Tickwire-Tenant"
	idempotencyKey = "Idempotency-Key"
	keyPrefix      = "tw_live_"
	usedEvery      = time.Minute // how exactly it is known when a key was last used
	plainTenant    = "default"   // of those without a key, where none is needed
)

// newKeySecret makes a key of 256 random bits. It is found again by its hash, so that no comparison takes longer for a good
// guess than for a bad one.
func newKeySecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it never fails
	return keyPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// admit finds out who asks and whether they may, and has their tenant pay for the request.
func (a *api) admit(ctx context.Context, http *fasthttp.RequestCtx, r *route) (*caller, error) {
	if r.access == open {
		return &caller{}, nil
	}
	c, err := a.identify(ctx, http, r)
	switch {
	case err != nil:
		return nil, err
	case r.access == ofAdmin && !c.admin:
		return nil, forbidden("that is for the admin token alone")
	case r.access == ofTenant && !c.may(r.scope):
		return nil, forbidden("the key lacks the scope " + r.scope)
	case c.admin:
		return c, nil
	}
	q := a.limiter.Take(payer{tenant: c.tenant.Num}, c.tenant.Quota.Rate, a.deps.Now())
	rest.TellQuota(http, q)
	if !q.OK {
		a.served.Limited.Inc()
		return nil, tooMany()
	}
	return c, nil
}

func forbidden(why string) error {
	return &rest.Problem{Status: fasthttp.StatusForbidden, Code: "forbidden", Detail: why}
}

func tooMany() error {
	p := rest.AskedTooMuch()
	return &p
}

// identify finds out who asks, by their token.
func (a *api) identify(ctx context.Context, http *fasthttp.RequestCtx, r *route) (*caller, error) {
	tokens := rest.Bearers(http)
	switch {
	case len(http.Request.Header.Peek(fasthttp.HeaderAuthorization)) == 0 && a.cfg.Auth == AuthNone && r.access == ofTenant:
		return a.withoutKey(ctx, http)
	case len(tokens) == 0:
		return nil, &rest.Problem{Status: fasthttp.StatusUnauthorized, Code: "auth_required", Detail: "send Authorization: Bearer and an API key"}
	case len(tokens) > 1:
		return nil, authFailed("more than one token")
	}
	stranger := payer{place: door.PlaceOf(rest.Client(http, a.proxies))}
	// Guesses cost us a question to the database. Loopback, and proxies that name nobody, are not one client's place: one who
	// guesses there would keep everybody out.
	if stranger.place != 0 && !a.limiter.Solvent(stranger, a.deps.Now()) {
		a.served.Limited.Inc()
		rest.TellQuota(http, a.limiter.Take(stranger, 0, a.deps.Now()))
		return nil, tooMany()
	}
	sum := sha256.Sum256([]byte(tokens[0]))
	if a.deps.AdminToken != "" && subtle.ConstantTimeCompare(sum[:], a.admin[:]) == 1 {
		return a.asAdmin(ctx, http, r)
	}
	key, err := a.deps.Store.KeyByHash(ctx, sum)
	if err == nil {
		err = a.good(key)
	} else if errors.Is(err, store.ErrNotFound) {
		err = authFailed("no such key")
	}
	if err != nil {
		a.limiter.Take(stranger, 0, a.deps.Now())
		return nil, err
	}
	return a.asKey(ctx, http, key)
}

func authFailed(why string) error {
	return &rest.Problem{Status: fasthttp.StatusUnauthorized, Code: "auth_failed", Detail: why}
}

// good says what is wrong with a key.
func (a *api) good(k *store.Key) error {
	switch now := a.deps.Now(); {
	case !k.Revoked.IsZero():
		return authFailed("the key has been revoked")
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return authFailed("the key has expired")
	}
	return nil
}

func (a *api) asKey(ctx context.Context, http *fasthttp.RequestCtx, k *store.Key) (*caller, error) {
	if now := a.deps.Now(); now.Sub(k.Used) >= usedEvery {
		if err := a.deps.Store.UseKey(ctx, k.Num, now); err != nil {
			a.log.Warn("note that a key was used", zap.Error(err)) // what can be read can be read all the same
		}
	}
	t, _, err := a.deps.Store.Tenant(ctx, k.Tenant)
	if err != nil {
		return nil, err
	}
	if err := onlyTenant(http, t.Num); err != nil {
		return nil, err
	}
	return &caller{tenant: t, scopes: k.Scopes, until: k.Expires}, nil
}

// asAdmin is for the tenant that the request names.
func (a *api) asAdmin(ctx context.Context, http *fasthttp.RequestCtx, r *route) (*caller, error) {
	c := &caller{scopes: allScopes, admin: true}
	if r.access != ofTenant {
		return c, nil
	}
	num, err := tenantOf(http)
	switch {
	case err != nil:
		return nil, err
	case num == 0:
		return nil, &rest.Problem{Status: fasthttp.StatusBadRequest, Code: "bad_request", Param: tenantHeader, Detail: "with the admin token, say whose things they are"}
	}
	if c.tenant, _, err = a.deps.Store.Tenant(ctx, num); errors.Is(err, store.ErrNotFound) {
		return nil, nothing("tenant")
	}
	return c, err
}

// withoutKey is for those who need no key. A web page is not among them: it could be any that the user of a browser on this
// machine happens to visit, by a name of its own that leads here.
func (a *api) withoutKey(ctx context.Context, http *fasthttp.RequestCtx) (*caller, error) {
	if h := &http.Request.Header; len(h.Peek(fasthttp.HeaderOrigin)) > 0 || !numeric(string(h.Host())) {
		return nil, forbidden("without a key, requests must go to an address or to localhost, and not come from a web page")
	}
	t, err := a.plain(ctx)
	if err != nil {
		return nil, err
	}
	if err := onlyTenant(http, t.Num); err != nil {
		return nil, err
	}
	return &caller{tenant: t, scopes: allScopes}, nil
}

// plain is the tenant of those without a key, who is made when there is none yet.
func (a *api) plain(ctx context.Context) (*store.Tenant, error) {
	t, err := a.deps.Store.TenantByName(ctx, plainTenant)
	if !errors.Is(err, store.ErrNotFound) {
		return t, err
	}
	err = a.deps.Store.CreateTenant(ctx, &store.Tenant{Name: plainTenant}, nil)
	if err != nil && !errors.Is(err, store.ErrExists) { // another process may have been quicker
		return nil, err
	}
	return a.deps.Store.TenantByName(ctx, plainTenant)
}

// numeric tells whether a Host names an address, or this machine.
func numeric(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	_, err = netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil || strings.EqualFold(name, "localhost")
}

// onlyTenant refuses a request that names another tenant than its own.
func onlyTenant(http *fasthttp.RequestCtx, own int64) error {
	num, err := tenantOf(http)
	if err == nil && num != 0 && num != own {
		return nothing("tenant")
	}
	return err
}

// tenantOf is the tenant that a request names; 0 when it names none.
func tenantOf(http *fasthttp.RequestCtx) (num int64, err error) {
	args := http.QueryArgs()
	for _, f := range []struct {
		name   string
		values [][]byte
	}{{tenantHeader, http.Request.Header.PeekAll(tenantHeader)}, {"tenant", args.PeekMulti("tenant")}} {
		for _, value := range f.values {
			n, err := store.ParseID(store.TenantPrefix, string(value))
			if err != nil || num != 0 && n != num {
				return 0, &rest.Problem{Status: fasthttp.StatusBadRequest, Code: "bad_request", Param: f.name, Detail: "not the id of one tenant"}
			}
			num = n
		}
	}
	return num, nil
}
