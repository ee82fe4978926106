// Package deliver sends what lies in the outbox: signed requests to users' endpoints, until each is answered by 2xx or is a
// dead letter.
//
// # Lanes
//
// Every endpoint has a lane of its own: a page of what is due, requests on their way, a breaker. Lanes that can send stand in
// a queue and take turns, one request each, so a backlog of one is no backlog of others. What is claimed is claimed per
// endpoint. There is no goroutine per lane and none per delivery that waits: only requests on their way have one.
//
// What a lane may have on its way grows from 4 with its successes up to the endpoint's max_in_flight, and shrinks with
// failures. After five in a row the breaker is open: nothing is sent, nothing is read from the outbox; a single request looks
// now and then how the endpoint is. Requests that have taken longer than a second, and those to endpoints that failed last,
// are counted apart from the others, so endpoints that do not answer can't take the places of those that do.
//
// # At least once
//
// An attempt's outcome is committed after the attempt. A sender that is killed between the two, or that has lost its lease,
// makes the next one repeat the request: with the same id and the same bytes.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// Outbox is what the sender needs of the store.
type Outbox interface {
	// Own calls run for each slot that is ours, with a context that ends when the slot is not ours any more.
	Own(ctx context.Context, kind string, total int, run func(context.Context, store.Lease) error) error
	// SlotEndpoints are the endpoints of a slot.
	SlotEndpoints(ctx context.Context, slot int) ([]store.Endpoint, error)
	// SlotNums are their numbers.
	SlotNums(ctx context.Context, slot int) ([]int64, error)
	// Endpoint is one of them; nil when there is none of that number.
	Endpoint(ctx context.Context, num int64) (*store.Endpoint, error)
	// Due are at most limit of the endpoint's queued deliveries that are due and not skipped, in the order of their time;
	// of those that share a key only the oldest, due or not, comes into question. The time is when the next one is due that
	// is not yet; zero: there is none.
	Due(ctx context.Context, endpoint int64, now time.Time, skip func(delivery int64) bool, limit int) ([]store.Job, time.Time, error)
	// Batch are the queued deliveries of a batch, in the order of their numbers.
	Batch(ctx context.Context, endpoint, batch int64) ([]store.Job, error)
	// AssignBatch makes deliveries a batch: they share their requests until each has ended.
	AssignBatch(ctx context.Context, l store.Lease, batch int64, deliveries []int64) error
	// Finish commits what came of attempts. ErrFenced says that the lease has another owner.
	Finish(ctx context.Context, l store.Lease, outcomes []store.Outcome) error
	// NewID is a number that nothing else in the outbox has.
	NewID() int64
	// Queued tells of endpoints that have got deliveries, or have changed. It may tell of too many, and miss some.
	Queued() <-chan int64
}

// Deps is what the sender is given.
type Deps struct {
	Outbox  Outbox
	Log     *zap.Logger
	Metrics prometheus.Registerer // nil: they are not registered
}

// Sender delivers.
type Sender struct {
	cfg     Config
	outbox  Outbox
	log     *zap.Logger
	metrics *metrics
	guard   *guard
	client  *http.Client
	shared  *http.Transport
	wake    chan struct{} // the first timer has changed
	poll    time.Duration // how often an endpoint is looked at though nobody said so, or less often with many of them
	work    sync.WaitGroup

	mu       sync.Mutex
	lanes    map[int64]*lane
	slots    map[int]*slot
	ready    [2]fifo // lanes that can send: the well, the sick
	fetches  [2]fifo // lanes that want to read the outbox, likewise
	timers   timers
	flying   [2]int // requests
	fetching int
	inMemory int // deliveries
}

