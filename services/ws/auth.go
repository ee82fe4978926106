package ws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/door"
)

// introduceWithin is how long a client may take to say who it is, where it has to.
const introduceWithin = 10 * time.Second

// warnBefore is how long before a token expires its bearer is told, unless that is more than a fifth of the time it had.
const warnBefore = time.Minute

// Why a connection did not become a session: see metrics.go.
const (
	reasonToken   = "token"
	reasonSubject = "subject"
)

// identity is who a client is, and what is known of it. Grant and generation are guarded by session.mu.
type identity struct {
	grant      *auth.Grant   // nil while the client has not said who it is, and must
	generation uint64        // of the authority's keys, when the grant was last looked at
	due        time.Duration // when to warn of the grant's end, or, while there is none, to lose patience; 0 is never
	party      *door.Party   // changes only between two requests; nil for one without a token
	proof      *proof        // a token that is to be checked before the next request is read
}

// proof is an auth request.
type proof struct {
	id    wire.ID
	token string
}

// bearers takes the tokens out of an upgrade's headers.
func bearers(h http.Header) (tokens []string) {
	for _, line := range h.Values("Authorization") {
		if scheme, token, _ := strings.Cut(strings.TrimSpace(line), " "); strings.EqualFold(scheme, "Bearer") {
			tokens = append(tokens, strings.TrimSpace(token))
		}
	}
	h.Del("Authorization")
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(offer), "bearer."); ok {
				tokens = append(tokens, token)
			}
		}
	}
	return tokens
}

// identify finds out who wants to connect.
func (s *Server) identify(ctx context.Context, v *visitor) error {
	a := s.access
	v.who.generation = a.Generation()
	v.who.grant = a.Anonymous()
	switch {
	case a.Mode() == auth.None:
		return nil
	case len(v.tokens) == 0 && v.who.grant == nil:
		v.who.due = s.now() + introduceWithin
		return nil
	case len(v.tokens) == 0:
		return nil
	case len(v.tokens) > 1:
		return badToken("more than one token")
	}
	g, err := s.checks.Verify(ctx, a, v.tokens[0])
	v.tokens = nil
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return &refusal{
			status: http.StatusServiceUnavailable, msg: err.Error(), reason: reasonToken,
			headers: fmt.Sprintf("Retry-After: %d\r\n", int(auth.RetryAfter.Seconds())),
		}
	case err != nil:
		return badToken(err.Error())
	}
	if v.who.party = a.Join(g); v.who.party == nil {
		return &refusal{
			status: http.StatusTooManyRequests, msg: subjectFull, headers: "Retry-After: 10\r\n", reason: reasonSubject,
		}
	}
	v.who.grant, v.who.due = g, s.warnAt(g)
	return nil
}

const subjectFull = "too many connections by this token's subject"

// badToken is RFC 6750's way to say that a token is not good.
func badToken(msg string) *refusal {
	return &refusal{
		status: http.StatusUnauthorized, msg: msg, reason: reasonToken,
		headers: `WWW-Authenticate: Bearer realm="tickwire", error="invalid_token", error_description="` + msg + "\"\r\n",
	}
}

// warnAt is when to say that the grant's time is almost over; 0 is never.
func (s *Server) warnAt(g *auth.Grant) time.Duration {
	if g.Expires.IsZero() {
		return 0
	}
	left := time.Until(g.Expires)
	return s.now() + left - min(warnBefore, left/5)
}

// mayAsk tells whether a client may make such a request now.
func (c *session) mayAsk(op wire.Op) (code wire.Code, msg string) {
	if op == wire.OpAuth || op == wire.OpPing || op == wire.OpList {
		return "", ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.grant == nil:
		return wire.CodeAuthRequired, "say who you are first, by auth"
	case c.grant.Expired(time.Now()):
		return wire.CodeAuthExpired, auth.ErrExpired.Error()
	}
	return "", ""
}

// forbidden tells whether a topic is out of the client's reach.
func (c *session) forbidden(t *wire.TopicRequest) *wire.RowError {
	denied := c.grant.Allows(t.Channel, t.Sym, t.View)
	if denied == auth.Granted {
		return nil
	}
	c.s.checks.Forbidden.Inc()
	return &wire.RowError{Topic: t.Topic, Code: wire.CodeForbidden, Msg: denied.String()}
}

// visible tells which instruments of a channel the client may see, for a subscription to all of them. It outlives the
// moment: it is asked about instruments to come.
func visible(g *auth.Grant, ch market.Channel) func(sym string) bool {
	return func(sym string) bool { return g.Allows(ch, sym, market.View{}) == auth.Granted }
}

// maxTopics is how many topics the client may follow.
func (c *session) maxTopics() int {
	if c.grant != nil && c.grant.MaxTopics > 0 {
		return min(c.grant.MaxTopics, c.s.cfg.MaxTopics)
	}
	return c.s.cfg.MaxTopics
}

// opsRate is how many requests per second the client may make.
func (c *session) opsRate() float64 {
	if c.grant != nil && c.grant.Ops > 0 {
		return c.grant.Ops
	}
	return c.s.cfg.Ops
}

// bucket is full, and of a rate per second.
func (s *Server) bucket(rate float64) door.Bucket {
	return door.Bucket{Rate: float32(rate), Burst: float32(max(1, rate*s.burst()))}
}

// burst is how many requests at once a client may make, for each that is allowed per second.
func (s *Server) burst() float64 { return float64(s.cfg.OpsBurst) / s.cfg.Ops }

// takeOp takes one request out of the bucket that counts.
func (c *session) takeOp(now time.Time) bool {
	if ok, has := c.party.Take(now, c.s.burst()); has {
		return ok
	}
	return c.ops.Take(now)
}

