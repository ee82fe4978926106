package sse

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/services/internal/rest"
)

const (
	defaultWait = 25 * time.Second
	maxWait     = time.Minute
	maxPolled   = 1000 // events in one answer
)

// poll answers a request for a stream's JSON: how things stand, or with after= what has happened since, for which it waits.
func (s *Server) poll(ctx *fasthttp.RequestCtx, v *view) {
	wait, wrong := parseWait(string(ctx.QueryArgs().Peek("wait")))
	if wrong != nil {
		rest.Fail(ctx, *wrong)
		return
	}
	h := &ctx.Response.Header
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.SetContentType("application/json")
	if !s.polling.tryAcquire() {
		h.Set(fasthttp.HeaderRetryAfter, "1")
		rest.Fail(ctx, rest.Problem{Status: 503, Code: "rate", Detail: "too many clients are waiting for answers; a stream costs this server less"})
		return
	}
	defer s.polling.release()
	after := string(ctx.QueryArgs().Peek("after"))
	r := v.parseResume(after)
	if !r.given || ctx.IsHead() {
		if after != "" && !ctx.IsHead() {
			s.pause(v.next(), wait)
		}
		ctx.SetBody(v.standing())
		return
	}
	if r.reset == "" && s.await(v, r) {
		h.Set(fasthttp.HeaderRetryAfter, "1")
		rest.Fail(ctx, rest.Problem{Status: 503, Code: "behind", Detail: "this server has not come to that place yet", Param: "after"})
		return
	}
	answer, changed := v.since(r)
	for until := s.now() + wait; changed != nil && s.pause(changed, until-s.now()); {
		answer, changed = v.since(r)
	}
	ctx.SetBody(answer)
}

// slots bounds how many do something at a time. A poll that waits holds a goroutine and a request's buffers.
type slots chan struct{}

func (s slots) tryAcquire() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) release() { <-s }

// pause waits for a view's next chunk. It reports false when that has not come in time.
func (s *Server) pause(changed <-chan struct{}, wait time.Duration) bool {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	select {
	case <-changed:
		return true
	case <-deadline.C:
	case <-s.stopping:
	}
	return false
}

// next is closed by the view's next chunk.
func (v *view) next() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.nextChunk()
}

// nextChunk is next for those who hold v.mu.
func (v *view) nextChunk() <-chan struct{} {
	if v.changed == nil {
		v.changed = make(chan struct{})
	}
	return v.changed
}

func parseWait(v string) (time.Duration, *rest.Problem) {
	if v == "" {
		return defaultWait, nil
	}
	if n, err := strconv.Atoi(v); err == nil {
		v = strconv.Itoa(n) + "s"
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d > maxWait {
		return 0, &rest.Problem{Status: 400, Code: "bad_request", Detail: "from 0 to 60s, such as 25s", Param: "wait"}
	}
	return d, nil
}

// standing is how things stand, with the id from which to go on.
func (v *view) standing() []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.appendStanding("")
}

// appendStanding makes the answer. v.mu is held.
func (v *view) appendStanding(reset string) []byte {
	v.settle()
	b := append(v.appendID([]byte(`{"id":"`)), '"')
	if reset != "" {
		b = append(append(append(b, `,"reset":"`...), reset...), '"')
	}
	b = append(append(append(b, `,"ch":"`...), v.channel.String()...), '"')
	return append(v.appendItems(b), '}')
}

// since is what has happened behind a place. When that is nothing yet, it also returns what is closed by the next chunk.
func (v *view) since(r resume) (answer []byte, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.reset != "" {
		return v.appendStanding(r.reset), nil
	}
	if !v.covers(r.pos) {
		return v.appendStanding(resetAhead), nil
	}
	missed, ok := v.missed(r.pos)
	if !ok {
		return v.appendStanding(resetTooOld), nil
	}
	more := len(missed) > maxPolled
	if more {
		missed = missed[:maxPolled]
	}
	at := r.pos.clone()
	events := []byte(`","events":[`)
	for i, h := range missed {
		at.set(h.it.part, h.e.Offset)
		if i > 0 {
			events = append(events, ',')
		}
		events = append(append(append(events, `{"ev":"`...), v.nameOf(h)...), `","data":`...)
		events = append(append(events, h.it.in.JSON(v.channel, v.interval, h.e)...), '}')
	}
	if !more { // everything up to here has been said
		at.raise(v.pos)
	}
	answer = append(append(at.appendID([]byte(`{"id":"`), v.s.logID()), events...), ']', '}')
	if len(missed) > 0 {
		return answer, nil
	}
	return answer, v.nextChunk()
}
