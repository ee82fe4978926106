package sse

import (
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/services/internal/door"
)

// payer is whose bucket a request is paid from: the subject of its token, or the place that it comes from. Loopback, and
// places that our proxies don't name, are one place.
type payer struct {
	subject  string
	place    door.Place
	unproven bool // for requests of a place that could not say who asks
}

// limiter says how often each payer may ask, by a token bucket each.
//
// It remembers those who have asked of late, in two generations: whoever asks is in the newer one, and when that has lasted
// as long as a bucket takes to fill, it becomes the older one, and the older one is forgotten: those buckets are full, so
// nothing is. When a generation has maxPayers before that time, it makes room too. Then a payer who has not asked meanwhile
// may get a full bucket early: with so many payers it is not a single one who is the burden, and an honest one is never
// refused for the others' sake.
type limiter struct {
	rate, burst float64 // a second, and at once
	fill        time.Duration

	mu     sync.Mutex
	newer  map[payer]*door.Bucket
	older  map[payer]*door.Bucket
	turned time.Time
}

const maxPayers = 1 << 16 // of a generation

// newLimiter limits nobody when the rate is 0.
func newLimiter(rate float64, burst int) *limiter {
	l := &limiter{rate: rate, burst: float64(burst), newer: make(map[payer]*door.Bucket)}
	if rate > 0 {
		l.fill = time.Duration(l.burst / rate * float64(time.Second))
	}
	return l
}

// quota is what the answer tells a payer.
type quota struct {
	ok     bool
	limit  int           // at once
	left   int           // at once, now
	full   time.Duration // until limit are left
	wait   time.Duration // until one is, when there is none
	exempt bool          // there is no limit
}

// take takes a token. A payer with a rate of its own has that, and a burst in proportion.
func (l *limiter) take(p payer, own float64, now time.Time) quota {
	rate, burst := l.rate, l.burst
	switch {
	case own > 0 && l.rate > 0:
		rate, burst = own, max(1, math.Round(own*l.burst/l.rate))
	case own > 0:
		rate, burst = own, max(1, math.Round(own))
	case l.rate == 0:
		return quota{ok: true, exempt: true}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(p, now)
	b.Rate, b.Burst = float32(rate), float32(burst)
	q := quota{ok: b.Take(now), limit: int(burst)}
	left := float64(b.Left())
	q.left = int(left)
	q.full = seconds((burst - left) / rate)
	if !q.ok {
		q.wait = seconds((1 - left) / rate)
	}
	return q
}

// solvent tells whether a payer without a rate of its own could take a token.
func (l *limiter) solvent(p payer, now time.Time) bool {
	if l.rate == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(p, now)
	b.Rate, b.Burst = float32(l.rate), float32(l.burst)
	return b.Has(now)
}

// bucket is the payer's. l.mu is held.
func (l *limiter) bucket(p payer, now time.Time) *door.Bucket {
	if now.Sub(l.turned) >= max(l.fill, time.Second) {
		l.turn(now)
	}
	b := l.newer[p]
	if b != nil {
		return b
	}
	if len(l.newer) >= maxPayers {
		l.turn(now)
	}
	if b = l.older[p]; b == nil {
		b = new(door.Bucket)
	}
	l.newer[p] = b
	return b
}

// turn begins a generation.
func (l *limiter) turn(now time.Time) {
	l.older, l.newer, l.turned = l.newer, make(map[payer]*door.Bucket), now
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// receive finds out who asks, unless that does not matter, and has them pay for the request. When they may not come in it
// answers, by refuse if it is because they have asked too much, and ok is false.
//
// Whoever shows a good token pays as its subject. Tokens that are not good have a bucket of their own for each place; when
// that is empty no token from there is looked at, since checking one may cost more than the answer.
func (s *Server) receive(ctx *fasthttp.RequestCtx, open bool, refuse func(*fasthttp.RequestCtx)) (grant *auth.Grant, ok bool) {
	place := s.placeOf(ctx)
	if open {
		return nil, s.spend(ctx, payer{place: place}, 0, refuse)
	}
	stranger := payer{place: place, unproven: true}
	if s.access.Mode() != auth.None && !s.limiter.solvent(stranger, time.Now()) {
		return nil, s.spend(ctx, stranger, 0, refuse)
	}
	grant, ok = s.admit(ctx)
	switch {
	case !ok:
		s.limiter.take(stranger, 0, time.Now())
		return nil, false
	case grant.Anonymous():
		return grant, s.spend(ctx, payer{place: place}, 0, refuse)
	}
	return grant, s.spend(ctx, payer{subject: grant.Subject}, grant.Ops, refuse)
}

// spend takes a token out of a payer's bucket, and tells the client how many are left. When there is none it refuses.
func (s *Server) spend(ctx *fasthttp.RequestCtx, p payer, own float64, refuse func(*fasthttp.RequestCtx)) bool {
	q := s.limiter.take(p, own, time.Now())
	if q.exempt {
		return true
	}
	h := &ctx.Response.Header
	h.Set("RateLimit-Limit", strconv.Itoa(q.limit))
	h.Set("RateLimit-Remaining", strconv.Itoa(q.left))
	h.Set("RateLimit-Reset", wholeSeconds(q.full))
	if q.ok {
		return true
	}
	s.served.limited.Inc()
	h.Set(fasthttp.HeaderRetryAfter, wholeSeconds(q.wait))
	refuse(ctx)
	return false
}

// tooMany answers somebody who has asked too much.
func tooMany(ctx *fasthttp.RequestCtx) {
	fail(ctx, problem{
		Status: fasthttp.StatusTooManyRequests, Code: "rate", Detail: "too many requests; Retry-After says when there may be another one",
	})
}

// wholeSeconds is a time to wait, at least a second.
func wholeSeconds(d time.Duration) string {
	return strconv.Itoa(int(max(1, math.Ceil(d.Seconds()))))
}
