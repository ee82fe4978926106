package load

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/servertest"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/all"
)

// running starts the servers and names them, as a user would name a deployment that runs.
func running(t *testing.T, change func(*all.Config)) deployment.Config {
	t.Helper()
	a := servertest.Start(t, change)
	d := deployment.Config{WS: "ws://" + a.WS, SSE: "http://" + a.SSE, Kafka: all.Kafka{Brokers: strings.Split(a.Kafka, ",")}}
	if a.Alerts != "" {
		d.Alerts = "http://" + a.Alerts
	}
	return d
}

// faultless fails the test for each measure that must be zero and is not.
func faultless(t *testing.T, r *report.Report) {
	t.Helper()
	for i := range r.Rows {
		for _, m := range r.Rows[i].Measures {
			for n, v := range m.Runs {
				if report.KindOf(m.Name).Fault && v != 0 {
					t.Errorf("%s is %v in run %d: %v", m.Name, v, n+1, r.Rows[i].Notes)
				}
			}
		}
	}
}

// has fails the test unless the row has the measures, above zero in each run.
func has(t *testing.T, r *report.Report, runs int, names ...string) {
	t.Helper()
	for _, name := range names {
		m := r.Rows[0].Measure(name)
		if m == nil || len(m.Runs) != runs {
			t.Errorf("%s is not measured in %d runs: %+v", name, runs, m)
			continue
		}
		for _, v := range m.Runs {
			if !(v > 0) {
				t.Errorf("%s is %v", name, m.Runs)
			}
		}
	}
}

// lacks fails the test if the row has one of the measures.
func lacks(t *testing.T, r *report.Report, names ...string) {
	t.Helper()
	for _, name := range names {
		if m := r.Rows[0].Measure(name); m != nil {
			t.Errorf("%s is measured, %v, and can't be known", name, m.Runs)
		}
	}
}

func recorder() *report.Recorder { return report.NewRecorder(nil, 0) }

// small is little load on servers that run.
func small(v Verify, d deployment.Config) Verify {
	v.Deployment, v.Repeat, v.Warmup, v.Duration = d, 1, 200*time.Millisecond, time.Second
	v.Rate, v.Instruments, v.Clients, v.Each = 500, 20, 10, 5
	return v
}

// TestVerify runs each of the loads of verifying clients, some twice against the same servers: what an earlier run left there
// is no fault.
func TestVerify(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	d := running(t, nil)
	v := small(DefaultEndToEnd(), d)
	v.Repeat = 2
	r, err := RunVerify(t.Context(), v, recorder())
	if err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	has(t, r, 2, "sent/s", "delivered/s", "p50", "p99", "p99.99", "max", "ingest_p50", "edge_p99", "bytes", "client_cpu", "client_busy", "verified", "publisher_lag")
	lacks(t, r, "age_p50", "cpu", "rss", "stale")
	if rate := r.Rows[0].Measure("sent/s").Value(); rate < 350 || rate > 700 {
		t.Errorf("%.0f records/s were sent, of 500 on average", rate)
	}
	if row := &r.Rows[0]; len(row.Latency) < 10 || len(row.Series) == 0 || r.System.Local || !strings.Contains(r.System.Where, d.WS) {
		t.Errorf("%d points, %d series, %+v", len(row.Latency), len(row.Series), r.System)
	}

	v = small(DefaultBooks(), d)
	v.Stages, v.Ramp = "200x300ms,800x500ms", 200*time.Millisecond
	if r, err = RunVerify(t.Context(), v, recorder()); err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	has(t, r, 1, "sent/s", "delivered/s", "p50", "p99", "verified")
	if rate := r.Rows[0].Measure("sent/s").Value(); rate < 350 || rate > 800 { // 460 in 800 ms
		t.Errorf("%.0f records/s were sent, of 575 on average", rate)
	}
	if all := strings.Join(r.Rows[0].Notes, "\n"); !strings.Contains(all, "SBE: 5 clients on 25 topics") || !strings.Contains(all, "JSON: 5 clients") {
		t.Errorf("notes: %s", all)
	}
}

