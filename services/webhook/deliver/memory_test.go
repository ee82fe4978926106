package deliver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/pkg/signature"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// memory is an outbox that forgets everything at the end.
type memory struct {
	queued chan int64
	ids    atomic.Int64
	silent atomic.Bool // no news are told

	mu        sync.Mutex
	endpoints map[int64]*store.Endpoint
	lists     map[int64][]*store.Job // of an endpoint, by number
	byNum     map[int64]*store.Job
	attempts  []store.Attempt
	events    []store.Event // for operators
	reads     map[int64]int // of Due, by endpoint
	finish    func([]store.Outcome) error
	reading   func() error // before an endpoint is read
	read      func()       // after it has been
	listed    func()       // after a slot's have been
	last      int64
	most      int // jobs given out at once
}

func newMemory(eps ...store.Endpoint) *memory {
	m := &memory{
		queued: make(chan int64, 1024), endpoints: map[int64]*store.Endpoint{}, lists: map[int64][]*store.Job{},
		byNum: map[int64]*store.Job{}, reads: map[int64]int{},
	}
	for i := range eps {
		m.endpoints[eps[i].Num] = &eps[i]
	}
	return m
}

func (m *memory) Own(ctx context.Context, kind string, total int, run func(context.Context, store.Lease) error) error {
	var g errgroup.Group
	for n := range total {
		g.Go(func() error { return run(ctx, store.Lease{Kind: kind, N: n, Epoch: 1}) })
	}
	return g.Wait()
}

func (m *memory) SlotEndpoints(_ context.Context, slot int) (eps []store.Endpoint, err error) {
	if m.listed != nil {
		defer m.listed()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ep := range m.endpoints {
		if store.SlotOf(ep.Num) == slot {
			eps = append(eps, *ep)
		}
	}
	return eps, nil
}

func (m *memory) SlotNums(_ context.Context, slot int) (nums []int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for num := range m.endpoints {
		if store.SlotOf(num) == slot {
			nums = append(nums, num)
		}
	}
	return nums, nil
}

func (m *memory) Endpoint(_ context.Context, num int64) (*store.Endpoint, error) {
	if m.reading != nil {
		if err := m.reading(); err != nil {
			return nil, err
		}
	}
	if m.read != nil {
		defer m.read()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ep := m.endpoints[num]
	if ep == nil {
		return nil, nil
	}
	return new(*ep), nil
}

func (m *memory) Due(_ context.Context, endpoint int64, now time.Time, skip func(int64) bool, limit int) (jobs []store.Job, next time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.endpoints[endpoint] == nil {
		return nil, time.Time{}, nil
	}
	m.reads[endpoint]++
	m.most = max(m.most, limit)
	ordered := m.endpoints[endpoint].Ordering != "" && m.endpoints[endpoint].Ordering != store.OrderNone
	keys := map[int64]bool{}
	m.lists[endpoint] = slices.DeleteFunc(m.lists[endpoint], func(j *store.Job) bool {
		return j.Delivery.State == store.DeliveryDelivered || j.Delivery.State == store.DeliveryExhausted
	})
	for _, j := range m.lists[endpoint] {
		d := &j.Delivery
		if d.State != store.DeliveryQueued || ordered && keys[d.Key] {
			continue
		}
		keys[d.Key] = true
		switch {
		case skip(d.Num):
		case d.NextAt.After(now):
			next = first(next, d.NextAt)
		case len(jobs) < limit:
			jobs = append(jobs, *j)
		default:
			return jobs, next, nil
		}
	}
	return jobs, next, nil
}

func (m *memory) Batch(_ context.Context, endpoint, batch int64) (jobs []store.Job, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range m.lists[endpoint] {
		if j.Delivery.Batch == batch && j.Delivery.State == store.DeliveryQueued {
			jobs = append(jobs, *j)
		}
	}
	return jobs, nil
}

func (m *memory) AssignBatch(_ context.Context, _ store.Lease, batch int64, deliveries []int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, num := range deliveries {
		m.byNum[num].Delivery.Batch = batch
	}
	return nil
}

func (m *memory) Finish(_ context.Context, _ store.Lease, outcomes []store.Outcome) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.finish != nil {
		if err := m.finish(outcomes); err != nil {
			return err
		}
	}
	for i := range outcomes {
		o := &outcomes[i]
		d := &m.byNum[o.Delivery].Delivery
		d.Attempts++
		d.Round++
		d.Manual = false
		d.LastErr, d.LastCode = o.Attempt.Err, o.Attempt.Code
		m.attempts = append(m.attempts, o.Attempt)
		ep := m.endpoints[o.Endpoint]
		if ep == nil {
			continue // deleted
		}
		if o.Health != nil {
			ep.Health = *o.Health
		}
		m.events = append(m.events, o.Events...)
		if d.State == store.DeliveryQueued || o.State == store.DeliveryDelivered {
			d.State, d.NextAt = o.State, o.NextAt
		}
		if o.Disable != "" {
			m.disable(ep, o.Disable)
		}
	}
	return nil
}

// disable holds what is queued. The caller holds the lock.
func (m *memory) disable(ep *store.Endpoint, why string) {
	ep.State, ep.Why = store.EndpointDisabled, why
	for _, j := range m.lists[ep.Num] {
		if j.Delivery.State == store.DeliveryQueued {
			j.Delivery.State = store.DeliveryHeld
		}
	}
}

// enable lets what is held go out. The caller holds the lock.
func (m *memory) enable(ep *store.Endpoint) {
	ep.State, ep.Why, ep.Health = store.EndpointEnabled, "", store.Health{}
	for _, j := range m.lists[ep.Num] {
		if j.Delivery.State == store.DeliveryHeld {
			j.Delivery.State, j.Delivery.Round, j.Delivery.NextAt, j.Delivery.Batch = store.DeliveryQueued, 0, time.Now(), 0
		}
	}
}

func (m *memory) Queued() <-chan int64 { return m.queued }

func (m *memory) NewID() int64 { return 1<<60 + m.ids.Add(1) }

// add queues events for an endpoint.
func (m *memory) add(endpoint int64, n int, change func(i int, j *store.Job)) (nums []int64) {
	m.mu.Lock()
	for i := range n {
		m.last++
		id := fmt.Sprintf("evt_%06d", m.last)
		j := &store.Job{
			Delivery: store.Delivery{Num: m.last, Event: m.last, Endpoint: endpoint, State: store.DeliveryQueued, NextAt: time.Now()},
			Event:    store.Event{Num: m.last, ID: id, Type: store.TypeAlertFired, Sym: "BTC-USDT", Created: time.Now(), Body: []byte(`{"id":"` + id + `","type":"alert.fired","timestamp":"2026-01-02T03:04:05Z","data":{"object":{"sym":"BTC-USDT","value":"1"}}}`)},
		}
		if change != nil {
			change(i, j)
		}
		m.lists[endpoint] = append(m.lists[endpoint], j)
		m.byNum[m.last] = j
		nums = append(nums, m.last)
	}
	m.mu.Unlock()
	m.tell(endpoint)
	return nums
}

func (m *memory) tell(endpoint int64) {
	if m.silent.Load() {
		return
	}
	select {
	case m.queued <- endpoint:
	default:
	}
}

// change alters an endpoint as the API would.
func (m *memory) change(endpoint int64, f func(*store.Endpoint)) {
	m.mu.Lock()
	f(m.endpoints[endpoint])
	m.endpoints[endpoint].Version++
	m.mu.Unlock()
	m.tell(endpoint)
}

func (m *memory) delivery(num int64) store.Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byNum[num].Delivery
}

