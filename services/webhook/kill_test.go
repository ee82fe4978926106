package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// logWriter writes partition 0 of md.events as ingest does: two instruments, trades, heartbeats.
type logWriter struct {
	o     *stream.Owner
	rnd   *rand.Rand
	known int // instruments
	price [2]market.Price
	seq   [2]uint64
	input int64
}

const testEpoch = 1_700_000_000

func newLogWriter(t *testing.T, cluster *stream.Cluster) *logWriter {
	t.Helper()
	return newLogWriterOf(t, cluster, "SYM-1", "SYM-2")
}

func newLogWriterOf(t *testing.T, cluster *stream.Cluster, syms ...string) *logWriter {
	t.Helper()
	o, err := cluster.TakeOver(t.Context(), 0, stream.OwnerOptions{Instance: "test"})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		must(t, o.Close(ctx))
	})
	must(t, o.Snapshots(t.Context(), func(*stream.Snapshot) error { return nil }))
	_, err = o.Tail(t.Context(), 0, func(*stream.EventBatch) error { return nil })
	must(t, err)
	o.Start(-1)
	w := &logWriter{o: o, rnd: rand.New(rand.NewPCG(1, 2)), price: [2]market.Price{10_000, 20_000}}
	for _, sym := range syms {
		w.define(sym)
	}
	w.trades(t, 2)
	return w
}

// define adds an instrument.
func (w *logWriter) define(sym string) {
	w.known++
	s := market.Status{State: market.Live, Book: market.Stale, Why: market.Start}
	s.Head = market.Head{Inst: uint32(w.known), Epoch: testEpoch, Seq: 1, Time: market.FromTime(time.Now())}
	s.Instrument = market.Instrument{ID: uint32(w.known), Sym: sym, Source: "test", Symbol: "S", PriceScale: 2, SizeScale: 3}
	w.o.Events.Add(wire.AppendStatus(nil, &s))
}

// trades writes n batches of trades that wander about 100.00 and 200.00.
func (w *logWriter) trades(t *testing.T, n int) {
	t.Helper()
	for range n {
		for range min(w.known, 1) * (1 + w.rnd.IntN(4)) {
			i := w.rnd.IntN(w.known)
			middle := market.Price(10_000 * (i + 1))
			w.price[i] += market.Price(w.rnd.IntN(11)-5) + (middle-w.price[i])/8
			w.seq[i]++
			trade := market.Trade{Price: w.price[i], Size: 100, ID: market.NumericTradeID(w.seq[i])}
			trade.Head = market.Head{Inst: uint32(i + 1), Epoch: testEpoch, Prev: w.seq[i] - 1, Seq: w.seq[i], Time: market.FromTime(time.Now())}
			w.o.Events.Add(wire.AppendTrade(nil, &trade))
		}
		w.input++
		must(t, w.o.Events.Commit(w.input))
		w.o.Events.Flush()
		must(t, w.o.Events.Wait(t.Context()))
	}
}

