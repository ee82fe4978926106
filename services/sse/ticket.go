package sse

import (
	"container/list"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/services/internal/rest"
)

const (
	ticketLife   = time.Minute // how long a ticket is good
	ticketLength = 43          // characters, of 32 bytes
)

// Bounds of the tickets that nobody has used yet. When there are so many, no further one is given until some are used or
// have expired: those that were promised stay good.
const (
	maxTickets        = 10_000
	maxSubjectTickets = 1000 // a site may ask for all its visitors by one key
)

// tickets stand for tokens in addresses, which end up in histories and in the logs of proxies: browsers can't give an
// EventSource a header. A ticket is good once, for a minute, in this process.
type tickets struct {
	mu       sync.Mutex
	given    map[[32]byte]*list.Element
	queue    list.List      // of ticket, the oldest first
	subjects map[string]int // how many of them are whose
}

type ticket struct {
	id    [32]byte
	grant *auth.Grant
	until time.Time
}

func newTickets() *tickets {
	return &tickets{given: make(map[[32]byte]*list.Element), subjects: make(map[string]int)}
}

var (
	errTickets        = errors.New("too many tickets wait for their use; try again in a minute")
	errSubjectTickets = errors.New("too many tickets of this token's subject wait for their use")
)

// give notes a ticket for what has been granted.
func (t *tickets) give(id [32]byte, g *auth.Grant) error {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.queue.Front(); e != nil && !now.Before(e.Value.(ticket).until); e = t.queue.Front() {
		t.drop(e)
	}
	switch {
	case t.subjects[g.Subject] >= maxSubjectTickets:
		return errSubjectTickets
	case t.queue.Len() >= maxTickets:
		return errTickets
	}
	t.given[id] = t.queue.PushBack(ticket{id, g, now.Add(ticketLife)})
	t.subjects[g.Subject]++
	return nil
}

func newTicketID() (id [32]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// take returns what a ticket grants, once; nil when it is not good.
func (t *tickets) take(text string) *auth.Grant {
	var id [32]byte
	if len(text) != ticketLength {
		return nil
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(id[:], []byte(text)); err != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.given[id]
	if e == nil {
		return nil
	}
	t.drop(e)
	if k := e.Value.(ticket); time.Now().Before(k.until) {
		return k.grant
	}
	return nil
}

// drop forgets a ticket. t.mu is held.
func (t *tickets) drop(e *list.Element) {
	k := t.queue.Remove(e).(ticket)
	delete(t.given, k.id)
	if t.subjects[k.grant.Subject]--; t.subjects[k.grant.Subject] == 0 {
		delete(t.subjects, k.grant.Subject)
	}
}

// redeem finds out who asks by a ticket.
func (s *Server) redeem(text string) (*auth.Grant, *rest.Problem) {
	g := s.tickets.take(text)
	if g == nil {
		s.metrics.tickets.WithLabelValues("refused").Inc()
		return nil, &rest.Problem{
			Status: fasthttp.StatusUnauthorized, Code: "auth_failed", Param: "ticket",
			Detail: "the ticket is not good: each is for one request within a minute, at the server that gave it",
		}
	}
	s.metrics.tickets.WithLabelValues("used").Inc()
	// Much may have happened since it was given.
	if g.Expired(time.Now()) {
		return nil, &rest.Problem{Status: fasthttp.StatusUnauthorized, Code: "auth_expired", Detail: auth.ErrExpired.Error(), Param: "ticket"}
	}
	now, err := s.access.Renew(g)
	if err != nil {
		return nil, &rest.Problem{Status: fasthttp.StatusUnauthorized, Code: "auth_failed", Detail: err.Error(), Param: "ticket"}
	}
	return now, nil
}

// secretParams are what clients call a token in an address.
var secretParams = []string{"token", "access_token", "api_key", "apikey", "jwt", "bearer"}

// exposedToken says that a request has a token in its address, where only tickets may be.
func exposedToken(ctx *fasthttp.RequestCtx) *rest.Problem {
	const detail = "a token does not belong into an address, where others may read it: send Authorization: Bearer, or a ticket of POST /v1/ticket; better replace this token"
	args := ctx.QueryArgs()
	if args.Len() == 0 {
		return nil
	}
	for _, name := range secretParams {
		if args.Has(name) {
			return &rest.Problem{Status: fasthttp.StatusBadRequest, Code: "bad_request", Detail: detail, Param: name}
		}
	}
	if text := string(args.Peek("ticket")); len(text) != ticketLength && (strings.Contains(text, ".") || strings.HasPrefix(text, "tw_")) {
		return &rest.Problem{Status: fasthttp.StatusBadRequest, Code: "bad_request", Detail: detail, Param: "ticket"}
	}
	return nil
}

// giveTicket answers POST /v1/ticket.
func (s *Server) giveTicket(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	if !ctx.IsPost() {
		h.Set(fasthttp.HeaderAllow, "POST, OPTIONS")
		rest.Fail(ctx, rest.Problem{Status: fasthttp.StatusMethodNotAllowed, Code: "bad_request", Detail: "tickets are given by POST"})
		return
	}
	ignored := s.access.Mode() == auth.None // nobody looks at the ticket
	if !ignored && len(rest.Bearers(ctx)) == 0 {
		rest.Challenge(ctx, rest.Problem{Status: fasthttp.StatusUnauthorized, Code: "auth_required", Detail: "a ticket is given for a token: send Authorization: Bearer"})
		return
	}
	g, ok := s.receive(ctx, ignored, rest.TooMany)
	if !ok {
		return
	}
	id := newTicketID()
	text := base64.RawURLEncoding.EncodeToString(id[:])
	if !ignored {
		if err := s.tickets.give(id, g); err != nil {
			s.metrics.tickets.WithLabelValues("full").Inc()
			h.Set(fasthttp.HeaderRetryAfter, "10")
			rest.Fail(ctx, rest.Problem{Status: fasthttp.StatusTooManyRequests, Code: "rate", Detail: err.Error()})
			return
		}
		s.metrics.tickets.WithLabelValues("given").Inc()
	}
	body, err := json.Marshal(map[string]any{"ticket": text, "expires_in": int(ticketLife.Seconds())})
	if err != nil {
		panic("sse: a ticket that is no JSON: " + err.Error()) // it holds a string and a number
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(body)
}