// TestSeldomTraded: who subscribes behind the only trade of an instrument does not miss it.
func TestSeldomTraded(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	v := small(DefaultEndToEnd(), running(t, nil))
	v.Rate, v.Instruments, v.Clients, v.Each, v.Warmup, v.Duration = 3000, 200, 40, 50, 0, 300*time.Millisecond
	r, err := RunVerify(t.Context(), v, recorder())
	if err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
}

// TestLook looks at a market that runs without us.
func TestLook(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	d := running(t, func(cfg *all.Config) { cfg.Market.Kind, cfg.Market.Instruments, cfg.Market.Rate = "sim", 10, 300 })
	d.Kafka.Brokers = nil
	for _, v := range []Verify{small(DefaultEndToEnd(), d), small(DefaultBooks(), d), small(DefaultSoak(), d)} {
		r, err := RunVerify(t.Context(), v, recorder())
		if err != nil {
			t.Fatal(err)
		}
		faultless(t, r)
		has(t, r, 1, "delivered/s", "age_p50", "age_p99", "age_max", "verified")
		lacks(t, r, "sent/s", "p50", "p99", "publisher_lag", "missing")
		if r.Rows[0].Measure("stale") == nil {
			t.Error("nobody looked whether topics are stale in the end")
		}
	}
}

// TestServerEnds: a run ends with its server, and says so.
func TestServerEnds(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	server := exec.CommandContext(t.Context(), "sleep", "3600")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	d := running(t, nil)
	d.PID = server.Process.Pid
	v := small(DefaultEndToEnd(), d)
	v.Duration = time.Hour
	watched := &phases{of: "run 1", then: func() { _ = server.Process.Kill() }} // Wait says how it went
	_, err := RunVerify(t.Context(), v, report.NewRecorder(watched, 0))
	if want := fmt.Sprintf("the server, process %d, has ended", d.PID); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	_ = server.Wait() // killed
}

// phases does something when a phase begins.
type phases struct {
	of   string
	then func()
}

func (p *phases) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(p.of)) {
		p.then()
	}
	return len(line), nil
}

func TestIngest(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	d := running(t, nil)
	v := DefaultIngest()
	v.Deployment, v.Repeat, v.Warmup, v.Duration, v.Rate, v.Instruments = d, 2, 100*time.Millisecond, 500*time.Millisecond, 1000, 20
	r, err := RunIngest(t.Context(), v, recorder())
	if err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	has(t, r, 2, "sent/s", "delivered/s", "p50", "max", "per_raw", "publisher_lag")

	v.Saturate, v.InFlight, v.Repeat = true, 500, 1
	if r, err = RunIngest(t.Context(), v, recorder()); err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	lacks(t, r, "publisher_lag")
	if rate := r.Rows[0].Measure("delivered/s").Value(); rate < 3000 {
		t.Errorf("at most %.0f records/s", rate)
	}

	v.Saturate, v.Count = false, 300
	if r, err = RunIngest(t.Context(), v, recorder()); err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	if s := v.Total(); s < 400*time.Millisecond || s > 10*time.Second {
		t.Errorf("%d records are said to take %v", v.Count, s)
	}
}

// holder is a proxy that lets nothing through for a while, at the beginning of each second.
type holder struct {
	net.Listener
	to      string
	hold    time.Duration
	serving sync.WaitGroup
	mu      sync.Mutex
	open    []net.Conn
}

func hold(t *testing.T, to string, d time.Duration) *holder {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{Listener: ln, to: to, hold: d}
	h.serving.Go(h.serve)
	t.Cleanup(func() {
		_ = ln.Close()
		h.mu.Lock()
		for _, c := range h.open {
			_ = c.Close()
		}
		h.mu.Unlock()
		h.serving.Wait()
	})
	return h
}

