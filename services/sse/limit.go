package sse

import (
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/rest"
)

// payer is whose bucket a request is paid from: the subject of its token, or the place that it comes from. Loopback, and
// places that our proxies don't name, are one place.
type payer struct {
	subject  string
	place    door.Place
	unproven bool // for requests of a place that could not say who asks
}

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
	if s.access.Mode() != auth.None && !s.limiter.Solvent(stranger, time.Now()) {
		return nil, s.spend(ctx, stranger, 0, refuse)
	}
	grant, ok = s.admit(ctx)
	switch {
	case !ok:
		s.limiter.Take(stranger, 0, time.Now())
		return nil, false
	case grant.Anonymous():
		return grant, s.spend(ctx, payer{place: place}, 0, refuse)
	}
	return grant, s.spend(ctx, payer{subject: grant.Subject}, grant.Ops, refuse)
}

// spend takes a token out of a payer's bucket, and tells the client how many are left. When there is none it refuses.
func (s *Server) spend(ctx *fasthttp.RequestCtx, p payer, own float64, refuse func(*fasthttp.RequestCtx)) bool {
	q := s.limiter.Take(p, own, time.Now())
	rest.TellQuota(ctx, q)
	if q.OK {
		return true
	}
	s.served.Limited.Inc()
	refuse(ctx)
	return false
}
