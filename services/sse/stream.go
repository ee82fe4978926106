package sse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/rest"
)

// stream answers a request for /v1/sse/{name}: with a stream, or for those who prefer JSON with one answer.
func (s *Server) stream(ctx *fasthttp.RequestCtx, name string) {
	p, wrong := parseSpec(name, func(param string) string { return string(ctx.QueryArgs().Peek(param)) })
	if wrong != nil {
		rest.Fail(ctx, *wrong)
		return
	}
	asJSON := prefersJSON(ctx)
	grant, ok := s.receive(ctx, false, func(ctx *fasthttp.RequestCtx) {
		if asJSON || ctx.IsHead() {
			rest.TooMany(ctx)
			return
		}
		s.turnAway(ctx, "overload") // many may come back at once from behind one address
	})
	if !ok {
		return
	}
	if wrong := s.permitted(grant, &p); wrong != nil {
		rest.Fail(ctx, *wrong)
		return
	}
	if s.draining.Load() && !asJSON && !ctx.IsHead() {
		s.turnAway(ctx, "drain")
		return
	}
	v, wrong := s.enter(p)
	switch {
	case wrong == nil:
	case wrong.Status == fasthttp.StatusServiceUnavailable && !asJSON && !ctx.IsHead():
		s.turnAway(ctx, "overload") // which passes, and browsers have to come back then
		return
	default:
		rest.Fail(ctx, *wrong)
		return
	}
	defer s.leave(v) // a client that comes of this counts for itself
	if asJSON {
		s.poll(ctx, v)
		return
	}
	f := formOf(ctx, &p)
	if ctx.IsHead() {
		headOnly(ctx, f)
		return
	}
	r := v.parseResume(lastEventID(ctx))
	if s.await(v, r) {
		s.turnAway(ctx, "behind")
		return
	}
	s.take(ctx, &client{s: s, form: f, grant: grant}, p, r)
}

// prefersJSON tells whether the request is for one answer instead of a stream.
func prefersJSON(ctx *fasthttp.RequestCtx) bool {
	accept := ctx.Request.Header.Peek(fasthttp.HeaderAccept)
	return bytes.Contains(accept, []byte("application/json")) && !bytes.Contains(accept, []byte("text/event-stream"))
}

// formOf is how the stream goes to this client.
func formOf(ctx *fasthttp.RequestCtx, p *spec) form {
	switch {
	case !ctx.Request.Header.IsHTTP11():
		return bare
	case p.rate > 0 && acceptsGzip(string(ctx.Request.Header.Peek(fasthttp.HeaderAcceptEncoding))):
		return gzipped
	}
	return chunked
}

// acceptsGzip reads an Accept-Encoding (RFC 9110, 12.5.3).
func acceptsGzip(header string) bool {
	for _, part := range strings.Split(header, ",") {
		name, params, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(params), " ", ""), "q=")
			weight, err := strconv.ParseFloat(q, 64)
			return !ok || err != nil || weight > 0
		}
	}
	return false
}

// lastEventID is what the client has; the header counts for more, since browsers send it when they come back.
func lastEventID(ctx *fasthttp.RequestCtx) string {
	if id := ctx.Request.Header.Peek("Last-Event-ID"); len(id) > 0 {
		return string(id)
	}
	return string(ctx.QueryArgs().Peek("lastEventId"))
}

// behindTimeout is how long this edge may take to reach a client that was ahead of it.
const behindTimeout = 2 * time.Second

// await waits until the view has come to where the client is. It reports true when it has not, though the log reaches so
// far: the client had better ask another edge.
func (s *Server) await(v *view, r resume) (behind bool) {
	for waited := time.Duration(0); v.behind(r); waited += beatEvery {
		if waited >= behindTimeout {
			return s.exists(r.pos)
		}
		time.Sleep(beatEvery) // on the request's own goroutine, which has nothing else to do
	}
	return false
}

// exists tells whether md.events reaches as far as a place, as Kafka itself says.
func (s *Server) exists(pos position) bool {
	if s.cluster == nil {
		return false
	}
	for i, part := range pos.parts {
		end, ok := s.ends.of(part)
		if !ok || pos.offsets[i] >= end {
			return false
		}
	}
	return true
}

// streamHeaders are what every stream begins with, whatever its form.
const streamHeaders = "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\nServer: tickwire\r\n"

// copied are headers that the router has set.
var copied = []string{fasthttp.HeaderAccessControlAllowOrigin, fasthttp.HeaderAccessControlAllowCredentials, fasthttp.HeaderAccessControlExposeHeaders, fasthttp.HeaderVary}