// inbox takes deliveries, and remembers what came on each path: by the alert's name and what of the fire does not depend
// on the database.
type inbox struct {
	*httptest.Server
	mu     sync.Mutex
	bodies map[string]map[string]string // by path and event id
	again  atomic.Int64
	faults []string
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newInbox(t *testing.T) *inbox {
	r := &inbox{bodies: map[string]map[string]string{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP implements http.Handler.
func (r *inbox) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	id := req.Header.Get("Webhook-Id")
	seen := r.bodies[req.URL.Path]
	if seen == nil {
		seen = map[string]string{}
		r.bodies[req.URL.Path] = seen
	}
	switch old, again := seen[id]; {
	case err != nil:
		return // cut off: it will come again
	case again && old != string(body):
		r.faults = append(r.faults, fmt.Sprintf("%s came as %s and as %s", id, old, body))
	case again:
		r.again.Add(1)
	}
	seen[id] = string(body)
}

// fires lists what came on a path.
func (r *inbox) fires(t *testing.T, path string) map[string]int {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		t.Error(f)
	}
	all := map[string]int{}
	for _, body := range r.bodies[path] {
		all[fireKey(t, []byte(body))]++
	}
	return all
}

// fireKey is what of a fire is the same whoever evaluates it.
func fireKey(t *testing.T, body []byte) string {
	t.Helper()
	var e struct {
		Data struct {
			Object struct {
				Name, Sym, Value, Prev string
				ArmSeq                 int `json:"arm_seq"`
				Seq, TS, Clock         int64
			}
		}
	}
	must(t, json.Unmarshal(body, &e))
	return fmt.Sprintf("%+v", e.Data.Object)
}

// seed puts a tenant with an endpoint and alerts of many kinds into a new database.
func seed(t *testing.T, cfg Config, url string) (tenant int64, alerts int) {
	t.Helper()
	st := openDatabase(t, cfg)
	defer func() { must(t, st.Close()) }()
	ten := &store.Tenant{Name: "t"}
	must(t, st.CreateTenant(t.Context(), ten, nil))
	must(t, st.CreateEndpoint(t.Context(), &store.Endpoint{
		Tenant: ten.Num, URL: url, State: store.EndpointEnabled, Format: store.FormatJSON, Profile: store.ProfileRealtime, MaxInFlight: 10,
		Timeout: 10 * time.Second, Ordering: store.OrderNone, Batch: 1, Verify: store.VerifyNone,
		Secrets: []store.Secret{{Kind: store.SecretV1, Text: "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}},
	}, nil))
	var list []*store.Alert
	for i, r := range []string{
		`"series":"last","op":"crosses_above","limit":"%s","mode":"recurring"`,
		`"series":"last","op":"crosses_below","limit":"%s","mode":"recurring","hysteresis":"0.05"`,
		`"series":"last","op":"at_or_above","limit":"%s","mode":"recurring","cooldown":"300ms"`,
		`"series":"last","op":"at_or_below","limit":"%s","mode":"recurring","hold_for":"200ms"`,
		`"series":"last","op":"crosses_above","limit":"%s"`,
	} {
		for k, limits := range [][]string{{"100.00", "100.10", "99.95"}, {"200.00", "199.90", "200.05"}} {
			for _, limit := range limits {
				list = append(list, &store.Alert{
					Tenant: ten.Num, Name: fmt.Sprintf("%d %s", i, limit), Sym: fmt.Sprintf("SYM-%d", k+1), Inst: uint32(k + 1),
					Rule: "{" + fmt.Sprintf(r, limit) + "}", State: store.AlertPending,
				})
			}
		}
	}
	must(t, st.CreateAlerts(t.Context(), ten.Num, list, nil))
	return ten.Num, len(list)
}

func openDatabase(t *testing.T, cfg Config) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{URL: cfg.Database, Dir: cfg.Data, Key: cfg.Key}, zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)))
	must(t, err)
	return st
}

func testConfig(t *testing.T) Config {
	cfg := DefaultConfig()
	cfg.Addr, cfg.Data, cfg.Key = "127.0.0.1:0", t.TempDir(), base64.StdEncoding.EncodeToString(make([]byte, 32))
	cfg.Deliver.AllowNets, cfg.Deliver.AllowPorts = []string{"127.0.0.0/8"}, []string{"1-65535"}
	return cfg
}

// childEnv is the configuration of a child process, as JSON.
const childEnv = "TICKWIRE_TEST_WEBHOOK"

type childConfig struct {
	Data, Database, Key, Kafka string
	TTL                        time.Duration // of leases
	Steps                      int           // after which it kills itself
	Later                      time.Duration // so much later, while it goes on
}

// TestChild is no test: it is the service in a process of its own, which kills itself after some steps.
func TestChild(t *testing.T) {
	text := os.Getenv(childEnv)
	if text == "" {
		t.Skip("it is for TestKilledBetweenSteps")
	}
	var c childConfig
	must(t, json.Unmarshal([]byte(text), &c))
	cfg := testConfig(t)
	cfg.Data, cfg.Database, cfg.Key, cfg.leaseTTL = c.Data, c.Database, c.Key, c.TTL
	cluster, err := stream.Open(stream.Config{Brokers: []string{c.Kafka}})
	must(t, err)
	defer cluster.Close()
	s, err := New(cfg, Deps{Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)), Cluster: cluster})
	must(t, err)
	var steps atomic.Int64
	s.step = func(*owner, string) {
		if steps.Add(1) != int64(c.Steps) {
			return
		}
		kill := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
		if c.Later > 0 {
			time.AfterFunc(c.Later, kill)
			return
		}
		kill()
		select {} // it does not come back from here
	}
	must(t, s.Run(t.Context()))
}

