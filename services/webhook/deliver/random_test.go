package deliver

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// world is a random course of events: endpoints that change their mind, users who change theirs, a database that fails.
type world struct {
	t    *testing.T
	seed uint64
	m    *memory

	mu      sync.Mutex
	rng     *rand.Rand
	moods   map[int64]mood
	flying  map[int64]int
	limits  map[int64]int
	taken   map[string]int // endpoint and event: how often it was answered by 2xx
	sent    map[string]bool
	healthy bool // from now on all are well
}

type mood int

const (
	well mood = iota
	broken
	silent
	slow
	pausing
	leaving
	moods
)

// TestRandom runs senders through random worlds. Whatever happens, an endpoint gets no more requests at a time than it takes,
// nothing is sent again that was taken, and once all are well, everything is delivered that was not given up.
func TestRandom(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 15
	}
	for seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newWorld(t, seed).run() })
		})
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), moods: map[int64]mood{}, flying: map[int64]int{}, limits: map[int64]int{},
		taken: map[string]int{}, sent: map[string]bool{},
	}
	var eps []store.Endpoint
	for num := range int64(6) {
		ep := endpoint(num+1, fmt.Sprintf("http://%d.example/", num+1))
		ep.MaxInFlight = 1 + w.rng.IntN(6)
		w.limits[ep.Num] = ep.MaxInFlight
		ep.Profile = store.ProfileStandard
		switch w.rng.IntN(4) {
		case 0:
			ep.Batch = 4
		case 1:
			ep.Ordering = store.OrderAlert
		case 2:
			ep.Rate = 20
		}
		eps = append(eps, ep)
	}
	w.m = newMemory(eps...)
	w.m.finish = func([]store.Outcome) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.healthy && w.rng.IntN(10) == 0 {
			return errors.New("no")
		}
		return nil
	}
	return w
}

func (w *world) answer(r *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(r.URL.Host, ".")
	num, _ := strconv.ParseInt(name, 10, 64)
	w.mu.Lock()
	if w.flying[num]++; w.flying[num] > w.limits[num] {
		w.t.Errorf("endpoint %d: %d requests, it takes %d", num, w.flying[num], w.limits[num])
	}
	now, wait := w.moods[num], time.Duration(w.rng.IntN(200))*time.Millisecond
	w.mu.Unlock()
	switch now {
	case slow:
		wait *= 50
	case silent:
		wait = time.Hour
	}
	select {
	case <-r.Context().Done():
		err = r.Context().Err()
	case <-time.After(wait):
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flying[num]--
	switch {
	case err != nil:
		return nil, err
	case now == broken:
		return reply(500), nil
	case now == pausing:
		return reply(429, "Retry-After", strconv.Itoa(w.rng.IntN(100))), nil
	case now == leaving:
		return reply(410), nil
	}
	for _, part := range strings.Split(string(b), `"id":"evt_`)[1:] {
		id, _, _ := strings.Cut(part, `"`)
		w.taken[name+" "+id]++
	}
	return reply(200), nil
}

func (w *world) run() {
	t, m := w.t, w.m
	s := sender(t, m, nil)
	s.cfg.InFlight = 8
	s.client = &http.Client{Transport: round(w.answer), CheckRedirect: s.client.CheckRedirect}
	stop := start(t, s)
	for range 150 {
		w.step()
		w.mu.Lock()
		wait := time.Duration(w.rng.IntN(3000)) * time.Millisecond
		w.mu.Unlock()
		time.Sleep(wait)
	}
	w.mu.Lock()
	w.healthy = true
	clear(w.moods)
	w.mu.Unlock()
	time.Sleep(2 * time.Minute) // what is on its way, or waits for the breaker, is over
	for num := range int64(6) {
		if m.endpoints[num+1] == nil {
			continue
		}
		m.change(num+1, func(ep *store.Endpoint) {
			m.enable(ep)
			for _, j := range m.lists[ep.Num] {
				j.Delivery.NextAt = time.Now()
			}
		})
	}
	time.Sleep(10 * time.Minute)
	stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for num, j := range m.byNum {
		d := &j.Delivery
		if m.endpoints[d.Endpoint] == nil {
			continue
		}
		name := fmt.Sprintf("%d %06d", d.Endpoint, num)
		switch d.State {
		case store.DeliveryDelivered:
			if w.taken[name] != 1 {
				t.Errorf("%s was taken %d times", name, w.taken[name])
			}
		case store.DeliveryCancelled, store.DeliveryExhausted:
		default:
			t.Errorf("%s is %s, due %v, now %v", name, d.State, d.NextAt, time.Now())
		}
	}
}

// step is something that happens.
func (w *world) step() {
	w.mu.Lock()
	what, num, n := w.rng.IntN(12), w.rng.Int64N(6)+1, 1+w.rng.IntN(60)
	to := mood(w.rng.IntN(int(moods)))
	w.mu.Unlock()
	m := w.m
	if m.endpoints[num] == nil {
		return
	}
	switch what {
	case 0, 1, 2, 3, 4:
		m.add(num, n, func(i int, j *store.Job) {
			j.Delivery.Key = int64(i%3 + 1)
			if m.endpoints[num].State != store.EndpointEnabled {
				j.Delivery.State = store.DeliveryHeld
			}
		})
	case 5, 6:
		w.mu.Lock()
		w.moods[num] = to
		w.mu.Unlock()
	case 7:
		w.mu.Lock()
		w.moods[num] = well
		w.mu.Unlock()
		m.change(num, m.enable)
	case 8:
		m.change(num, func(ep *store.Endpoint) { m.disable(ep, "user") })
	case 9:
		m.change(num, func(ep *store.Endpoint) { ep.Description += "x" })
	case 10:
		m.mu.Lock()
		for _, j := range m.lists[num] {
			if j.Delivery.State == store.DeliveryQueued && j.Delivery.Num%5 == 0 {
				j.Delivery.State = store.DeliveryCancelled
			}
		}
		m.mu.Unlock()
		m.tell(num)
	case 11:
		if n == 60 {
			m.mu.Lock()
			delete(m.endpoints, num)
			m.mu.Unlock()
			m.tell(num)
		}
	}
}
