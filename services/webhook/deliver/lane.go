package deliver

import (
	"container/heap"
	"time"

	"golang.org/x/time/rate"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// lane is what the sender knows of an endpoint. Sender.mu guards it.
//
// A lane holds a page of what is due, never the backlog, and no page at all while it can't send for longer than a moment:
// an endpoint that is dead costs a timer.
type lane struct {
	num    int64
	slot   *slot
	target *target // nil until it is loaded
	health store.Health

	page    []unit             // due, oldest first
	pagedAt time.Time          // when the oldest of it was read
	held    map[int64]struct{} // deliveries in the page, in flight, or with an outcome that is not committed yet

	flying  int  // requests
	dragged int  // of them, those that count among the sick
	slow    bool // the last one took longer than slowAfter
	window  int  // requests at a time that it has earned, up to MaxInFlight
	breaker breaker
	limiter *rate.Limiter // nil: no limit

	stale    bool      // the configuration may have changed
	reloadAt time.Time // not before
	wanted   bool      // the outbox may have more that is due
	nextDue  time.Time // when it has more in any case; zero: not known
	pollAt   time.Time // when to look again though nobody said so
	fetching bool
	disabled bool      // by us; nothing is sent until the store has been asked how it stands
	told     bool      // the store knows
	gone     bool      // the endpoint was deleted
	retryAt  time.Time // a fetch has failed; not before

	inReady, inFetches bool
	at                 time.Time // of its timer; zero: none
	pos                int       // in the timers, -1: not there
}

// unit is what one request carries: a delivery, or those of a batch.
type unit struct {
	jobs  []store.Job
	batch int64
}

const (
	firstWindow = 4 // requests at a time to an endpoint of which nothing is known
	minPage     = 8
	maxPage     = 256
	patience    = 2 * time.Second        // how long a page is kept that can't be sent
	pageAge     = 500 * time.Millisecond // after which news have it read anew
)

// breaker opens after some failures without a success between, and lets one request through from time to time to see how
// the endpoint is.
type breaker struct {
	fails  int       // in a row
	opened int       // in a row
	until  time.Time // it is open
}

const (
	breakerFails = 5
	breakerFirst = time.Second
	breakerMax   = time.Minute
)

// failed counts a failure; those of requests that were on their way when it opened do not open it further.
func (b *breaker) failed(now time.Time) {
	b.fails++
	if b.fails < breakerFails || now.Before(b.until) {
		return
	}
	wait := min(breakerFirst<<min(b.opened, 10), breakerMax)
	b.opened++
	b.until = now.Add(jitter(wait))
}

func (b *breaker) succeeded() { *b = breaker{} }

// probing tells whether only one request may be on its way.
func (b *breaker) probing() bool { return b.fails >= breakerFails }

// allowed is how many requests may be on their way.
func (l *lane) allowed() int {
	if l.breaker.probing() {
		return 1
	}
	return l.window
}

// sick tells whether requests may be expected to take long. Who fails at once holds up nobody.
func (l *lane) sick() bool { return l.dragged > 0 || l.slow }

// waits is until when nothing may be sent.
func (l *lane) waits() time.Time {
	if l.health.PausedUntil.After(l.breaker.until) {
		return l.health.PausedUntil
	}
	return l.breaker.until
}

// pageSize is how many deliveries are worth having in memory.
func (l *lane) pageSize() int {
	if l.breaker.probing() {
		return l.target.Batch
	}
	n := 2 * l.window * l.target.Batch
	if l.limiter != nil {
		n = min(n, int(2*float64(l.limiter.Limit())+1)*l.target.Batch)
	}
	return min(max(n, minPage), maxPage)
}

// paged is how many deliveries the page holds, about.
func (l *lane) paged() int { return len(l.page) * l.target.Batch }

// due tells whether the outbox should be looked at, for deliveries.
func (l *lane) due(now time.Time) bool {
	return l.wanted || !l.nextDue.IsZero() && !l.nextDue.After(now) || !l.pollAt.After(now)
}

// timers is a heap of the lanes that wait for a time.
type timers []*lane

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].pos, t[j].pos = i, j
}

// Push is heap's.
func (t *timers) Push(x any) {
	l := x.(*lane) //nolint:errcheck,forcetypeassert // nothing else is pushed
	l.pos = len(*t)
	*t = append(*t, l)
}

// Pop is heap's.
func (t *timers) Pop() any {
	old := *t
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*t, l.pos = old[:len(old)-1], -1
	return l
}

// set gives a lane its time; zero is none.
func (t *timers) set(l *lane, at time.Time) {
	switch l.at = at; {
	case at.IsZero() && l.pos >= 0:
		heap.Remove(t, l.pos)
	case at.IsZero():
	case l.pos >= 0:
		heap.Fix(t, l.pos)
	default:
		heap.Push(t, l)
	}
}

// fifo is a queue of lanes. A lane is in it once at most, so that its bound is their number.
type fifo struct {
	items []*lane
	head  int
}

func (q *fifo) len() int { return len(q.items) - q.head }

func (q *fifo) push(l *lane) { q.items = append(q.items, l) }

func (q *fifo) pop() *lane {
	l := q.items[q.head]
	q.items[q.head] = nil
	if q.head++; q.head == len(q.items) || q.head > 1024 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return l
}
