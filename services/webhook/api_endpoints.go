package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/signature"
	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/webhook/deliver"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// endpoint is an endpoint as the API tells it.
type endpoint struct {
	ID          string              `json:"id"`
	URL         string              `json:"url"`
	Description string              `json:"description"`
	State       store.EndpointState `json:"state"`
	DisabledBy  string              `json:"disabled_by,omitempty"`
	EventTypes  []string            `json:"event_types"`
	Format      store.Format        `json:"format"`
	Retry       store.Profile       `json:"retry"`
	MaxInFlight int                 `json:"max_in_flight"`
	Rate        float64             `json:"rate"`
	Timeout     string              `json:"timeout"`
	Ordering    store.Ordering      `json:"ordering"`
	Batch       int                 `json:"batch"`
	Headers     []headerName        `json:"headers"`
	Signatures  []string            `json:"signatures"`
	TLS         *clientTLS          `json:"tls,omitempty"`
	Verify      store.Verify        `json:"verification"`
	Secrets     []secret            `json:"secrets"`
	Health      health              `json:"health"`
	Created     *string             `json:"created_at"`
	Updated     *string             `json:"updated_at"`
}

// headerName is a header whose value is not shown.
type headerName struct {
	Name string `json:"name"`
}

// clientTLS is a certificate whose key is not shown.
type clientTLS struct {
	Cert string `json:"cert"`
	CA   string `json:"ca"`
}

// secret is a signing key. Its text is shown once.
type secret struct {
	Kind    store.SecretKind `json:"kind"`
	Text    string           `json:"secret,omitempty"`
	Public  string           `json:"public_key,omitempty"`
	Hint    string           `json:"hint"`
	Created *string          `json:"created_at"`
	Expires *string          `json:"expires_at"`
}

// health is how an endpoint has been doing.
type health struct {
	Failing      bool    `json:"failing"`
	FailingSince *string `json:"failing_since"`
	PausedUntil  *string `json:"paused_until"`
	LastSuccess  *string `json:"last_success_at"`
	LastFailure  *string `json:"last_failure_at"`
	LastError    string  `json:"last_error"`
}

func tellEndpoint(e *store.Endpoint) *endpoint {
	h := &e.Health
	out := &endpoint{
		ID: store.FormatID(store.EndpointPrefix, e.Num), URL: e.URL, Description: e.Description, State: e.State, DisabledBy: e.Why,
		EventTypes: append([]string{}, e.EventTypes...), Format: e.Format, Retry: e.Profile, MaxInFlight: e.MaxInFlight, Rate: e.Rate,
		Timeout: e.Timeout.String(), Ordering: e.Ordering, Batch: e.Batch, Headers: make([]headerName, len(e.Headers)),
		Signatures: append([]string{}, e.Signatures...), Verify: e.Verify, Secrets: make([]secret, len(e.Secrets)),
		Health:  health{h.Failing, at(h.FailingSince), at(h.PausedUntil), at(h.LastSuccess), at(h.LastFailure), h.LastError},
		Created: at(e.Created), Updated: at(e.Updated),
	}
	for i, h := range e.Headers {
		out.Headers[i].Name = h.Name
	}
	for i := range e.Secrets {
		out.Secrets[i] = tellSecret(&e.Secrets[i])
	}
	if e.TLS != nil {
		out.TLS = &clientTLS{e.TLS.Cert, e.TLS.CA}
	}
	return out
}

const hinted = 4 // characters of a secret that are shown for ever

func tellSecret(s *store.Secret) secret {
	text := strings.TrimRight(s.Text, "=") // says nothing
	out := secret{Kind: s.Kind, Hint: "…" + text[max(0, len(text)-hinted):], Created: at(s.Created), Expires: at(s.Expires)}
	if s.Kind == store.SecretV1a {
		if k, err := signature.ParsePrivateKey(s.Text); err == nil {
			out.Public = k.Public().Text()
		}
	}
	return out
}