// runChild runs the service in a process of its own until it has killed itself.
func runChild(t *testing.T, c childConfig, out io.Writer) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(c)
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v", "-test.timeout=120s") //nolint:gosec // this test's own program
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	must(t, cmd.Start())
	return cmd
}

// A service that is killed between any two of its steps, again and again, fires what one fires that was left alone: each
// fire once, under one id, and every one arrives.
func TestKilledBetweenSteps(t *testing.T) {
	kills := 30
	if s := os.Getenv("TICKWIRE_CHAOS_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		kills = n
	}
	broker := testkit.Broker(t)
	cluster, err := stream.Open(stream.Config{Brokers: []string{broker.Addr()}})
	must(t, err)
	t.Cleanup(cluster.Close)
	w := newLogWriter(t, cluster)
	r := newInbox(t)

	calm, cfg := testConfig(t), testConfig(t)
	calmTenant, alerts := seed(t, calm, r.URL+"/calm")
	tenant, _ := seed(t, cfg, r.URL+"/killed")
	activate(t, calm, cluster, calmTenant, alerts)
	activate(t, cfg, cluster, tenant, alerts)

	stop := w.keepOn(t) // what happens while the one service is killed; the other reads it afterwards
	c := childConfig{Data: cfg.Data, Key: cfg.Key, Kafka: broker.Addr()}
	for n := range kills {
		c.Steps, c.Later = 1+(n*7)%29, 0
		if n%2 == 1 {
			c.Later = time.Duration(n*37%100) * time.Millisecond
		}
		if err := runChild(t, c, nil).Wait(); err == nil {
			t.Errorf("the process was not killed after %d steps", c.Steps)
		}
	}
	stop()
	compare(t, r, settle(t, calm, cluster, calmTenant), settle(t, cfg, cluster, tenant), "/killed")
}

// keepOn goes on writing trades until stop is called.
func (w *logWriter) keepOn(t *testing.T) (stop func()) {
	end := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Millisecond):
				w.trades(t, 1)
			}
		}
	})
	return func() {
		close(end)
		writer.Wait()
	}
}

// compare holds what a service fired that was disturbed against what one fired that was not, and against what arrived.
func compare(t *testing.T, r *inbox, want, got map[string]int, path string) {
	t.Helper()
	if len(want) < 200 {
		t.Errorf("only %d fires: the test proves little", len(want))
	}
	if !maps.Equal(want, got) {
		t.Errorf("left alone it fired %d times, disturbed %d times:\n%v", len(want), len(got), difference(want, got))
	}
	if arrived := r.fires(t, path); !maps.Equal(arrived, got) {
		t.Errorf("of %d fires %d have arrived:\n%v", len(got), len(arrived), difference(got, arrived))
	}
	t.Logf("%d fires, %d came more than once", len(got), r.again.Load())
}

// Two instances on one database, of which one or the other is stopped for so long that its leases go to the other, and then
// goes on as if nothing had happened: fires and deliveries are those of one instance that was left alone.
func TestPostgresZombie(t *testing.T) {
	pauses := 3
	if s := os.Getenv("TICKWIRE_CHAOS_TAKEOVERS"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		pauses = n
	}
	server, err := testkit.StartPostgres()
	if errors.Is(err, testkit.ErrNoPostgres) && os.Getenv("TICKWIRE_REQUIRE_POSTGRES") == "" {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(server.Close)
	broker := testkit.Broker(t)
	cluster, err := stream.Open(stream.Config{Brokers: []string{broker.Addr()}})
	must(t, err)
	t.Cleanup(cluster.Close)
	w := newLogWriter(t, cluster)
	r := newInbox(t)
	calm, cfg := testConfig(t), testConfig(t)
	cfg.Database, cfg.leaseTTL = server.Database(t), 400*time.Millisecond
	calmTenant, alerts := seed(t, calm, r.URL+"/calm")
	tenant, _ := seed(t, cfg, r.URL+"/zombie")
	activate(t, calm, cluster, calmTenant, alerts)
	activate(t, cfg, cluster, tenant, alerts)

	stop := w.keepOn(t)
	c := childConfig{Database: cfg.Database, Key: cfg.Key, Kafka: broker.Addr(), TTL: cfg.leaseTTL}
	var said transcript
	both := [2]*exec.Cmd{runChild(t, c, &said), runChild(t, c, &said)}
	lost := func() int { return said.count(lostPartition) + said.count("slot is not ours any more") }
	for n := 0; n < pauses || lost() == 0 && n < 5*pauses; n++ { // a busy machine may be late
		time.Sleep(700 * time.Millisecond) // what is paused must have something: leases are dealt out anew each 133 ms
		p := both[n%2].Process
		must(t, p.Signal(syscall.SIGSTOP))
		time.Sleep(time.Duration(1300+n*337%600) * time.Millisecond) // longer than the leases live, and than the database waits for a paused transaction
		must(t, p.Signal(syscall.SIGCONT))
	}
	for _, cmd := range both {
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
	}
	if lost() == 0 {
		t.Errorf("nobody has found that another one has its lease: the test proves little\n%s", &said)
	}
	t.Logf("%d times somebody found that another one had its lease", lost())
	stop()
	compare(t, r, settle(t, calm, cluster, calmTenant), settle(t, cfg, cluster, tenant), "/zombie")
}

// transcript is what some processes say.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(b)
}

