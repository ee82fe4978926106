package webhook

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/webhook/deliver"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// apiDeps are what the API is made of.
type apiDeps struct {
	Log        *zap.Logger
	Metrics    prometheus.Registerer // nil for none
	Store      *store.Store
	Sender     apiSender
	AdminToken string      // empty: nobody is the admin
	TLS        *tls.Config // nil for none
	Now        func() time.Time
}

// apiSender is what the API asks the sender for.
type apiSender interface {
	// CheckURL says what is wrong with an endpoint's URL, as far as that can be seen without asking anyone.
	CheckURL(url string) error
	// Test sends one request with the event, now.
	Test(ctx context.Context, e *store.Endpoint, ev *store.Event) deliver.Result
	// Verify asks the endpoint whether it wants our requests.
	Verify(ctx context.Context, e *store.Endpoint) error
}

// Bounds of the API.
const (
	maxBody       = 1 << 20
	maxHeader     = 16 << 10
	maxBulk       = 1000
	arriveTimeout = 30 * time.Second // for a request to arrive, with its body
	idleTimeout   = 75 * time.Second // between requests
	answerTimeout = 60 * time.Second // for a peer to take an answer
	storeTimeout  = 20 * time.Second // for a request to be done
	endTimeout    = 10 * time.Second // for requests to be done when the service ends
	activeTimeout = 2 * time.Second  // for an alert to become active, before the answer is 202
)

// api answers the requests of tenants and of the admin.
type api struct {
	cfg     APIConfig
	deps    apiDeps
	log     *zap.Logger
	admin   [sha256.Size]byte // of the admin's token, if there is one
	limiter *door.Limiter[payer]
	crowd   *door.Crowd
	proxies door.Proxies
	served  *rest.Served
	refused prometheus.Counter // connections for which there was no room
	settle  time.Duration      // activeTimeout; tests with a busy owner have more

	mu       sync.Mutex
	ctx      context.Context // of what requests ask the store for; it ends when the API has drained
	calls    map[int64]int   // to endpoints, that answers wait for, by tenant
	allCalls int
}

func newAPI(cfg APIConfig, deps apiDeps) (*api, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	a := &api{
		cfg: cfg, deps: deps, log: deps.Log.Named("api"), admin: sha256.Sum256([]byte(deps.AdminToken)),
		limiter: door.NewLimiter[payer](cfg.Rate, cfg.Burst), crowd: door.NewCrowd(cfg.MaxConns, cfg.MaxPerIP), ctx: context.Background(),
		settle: activeTimeout, calls: make(map[int64]int),
	}
	var err error
	if a.proxies, err = door.ParseProxies(cfg.Proxies); err != nil {
		return nil, err
	}
	if a.served, err = rest.NewServed(deps.Metrics, "webhook_api"); err != nil {
		return nil, err
	}
	return a, a.count(deps.Metrics)
}

// count registers what is counted of connections.
func (a *api) count(reg prometheus.Registerer) error {
	a.refused = prometheus.NewCounter(prometheus.CounterOpts{Name: "webhook_api_connections_refused_total", Help: "Connections that were closed because there were too many."})
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "webhook_api_connections", Help: "Connections to the alerts API that are open."}, func() float64 {
		n, _, _ := a.crowd.Sizes()
		return float64(n)
	})
	if reg == nil {
		return nil
	}
	for _, m := range []prometheus.Collector{a.refused, open} {
		if err := reg.Register(m); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// serve answers what comes by the listener until ctx ends, and closes it. It returns when the last answer has gone.
func (a *api) serve(ctx context.Context, ln net.Listener) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	a.mu.Lock()
	a.ctx = work
	a.mu.Unlock()
	http := &fasthttp.Server{
		Handler: a.handler, Name: "tickwire", ReadTimeout: arriveTimeout, IdleTimeout: idleTimeout, WriteTimeout: answerTimeout,
		ReadBufferSize: maxHeader, MaxRequestBodySize: maxBody, NoDefaultServerHeader: true, ReduceMemoryUsage: true,
		CloseOnShutdown: true, Logger: quiet{}, Concurrency: math.MaxInt32, ErrorHandler: unreadableRequest, // the crowd has its own bounds
	}
	guarded := door.Listen(ln, a.log)
	broken := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() { broken <- http.Serve(entrance{guarded, a}) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-broken:
	}
	late := time.AfterFunc(endTimeout, cancel) // what has not been done by then will not be
	if e := http.Shutdown(); err == nil {
		err = e
	}
	late.Stop()
	_ = ln.Close() // Shutdown has closed it, unless Serve had not begun
	serving.Wait()
	return err
}

// entrance is the listener: it counts the connections, and turns those away that there is no room for.
type entrance struct {
	net.Listener
	a *api
}