func endpointReply(status int, e *store.Endpoint, shown ...int64) (*answer, error) {
	told := tellEndpoint(e)
	for i := range e.Secrets {
		for _, num := range shown {
			if e.Secrets[i].Num == num {
				told.Secrets[i].Text = e.Secrets[i].Text
			}
		}
	}
	out, err := reply(status, told)
	if err == nil {
		out.ETag = etag(e.Version)
	}
	return out, err
}

func (a *api) listEndpoints(c *call) (*answer, error) {
	all, err := a.deps.Store.Endpoints(c.ctx, c.tenant.Num, c.page())
	if err != nil {
		return nil, err
	}
	return paged(c, all, tellEndpoint, func(e *endpoint) string { return e.ID })
}

// endpointOf finds an endpoint of the tenant's.
func (a *api) endpointOf(c *call, num int64) (*store.Endpoint, error) {
	e, err := a.deps.Store.Endpoint(c.ctx, num)
	if err == nil && (e == nil || e.Tenant != c.tenant.Num) {
		return nil, store.ErrNotFound
	}
	return e, err
}

// endpoint is the one that the path names.
func (a *api) endpoint(c *call) (*store.Endpoint, error) {
	num, err := c.num(store.EndpointPrefix)
	if err != nil {
		return nil, err
	}
	return a.endpointOf(c, num)
}

func (a *api) getEndpoint(c *call) (*answer, error) {
	e, err := a.endpoint(c)
	if err != nil {
		return nil, err
	}
	return endpointReply(fasthttp.StatusOK, e)
}

// Limits of an endpoint.
const (
	maxURL         = 2048
	maxDescription = 500
	maxEventTypes  = 16
	maxHeaders     = 20
	maxHeaderName  = 100
	maxHeaderValue = 1000
	maxPEM         = 64 << 10
	maxInFlight    = 100
	maxBatch       = 100
	maxRate        = 10_000
	minTimeout     = time.Second
	maxTimeout     = 15 * time.Second
	maxSecrets     = 3 // of a kind: the current one, and those that have been replaced of late
	defaultOverlap = 24 * time.Hour
	maxOverlap     = 7 * 24 * time.Hour
)

func (a *api) createEndpoint(c *call) (*answer, error) {
	o := c.body
	o.need("url")
	e := &store.Endpoint{
		Tenant: c.tenant.Num, State: store.EndpointEnabled, Created: c.now, Updated: c.now,
		Format: store.FormatJSON, Profile: store.ProfileRealtime, MaxInFlight: 10, Timeout: maxTimeout, Ordering: store.OrderNone, Batch: 1, Verify: store.VerifyNone,
	}
	kinds := []store.SecretKind{store.SecretV1}
	if o.has("secrets") {
		kinds = some(o, "secrets", secretKinds)
	}
	if err := a.readEndpoint(o, e); err != nil {
		return nil, err
	}
	if e.Verify != store.VerifyNone {
		e.State = store.EndpointUnverified
	}
	var shown []int64
	for _, kind := range kinds {
		s := a.newSecret(kind, c.now)
		e.Secrets, shown = append(e.Secrets, s), append(shown, s.Num)
	}
	return c.once(func(o *store.Once) error { return a.deps.Store.CreateEndpoint(c.ctx, e, o) }, func() (*answer, error) {
		out, err := endpointReply(fasthttp.StatusCreated, e, shown...)
		if err == nil {
			out.Location = "/v1/endpoints/" + store.FormatID(store.EndpointPrefix, e.Num)
		}
		return out, err
	})
}

var secretKinds = []store.SecretKind{store.SecretV1, store.SecretV1a}

func (a *api) newSecret(kind store.SecretKind, now time.Time) store.Secret {
	s := store.Secret{Num: a.deps.Store.NewID(), Kind: kind, Created: now}
	if kind == store.SecretV1a {
		s.Text = signature.NewPrivateKey().Text()
	} else {
		s.Text = signature.NewSecret().Text()
	}
	return s
}

