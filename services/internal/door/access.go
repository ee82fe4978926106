package door

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tickwire/tickwire/pkg/auth"
)

// Access is who may have what at this server: the authority on tokens, and the subjects that are here. The edges of a process
// share one, so that what a subject may have it may have of all of them together.
type Access struct {
	*auth.Authority

	mu      sync.Mutex
	parties map[string]*Party // by subject
}

// NewAccess has nobody here yet. Whoever makes it runs the authority.
func NewAccess(a *auth.Authority) *Access {
	return &Access{Authority: a, parties: make(map[string]*Party)}
}

// Party is all connections of one subject.
type Party struct {
	subject string
	conns   int // guarded by Access.mu

	mu  sync.Mutex
	ops Bucket // of all of them together; its rate is 0 when each has its own
}

// Subject is whose connections they are.
func (p *Party) Subject() string { return p.subject }

// Join counts a connection of the grant's subject in; nil when it has as many as it may.
func (a *Access) Join(g *auth.Grant) *Party {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.parties[g.Subject]
	if p == nil {
		p = &Party{subject: g.Subject}
	}
	if g.MaxConns > 0 && p.conns >= g.MaxConns {
		return nil
	}
	p.conns++
	a.parties[g.Subject] = p
	p.Limit(g)
	return p
}

// Leave counts it out. A connection without a token belongs to no party, which is nil.
func (a *Access) Leave(p *Party) {
	if p == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.conns--; p.conns == 0 {
		delete(a.parties, p.subject)
	}
}

// Subjects is how many there are.
func (a *Access) Subjects() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.parties)
}

// Limit sets the rate of a party's requests: the newest token of the subject counts.
func (p *Party) Limit(g *auth.Grant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ops.Rate = float32(g.Ops)
}

// Take takes one request from the party's bucket, which holds burst times what comes in a second; has is false when the
// party has none.
func (p *Party) Take(now time.Time, burst float64) (ok, has bool) {
	if p == nil {
		return false, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ops.Rate == 0 {
		return false, false
	}
	p.ops.Burst = float32(max(1, float64(p.ops.Rate)*burst))
	return p.ops.Take(now), true
}

// Checks count what came of one edge's questions about tokens.
type Checks struct {
	tokens                      *prometheus.CounterVec
	Expired, Revoked, Forbidden prometheus.Counter
}

// NewChecks begins at 0; edge is what the metrics' names begin with.
func NewChecks(edge string) *Checks {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: edge + name, Help: help})
	}
	c := &Checks{
		tokens:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: edge + "_auth_total", Help: "Tokens that were checked, by what came of it."}, []string{"result"}),
		Expired:   counter("_auth_expired_total", "Connections closed because their token expired."),
		Revoked:   counter("_auth_revoked_total", "Connections closed because their key was removed or replaced."),
		Forbidden: counter("_forbidden_total", "Topics refused or ended because the token does not cover them."),
	}
	c.tokens.WithLabelValues("ok")
	for _, r := range auth.Refusals() {
		c.tokens.WithLabelValues(r.Result)
	}
	return c
}

// Collectors are the metrics.
func (c *Checks) Collectors() []prometheus.Collector {
	return []prometheus.Collector{c.tokens, c.Expired, c.Revoked, c.Forbidden}
}

// Verify looks at a token, and counts it.
func (c *Checks) Verify(ctx context.Context, a *Access, token string) (*auth.Grant, error) {
	g, err := a.Verify(ctx, token)
	result := "ok"
	var refused *auth.Refusal
	if errors.As(err, &refused) {
		result = refused.Result
	}
	c.tokens.WithLabelValues(result).Inc()
	return g, err
}