// limits are what hello says. It is for begin, when nobody else knows the session.
func (c *session) limits() wire.Limits {
	return wire.Limits{Topics: uint32(c.maxTopics()), Frame: uint32(c.s.cfg.MaxMessage), Ops: uint32(max(1, c.opsRate()))}
}

// introduce notes an auth request. It is dealt with by prove, behind the worker's back: a token whose signing key has to be
// fetched takes its time, and workers are few.
func (c *session) introduce(r *wire.Request) {
	if c.s.access.Mode() == auth.None {
		c.reply(&wire.Ack{ID: r.ID}) // nobody has to say who they are; no harm in saying it
		return
	}
	c.proof = &proof{id: r.ID, token: r.Token}
	r.Token = "" // requests are used again, and may lie about for long
}

// prove checks the token that the last request brought, if it did. The reading goroutine waits for it meanwhile, so that the
// client's requests are answered in order; the stack that it takes is another goroutine's, and given back.
func (c *session) prove() {
	p := c.proof
	if p == nil {
		return
	}
	c.proof = nil
	done := make(chan struct{})
	c.s.running.Go(func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				c.failed(r)
			}
		}()
		c.authenticate(p)
	})
	<-done
}

// authenticate answers an auth request.
func (c *session) authenticate(p *proof) {
	a := c.s.access
	generation := a.Generation()
	g, err := c.s.checks.Verify(context.Background(), a, p.token)
	if err != nil {
		c.unproven(p.id, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.party != nil && c.party.Subject() != g.Subject:
		c.refuse(p.id, wire.CodeAuthFailed, "the token is another subject's than the connection")
		return
	case c.party != nil:
		c.party.Limit(g)
	default:
		if c.party = a.Join(g); c.party == nil {
			c.close(wire.CloseConnectionLimit, subjectFull)
			return
		}
	}
	c.generation = generation
	ended := c.apply(g)
	c.reply(&wire.Ack{ID: p.id})
	c.tellEnded(ended)
}

// unproven refuses a token. Whoever goes on trying bad ones is closed.
func (c *session) unproven(id wire.ID, err error) {
	code := wire.CodeAuthFailed
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		code = wire.CodeNotReady
	case errors.Is(err, auth.ErrExpired):
		code = wire.CodeAuthExpired
	}
	if !c.mayErr() {
		c.bye(closePolicy, "too many bad tokens")
		return
	}
	c.refuse(id, code, err.Error())
}

// apply gives the client another grant, at once: what it does not cover any more ends. The caller holds mu, and tells the
// client what has ended.
func (c *session) apply(g *auth.Grant) (ended []wire.Unsub) {
	c.grant, c.due = g, c.s.warnAt(g)
	kept := 0
	for _, s := range c.topics.all() {
		topic, view, _ := asked(s)
		why := wire.CodeForbidden
		switch {
		case !covered(g, s, topic, view):
			c.s.checks.Forbidden.Inc()
		case kept >= c.maxTopics():
			why = wire.CodeTooManyTopics
		default:
			kept++
			continue
		}
		c.topics.end(s)
		ended = append(ended, wire.Unsub{Topic: *topic, Why: string(why)})
	}
	return ended
}

// covered tells whether the client may go on with a subscription. One to all instruments grows by those that may be seen
// now; if any is lost it ends as a whole, since silence about some would look like a quiet market.
func covered(g *auth.Grant, s subscription, topic *wire.Topic, view market.View) bool {
	if g.Allows(topic.Channel, topic.Sym, view) != auth.Granted {
		return false
	}
	w, ok := s.(*wildcard)
	return !ok || w.Restrict(visible(g, topic.Channel))
}

func (c *session) tellEnded(ended []wire.Unsub) {
	for i := range ended {
		c.text(func(dst []byte) []byte { return wire.AppendUnsub(dst, &ended[i]) })
	}
}

// audit looks whether the client's grant still stands. The sweep calls it.
func (c *session) audit(now time.Duration) {
	a := c.s.access
	if a.Mode() == auth.None {
		return
	}
	generation, wall := a.Generation(), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over || !c.greeted: // it ends, or has not begun
	case c.grant == nil:
		if now >= c.due {
			c.close(closePolicy, "no token within 10 seconds")
		}
	case c.generation != generation && !c.renewed(generation):
		c.s.checks.Revoked.Inc()
		c.close(closePolicy, auth.ErrRevoked.Error())
	case c.grant.Expired(wall):
		c.s.checks.Expired.Inc()
		c.close(wire.CloseAuthExpired, auth.ErrExpired.Error())
	case c.due != 0 && now >= c.due:
		c.due = 0
		c.text(func(dst []byte) []byte {
			return wire.AppendAuth(dst, &wire.Auth{Why: wire.WhyExpiring, Expires: market.FromTime(c.grant.Expires), Time: market.FromTime(wall)})
		})
	}
}

// renewed gives the client what its grant is after the key file has changed. It reports false when that is nothing.
func (c *session) renewed(generation uint64) bool {
	c.generation = generation
	g, err := c.s.access.Renew(c.grant)
	switch {
	case err != nil:
		c.s.log.Info("key revoked", zap.String("key", c.grant.Key()), zap.String("subject", c.grant.Subject))
		return false
	case g == c.grant:
		return true
	}
	if c.party != nil {
		c.party.Limit(g)
	}
	c.tellEnded(c.apply(g))
	return true
}

// close is bye for a caller that holds mu.
func (c *session) close(code int, reason string) {
	c.over = true
	c.topics.endAll()
	c.bye(code, reason)
}
