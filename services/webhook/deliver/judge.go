package deliver

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store"
)

const (
	failingAfter = 5 * time.Minute    // of failures alone: endpoint.failing is said
	disableAfter = 5 * 24 * time.Hour // of failures alone: the endpoint is disabled
	// Longer than the longest pause of a retry profile. Failures that lie further apart do not make one time of failure:
	// nobody knows how the endpoint was between.
	apart = 36 * time.Hour
	// How old the times in Health may be, so that not every delivery writes them.
	healthAge = 10 * time.Second
)

// judge says what comes of the deliveries of a request, and of the endpoint. The caller holds the lock.
func (s *Sender) judge(l *lane, u unit, r *Result, now time.Time) []store.Outcome {
	outcomes := make([]store.Outcome, len(u.jobs))
	lead := &outcomes[0]
	for i := range u.jobs {
		d := &u.jobs[i].Delivery
		outcomes[i] = store.Outcome{Delivery: d.Num, Endpoint: l.num, State: store.DeliveryDelivered, Attempt: r.attempt(d)}
	}
	if r.OK() {
		s.judgeSuccess(l, lead, now)
		for i := range u.jobs {
			s.metrics.delivery.Observe(now.Sub(u.jobs[i].Event.Created).Seconds())
		}
		return outcomes
	}
	s.judgeFailure(l, lead, r, now)
	// All deliveries of a batch go the same way, or it would not stay together.
	round := 0
	for i := range u.jobs {
		round = max(round, u.jobs[i].Delivery.Round+1)
	}
	wait, more := retry(l.target.Profile, round)
	state, next := store.DeliveryQueued, now.Add(wait)
	switch {
	case r.kind == gone, (l.disabled || l.target.State != store.EndpointEnabled) && more:
		state, next = store.DeliveryHeld, now
	case !more:
		state, next = store.DeliveryExhausted, time.Time{}
	case l.health.PausedUntil.After(next):
		next = l.health.PausedUntil
	}
	for i := range outcomes {
		o := &outcomes[i]
		o.State, o.NextAt = state, next
		if ev := &u.jobs[i].Event; state == store.DeliveryExhausted {
			s.metrics.exhausted.Inc()
			if !forOperators(ev.Type) {
				o.Events = append(o.Events, s.operatorEvent(l, store.TypeDeliveryExhausted, now, about{
					Delivery: store.FormatID(store.DeliveryPrefix, o.Delivery), Event: ev.ID, Attempts: o.Attempt.N, LastError: r.Err,
				}))
			}
		}
	}
	return outcomes
}

// Why an endpoint is disabled.
const (
	whyGone    = "gone"
	whyFailing = "failing"
)

func (s *Sender) judgeSuccess(l *lane, o *store.Outcome, now time.Time) {
	l.breaker.succeeded()
	l.window = min(l.window+1, l.target.MaxInFlight)
	h := &l.health
	recovered := !h.FailingSince.IsZero()
	if h.Failing {
		o.Events = append(o.Events, s.operatorEvent(l, store.TypeEndpointRecovered, now, about{Since: &h.FailingSince}))
	}
	h.FailingSince, h.Failing = time.Time{}, false
	if recovered || now.Sub(h.LastSuccess) >= healthAge {
		h.LastSuccess = now
		o.Health = new(*h)
	}
}

func (s *Sender) judgeFailure(l *lane, o *store.Outcome, r *Result, now time.Time) {
	l.breaker.failed(now)
	l.window = max(1, l.window/2)
	h := &l.health
	write := now.Sub(h.LastFailure) >= healthAge || r.Err != h.LastError
	if h.FailingSince.IsZero() || now.Sub(h.LastFailure) > apart {
		h.FailingSince, write = now, true
	}
	h.LastFailure, h.LastError = now, r.Err
	if until := now.Add(r.retryAfter); r.retryAfter > 0 && until.After(h.PausedUntil) {
		h.PausedUntil, write = until, true
	}
	switch {
	case l.disabled || l.target.State != store.EndpointEnabled:
	case r.kind == gone:
		o.Disable = whyGone
	case now.Sub(h.FailingSince) >= disableAfter:
		o.Disable = whyFailing
	case now.Sub(h.FailingSince) >= failingAfter && !h.Failing:
		h.Failing, write = true, true
		o.Events = append(o.Events, s.operatorEvent(l, store.TypeEndpointFailing, now, about{Since: &h.FailingSince, LastError: r.Err}))
	}
	if o.Disable != "" {
		write = true
		s.metrics.disabled.WithLabelValues(o.Disable).Inc()
		o.Events = append(o.Events, s.operatorEvent(l, store.TypeEndpointDisabled, now, about{Since: &h.FailingSince, Reason: o.Disable, LastError: r.Err}))
		l.disabled = true // until the store has been asked how it stands
	}
	if write {
		o.Health = new(*h)
	}
}

// forOperators tells whether an event is about deliveries itself. Of those that fail nothing more is said.
func forOperators(typ string) bool {
	return strings.HasPrefix(typ, "endpoint.") || strings.HasPrefix(typ, "delivery.")
}

// about is the object of an event for operators.
type about struct {
	Endpoint  string     `json:"endpoint"`
	Reason    string     `json:"reason,omitempty"`
	Since     *time.Time `json:"since,omitempty"`
	Delivery  string     `json:"delivery,omitempty"`
	Event     string     `json:"event,omitempty"`
	Attempts  int        `json:"attempts,omitempty"`
	LastError string     `json:"last_error,omitempty"`
}

func (s *Sender) operatorEvent(l *lane, typ string, now time.Time, a about) store.Event {
	id := store.FormatID(store.EventPrefix, s.outbox.NewID())
	a.Endpoint = store.FormatID(store.EndpointPrefix, l.num)
	var b struct {
		ID        string    `json:"id"`
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      struct {
			Object about `json:"object"`
		} `json:"data"`
	}
	b.ID, b.Type, b.Timestamp, b.Data.Object = id, typ, now.UTC(), a
	if a.Since != nil {
		since := a.Since.UTC()
		b.Data.Object.Since = &since
	}
	body, err := json.Marshal(&b)
	if err != nil {
		panic("deliver: an event for operators: " + err.Error()) // it holds nothing that can't be encoded
	}
	return store.Event{ID: id, Type: typ, Tenant: l.target.Tenant, About: l.num, Body: body, Created: now}
}