// String returns all of it.
func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

func (t *transcript) count(what string) int { return strings.Count(t.String(), what) }

// difference lists what is in one of the two alone.
func difference(want, got map[string]int) (list []string) {
	for k, n := range want {
		if got[k] != n {
			list = append(list, fmt.Sprintf("%s: %d, not %d", k, got[k], n))
		}
	}
	for k, n := range got {
		if want[k] == 0 {
			list = append(list, fmt.Sprintf("%s: %d, not 0", k, n))
		}
	}
	return list
}

// with runs the service here until do returns.
func with(t *testing.T, cfg Config, cluster *stream.Cluster, do func(s *Service)) {
	t.Helper()
	s, err := New(cfg, Deps{Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)), Cluster: cluster})
	must(t, err)
	running(t, s, func() { do(s) })
}

func running(t *testing.T, s *Service, do func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Listening()
	do()
	cancel()
	must(t, <-done)
}

// activate runs the service until all alerts are active.
func activate(t *testing.T, cfg Config, cluster *stream.Cluster, tenant int64, alerts int) {
	t.Helper()
	with(t, cfg, cluster, func(s *Service) {
		testkit.Eventually(t, 20*time.Second, func() error {
			list, err := s.st.Alerts(t.Context(), store.AlertFilter{Page: store.Page{Limit: 1000}, Tenant: tenant, State: store.AlertActive})
			if err == nil && len(list) < alerts {
				err = fmt.Errorf("%d of %d alerts are active", len(list), alerts)
			}
			return err
		})
	})
}

// settle runs the service until it has read all there is and delivered all it has, and returns what has fired.
func settle(t *testing.T, cfg Config, cluster *stream.Cluster, tenant int64) map[string]int {
	t.Helper()
	_, end, err := cluster.Offsets(t.Context(), cluster.Topics().Events, 0)
	must(t, err)
	fires := map[string]int{}
	with(t, cfg, cluster, func(s *Service) {
		st := s.st
		testkit.Eventually(t, 30*time.Second, func() error {
			at, err := st.Checkpoint(t.Context(), 0)
			if err == nil && at.Offset < end-1 {
				err = fmt.Errorf("evaluated up to %d of %d", at.Offset, end-1)
			}
			if err != nil {
				return err
			}
			queued, err := st.Deliveries(t.Context(), store.DeliveryFilter{Page: store.Page{Limit: 1}, Tenant: tenant, State: store.DeliveryQueued})
			if err == nil && len(queued) > 0 {
				err = fmt.Errorf("still queued: %+v", queued[0])
			}
			return err
		})
		for after := int64(0); ; {
			events, err := st.Events(t.Context(), store.EventFilter{Tenant: tenant, After: after, Limit: 1000})
			must(t, err)
			for _, e := range events {
				if after++; e.Seq != after {
					t.Fatalf("event %s is number %d, after %d", e.ID, e.Seq, after-1)
				}
				fires[fireKey(t, e.Body)]++
			}
			if len(events) == 0 {
				return
			}
		}
	})
	return fires
}