// appendHeader appends the head of the answer. In a compressed stream the stream's own header follows.
func appendHeader(b []byte, ctx *fasthttp.RequestCtx, f form) []byte {
	version := "1.1"
	if f == bare {
		version = "1.0"
	}
	b = append(append(append(b, "HTTP/"...), version...), " 200 OK\r\n"+streamHeaders+"Date: "...)
	b = fasthttp.AppendHTTPDate(b, time.Now())
	b = append(b, '\r', '\n')
	for _, name := range copied {
		if v := ctx.Response.Header.Peek(name); len(v) > 0 {
			b = append(append(append(append(b, name...), ": "...), v...), '\r', '\n')
		}
	}
	b = append(b, "Connection: close\r\n"...) // what comes behind the request is never read
	switch f {
	case bare:
		return append(b, '\r', '\n')
	case gzipped:
		b = append(b, "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"...)
	}
	b = append(b, "Transfer-Encoding: chunked\r\n\r\n"...)
	if f == gzipped {
		b = appendChunk(b, []byte(gzipHeader))
	}
	return b
}

// headOnly answers HEAD.
func headOnly(ctx *fasthttp.RequestCtx, f form) {
	h := &ctx.Response.Header
	ctx.SetContentType("text/event-stream")
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	h.Set("X-Accel-Buffering", "no")
	if f == gzipped {
		h.Set(fasthttp.HeaderContentEncoding, "gzip")
		h.Add(fasthttp.HeaderVary, "Accept-Encoding")
	}
	ctx.Response.SkipBody = true
}

// greeting is what a stream's first event says.
type greeting struct {
	Proto    int    `json:"proto"`
	Channel  string `json:"ch"`
	Interval string `json:"iv,omitempty"`
	Symbols  any    `json:"symbols"` // "*" is all
	RateMs   int64  `json:"rate"`
	Conn     string `json:"conn"`
	Time     int64  `json:"ts"`
	How      string `json:"how"`
	BeatMs   int64  `json:"hb_ms"`
	MaxAgeMs int64  `json:"max_age_ms,omitempty"`
}

// hello makes the first event.
func (s *Server) hello(v *view, f form, at *place) *fanout.Frame {
	h := greeting{
		Proto: 1, Channel: v.channel.String(), Symbols: v.syms, RateMs: v.rate.Milliseconds(), Conn: s.connName(),
		Time: market.FromTime(time.Now()).Micros(), How: "snapshot", BeatMs: heartbeat.Milliseconds(), MaxAgeMs: s.cfg.MaxAge.Milliseconds(),
	}
	if v.all {
		h.Symbols = "*"
	}
	if v.channel == market.Bars {
		h.Interval = v.interval.String()
	}
	if at.replay {
		h.How = "replay"
	}
	body, err := json.Marshal(h)
	if err != nil {
		panic("sse: a hello that is no JSON: " + err.Error()) // it holds strings and numbers
	}
	text := appendRetry(nil, between(2*time.Second, 5*time.Second))
	return f.frame(appendEvent(text, at.id, "hello", body))
}

// between is a time at random, to spread clients.
func between(least, most time.Duration) time.Duration {
	return least + rand.N(most-least) //nolint:gosec // it hides nothing
}

// appendRetry appends how long a client waits before it connects anew. An event must follow: a block without data is an
// event for some clients.
func appendRetry(b []byte, wait time.Duration) []byte {
	return append(strconv.AppendInt(append(b, "retry: "...), wait.Milliseconds(), 10), '\n')
}

// connName names a connection in logs and to its client.
func (s *Server) connName() string {
	return strconv.FormatUint(uint64(s.start.UnixNano()), 36) + "-" + strconv.FormatUint(s.named.Add(1), 36)
}

// goodbye is the last event of a stream, and the end of its body. A compressed stream ends by its tally. When the client may
// come back is said twice: for browsers, and for scripts, which can't see what browsers do with retry.
func goodbye(f form, why string) *fanout.Frame {
	wait := between(5*time.Second, 30*time.Second)
	if why == "age" { // nothing is wrong, and no other client leaves just now
		wait = between(time.Second, 3*time.Second)
	}
	text := appendRetry(nil, wait)
	fr := f.frame(appendEvent(text, nil, "goodbye", fmt.Appendf(nil, `{"why":%q,"retry_ms":%d}`, why, wait.Milliseconds())))
	if f == chunked {
		return fanout.RawFrame(append(fr.Bytes(), terminator...), 0)
	}
	return fr
}

// turnAway answers with a stream that ends at once: browsers come back after that, and never after an error.
func (s *Server) turnAway(ctx *fasthttp.RequestCtx, why string) {
	f := chunked
	if !ctx.Request.Header.IsHTTP11() {
		f = bare
	}
	head := appendHeader(nil, ctx, f)
	s.hijack(ctx, func(conn net.Conn) { s.farewell(conn, head, f, why) })
}

// farewell writes a whole stream that consists of a goodbye.
func (s *Server) farewell(conn net.Conn, head []byte, f form, why string) {
	s.metrics.goodbyes.WithLabelValues(why).Inc()
	last := goodbye(f, why)
	b := append(head, last.Bytes()...)
	if f == gzipped {
		sent := new(tally)
		sent.Sent(last)
		b = append(b, sent.Last().Bytes()...)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(headerTimeout))
	_, _ = conn.Write(b) // if it does not get there, nobody waits for it
	_ = conn.Close()
}
