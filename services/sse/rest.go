package sse

import (
	"bytes"
	"encoding/json"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/mirror"
	"github.com/tickwire/tickwire/services/internal/rest"
)

// endpoint is a question that the REST API answers.
type endpoint struct {
	path   string // /v1/book/{sym}: the last part may be an instrument
	params []rest.Param
	serve  func(*Server, *request)
	open   bool // to those too who can't say who they are
}

const ofInstrument = "/{sym}"

// name is the path without what stands for an instrument.
func (e *endpoint) name() (name string, ofOne bool) { return strings.CutSuffix(e.path, ofInstrument) }

var (
	depthParam    = rest.Param{Name: "depth", Values: []string{"0", "10", "25", "50", "100"}, Default: "50"}
	intervalParam = rest.Param{Name: "iv", Values: intervals(), Default: market.Minute.String()}
	tradesParam   = rest.Param{Name: "limit", Min: 1, Max: wire.MaxLast, Default: "100"}
	barsParam     = rest.Param{Name: "limit", Min: 1, Max: wire.MaxHistory, Default: "500"}
	beforeParam   = rest.Param{Name: "before", Max: maxMicros}
)

// maxMicros is the greatest time that may be asked for: the year 2255. It is a whole number in JavaScript too.
const maxMicros = 9_000_000_000_000_000

var endpoints = []endpoint{
	{"/v1/instruments", nil, (*Server).instruments, false},
	{"/v1/book" + ofInstrument, []rest.Param{depthParam}, (*Server).book, false},
	{"/v1/trades" + ofInstrument, []rest.Param{tradesParam}, (*Server).trades, false},
	{"/v1/ticker", nil, (*Server).tickers, false},
	{"/v1/ticker" + ofInstrument, nil, (*Server).ticker, false},
	{"/v1/bars" + ofInstrument, []rest.Param{intervalParam, barsParam, beforeParam}, (*Server).bars, false},
	{"/v1/time", nil, (*Server).time, true},
	{"/v1/streams", nil, (*Server).streams, true},
}

func intervals() (names []string) {
	for iv := range market.NumIntervals {
		names = append(names, market.Interval(iv).String())
	}
	return names
}

// endpointOf finds what a path below /v1/ asks for, and of which instrument.
func endpointOf(path string) (e *endpoint, sym string) {
	name, sym, one := strings.Cut(path, "/")
	for i := range endpoints {
		e := &endpoints[i]
		if known, ofOne := e.name(); ofOne == one && known == "/v1/"+name {
			return e, sym
		}
	}
	return nil, ""
}

// request is one that is being answered.
type request struct {
	ctx   *fasthttp.RequestCtx
	grant *auth.Grant
	sym   string
	args  [3]string // the values of the endpoint's params, in their order
}

// rest answers a request for /v1/{name}.
func (s *Server) rest(ctx *fasthttp.RequestCtx, path string) {
	h := &ctx.Response.Header
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	h.Set(fasthttp.HeaderAccessControlExposeHeaders, exposed)
	e, sym := endpointOf(path)
	if e == nil {
		notFound(ctx)
		return
	}
	r := request{ctx: ctx, sym: sym}
	var ok bool
	if r.grant, ok = s.receive(ctx, e.open, rest.TooMany); !ok {
		return
	}
	besides := ""
	if !e.open {
		besides = "ticket" // it has been looked at already
	}
	if wrong := rest.ParseParams(ctx.QueryArgs(), e.params, besides, r.args[:]); wrong != nil {
		rest.Fail(ctx, *wrong)
		return
	}
	e.serve(s, &r)
}

// exposed are the headers that a page in a browser may read.
const exposed = "ETag, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"

// number is an argument that is known to be one.
func (r *request) number(i int) int64 {
	n, _ := strconv.ParseInt(r.args[i], 10, 64) // rest.ParseParams has looked at it
	return n
}

// find returns the instrument that the request is about, if the client may have it. Otherwise it answers.
func (s *Server) find(r *request, ch market.Channel, view market.View) *mirror.Instrument {
	if wrong := s.allowed(r.grant, ch, r.sym, view); wrong != nil {
		rest.Fail(r.ctx, *wrong)
		return nil
	}
	in, err := s.mirror.Find(r.sym)
	if err != nil {
		s.unfound(r, err)
		return nil
	}
	return in
}

func (s *Server) unfound(r *request, err error) {
	p := *whyNot(err)
	if p.Param != "" {
		p.Param = "sym"
	}
	if p.Status == fasthttp.StatusServiceUnavailable {
		r.ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
	}
	rest.Fail(r.ctx, p)
}