// Accept implements net.Listener.
func (e entrance) Accept() (net.Conn, error) {
	for {
		conn, err := e.Listener.Accept()
		if err != nil {
			return nil, err
		}
		place := e.a.proxies.PlaceOfPeer(door.PeerOf(conn))
		if !e.a.welcome(place) {
			e.a.refused.Inc()
			_ = conn.Close() // there is no room to say why
			continue
		}
		g := &guest{Conn: conn, leave: sync.OnceFunc(func() { e.a.crowd.Leave(place, true) })}
		if e.a.deps.TLS != nil {
			return tls.Server(g, e.a.deps.TLS), nil // shakes hands when the first request is read, within arriveTimeout
		}
		return g, nil
	}
}

// welcome counts a connection in, if there is room for it.
func (a *api) welcome(p door.Place) bool {
	if !a.crowd.Enter(p) {
		return false
	}
	if a.crowd.Sit(p, p) != door.Seated {
		a.crowd.Leave(p, false)
		return false
	}
	return true
}

// guest is a connection that is counted.
type guest struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}

// quiet drops what fasthttp would log: it is about single peers, who are counted instead.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// unreadableRequest answers what is no request.
func unreadableRequest(ctx *fasthttp.RequestCtx, err error) {
	p := rest.Problem{Status: fasthttp.StatusBadRequest, Code: "bad_request", Detail: "this is no request of HTTP/1.1"}
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		p = rest.Problem{Status: fasthttp.StatusRequestEntityTooLarge, Code: "too_large", Detail: "a body has 1 MiB at most"}
	case errors.As(err, &small):
		p = rest.Problem{Status: fasthttp.StatusRequestHeaderFieldsTooLarge, Code: "too_large", Detail: "the headers are too long"}
	}
	rest.Fail(ctx, p)
}

// call is a request that is being answered.
type call struct {
	*caller
	ctx  context.Context
	http *fasthttp.RequestCtx
	id   string   // of the path, when it has one
	args []string // values of the route's params, in their order
	body *object
	now  time.Time

	repeat *store.Once // of a request with an Idempotency-Key
}

// answer is what a request that went well is answered with.
type answer struct {
	Status   int             `json:"status"`
	Location string          `json:"location,omitempty"`
	ETag     string          `json:"etag,omitempty"`
	Body     json.RawMessage `json:"body,omitempty"`

	kept bool // it is that of an earlier request
}

// reply is an answer with a body.
func reply(status int, body any) (*answer, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return &answer{Status: status, Body: text}, nil
}

// fetched answers with the thing that the path names.
func fetched[S, T any](c *call, prefix string, find func(ctx context.Context, tenant, num int64) (*S, error), tell func(*S) T) (*answer, error) {
	num, err := c.num(prefix)
	if err != nil {
		return nil, err
	}
	found, err := find(c.ctx, c.tenant.Num, num)
	if err != nil {
		return nil, err
	}
	return reply(fasthttp.StatusOK, tell(found))
}

// made is the answer about what has been made.
func made(body any, location string, status int) (*answer, error) {
	out, err := reply(status, body)
	if err == nil {
		out.Location = location
	}
	return out, err
}

// handler answers a request.
func (a *api) handler(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	methods, pattern, id := find(path)
	defer func(begin time.Time) { a.served.Note(ctx, pattern, begin) }(time.Now())
	h := &ctx.Response.Header
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	h.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	if methods == nil {
		rest.Fail(ctx, rest.Problem{Status: fasthttp.StatusNotFound, Code: "not_found", Detail: "there is nothing here; " + openapiPath + " describes what there is"})
		return
	}
	method := string(ctx.Method())
	if method == fasthttp.MethodHead {
		method = fasthttp.MethodGet
	}
	r := methods[method]
	if r == nil {
		h.Set(fasthttp.HeaderAllow, allowed(methods))
		if method == fasthttp.MethodOptions {
			ctx.SetStatusCode(fasthttp.StatusNoContent)
			return
		}
		rest.Fail(ctx, rest.Problem{Status: fasthttp.StatusMethodNotAllowed, Code: "method", Detail: "only " + allowed(methods)})
		return
	}
	a.mu.Lock()
	base := a.ctx
	a.mu.Unlock()
	work, cancel := context.WithTimeout(base, storeTimeout)
	defer cancel()
	got, err := a.answer(r, &call{ctx: work, http: ctx, id: id, now: a.deps.Now()})
	if err != nil {
		a.fail(ctx, r, err)
		return
	}
	if got.Location != "" {
		h.Set(fasthttp.HeaderLocation, got.Location)
	}
	if got.kept {
		h.Set("Idempotency-Replayed", "true")
	}
	if got.ETag != "" {
		h.Set(fasthttp.HeaderETag, got.ETag)
	}
	ctx.SetStatusCode(got.Status)
	if len(got.Body) > 0 {
		ctx.SetContentType(r.produces())
		ctx.SetBody(got.Body)
	}
}