// count is how many deliveries stand at a state.
func (m *memory) count(state store.DeliveryState) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range m.byNum {
		if j.Delivery.State == state {
			n++
		}
	}
	return n
}

// types are those of the events for operators.
func (m *memory) types() (types []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.events {
		types = append(types, m.events[i].Type)
	}
	return types
}

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // public

// endpoint is one at a URL, with a shared secret.
func endpoint(num int64, url string) store.Endpoint {
	return store.Endpoint{
		Num: num, Tenant: 1, URL: url, State: store.EndpointEnabled, Version: 1, Format: store.FormatJSON, Profile: store.ProfileRealtime,
		MaxInFlight: 10, Batch: 1, Secrets: []store.Secret{{Num: 1, Kind: store.SecretV1, Text: testSecret}},
	}
}

// round answers requests instead of a network.
type round func(*http.Request) (*http.Response, error)

func (f round) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// reply is an answer; headers are name, value, name, value.
func reply(code int, headers ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader("ok"))}
}

// sender makes a sender that is not running.
func sender(t testing.TB, m Outbox, change func(*Config)) *Sender {
	t.Helper()
	cfg := DefaultConfig()
	cfg.AllowNets, cfg.AllowPorts = []string{"127.0.0.0/8", "::1/128"}, []string{"1-65535"}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, Deps{Outbox: m, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs a sender until stop, or the end of the test.
func start(t testing.TB, s *Sender) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s.inMemory != 0 || s.flying != [2]int{} || s.fetching != 0 || len(s.timers) != 0 || len(s.lanes) != 0 {
			t.Errorf("at the end: %d in memory, %v flying, %d fetching, %d timers, %d lanes", s.inMemory, s.flying, s.fetching, len(s.timers), len(s.lanes))
		}
	})
	t.Cleanup(stop)
	return stop
}

// accepts verifies a request as a receiver does.
func accepts(r *http.Request, body []byte) error {
	secret, err := signature.ParseSecret(testSecret)
	if err != nil {
		return err
	}
	v := signature.Verifier{Keys: []signature.Checker{secret}}
	_, err = v.Verify(r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Header.Get("webhook-signature"), body)
	return err
}

func contextFor(t testing.TB) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithCancel(context.Background())
}

// readsOf is how often an endpoint's queue was read.
func (m *memory) readsOf(endpoint int64) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads[endpoint]
}