func (s *Server) book(r *request) {
	depth := uint16(r.number(0))
	if in := s.find(r, market.Books, market.View{Depth: depth, Millis: slowest}); in != nil {
		s.present(r.ctx, in.Book(depth), jsonType)
	}
}

// slowest is how often a book's updates come at the least: a token that limits that limits streams, not single answers.
const slowest = 1000

func (s *Server) trades(r *request) {
	if in := s.find(r, market.Trades, market.View{}); in != nil {
		s.present(r.ctx, in.Trades(int(r.number(0))), jsonType)
	}
}

func (s *Server) ticker(r *request) {
	if in := s.find(r, market.Tickers, market.View{}); in != nil {
		s.present(r.ctx, in.Ticker(), jsonType)
	}
}

func (s *Server) bars(r *request) {
	iv, err := market.ParseInterval(r.args[0])
	if err != nil {
		panic("sse: an interval that is none: " + err.Error()) // rest.ParseParams has looked at it
	}
	before := market.Time(math.MaxInt64)
	if r.args[2] != "" {
		before = market.FromMicros(r.number(2))
	}
	if in := s.find(r, market.Bars, market.View{}); in != nil {
		s.present(r.ctx, in.Bars(iv, int(r.number(1)), before), jsonType)
	}
}

// tickers answers with those of all instruments that the client may see.
func (s *Server) tickers(r *request) {
	if denied := r.grant.Allows(market.Tickers, auth.AllSymbols, market.View{}); denied != auth.Granted {
		s.checks.Forbidden.Inc()
		rest.Fail(r.ctx, rest.Problem{Status: fasthttp.StatusForbidden, Code: "forbidden", Detail: denied.String()})
		return
	}
	s.list(r, &s.tickerList, func(in *mirror.Instrument) bool {
		return r.grant.Allows(market.Tickers, in.Sym(), market.View{}) == auth.Granted
	}, tickersOf)
}

// tickersOf lists tickers.
func tickersOf(all []*mirror.Instrument) *mirror.Page {
	sum, room := fnv.New64a(), 16
	pages := make([]*mirror.Page, len(all))
	var tag []byte
	for i, in := range all {
		pages[i] = in.Ticker()
		tag = append(append(tag[:0], pages[i].Tag...), ' ')
		_, _ = sum.Write(tag) // never fails
		room += len(pages[i].JSON) + 1
	}
	body := append(make([]byte, 0, room), `{"items":[`...)
	for i, p := range pages {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, p.JSON...)
	}
	return &mirror.Page{Tag: strconv.FormatUint(sum.Sum64(), 36), JSON: append(body, "]}"...)}
}

// listed is a list of all instruments that was made a moment ago.
type listed struct {
	mu   sync.Mutex // held while making one: those who come meanwhile wait for it
	page *mirror.Page
	made time.Time
}

// listAge is how long a list serves all who ask for it: there may be thousands of instruments in it.
const listAge = 100 * time.Millisecond

// list answers with a list of instruments, each as it stood at some time in the last listAge. Clients whose tokens cover
// some instruments only have a list of their own.
func (s *Server) list(r *request, l *listed, covers func(*mirror.Instrument) bool, fill func([]*mirror.Instrument) *mirror.Page) {
	if err := s.mirror.Ready(); err != nil {
		s.unfound(r, err)
		return
	}
	if !r.grant.Every() {
		s.present(r.ctx, fill(slices.DeleteFunc(s.mirror.Listed(), func(in *mirror.Instrument) bool { return !covers(in) })), jsonType)
		return
	}
	s.present(r.ctx, l.get(func() *mirror.Page { return fill(s.mirror.Listed()) }), jsonType)
}

func (l *listed) get(fill func() *mirror.Page) *mirror.Page {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.page == nil || now.Sub(l.made) >= listAge {
		l.page, l.made = fill(), now
	}
	return l.page
}

// instrument is an instrument as /v1/instruments tells it.
type instrument struct {
	Sym        string `json:"sym"`
	Inst       uint32 `json:"inst"`
	Source     string `json:"source"`
	Symbol     string `json:"symbol"`
	PriceScale uint8  `json:"ps"`
	SizeScale  uint8  `json:"ss"`
	Tick       string `json:"tick,omitempty"`
	Epoch      uint32 `json:"ep"`
	Seq        uint64 `json:"seq"`
	Status     string `json:"status"`
	State      string `json:"state"`
	Why        string `json:"why,omitempty"`
	Book       string `json:"book"`
}

func (s *Server) instruments(r *request) {
	s.list(r, &s.instrumentList, func(in *mirror.Instrument) bool { return seen(r.grant, in.Sym()) }, instrumentsOf)
}

