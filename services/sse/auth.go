package sse

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/rest"
)

// admit finds out who asks, and what they may have. When that is nothing it answers the request itself, and ok is false.
func (s *Server) admit(ctx *fasthttp.RequestCtx) (grant *auth.Grant, ok bool) {
	if s.access.Mode() == auth.None {
		return s.access.Anonymous(), true
	}
	if wrong := exposedToken(ctx); wrong != nil {
		rest.Fail(ctx, *wrong)
		return nil, false
	}
	if ticket := ctx.QueryArgs().Peek("ticket"); len(ticket) > 0 && len(rest.Bearers(ctx)) == 0 {
		grant, wrong := s.redeem(string(ticket))
		if wrong != nil {
			rest.Challenge(ctx, *wrong)
			return nil, false
		}
		return grant, true
	}
	tokens := s.tokensOf(ctx)
	if len(tokens) > 1 {
		rest.Challenge(ctx, rest.Problem{Status: fasthttp.StatusUnauthorized, Code: "auth_failed", Detail: "more than one token"})
		return nil, false
	}
	if len(tokens) == 1 {
		grant, err := s.checks.Verify(ctx, s.access, tokens[0])
		if err != nil {
			refuseToken(ctx, err)
			return nil, false
		}
		return grant, true
	}
	if grant = s.access.Anonymous(); grant == nil {
		rest.Challenge(ctx, rest.Problem{Status: fasthttp.StatusUnauthorized, Code: "auth_required", Detail: "this server wants to know who asks: send Authorization: Bearer and a token"})
		return nil, false
	}
	return grant, true
}

// tokensOf finds the tokens that a request brings: in its header, or else in the cookie, which the browser adds by itself.
func (s *Server) tokensOf(ctx *fasthttp.RequestCtx) []string {
	tokens := rest.Bearers(ctx)
	if len(tokens) == 0 && s.cfg.Cookie != "" && s.trusts(ctx) {
		if token := ctx.Request.Header.Cookie(s.cfg.Cookie); len(token) > 0 {
			tokens = append(tokens, string(token))
		}
	}
	return tokens
}

// trusts tells whether a request comes from a web page that may use its visitor's cookie: one of an origin in the list, or of
// this server itself. A browser sends no Origin where a page asks its own server by GET, but Sec-Fetch-Site, which pages can't
// set.
func (s *Server) trusts(ctx *fasthttp.RequestCtx) bool {
	if origin := s.listed(ctx); origin != "" {
		return true
	}
	h := &ctx.Request.Header
	return len(h.Peek(fasthttp.HeaderOrigin)) == 0 && string(h.Peek("Sec-Fetch-Site")) == "same-origin"
}

// listed is the origin that a request comes from, if it is in the list of those that may use cookies.
func (s *Server) listed(ctx *fasthttp.RequestCtx) string {
	lines := ctx.Request.Header.PeekAll(fasthttp.HeaderOrigin)
	if len(lines) != 1 || !s.origins.Has(string(lines[0])) {
		return ""
	}
	return string(lines[0])
}

// cors lets web pages of any origin read the answer; those whose visitors' cookies count, with cookies.
func (s *Server) cors(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set(fasthttp.HeaderAccessControlAllowOrigin, "*")
	if s.cfg.Cookie == "" {
		return
	}
	h.Add(fasthttp.HeaderVary, fasthttp.HeaderOrigin) // or a cache would hand one page the answer for another one
	if origin := s.listed(ctx); origin != "" {
		h.Set(fasthttp.HeaderAccessControlAllowOrigin, origin)
		h.Set(fasthttp.HeaderAccessControlAllowCredentials, "true")
	}
}

// refuseToken answers that a token is not good.
func refuseToken(ctx *fasthttp.RequestCtx, err error) {
	p := rest.Problem{Status: fasthttp.StatusUnauthorized, Code: "auth_failed", Detail: err.Error()}
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(int(auth.RetryAfter.Seconds())))
		p.Status, p.Code = fasthttp.StatusServiceUnavailable, "not_ready"
	case errors.Is(err, auth.ErrExpired):
		p.Code = "auth_expired"
	}
	rest.Challenge(ctx, p)
}

// allowed says what keeps a client from having a topic; nil when nothing does. What is of all instruments, auth.AllSymbols,
// is the same for all who have it, so it is for those alone who may see each of them.
func (s *Server) allowed(g *auth.Grant, ch market.Channel, sym string, view market.View) *rest.Problem {
	denied := denial(g, ch, sym, view)
	if denied == "" {
		return nil
	}
	s.checks.Forbidden.Inc()
	return &rest.Problem{Status: fasthttp.StatusForbidden, Code: "forbidden", Detail: ch.String() + " " + sym + ": " + denied}
}

func denial(g *auth.Grant, ch market.Channel, sym string, view market.View) string {
	if denied := g.Allows(ch, sym, view); denied != auth.Granted {
		return denied.String()
	}
	if sym == auth.AllSymbols && !g.Every() {
		return "the token does not cover every instrument; name those that it does"
	}
	return ""
}

// permitted is allowed for every instrument of a stream.
func (s *Server) permitted(g *auth.Grant, p *spec) *rest.Problem {
	for _, sym := range p.topics() {
		if wrong := s.allowed(g, p.channel, sym, market.View{}); wrong != nil {
			wrong.Param = "symbols"
			return wrong
		}
	}
	return nil
}

// topics are the instruments of a stream, or auth.AllSymbols.
func (p *spec) topics() []string {
	if p.all {
		return []string{auth.AllSymbols}
	}
	return p.syms
}

// renew returns what stands in the place of a stream's grant now, or nil when the stream may not go on: the token has expired,
// or its key is gone, or covers the stream no more. It is cheap enough to be asked for each stream once a second.
func (s *Server) renew(g *auth.Grant, p *spec) *auth.Grant {
	if s.access.Mode() == auth.None {
		return g
	}
	if g.Expired(time.Now()) {
		s.checks.Expired.Inc()
		return nil
	}
	now, err := s.access.Renew(g)
	switch {
	case err != nil:
		s.checks.Revoked.Inc()
		s.log.Info("key revoked", zap.String("key", g.Key()), zap.String("subject", g.Subject))
		return nil
	case now == g:
		return g
	case now == nil || s.permitted(now, p) != nil:
		return nil
	}
	return now
}

// placeOf is where a request comes from, as far as clients are told apart by it.
func (s *Server) placeOf(ctx *fasthttp.RequestCtx) door.Place {
	return door.PlaceOf(s.addressOf(ctx))
}

// addressOf is the address that a request comes from; invalid when a proxy of ours does not say.
func (s *Server) addressOf(ctx *fasthttp.RequestCtx) netip.Addr { return rest.Client(ctx, s.proxies) }

// checkCookie says what is wrong with the flags that are about cookies.
func (c *Config) checkCookie() error {
	origins, err := door.ParseOrigins(c.Origins)
	switch {
	case err != nil:
		return fmt.Errorf("--sse-origins: %w", err)
	case c.Cookie == "":
		return nil
	case strings.ContainsFunc(c.Cookie, notInCookie):
		return errors.New("--sse-cookie: not the name of a cookie")
	case origins.Empty():
		return errors.New("--sse-cookie: name the web pages whose visitors' cookies count, by --sse-origins")
	case origins.Has("null"):
		return errors.New("--sse-origins: null is every page's that wants to be it; it can't use cookies")
	}
	return nil
}

// notInCookie holds what the name of a cookie may not have in it (RFC 6265).
func notInCookie(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
}