// answer lets a request in, reads it, and does what it wants.
func (a *api) answer(r *route, c *call) (*answer, error) {
	var err error
	if c.caller, err = a.admit(c.ctx, c.http, r); err != nil {
		return nil, err
	}
	c.args = make([]string, len(r.params))
	besides := ""
	if r.access == ofTenant {
		besides = "tenant" // admit has looked at it
	}
	if wrong := rest.ParseParams(c.http.QueryArgs(), r.params, besides, c.args); wrong != nil {
		return nil, wrong
	}
	if err := c.read(r); err != nil {
		return nil, err
	}
	if err := c.name(r); err != nil {
		return nil, err
	}
	if c.repeat != nil {
		if err := a.deps.Store.Answered(c.ctx, c.owner(), c.repeat); !errors.Is(err, store.ErrNotFound) {
			return c.repeated(err)
		}
	}
	return r.serve(a, c)
}

// read reads the body, where there may be one.
func (c *call) read(r *route) error {
	body := c.http.Request.Body()
	if r.method != fasthttp.MethodPost && r.method != fasthttp.MethodPatch {
		return nil // a body means nothing there
	}
	h := &c.http.Request.Header
	kind, _, _ := strings.Cut(string(h.ContentType()), ";")
	if len(body) > 0 || kind != "" {
		if !strings.EqualFold(strings.TrimSpace(kind), jsonType) || len(h.Peek(fasthttp.HeaderContentEncoding)) > 0 {
			return &rest.Problem{Status: fasthttp.StatusUnsupportedMediaType, Code: "media_type", Detail: "send Content-Type: application/json, not compressed"}
		}
	}
	if r.method == fasthttp.MethodPatch && len(body) == 0 {
		return &rest.Problem{Status: fasthttp.StatusBadRequest, Code: "bad_request", Detail: "there is no body: a JSON object says what is to be changed"}
	}
	var wrong *rest.Problem
	if c.body, wrong = parseObject(body); wrong != nil {
		return wrong
	}
	return nil
}

const jsonType = "application/json"

// fail answers with a problem.
func (a *api) fail(ctx *fasthttp.RequestCtx, r *route, err error) {
	p := a.problemOf(r, err)
	switch p.Status {
	case fasthttp.StatusTooManyRequests, fasthttp.StatusServiceUnavailable:
		if len(ctx.Response.Header.Peek(fasthttp.HeaderRetryAfter)) == 0 {
			wait := time.Second
			if p.Code == "quota" {
				wait = time.Minute // something has to end, or to be deleted
			}
			ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, rest.WholeSeconds(wait))
		}
	}
	rest.Challenge(ctx, p)
}

func (a *api) problemOf(r *route, err error) rest.Problem {
	var (
		known *rest.Problem
		quota *store.QuotaError
	)
	switch {
	case errors.As(err, &known):
		return *known
	case errors.As(err, &quota):
		return rest.Problem{Status: fasthttp.StatusTooManyRequests, Code: "quota", Detail: fmt.Sprintf("the tenant has as many %s as it may: %d", quota.What, quota.Limit)}
	case errors.Is(err, store.ErrNotFound):
		return *nothing(r.thing())
	case errors.Is(err, store.ErrExists):
		return rest.Problem{Status: fasthttp.StatusConflict, Code: "conflict", Detail: "there is one of that name already"}
	case errors.Is(err, store.ErrState):
		return rest.Problem{Status: fasthttp.StatusConflict, Code: "conflict", Detail: "that is not possible as things stand"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return rest.Problem{Status: fasthttp.StatusServiceUnavailable, Code: "not_ready", Detail: "it took too long; whether it has been done is not known"}
	}
	a.log.Error("a request could not be answered", zap.String("route", r.method+" "+r.path), zap.Error(err))
	return rest.Problem{Status: fasthttp.StatusServiceUnavailable, Code: "not_ready", Detail: "the database can't do that at the moment"}
}

// nothing is the problem of what is not there, or is another tenant's.
func nothing(thing string) *rest.Problem {
	return &rest.Problem{Status: fasthttp.StatusNotFound, Code: "not_found", Detail: "there is no such " + thing}
}

// num is the number of the path's id.
func (c *call) num(prefix string) (int64, error) {
	n, err := store.ParseID(prefix, c.id)
	if err != nil {
		return 0, store.ErrNotFound // it can't be anybody's
	}
	return n, nil
}

// matched holds If-Match to a version.
func (c *call) matched(version int64) error {
	want := c.http.Request.Header.Peek(fasthttp.HeaderIfMatch)
	if len(want) == 0 || string(want) == "*" || string(want) == etag(version) {
		return nil
	}
	return &rest.Problem{Status: fasthttp.StatusPreconditionFailed, Code: "precondition", Param: "If-Match", Detail: "it has changed meanwhile: its ETag is " + etag(version) + " now"}
}

func etag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }

// at is a time in an answer; null for the zero time.
func at(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano) // as exactly as it is kept
	return &s
}