// slot is a part of the endpoints, which has one owner among all instances.
type slot struct {
	lease   store.Lease
	ctx     context.Context // of its requests
	cancel  context.CancelFunc
	lanes   map[int64]*lane
	pending []store.Outcome // to be committed; lanes wait when there are too many
	flush   bool            // somebody commits them
	busy    int             // requests and fetches
	ending  bool
	lost    bool
	ended   chan struct{} // closed when it ends by itself: fenced
	idle    chan struct{} // closed when it is ending and nothing is going on
}

// Bounds of what goes on.
const (
	maxFetches  = 4      // at a time
	maxInMemory = 16_384 // deliveries of all lanes, beyond which only those fetch that have none, and few
	maxPending  = 2048   // outcomes of a slot, beyond which nothing of it is sent
	maxCommit   = 512    // outcomes in one transaction
	pollEvery   = time.Second
	pollRate    = 5 * time.Millisecond // from one lane's poll to another's
	reloadEvery = time.Second
	lookEvery   = 20 * time.Second // for endpoints that nobody has told of
	maxRateWait = time.Hour        // after which a slow endpoint's rate is looked at again
	drainTime   = 3 * time.Second
)

// New makes a sender.
func New(cfg Config, deps Deps) (*Sender, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g, err := newGuard(&cfg)
	if err != nil {
		return nil, err
	}
	s := &Sender{
		cfg: cfg, outbox: deps.Outbox, log: deps.Log, guard: g, wake: make(chan struct{}, 1), poll: pollEvery,
		lanes: make(map[int64]*lane), slots: make(map[int]*slot),
	}
	s.shared = newTransport(&cfg, g, newTLS())
	s.client = newClient(s.shared)
	if s.metrics, err = newMetrics(deps.Metrics, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Run delivers until the context ends.
func (s *Sender) Run(ctx context.Context) error {
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.work.Go(func() { s.loop(loop) })
	err := s.outbox.Own(ctx, store.KindSlot, store.Slots, s.run)
	stop()
	s.work.Wait()
	s.shared.CloseIdleConnections()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("delivery slots: %w", err)
	}
	return nil
}

// loop waits for times and for news of the outbox.
func (s *Sender) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.mu.Lock()
		now := time.Now()
		for len(s.timers) > 0 && !s.timers[0].at.After(now) {
			s.settle(s.timers[0], now)
		}
		s.pump(now)
		wait := time.Hour
		if len(s.timers) > 0 {
			wait = s.timers[0].at.Sub(now)
		}
		s.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		case num := <-s.outbox.Queued():
			s.news(num)
		}
	}
}

// news looks again at an endpoint, new ones among them.
func (s *Sender) news(num int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[num]
	if l == nil {
		sl := s.slots[store.SlotOf(num)]
		if sl == nil || sl.ending {
			return
		}
		l = s.newLane(sl, num)
	}
	l.wanted, l.stale = true, true
	now := time.Now()
	if now.Sub(l.pagedAt) > pageAge {
		s.drop(l) // something in it may have been cancelled
	}
	s.settle(l, now)
}

// newLane adds a lane. The caller holds the lock.
func (s *Sender) newLane(sl *slot, num int64) *lane {
	l := &lane{num: num, slot: sl, held: make(map[int64]struct{}), window: firstWindow, pos: -1, wanted: true, stale: true}
	s.lanes[num], sl.lanes[num] = l, l
	return l
}

// run serves a slot while it is ours.
func (s *Sender) run(ctx context.Context, lease store.Lease) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	sl := &slot{lease: lease, ctx: requests, cancel: cancel, lanes: make(map[int64]*lane), ended: make(chan struct{}), idle: make(chan struct{})}
	s.mu.Lock()
	s.slots[lease.N] = sl // before its endpoints are read, so that no news between is missed
	s.mu.Unlock()
	s.begin(ctx, sl)
	s.watch(ctx, sl)
	s.end(sl)
	if sl.lost {
		return store.ErrFenced
	}
	return nil
}

