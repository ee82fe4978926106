package deliver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/store"
)

var _ Outbox = (*store.Store)(nil)

// childEnv is the folder of SQLite, or the URL of PostgreSQL, on which a process of this test's program runs a sender until
// it is killed.
const childEnv = "TICKWIRE_TEST_DELIVER"

func config(database string) store.Config {
	if strings.HasPrefix(database, "postgres:") {
		return store.Config{URL: database, Ephemeral: true, LeaseTTL: time.Second}
	}
	return store.Config{Dir: database, Ephemeral: true}
}

func TestMain(m *testing.M) {
	if database := os.Getenv(childEnv); database != "" {
		if err := child(database); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(database string) error {
	ctx := context.Background()
	st, err := store.Open(ctx, config(database), zap.NewNop())
	if err != nil {
		return err
	}
	cfg := DefaultConfig()
	cfg.AllowNets, cfg.AllowPorts = []string{"127.0.0.0/8"}, []string{"1-65535"}
	s, err := New(cfg, Deps{Outbox: st, Log: zap.NewNop()})
	if err != nil {
		return err
	}
	fmt.Println("running")
	return s.Run(ctx)
}

func openStore(t testing.TB, database string) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), config(database), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// fill makes a tenant with endpoints at the URLs and events for all of them.
func fill(t testing.TB, st *store.Store, events int, change func(i int, ep *store.Endpoint), urls ...string) (tenant int64, eps []store.Endpoint) {
	t.Helper()
	x := store.Tenant{Name: fmt.Sprint(store.NewID())}
	if err := st.CreateTenant(t.Context(), &x, nil); err != nil {
		t.Fatal(err)
	}
	for i, url := range urls {
		ep := endpoint(0, url)
		ep.Tenant, ep.Ordering, ep.Verify, ep.Secrets[0].Num = x.Num, store.OrderNone, store.VerifyNone, 0
		if change != nil {
			change(i, &ep)
		}
		if err := st.CreateEndpoint(t.Context(), &ep, nil); err != nil {
			t.Fatal(err)
		}
		eps = append(eps, ep)
	}
	addEvents(t, st, x.Num, events)
	return x.Num, eps
}

func addEvents(t testing.TB, st *store.Store, tenant int64, n int) {
	t.Helper()
	for n > 0 {
		list := make([]store.Event, min(n, 1000))
		n -= len(list)
		for i := range list {
			id := store.FormatID(store.EventPrefix, store.NewID())
			list[i] = store.Event{
				ID: id, Tenant: tenant, Type: store.TypeAlertFired, Alert: int64(i%5 + 1), Sym: "BTC-USDT", Created: time.Now(),
				Body: []byte(`{"id":"` + id + `","type":"alert.fired","timestamp":"2026-01-02T03:04:05Z","data":{"object":{"sym":"BTC-USDT","series":"last","limit":"65000.5","value":"65001.0","arm_seq":1}}}`),
			}
		}
		if err := st.AddEvents(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
}

// inbox is a receiver that remembers what it got.
type inbox struct {
	mu     sync.Mutex
	bodies map[string][]byte
	order  []string
	twice  int
	bad    error
}

func (in *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if err := accepts(r, b); err != nil {
		in.bad = err
	}
	id := r.URL.Path + r.Header.Get("webhook-id")
	if old, again := in.bodies[id]; !again {
		in.bodies[id] = b
		in.order = append(in.order, id)
	} else if in.twice++; !bytes.Equal(old, b) {
		in.bad = fmt.Errorf("%s: %s, before %s", id, b, old)
	}
	if rand.IntN(50) == 0 {
		w.WriteHeader(http.StatusServiceUnavailable) // and yet it has it: the next attempt is a second one
	}
}

func (in *inbox) count() (int, int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.bodies), in.twice
}

// TestKilled: a sender is killed at random moments. Every event arrives, with one id and the same bytes each time.
func TestKilled(t *testing.T) {
	in := &inbox{bodies: map[string][]byte{}}
	server := httptest.NewServer(in)
	defer server.Close()
	dir := t.TempDir()
	st := openStore(t, dir)
	const events, kills = 800, 10
	tenant, _ := fill(t, st, events, func(i int, ep *store.Endpoint) {
		ep.MaxInFlight = 20
		if i == 1 {
			ep.Batch = 7
		}
		if i == 2 {
			ep.Ordering = store.OrderAlert
		}
	}, server.URL+"/a", server.URL+"/b", server.URL+"/c")
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(life time.Duration) {
		t.Helper()
		cmd := startChild(t, dir)
		time.Sleep(life)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for range kills {
		run(time.Duration(20+rand.IntN(180)) * time.Millisecond)
	}
	queued := func() int {
		st := openStore(t, dir)
		defer func() { _ = st.Close() }()
		return countQueued(t, st, tenant)
	}
	for range 60 {
		if queued() == 0 {
			break
		}
		run(2 * time.Second)
	}
	got, twice := in.count()
	t.Logf("%d messages, %d of them more than once, after %d kills", got, twice, kills)
	if n := queued(); n != 0 {
		t.Errorf("%d are still queued", n)
	}
	st = openStore(t, dir)
	defer func() { _ = st.Close() }()
	checkArrived(t, st, tenant, events, in)
}

// startChild runs a sender in a process of its own.
func startChild(t *testing.T, database string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+database)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	return cmd
}

func countQueued(t *testing.T, st *store.Store, tenant int64) int {
	t.Helper()
	list, err := st.Deliveries(t.Context(), store.DeliveryFilter{Tenant: tenant, State: store.DeliveryQueued, Page: store.Page{Limit: 10_000}})
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// checkArrived: each event has arrived alone at /a and /c, there in the order of its alert, and in one batch at /b.
func checkArrived(t *testing.T, st *store.Store, tenant int64, events int, in *inbox) {
	t.Helper()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.bad != nil {
		t.Error(in.bad)
	}
	list, err := st.Events(t.Context(), store.EventFilter{Tenant: tenant, Type: store.TypeAlertFired, Limit: 10_000})
	if err != nil || len(list) != events {
		t.Fatalf("%d events, %v", len(list), err)
	}
	var batches []byte
	for id, b := range in.bodies {
		if strings.HasPrefix(id, "/b"+batchPrefix) {
			batches = append(batches, b...)
		}
	}
	first := map[string]int{} // when each arrived first
	for i, id := range in.order {
		first[id] = i
	}
	last := map[int64]int{}
	for _, ev := range list {
		if at := first["/c"+ev.ID]; at < last[ev.Alert] {
			t.Errorf("%s overtook an earlier one of its alert", ev.ID)
		} else {
			last[ev.Alert] = at
		}
		for _, path := range []string{"/a", "/c"} {
			if got := in.bodies[path+ev.ID]; !bytes.Equal(got, ev.Body) {
				t.Errorf("%s at %s: got %q", ev.ID, path, got)
			}
		}
		if n := bytes.Count(batches, []byte(`"id":"`+ev.ID+`"`)); n != 1 {
			t.Errorf("%s is in %d different batches", ev.ID, n)
		}
	}
}

// TestInstances: two senders share a PostgreSQL database. They are killed, and paused for longer than their leases last; one
// that wakes up finds that others have its slots.
func TestInstances(t *testing.T) {
	if testing.Short() && os.Getenv("TICKWIRE_REQUIRE_POSTGRES") == "" {
		t.Skip("it is part of: make postgres")
	}
	pg, err := testkit.StartPostgres()
	if errors.Is(err, testkit.ErrNoPostgres) && os.Getenv("TICKWIRE_REQUIRE_POSTGRES") == "" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Close)
	database := pg.Database(t)
	in := &inbox{bodies: map[string][]byte{}}
	server := httptest.NewServer(in)
	defer server.Close()
	st := openStore(t, database)
	defer func() { _ = st.Close() }()
	const rounds, each = 6, 200
	tenant, _ := fill(t, st, 0, func(i int, ep *store.Endpoint) {
		switch i {
		case 1:
			ep.Batch = 7
		case 2:
			ep.Ordering = store.OrderAlert
		}
	}, server.URL+"/a", server.URL+"/b", server.URL+"/c")
	senders := []*exec.Cmd{startChild(t, database), startChild(t, database)}
	for round := range rounds {
		addEvents(t, st, tenant, each)
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		i := round % 2
		if round%3 == 0 {
			_ = senders[i].Process.Kill()
			_ = senders[i].Wait()
			senders[i] = startChild(t, database)
			continue
		}
		_ = senders[i].Process.Signal(syscall.SIGSTOP)
		time.Sleep(2500 * time.Millisecond)
		_ = senders[i].Process.Signal(syscall.SIGCONT)
	}
	testkit.Eventually(t, 60*time.Second, func() error {
		if n := countQueued(t, st, tenant); n > 0 {
			return fmt.Errorf("%d are queued", n)
		}
		return nil
	})
	got, twice := in.count()
	t.Logf("%d messages, %d of them more than once", got, twice)
	checkArrived(t, st, tenant, rounds*each, in)
	for i, cmd := range senders {
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("sender %d has ended: %v", i, err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// TestBacklog: a hundred thousand deliveries wait for an endpoint that does not answer, and memory does not know of it.
// Another endpoint of the same sender is served as if they were not there.
func TestBacklog(t *testing.T) {
	backlog := 100_000
	if testing.Short() {
		backlog = 20_000
	}
	end := make(chan struct{})
	hole := hostile(t, func(net.Conn) { <-end })
	t.Cleanup(func() { close(end) })
	in := &inbox{bodies: map[string][]byte{}}
	server := httptest.NewServer(in)
	defer server.Close()
	st := openStore(t, t.TempDir())
	defer func() { _ = st.Close() }()
	_, dead := fill(t, st, backlog, nil, "http://"+hole)
	tenant, _ := fill(t, st, 0, nil, server.URL)
	s := sender(t, st, nil)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	stop := start(t, s)
	for range 20 {
		addEvents(t, st, tenant, 50)
		time.Sleep(100 * time.Millisecond)
	}
	testkit.Eventually(t, 20*time.Second, func() error {
		if n, _ := in.count(); n != 1000 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	s.mu.Lock()
	held := len(s.lanes[dead[0].Num].held)
	s.mu.Unlock()
	if held > 2*minPage {
		t.Errorf("%d deliveries of the backlog in memory", held)
	}
	testkit.Eventually(t, 20*time.Second, func() error { // what has arrived elsewhere is there until it is committed
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.inMemory > 2*minPage {
			return fmt.Errorf("%d deliveries in memory", s.inMemory)
		}
		return nil
	})
	if n := runtime.NumGoroutine() - goroutines; n > 200 {
		t.Errorf("%d more goroutines", n)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("heap grew by %d bytes", grown)
	}
	stop()
}