// readEndpoint reads into an endpoint what the body has.
func (a *api) readEndpoint(o *object, e *store.Endpoint) error {
	if o.has("url") {
		e.URL = o.text("url", maxURL)
		if err := a.checkURL(e.URL); err != nil {
			o.refuse("url", "%s", printable(err.Error()))
		}
	}
	if o.has("description") {
		e.Description = o.text("description", maxDescription)
	}
	if o.has("event_types") {
		e.EventTypes = nil
		for i, t := range o.texts("event_types", maxEventTypes, 64) {
			if !contains(eventTypes, t) {
				o.bad(o.item("event_types", i), "not one of %s", joined(eventTypes))
			}
			e.EventTypes = append(e.EventTypes, t)
		}
	}
	choose(o, "format", &e.Format, store.FormatJSON, store.FormatCloudEvents, store.FormatSlack, store.FormatDiscord)
	choose(o, "retry", &e.Profile, store.ProfileRealtime, store.ProfileStandard)
	choose(o, "ordering", &e.Ordering, store.OrderNone, store.OrderAlert, store.OrderInstrument)
	asked := e.Num == 0 || o.has("verification")
	if a.cfg.MustVerify && e.Num == 0 {
		e.Verify = store.VerifyChallenge // unless it says otherwise
	}
	choose(o, "verification", &e.Verify, store.VerifyNone, store.VerifyChallenge, store.VerifyCloudEvents)
	if a.cfg.MustVerify && e.Verify == store.VerifyNone && asked {
		o.refuse("verification", "endpoints must be verified here: challenge or cloudevents")
	}
	e.MaxInFlight = o.integer("max_in_flight", 1, maxInFlight, e.MaxInFlight)
	e.Batch = o.integer("batch", 1, maxBatch, e.Batch)
	e.Rate = o.number("rate", 0, maxRate, e.Rate)
	e.Timeout = o.span("timeout", minTimeout, maxTimeout, e.Timeout)
	if o.has("signatures") {
		e.Signatures = nil
		for i, s := range o.texts("signatures", len(signatureKinds), 64) {
			if !contains(signatureKinds, s) {
				o.bad(o.item("signatures", i), "not one of %s", joined(signatureKinds))
			}
			e.Signatures = append(e.Signatures, s)
		}
	}
	if o.has("headers") {
		readHeaders(o, e)
	}
	if o.null("tls") {
		e.TLS = nil
	}
	if t, ok := o.member("tls"); ok {
		readTLS(t, e)
	}
	if e.Batch > 1 && e.Format != store.FormatJSON {
		o.refuse("batch", "several events in one request have the format json")
	}
	if wrong := o.end(); wrong != nil {
		return wrong
	}
	return nil
}

var signatureKinds = []string{"stripe", "github", "slack", "razorpay"}

// choose reads one of several values, if it is there.
func choose[T ~string](o *object, name string, into *T, values ...T) {
	if o.has(name) {
		*into = one(o, name, values...)
	}
}

// checkURL is for early and clear errors; what counts is what the sender sees when it dials.
func (a *api) checkURL(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("must have printable ASCII characters alone; write others as %%XX, and names of hosts in punycode")
	}
	return a.deps.Sender.CheckURL(text)
}

func readHeaders(o *object, e *store.Endpoint) {
	e.Headers = nil
	for i, text := range o.list("headers", maxHeaders) {
		h := o.sub(o.item("headers", i), text)
		h.need("name", "value")
		e.Headers = append(e.Headers, store.Header{Name: h.text("name", maxHeaderName), Value: h.text("value", maxHeaderValue)})
		_ = h.end() // the problem is the whole body's
	}
	if err := deliver.CheckHeaders(e.Headers); err != nil {
		o.refuse("headers", "%s", printable(strings.TrimPrefix(err.Error(), "headers: ")))
	}
}