// begin makes the lanes of the slot's endpoints, as soon as they can be read.
func (s *Sender) begin(ctx context.Context, sl *slot) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		eps, err := s.outbox.SlotEndpoints(ctx, sl.lease.N)
		if err == nil {
			s.lay(sl, eps)
			return
		}
		s.log.Error("endpoints can't be read", zap.Int("slot", sl.lease.N), zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-sl.ended:
			return
		case <-time.After(wait):
		}
	}
}

func (s *Sender) lay(sl *slot, eps []store.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for i := range eps {
		if s.lanes[eps[i].Num] != nil {
			continue // by news, which is not older
		}
		l := s.newLane(sl, eps[i].Num)
		l.stale = false
		s.install(l, &eps[i], now)
		s.settle(l, now)
	}
	s.pump(now)
}

// watch looks now and then for endpoints of which no news has come, until the slot ends.
func (s *Sender) watch(ctx context.Context, sl *slot) {
	tick := time.NewTicker(jitter(lookEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sl.ended:
			return
		case <-tick.C:
		}
		nums, err := s.outbox.SlotNums(ctx, sl.lease.N)
		if err != nil {
			s.log.Error("the slot's endpoints can't be read", zap.Int("slot", sl.lease.N), zap.Error(err))
			continue
		}
		s.mu.Lock()
		now := time.Now()
		for _, num := range nums {
			if s.lanes[num] == nil {
				s.settle(s.newLane(sl, num), now)
			}
		}
		s.pump(now)
		s.mu.Unlock()
	}
}

// end lets requests that are on their way end for a moment, and commits what came of them.
func (s *Sender) end(sl *slot) {
	s.mu.Lock()
	sl.ending = true
	now := time.Now()
	for num, l := range sl.lanes {
		s.settle(l, now)
		delete(s.lanes, num)
	}
	delete(s.slots, sl.lease.N)
	s.checkIdle(sl)
	s.mu.Unlock()
	timer := time.AfterFunc(drainTime, sl.cancel)
	defer timer.Stop()
	<-sl.idle
	for _, l := range sl.lanes {
		l.target.close()
	}
}

// checkIdle tells end that nothing is going on. The caller holds the lock.
func (s *Sender) checkIdle(sl *slot) {
	if sl.ending && sl.busy == 0 && !sl.flush {
		select {
		case <-sl.idle:
		default:
			close(sl.idle)
		}
	}
}

// install takes over an endpoint's configuration as it was read, which may be stale again since. The caller holds the lock.
func (s *Sender) install(l *lane, ep *store.Endpoint, now time.Time) {
	l.reloadAt = now.Add(reloadEvery)
	if l.target != nil && l.target.Version == ep.Version && l.target.State == ep.State {
		return
	}
	old := l.target
	old.close()
	l.target = s.target(ep)
	l.limiter = nil
	if ep.Rate > 0 {
		l.limiter = rate.NewLimiter(rate.Limit(ep.Rate), max(1, int(ep.Rate/10)))
	}
	l.window = min(firstWindow, l.target.MaxInFlight)
	l.breaker = breaker{}
	// Whoever enables an endpoint that is enabled makes a new beginning of its health. What the store does not know yet of it is
	// newer than that.
	if !slices.ContainsFunc(l.slot.pending, func(o store.Outcome) bool { return o.Endpoint == l.num && o.Health != nil }) {
		l.health = ep.Health
	}
	switch {
	case old == nil || old.State != ep.State:
		l.health = ep.Health
		if !l.health.FailingSince.IsZero() {
			l.breaker.fails, l.slow = breakerFails, true // it is no better for our having been restarted
		}
	case old.URL != ep.URL:
		l.health.PausedUntil = time.Time{} // that was another server's wish
	}
	s.drop(l)
}

// drop gives a lane's page back. The caller holds the lock.
func (s *Sender) drop(l *lane) {
	for _, u := range l.page {
		s.release(l, u)
	}
	l.wanted = l.wanted || len(l.page) > 0
	l.page = nil
}