func (h *holder) serve() {
	for {
		c, err := h.Accept()
		if err != nil {
			return // closed
		}
		s, err := net.Dial("tcp", h.to)
		if err != nil {
			_ = c.Close()
			continue
		}
		h.mu.Lock()
		h.open = append(h.open, c, s)
		h.mu.Unlock()
		h.serving.Go(func() { h.copy(s, c) })
		h.serving.Go(func() { h.copy(c, s) })
	}
}

func (h *holder) copy(to, from net.Conn) {
	defer func() { _ = to.Close() }()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if now := time.Now(); now.Sub(now.Truncate(time.Second)) < h.hold {
			time.Sleep(time.Until(now.Truncate(time.Second).Add(h.hold)))
		}
		if _, failed := to.Write(b[:n]); failed != nil || err != nil {
			return
		}
	}
}

// held says of a run with a proxy whether the figures are those of its 300 ms in each second: of a message that is held, each
// delay up to that is as likely, so that 1 in 100 of all are held for 290 ms and more.
func held(t *testing.T, r *report.Row) {
	t.Helper()
	if p99 := r.Measure("p99").Value(); p99 < 250 || p99 > 450 {
		t.Errorf("p99 is %.0f ms of 290", p99)
	}
	if p50 := r.Measure("p50").Value(); p50 > 150 {
		t.Errorf("p50 is %.0f ms, and most were not held", p50)
	}
	if p90 := r.Measure("p90").Value(); p90 < 120 || p90 > 350 {
		t.Errorf("p90 is %.0f ms of 200", p90)
	}
}

const holdFor = 300 * time.Millisecond

// TestHeldFromClients: what keeps messages from the clients for a while is seen as it is, though nothing comes meanwhile.
func TestHeldFromClients(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	d := running(t, nil)
	d.WS = "ws://" + hold(t, strings.TrimPrefix(d.WS, "ws://"), holdFor).Addr().String()
	v := small(DefaultEndToEnd(), d)
	v.Duration = 3 * time.Second
	r, err := RunVerify(t.Context(), v, recorder())
	if err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	held(t, &r.Rows[0])
}

// TestHeldFromBroker: a publisher that can't send for a while is late, and that is part of the latency.
func TestHeldFromBroker(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	d := running(t, nil)
	proxy := hold(t, d.Kafka.Brokers[0], holdFor)
	cluster, err := stream.Open(stream.Config{
		Brokers: d.Kafka.Brokers,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, proxy.Addr().String())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	v := small(DefaultEndToEnd(), d)
	v.Duration = 3 * time.Second
	r, err := v.repeat(t.Context(), recorder(), nil, func(ctx context.Context, on *stage) (*trial, error) { return v.publish(ctx, on, cluster) })
	if err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	held(t, &r.Rows[0])
}

func TestRefuses(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want something about %s", err, want)
		}
	}
	e2e := func(change func(*Verify)) error {
		v := DefaultEndToEnd()
		change(&v)
		return v.Validate()
	}
	f(e2e(func(v *Verify) { v.Rate = 0 }), "--rate")
	f(e2e(func(v *Verify) { v.Stages = "5s" }), "--stages")
	f(e2e(func(v *Verify) { v.Ramp = -1 }), "--ramp")
	f(e2e(func(v *Verify) { v.Count = -1 }), "--count")
	f(e2e(func(v *Verify) { v.Count, v.Rate = 1e9, 1 }), "more than a day")
	f(e2e(func(v *Verify) { v.Repeat = 0 }), "--repeat")
	f(e2e(func(v *Verify) { v.Duration = 0 }), "--duration")
	f(e2e(func(v *Verify) { v.Warmup = -1 }), "--warmup")
	f(e2e(func(v *Verify) { v.Clients = 0 }), "--clients")
	f(e2e(func(v *Verify) { v.Each = 0 }), "--each")
	f(e2e(func(v *Verify) { v.Each = 300 }), "--each")
	f(e2e(func(v *Verify) { v.Instruments = 0 }), "--instruments")
	f(e2e(func(v *Verify) { v.Drain = -1 }), "--drain")
	f(e2e(func(v *Verify) { v.Deployment.SSE = "http://127.0.0.1:1" }), "--ws")
	f(e2e(func(v *Verify) { v.Deployment.WS, v.Stages = "ws://127.0.0.1:1", "5x1s" }), "--kafka")
	f(e2e(func(v *Verify) { v.Deployment.WS = "http://127.0.0.1:1" }), "--ws")
	f(e2e(func(v *Verify) { v.Deployment.Symbols = []string{"A"} }), "--symbols")
	ingest := func(change func(*Ingest)) error {
		v := DefaultIngest()
		change(&v)
		return v.Validate()
	}
	f(ingest(func(v *Ingest) { v.Deployment.WS = "ws://127.0.0.1:1" }), "--kafka")
	f(ingest(func(v *Ingest) { v.Saturate, v.Count = true, 5 }), "--saturate")
	f(ingest(func(v *Ingest) { v.InFlight = 0 }), "--in-flight")
	f(ingest(func(v *Ingest) { v.Instruments = 0 }), "--instruments")
	f(ingest(func(v *Ingest) { v.Drain = -1 }), "--drain")
}