func instrumentsOf(list []*mirror.Instrument) *mirror.Page {
	all := struct {
		Items []instrument `json:"items"`
	}{make([]instrument, len(list))}
	for i, in := range list {
		d := in.Describe()
		row := &all.Items[i]
		*row = instrument{
			Sym: d.Sym, Inst: d.ID, Source: d.Source, Symbol: d.Symbol, PriceScale: d.PriceScale, SizeScale: d.SizeScale,
			Epoch: d.Sequence.Epoch, Seq: d.Sequence.Seq, Status: d.Status.String(), State: d.State.String(), Book: d.Book.String(),
		}
		if d.TickSize > 0 {
			row.Tick = string(market.AppendFixed(nil, d.TickSize, d.PriceScale))
		}
		if d.Why != market.NoReason {
			row.Why = d.Why.String()
		}
	}
	return digested(mustJSON(all))
}

// digested is a page whose tag follows from its text.
func digested(body []byte) *mirror.Page {
	sum := fnv.New64a()
	_, _ = sum.Write(body) // never fails
	return &mirror.Page{Tag: strconv.FormatUint(sum.Sum64(), 36), JSON: body}
}

// seen tells whether a client may have anything of an instrument.
func seen(g *auth.Grant, sym string) bool {
	for ch := range market.NumChannels {
		if g.Allows(market.Channel(ch), sym, market.View{Depth: 10, Millis: slowest}) == auth.Granted {
			return true
		}
	}
	return false
}

func (s *Server) time(r *request) {
	r.ctx.SetContentType(jsonType)
	r.ctx.SetBody(append(strconv.AppendInt([]byte(`{"ts":`), market.FromTime(time.Now()).Micros(), 10), '}'))
}

func (s *Server) streams(r *request) { s.present(r.ctx, s.discovery(), jsonType) }

// api is what the REST API has beside the rest of the edge.
type api struct {
	endpoints []endpoint // which an endpoint tells of
	limiter   *door.Limiter[payer]
	served    *rest.Served
	findWS    func() string // where the WebSocket edge is
	caching   string        // how long answers may be kept
	openapi   *mirror.Page

	tickerList, instrumentList listed

	found struct { // the newest answer of /v1/streams
		mu   sync.Mutex
		ws   string
		page *mirror.Page
	}
}

func newAPI(cfg *Config, deps *Deps) (*api, error) {
	a := &api{endpoints: endpoints, limiter: door.NewLimiter[payer](cfg.RestRate, cfg.RestBurst), findWS: deps.WebSocket, caching: "no-cache", openapi: digested(openapiYAML)}
	if cfg.Edge.Auth.Mode != auth.None.String() {
		a.caching = "private, no-cache"
	}
	var err error
	a.served, err = rest.NewServed(deps.Metrics, "sse")
	return a, err
}

// present answers with a page, or says that the client has it already. It is compressed for those who take that.
func (s *Server) present(ctx *fasthttp.RequestCtx, p *mirror.Page, contentType string) {
	etag := `"` + p.Tag + `"`
	h := &ctx.Response.Header
	h.Set(fasthttp.HeaderETag, "W/"+etag) // weak: the times at which messages were encoded differ, and so do compressed forms
	h.Set(fasthttp.HeaderCacheControl, s.caching)
	h.Set(fasthttp.HeaderVary, "Accept-Encoding")
	if matches(string(ctx.Request.Header.Peek(fasthttp.HeaderIfNoneMatch)), etag) {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return
	}
	ctx.SetContentType(contentType)
	if len(p.JSON) >= worthPacking && ctx.Request.Header.HasAcceptEncoding("gzip") {
		h.Set(fasthttp.HeaderContentEncoding, "gzip")
		ctx.Response.SetBodyRaw(p.Packed(pack))
		return
	}
	ctx.Response.SetBodyRaw(p.JSON)
}

const jsonType = "application/json"

// worthPacking is how long a body is that is compressed: a packet or so.
const worthPacking = 1400

// packers are used again: one costs a megabyte. fasthttp's own would leave goroutines behind that nobody waits for.
var packers = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic("sse: " + err.Error()) // no such level
	}
	return w
}}

func pack(text []byte) []byte {
	w := packers.Get().(*gzip.Writer)
	defer packers.Put(w)
	out := bytes.NewBuffer(make([]byte, 0, len(text)/3))
	w.Reset(out)
	_, _ = w.Write(text) // a Buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// mustJSON is for what holds strings, numbers and lists.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("sse: an answer that is no JSON: " + err.Error())
	}
	return b
}