func (s *Sender) release(l *lane, u unit) {
	for i := range u.jobs {
		delete(l.held, u.jobs[i].Delivery.Num)
		s.inMemory--
	}
}

// settle finds out what a lane can do now: stand in the queues, or wait for a time. The caller holds the lock, and calls
// pump afterwards.
func (s *Sender) settle(l *lane, now time.Time) {
	at := s.place(l, now)
	if !at.IsZero() && !at.After(now) {
		at = now.Add(time.Millisecond) // whatever the reason, never a loop that spins
	}
	before := time.Time{}
	if len(s.timers) > 0 {
		before = s.timers[0].at
	}
	s.timers.set(l, at)
	if len(s.timers) > 0 && (before.IsZero() || s.timers[0].at.Before(before)) {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// place puts a lane into the queues that it belongs in, and returns when to look again.
func (s *Sender) place(l *lane, now time.Time) time.Time {
	if l.slot.ending || l.gone || l.disabled {
		s.drop(l)
		switch {
		case !l.told || l.slot.ending || l.gone:
		case l.retryAt.After(now):
			return l.retryAt
		default:
			s.fetchSoon(l)
		}
		return time.Time{}
	}
	if l.retryAt.After(now) {
		return l.retryAt
	}
	if l.target == nil || l.stale && !l.reloadAt.After(now) {
		s.fetchSoon(l)
	}
	if l.target == nil {
		return time.Time{}
	}
	if l.target.State != store.EndpointEnabled {
		s.drop(l)
		if !l.pollAt.After(now) {
			l.stale = true
			s.fetchSoon(l)
			return time.Time{}
		}
		return first(l.pollAt, l.reload())
	}
	if until := l.waits(); until.After(now) {
		if until.Sub(now) > patience {
			s.drop(l)
		}
		return first(until, l.reload())
	}
	if len(l.slot.pending) >= maxPending {
		return now.Add(500 * time.Millisecond)
	}
	var at time.Time
	free := l.flying < l.allowed()
	if len(l.page) > 0 && free {
		if at = l.rateAt(now); at.IsZero() {
			s.sendSoon(l)
		} else if at.Sub(now) > patience {
			s.drop(l)
			return first(at, l.reload())
		}
	}
	if l.paged() < max(1, l.pageSize()/2) && (free || !l.sick()) {
		switch {
		case !l.due(now):
			at = first(at, first(l.nextDue, l.pollAt))
		case s.inMemory >= maxInMemory && len(l.held) > 0:
			at = first(at, now.Add(100*time.Millisecond))
		default:
			s.fetchSoon(l)
		}
	}
	return first(at, l.reload())
}

// reload is when a configuration that may have changed is read anew; zero: it has not.
func (l *lane) reload() time.Time {
	if l.stale {
		return l.reloadAt
	}
	return time.Time{}
}

// rateAt is when the endpoint's rate lets the next request go; zero is now.
func (l *lane) rateAt(now time.Time) time.Time {
	if l.limiter == nil {
		return time.Time{}
	}
	missing := 1 - l.limiter.TokensAt(now)
	if missing <= 1e-9 {
		return time.Time{}
	}
	wait := min(missing/float64(l.limiter.Limit()), maxRateWait.Seconds()) // it may be more than a Duration holds
	return now.Add(max(time.Duration(wait*float64(time.Second)), time.Millisecond))
}

// first is the earlier of two times, of which zero is none.
func first(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (s *Sender) fetchSoon(l *lane) {
	if !l.fetching && !l.inFetches {
		l.inFetches = true
		s.fetches[class(l.sick())].push(l)
	}
}

func (s *Sender) sendSoon(l *lane) {
	if l.inReady {
		return
	}
	l.inReady = true
	s.ready[class(l.sick())].push(l)
}

func class(sick bool) int {
	if sick {
		return 1
	}
	return 0
}

// pump starts what can be started. The sick leave a look into the outbox, and half of the memory, to the well; those of the
// well that have nothing yet get a little even when the others have taken all of it. The caller holds the lock.
func (s *Sender) pump(now time.Time) {
	for c := range s.fetches {
		for s.fetches[c].len() > 0 && s.fetching < maxFetches-c && s.inMemory < 2*maxInMemory>>(2*c) {
			l := s.fetches[c].pop()
			l.inFetches = false
			if !l.slot.ending && !l.gone {
				s.startFetch(l, now)
			}
		}
	}
	for c := range s.ready {
		for s.ready[c].len() > 0 && s.room(c) {
			l := s.ready[c].pop()
			l.inReady = false
			s.startRequest(l, now)
		}
	}
}

// room tells whether a request may be started: to an endpoint that is well, or to one that is not. A request that turns out
// to be slow goes over to the other count, so in all there are some more than twice as many, which has a bound too.
func (s *Sender) room(class int) bool {
	return s.flying[class] < s.cfg.InFlight && s.flying[0]+s.flying[1] < 4*s.cfg.InFlight
}

// flight is a request on its way.
type flight struct {
	lane   *lane
	target *target
	unit   unit
	sick   bool // counts among those to the sick
	late   *time.Timer
}

// startRequest sends the next of a lane, if it still can. The caller holds the lock.
func (s *Sender) startRequest(l *lane, now time.Time) {
	if l.slot.ending || len(l.page) == 0 || l.target.State != store.EndpointEnabled || l.flying >= l.allowed() || l.waits().After(now) || l.disabled ||
		l.limiter != nil && !l.limiter.AllowN(now, 1) {
		s.settle(l, now)
		return
	}
	f := &flight{lane: l, target: l.target, unit: l.page[0], sick: l.sick()}
	l.page[0] = unit{}
	l.page = l.page[1:]
	l.flying++
	l.slot.busy++
	s.flying[class(f.sick)]++
	if f.sick {
		l.dragged++
	} else {
		f.late = time.AfterFunc(slowAfter, func() { s.drag(f) })
	}
	s.work.Go(func() { s.fly(f) })
	s.settle(l, now)
}

// drag counts a request that takes long among those to the sick.
func (s *Sender) drag(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.sick || f.late == nil {
		return
	}
	f.sick = true
	f.lane.dragged++
	s.flying[0]--
	s.flying[1]++
	now := time.Now()
	if s.inMemory >= maxInMemory/2 {
		s.drop(f.lane) // it will be a while until it is sent
		s.settle(f.lane, now)
	}
	s.pump(now)
}

func (s *Sender) fly(f *flight) {
	var r Result
	m, err := f.target.format(s.cfg.Origin, f.unit.jobs)
	if err != nil {
		r = Result{At: time.Now(), kind: unfit, Err: err.Error()}
	} else {
		r = f.target.post(f.lane.slot.ctx, &m)
	}
	s.metrics.attempted(&r)
	s.land(f, &r)
}

// land takes note of what came of a request.
func (s *Sender) land(f *flight, r *Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, sl, now := f.lane, f.lane.slot, time.Now()
	if f.late != nil {
		f.late.Stop()
		f.late = nil
	}
	l.slow = r.Took >= slowAfter
	l.flying--
	sl.busy--
	s.flying[class(f.sick)]--
	if f.sick {
		l.dragged--
	}
	if r.kind == cut || sl.lost {
		s.release(l, f.unit) // whoever has the slot next sends it again
		s.checkIdle(sl)
		return
	}
	sl.pending = append(sl.pending, s.judge(l, f.unit, r, now)...)
	if !sl.flush {
		sl.flush = true
		s.work.Go(func() { s.commit(sl) })
	}
	s.settle(l, now)
	s.pump(now)
}

// startFetch reads a page of a lane, and its configuration if that may have changed. The caller holds the lock.
func (s *Sender) startFetch(l *lane, now time.Time) {
	f := &fetch{lane: l, skip: maps.Clone(l.held), reload: l.target == nil || l.stale, told: l.told, target: l.target}
	if l.target != nil && l.target.State == store.EndpointEnabled && !l.disabled && !l.waits().After(now) {
		f.limit = l.pageSize() - l.paged()
		if s.inMemory >= maxInMemory {
			f.limit = min(f.limit, minPage)
		}
	}
	l.fetching, l.wanted, l.stale, l.nextDue = true, false, false, time.Time{}
	l.slot.busy++
	s.fetching++
	s.work.Go(func() { s.fetch(f) })
}

// fetch is a look into the outbox. What was held when it began is left out: it may be committed while we read.
type fetch struct {
	lane   *lane
	skip   map[int64]struct{}
	reload bool
	told   bool // of the lane, when it began
	limit  int  // deliveries; 0: none
	target *target

	endpoint *store.Endpoint
	found    int
	units    []unit
	next     time.Time
}

func (s *Sender) fetch(f *fetch) {
	err := s.read(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	l, now := f.lane, time.Now()
	l.fetching = false
	l.slot.busy--
	s.fetching--
	defer s.checkIdle(l.slot)
	if l.slot.ending {
		return
	}
	if err != nil {
		s.log.Error("outbox can't be read", zap.Error(err))
		l.wanted, l.stale, l.retryAt = true, true, now.Add(jitter(time.Second))
		s.settle(l, now)
		s.pump(now)
		return
	}
	if f.reload && f.endpoint == nil { // it was deleted
		l.gone = true
		s.settle(l, now)
		l.target.close()
		delete(s.lanes, l.num)
		delete(l.slot.lanes, l.num)
		s.pump(now)
		return
	}
	interval := max(s.poll, time.Duration(len(s.lanes))*pollRate)
	l.pollAt = now.Add(jitter(interval))
	if f.reload {
		s.install(l, f.endpoint, now)
		if f.told {
			l.disabled, l.told = false, false
		}
	}
	if l.target != nil && f.limit == 0 {
		l.wanted = true
	}
	if l.target == f.target && f.limit > 0 && !l.disabled {
		for _, u := range f.units {
			for i := range u.jobs {
				l.held[u.jobs[i].Delivery.Num] = struct{}{}
				s.inMemory++
			}
		}
		if len(l.page) == 0 {
			l.pagedAt = now
		}
		l.page = append(l.page, f.units...)
		l.nextDue = first(l.nextDue, f.next)
		l.wanted = l.wanted || f.found >= f.limit
	}
	if l.target != f.target {
		l.wanted = true // what was found was for another configuration
	}
	s.settle(l, now)
	s.pump(now)
}

// read is fetch's part without the lock.
func (s *Sender) read(f *fetch) (err error) {
	ctx, l := f.lane.slot.ctx, f.lane
	if f.reload {
		if f.endpoint, err = s.outbox.Endpoint(ctx, l.num); err != nil {
			return fmt.Errorf("endpoint: %w", err)
		}
	}
	if f.limit == 0 {
		return nil
	}
	skip := func(num int64) bool { _, held := f.skip[num]; return held }
	jobs, next, err := s.outbox.Due(ctx, l.num, time.Now(), skip, f.limit)
	if err != nil {
		return fmt.Errorf("what is due: %w", err)
	}
	f.found, f.next = len(jobs), next
	f.units, err = s.units(ctx, f, jobs)
	return err
}

// units puts deliveries together to requests: those of a batch that was assigned before, new batches, or each alone.
func (s *Sender) units(ctx context.Context, f *fetch, jobs []store.Job) (units []unit, err error) {
	seen := make(map[int64]struct{})
	var loose []store.Job
	// A delivery may have ended between the store's queries.
	jobs = slices.DeleteFunc(jobs, func(j store.Job) bool { return j.Delivery.State != store.DeliveryQueued })
	for i := range jobs {
		switch batch := jobs[i].Delivery.Batch; {
		case batch == 0 && f.target.Batch <= 1:
			units = append(units, unit{jobs: jobs[i : i+1 : i+1]})
		case batch == 0:
			loose = append(loose, jobs[i])
		default:
			if _, twice := seen[batch]; twice {
				continue
			}
			seen[batch] = struct{}{}
			members, err := s.outbox.Batch(ctx, f.lane.num, batch)
			if err != nil {
				return nil, fmt.Errorf("batch: %w", err)
			}
			if len(members) > 0 {
				units = append(units, unit{jobs: members, batch: batch})
			}
		}
	}
	for len(loose) > 0 {
		n := min(f.target.Batch, len(loose))
		u := unit{jobs: loose[:n:n], batch: rand.Int64()} //nolint:gosec // a number to tell batches apart, not a secret
		loose = loose[n:]
		nums := make([]int64, n)
		for i := range u.jobs {
			nums[i], u.jobs[i].Delivery.Batch = u.jobs[i].Delivery.Num, u.batch
		}
		if err := s.outbox.AssignBatch(ctx, f.lane.slot.lease, u.batch, nums); err != nil {
			return nil, fmt.Errorf("assign batch: %w", err)
		}
		units = append(units, u)
	}
	return units, nil
}

// commit writes outcomes until there are none.
func (s *Sender) commit(sl *slot) {
	// What was sent should be known to have been even when we stop, but not for ever.
	ctx, cancel := context.WithCancel(context.WithoutCancel(sl.ctx))
	defer cancel()
	defer context.AfterFunc(sl.ctx, func() { time.AfterFunc(drainTime, cancel) })()
	for wait := 50 * time.Millisecond; ; {
		s.mu.Lock()
		batch := sl.pending[:min(len(sl.pending), maxCommit)]
		if len(batch) == 0 || sl.lost {
			s.forget(sl, sl.pending)
			sl.pending, sl.flush = nil, false
			s.checkIdle(sl)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		err := s.outbox.Finish(ctx, sl.lease, batch)
		switch {
		case err == nil:
			wait = 50 * time.Millisecond
			s.committed(sl, batch)
		case errors.Is(err, store.ErrFenced), ctx.Err() != nil:
			s.log.Warn("delivery slot is not ours any more", zap.Int("slot", sl.lease.N), zap.Error(err))
			s.mu.Lock()
			sl.lost = true
			close(sl.ended)
			s.mu.Unlock()
		default:
			s.log.Error("outcomes can't be committed", zap.Error(err))
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, 5*time.Second)
		}
	}
}

// forget lets go of deliveries whose outcome is committed, or will never be. The caller holds the lock.
func (s *Sender) forget(sl *slot, outcomes []store.Outcome) {
	for i := range outcomes {
		if l := sl.lanes[outcomes[i].Endpoint]; l != nil {
			delete(l.held, outcomes[i].Delivery)
		}
		s.inMemory--
	}
}

// committed goes on with the lanes of what has been committed.
func (s *Sender) committed(sl *slot, batch []store.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.forget(sl, batch)
	var last *lane
	for i := range batch {
		o := &batch[i]
		l := sl.lanes[o.Endpoint]
		if l == nil {
			continue
		}
		if o.State == store.DeliveryQueued {
			l.nextDue = first(l.nextDue, o.NextAt)
		} else if l.target.Ordering != store.OrderNone && l.target.Ordering != "" {
			l.wanted = true // the next one of its key may be due
		}
		if o.Disable != "" {
			l.told, l.stale = true, true
		}
		if last != nil && last != l {
			s.settle(last, now)
		}
		last = l
	}
	if last != nil {
		s.settle(last, now)
	}
	sl.pending = sl.pending[len(batch):]
	if len(sl.pending) == 0 {
		sl.pending = nil
	}
	s.pump(now)
}