// TestNobodyThere: what can't be reached is an error, not a report.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	v := small(DefaultBooks(), deployment.Config{WS: "ws://127.0.0.1:1"})
	if _, err := RunVerify(t.Context(), v, recorder()); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Error(err)
	}
	d := running(t, nil)
	d.Kafka.Brokers = nil
	v.Deployment = d
	if _, err := RunVerify(t.Context(), v, recorder()); err == nil || !strings.Contains(err.Error(), "no instrument") {
		t.Error(err)
	}
	v.Deployment.PID = 1 << 30
	if _, err := RunVerify(t.Context(), v, recorder()); err == nil || !strings.Contains(err.Error(), "--pid") {
		t.Error(err)
	}
}

func TestStamp(t *testing.T) {
	b := []byte(`{"type":"trade","ts":1,"ts":1700000000000000}`)
	if err := stamp(b, 1800000000000001); err != nil || string(b) != `{"type":"trade","ts":1,"ts":1800000000000001}` {
		t.Errorf("%s, %v", b, err)
	}
	for _, text := range []string{`{"type":"trade"}`, `{"type":"trade","ts":17}`, `{"a":1,"ts":17000000000000000}`} {
		if stamp([]byte(text), 1800000000000001) == nil {
			t.Errorf("%s was stamped", text)
		}
	}
}

func TestVirtualTimePassesFaster(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	if d := virtual(now.Add(time.Second)) - virtual(now); d != 16e9 {
		t.Errorf("%d ns in a second", d)
	}
	if virtual(now.AddDate(10, 0, 0)) < virtual(now) {
		t.Error("it does not last ten years")
	}
}

// TestNotes: what runs have to say stands in the report once, and who was the bottleneck is said with the number of runs.
func TestNotes(t *testing.T) {
	c := Config{Repeat: 3, Duration: time.Second, Deployment: deployment.Config{WS: "ws://127.0.0.1:1"}}
	n := 0.0
	r, err := c.repeat(t.Context(), recorder(), nil, func(_ context.Context, on *stage) (*trial, error) {
		n++
		run := &trial{figures: map[string]float64{"p99": n}, latency: schedule.NewHistogram()}
		schedule.Record(run.latency, 0, int64(1000*n))
		run.note("the same in each run")
		run.generator = report.LoadGenerator{PublisherLag: 0.4, P99: n} // late by more than a quarter in the first run alone
		if on.number != int(n) || on.Started {
			t.Errorf("run %v is %+v", n, on)
		}
		return run, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	row := &r.Rows[0]
	if got := row.Measure("p99").Runs; len(got) != 3 || got[2] != 3 || len(row.Notes) != 1 || math.Round(row.Latency[len(row.Latency)-1].Ms) != 3 {
		t.Errorf("%+v", row)
	}
	if len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "the client was the bottleneck: its publisher was late by 0.40 ms") || !strings.HasSuffix(r.Notes[0], "(in 1 of 3 runs)") {
		t.Errorf("%q", r.Notes)
	}
}