func readTLS(o *object, e *store.Endpoint) {
	pem := func(name string) (text string) {
		if value, ok := o.take(name); ok {
			text, _ = o.str(o.path+name, value, maxPEM)
		}
		return text
	}
	e.TLS = &store.ClientTLS{Cert: pem("cert"), Key: pem("key"), CA: pem("ca")}
	switch t := e.TLS; {
	case o.end() != nil:
	case (t.Cert == "") != (t.Key == ""):
		o.refuse("key", "a certificate and its key go together")
	case t.Cert == "" && t.CA == "":
		e.TLS = nil
	default:
		if t.Cert != "" {
			if _, err := tls.X509KeyPair([]byte(t.Cert), []byte(t.Key)); err != nil {
				o.refuse("cert", "%s", printable(err.Error()))
			}
		}
		if t.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(t.CA)) {
			o.refuse("ca", "no certificate in PEM")
		}
	}
}

func (a *api) changeEndpoint(c *call) (*answer, error) {
	was, err := a.endpoint(c)
	if err != nil {
		return nil, err
	}
	next := *was
	if err := a.readEndpoint(c.body, &next); err != nil {
		return nil, err
	}
	if next.Verify != store.VerifyNone && (next.URL != was.URL || next.Verify != was.Verify) {
		next.State = store.EndpointUnverified
	}
	e, err := a.deps.Store.UpdateEndpoint(c.ctx, c.tenant.Num, was.Num, func(e *store.Endpoint) error {
		switch err := c.matched(e.Version); {
		case err != nil:
			return err
		case e.Version != was.Version:
			return conflict("it has been changed at the same time; read it again")
		}
		*e = next
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return endpointReply(fasthttp.StatusOK, e)
}

func (a *api) deleteEndpoint(c *call) (*answer, error) {
	num, err := c.num(store.EndpointPrefix)
	if err != nil {
		return nil, err
	}
	return gone(a.deps.Store.DeleteEndpoint(c.ctx, c.tenant.Num, num))
}

// rotateSecret makes a new secret of a kind. Those that are replaced still sign, for as long as the overlap.
func (a *api) rotateSecret(c *call) (*answer, error) {
	kind := one(c.body, "kind", secretKinds...)
	overlap := c.body.span("overlap", 0, maxOverlap, defaultOverlap)
	if wrong := c.body.end(); wrong != nil {
		return nil, wrong
	}
	num, err := c.num(store.EndpointPrefix)
	if err != nil {
		return nil, err
	}
	fresh := a.newSecret(kind, c.now)
	var rotated *store.Endpoint
	change := func(e *store.Endpoint) error {
		rotated = e
		kept := []store.Secret{fresh}
		same := 1
		for _, s := range e.Secrets { // newest first
			if s.Kind == kind {
				if s.Expires.IsZero() || s.Expires.After(c.now.Add(overlap)) {
					s.Expires = c.now.Add(overlap)
				}
				if same == maxSecrets || !s.Expires.After(c.now) {
					continue
				}
				same++
			}
			kept = append(kept, s)
		}
		e.Secrets = kept
		return nil
	}
	return c.once(func(o *store.Once) error {
		_, err := a.deps.Store.UpdateEndpoint(c.ctx, c.tenant.Num, num, change, o)
		return err
	}, func() (*answer, error) { return endpointReply(fasthttp.StatusOK, rotated, fresh.Num) })
}

// Requests to endpoints that answers wait for, at a time.
const (
	maxCalls          = 64
	maxCallsPerTenant = 4
)

// calling is repeatable for what waits for an endpoint's answer, of which few may go on at a time.
func (a *api) calling(c *call, do func() (*answer, error)) (*answer, error) {
	a.mu.Lock()
	if a.calls[c.tenant.Num] == maxCallsPerTenant || a.allCalls == maxCalls {
		a.mu.Unlock()
		return nil, &rest.Problem{Status: fasthttp.StatusTooManyRequests, Code: "rate", Detail: fmt.Sprintf("endpoints are being asked already; %d at a time are the most", maxCallsPerTenant)}
	}
	a.calls[c.tenant.Num]++
	a.allCalls++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.allCalls--
		if a.calls[c.tenant.Num]--; a.calls[c.tenant.Num] == 0 {
			delete(a.calls, c.tenant.Num)
		}
	}()
	return a.repeatable(c, do)
}

// testResult is what came of a test.
type testResult struct {
	OK       bool    `json:"ok"`
	Event    string  `json:"event"`
	Status   int     `json:"status"`
	Took     float64 `json:"took_ms"`
	Error    string  `json:"error"`
	Response string  `json:"response"`
}

func (a *api) testEndpoint(c *call) (*answer, error) {
	if wrong := c.body.end(); wrong != nil {
		return nil, wrong
	}
	e, err := a.endpoint(c)
	if err != nil {
		return nil, err
	}
	return a.calling(c, func() (*answer, error) { return a.test(c, e) })
}

func (a *api) test(c *call, e *store.Endpoint) (*answer, error) {
	ev := store.Event{ID: store.FormatID(store.EventPrefix, store.NewID()), Type: store.TypeTest, Tenant: c.tenant.Num, About: e.Num, Created: c.now}
	var err error
	ev.Body, err = body(ev.ID, ev.Type, market.FromTime(c.now), struct {
		Endpoint string `json:"endpoint"`
		Message  string `json:"message"`
	}{store.FormatID(store.EndpointPrefix, e.Num), "A test by tickwire. If you can read this, your endpoint works."})
	if err != nil {
		return nil, err
	}
	r := a.deps.Sender.Test(c.ctx, e, &ev)
	return reply(fasthttp.StatusOK, testResult{OK: r.OK(), Event: ev.ID, Status: r.Code, Took: millis(r.Took), Error: r.Err, Response: r.Response})
}

// verifyEndpoint asks an endpoint, and if it was unverified enables it and sends what has been held.
func (a *api) verifyEndpoint(c *call) (*answer, error) {
	if wrong := c.body.end(); wrong != nil {
		return nil, wrong
	}
	e, err := a.endpoint(c)
	if err != nil {
		return nil, err
	}
	return a.calling(c, func() (*answer, error) { return a.verify(c, e) })
}

func (a *api) verify(c *call, e *store.Endpoint) (*answer, error) {
	if err := a.deps.Sender.Verify(c.ctx, e); err != nil {
		return nil, &rest.Problem{Status: fasthttp.StatusConflict, Code: "unreachable", Detail: "the endpoint has not proved that it wants our requests: " + printable(err.Error())}
	}
	asked := e
	e, err := a.endpointOf(c, asked.Num)
	switch {
	case err != nil:
		return nil, err
	case e.URL != asked.URL || e.Verify != asked.Verify:
		return nil, conflict("it has been changed at the same time; verify it again")
	case e.State != store.EndpointUnverified:
		return endpointReply(fasthttp.StatusOK, e)
	}
	return a.enable(c, e, store.HeldReleased)
}

func (a *api) enableEndpoint(c *call) (*answer, error) {
	c.body.need("held")
	held := one(c.body, "held", store.HeldReleased, store.HeldKept, store.HeldDropped)
	if wrong := c.body.end(); wrong != nil {
		return nil, wrong
	}
	e, err := a.endpoint(c)
	if err != nil {
		return nil, err
	}
	if e.State == store.EndpointUnverified && e.Verify != store.VerifyNone {
		return nil, conflict("it has to be verified first")
	}
	return a.repeatable(c, func() (*answer, error) { return a.enable(c, e, held) })
}

func (a *api) enable(c *call, was *store.Endpoint, held store.Held) (*answer, error) {
	e, _, err := a.deps.Store.EnableEndpoint(c.ctx, c.tenant.Num, was.Num, held)
	if err != nil {
		return nil, err
	}
	return endpointReply(fasthttp.StatusOK, e)
}

func (a *api) disableEndpoint(c *call) (*answer, error) {
	return a.act(c, store.EndpointPrefix, func(num int64) (*answer, error) {
		e, err := a.deps.Store.DisableEndpoint(c.ctx, c.tenant.Num, num, "user")
		if err != nil {
			return nil, err
		}
		return endpointReply(fasthttp.StatusOK, e)
	})
}
