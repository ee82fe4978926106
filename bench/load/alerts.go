package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/pkg/signature"
	"github.com/tickwire/tickwire/pkg/stream"
)

// AlertsConfig describes a run of raw trades in, signed requests out. Every trade that crosses the limit fires all alerts of
// its instrument.
type AlertsConfig struct {
	API         string          // of the alerts, http://…, which asks for no key
	Cluster     *stream.Cluster // where md.raw is
	Fires       int             // a second
	Instruments int
	Alerts      int // of each instrument
	Endpoints   int // that the alerts are dealt out to
	Warmup      time.Duration
	Duration    time.Duration
	Server      int // process id of the servers, whose CPU time is reported; 0 when it is not known
}

// DefaultAlerts is a thousand fires a second.
func DefaultAlerts() AlertsConfig {
	return AlertsConfig{Fires: 1000, Instruments: 50, Alerts: 4, Endpoints: 10, Warmup: 2 * time.Second, Duration: 10 * time.Second}
}

// AlertsReport is what a run measured. Fires are counted from the first one on, warm-up and end included: each must arrive.
type AlertsReport struct {
	Fired     int64         // that the trades sent must have fired
	Arrived   int64         // different events
	Again     int64         // requests with an event that had arrived
	Refused   int64         // requests whose signature was not good
	Measured  int64         // requests in the measured part
	Elapsed   time.Duration // of the measured part
	ServerCPU time.Duration
	LoadCPU   time.Duration
	Histogram *hdrhistogram.Histogram // microseconds, from the trade's intended send time to the request's arrival
}

// String is the report for people.
func (r *AlertsReport) String() string {
	q := func(p float64) float64 { return float64(r.Histogram.ValueAtQuantile(p)) / 1000 }
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(max(1, r.Measured)) }
	return fmt.Sprintf("requests       %d (%.0f/s)\nlatency ms     p50 %.2f  p90 %.2f  p99 %.2f  p99.9 %.2f  max %.2f\n"+
		"CPU            servers %.1f µs per request; producer and receiver %.1f\nfaults         %d fires missing, %d repeated, %d signatures refused\n",
		r.Measured, float64(r.Measured)/r.Elapsed.Seconds(), q(50), q(90), q(99), q(99.9), float64(r.Histogram.Max())/1000,
		per(r.ServerCPU), per(r.LoadCPU), r.Fired-r.Arrived, r.Again, r.Refused)
}

// Err says what was wrong. A repeated request is not: delivery is at least once.
func (r *AlertsReport) Err() error {
	if r.Fired == 0 || r.Arrived != r.Fired || r.Refused > 0 {
		return fmt.Errorf("%d alerts fired, %d arrived, %d with a bad signature", r.Fired, r.Arrived, r.Refused)
	}
	return nil
}

// Alerts runs the load.
func Alerts(ctx context.Context, cfg AlertsConfig) (*AlertsReport, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := newInbox()
	if err := in.listen(); err != nil {
		return nil, err
	}
	defer in.close()
	w, err := cfg.Cluster.RawWriter(ctx, cfg.Cluster.Topics().Raw, stream.RawWriterConfig{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Close(context.WithoutCancel(ctx)) }()
	p := newTrader(w, cfg.Instruments)
	if err := p.list(); err != nil {
		return nil, err
	}
	if err := cfg.create(ctx, p.syms, in); err != nil {
		return nil, err
	}
	group, trading := errgroup.WithContext(ctx)
	// Each second trade of an instrument crosses the limit.
	every := time.Duration(float64(time.Second) * float64(cfg.Alerts) / float64(2*cfg.Fires))
	stop := make(chan struct{})
	group.Go(func() error { return p.run(trading, every, stop) })

	report := &AlertsReport{Histogram: newHistogram()}
	err = pause(trading, cfg.Warmup)
	if err == nil {
		in.measuring.Store(true)
		server, own, began := proc.CPU(cfg.Server), ownTime(), time.Now()
		err = pause(trading, cfg.Duration)
		in.measuring.Store(false)
		report.Elapsed, report.ServerCPU, report.LoadCPU = time.Since(began), proc.CPU(cfg.Server)-server, ownTime()-own
	}
	close(stop)
	if err := errors.Join(err, group.Wait()); err != nil {
		return nil, err
	}
	report.Fired = p.crossings * int64(cfg.Alerts)
	for range 200 { // what is still on its way
		if in.arrived() >= report.Fired || pause(ctx, 50*time.Millisecond) != nil {
			break
		}
	}
	in.report(report)
	return report, ctx.Err()
}

// create makes the endpoints and the alerts, and waits until these are active.
func (cfg *AlertsConfig) create(ctx context.Context, syms []string, in *inbox) error {
	var endpoints []string
	for n := range cfg.Endpoints {
		var made struct {
			ID      string
			Secrets []struct{ Secret string }
		}
		err := cfg.post(ctx, "/v1/endpoints", map[string]any{"url": in.url + "/" + fmt.Sprint(n), "max_in_flight": 100}, &made)
		if err != nil {
			return err
		}
		secret, err := signature.ParseSecret(made.Secrets[0].Secret)
		if err != nil {
			return err
		}
		in.keys["/"+fmt.Sprint(n)] = &signature.Verifier{Keys: []signature.Checker{secret}}
		endpoints = append(endpoints, made.ID)
	}
	var alerts []any
	for i, sym := range syms {
		for n := range cfg.Alerts {
			alerts = append(alerts, map[string]any{
				"sym": sym, "endpoints": []string{endpoints[(i*cfg.Alerts+n)%len(endpoints)]},
				"rule": map[string]any{"series": "last", "op": "crosses_above", "limit": "100.00", "mode": "recurring"},
			})
		}
	}
	for len(alerts) > 0 {
		n := min(len(alerts), 1000)
		var answer struct {
			Results []struct{ Status int }
		}
		if err := cfg.post(ctx, "/v1/alerts", map[string]any{"alerts": alerts[:n]}, &answer); err != nil {
			return err
		}
		if len(answer.Results) != n {
			return fmt.Errorf("%d answers to %d alerts", len(answer.Results), n)
		}
		var left []any // the servers have only just heard of their instruments
		for i := range answer.Results {
			if answer.Results[i].Status >= 300 {
				left = append(left, alerts[i])
			}
		}
		alerts = append(left, alerts[n:]...)
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return cfg.active(ctx)
}

// active waits until no alert is pending.
func (cfg *AlertsConfig) active(ctx context.Context) error {
	for {
		var page struct{ Items []json.RawMessage }
		err := cfg.call(ctx, http.MethodGet, "/v1/alerts?state=pending&limit=1", nil, &page)
		if err != nil || len(page.Items) == 0 {
			return err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func (cfg *AlertsConfig) post(ctx context.Context, path string, body, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return cfg.call(ctx, http.MethodPost, path, bytes.NewReader(b), into)
}

// call calls the API; what it refuses is tried again for some seconds.
func (cfg *AlertsConfig) call(ctx context.Context, method, path string, body *bytes.Reader, into any) error {
	for wait := 0; ; wait++ {
		var content io.Reader = http.NoBody
		if body != nil {
			if _, err := body.Seek(0, io.SeekStart); err != nil {
				return err
			}
			content = body
		}
		req, err := http.NewRequestWithContext(ctx, method, cfg.API+path, content)
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
		_ = res.Body.Close()
		switch {
		case err != nil:
			return err
		case res.StatusCode >= 300 && wait < 100:
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
			continue
		case res.StatusCode >= 300:
			return fmt.Errorf("%s %s: %s: %.300s", method, path, res.Status, text)
		case into == nil:
			return nil
		}
		return json.Unmarshal(text, into)
	}
}

// trader writes trades that cross the limit up and down.
type trader struct {
	w         *stream.RawWriter
	headers   []stream.Header
	syms      []string
	trades    int64
	crossings int64 // upwards
}

func newTrader(w *stream.RawWriter, instruments int) *trader {
	session := fmt.Sprintf("bench-%d", time.Now().UnixMicro())
	t := &trader{w: w, headers: []stream.Header{{Key: "source", Value: []byte("tickwire")}, {Key: "session", Value: []byte(session)}}}
	for i := range instruments {
		t.syms = append(t.syms, fmt.Sprintf("BENCH-%d", i))
	}
	return t
}

// list tells the servers of the instruments, each with a trade below the limit.
func (t *trader) list() error {
	for _, sym := range t.syms {
		now := time.Now()
		err := t.write(sym, fmt.Appendf(nil, `{"type":"instrument","sym":%q,"source":"tickwire","ps":2,"ss":5,"tick":"0.01","ts":%d}`, sym, now.UnixMicro()))
		if err := errors.Join(err, t.trade(sym, "99.00", now)); err != nil {
			return err
		}
	}
	return nil
}

func (t *trader) trade(sym, price string, at time.Time) error {
	t.trades++
	return t.write(sym, fmt.Appendf(nil, `{"type":"trade","sym":%q,"price":%q,"size":"0.1","side":"buy","id":"%d","ts":%d}`, sym, price, t.trades, at.UnixMicro()))
}

func (t *trader) write(sym string, value []byte) error {
	return t.w.Write(&stream.Record{Key: []byte(sym), Value: value, Headers: t.headers})
}

// run writes a trade each interval, instrument after instrument, until it is told to stop.
func (t *trader) run(ctx context.Context, every time.Duration, stop <-chan struct{}) error {
	at := time.Now()
	for round := 0; ; round++ {
		for i, sym := range t.syms {
			at = at.Add(every)
			sleepUntil(at)
			select {
			case <-stop:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			default:
			}
			price := "99.00"
			if (round+i)%2 == 0 { // half of the instruments at a time, so that fires come evenly
				price = "101.00"
				t.crossings++
			}
			if err := t.trade(sym, price, at); err != nil {
				return fmt.Errorf("write to md.raw: %w", err)
			}
		}
	}
}

// inbox receives the requests.
type inbox struct {
	url       string
	ln        net.Listener
	server    *http.Server
	serving   sync.WaitGroup
	keys      map[string]*signature.Verifier // by path
	measuring atomic.Bool

	mu   sync.Mutex
	seen map[string]struct{}
	r    AlertsReport
}

func newInbox() *inbox {
	in := &inbox{keys: map[string]*signature.Verifier{}, seen: map[string]struct{}{}}
	in.r.Histogram = newHistogram()
	in.server = &http.Server{Handler: in, ReadHeaderTimeout: time.Minute}
	return in
}

func (in *inbox) listen() (err error) {
	if in.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	in.url = "http://" + in.ln.Addr().String()
	in.serving.Go(func() { _ = in.server.Serve(in.ln) }) // ends by Close
	return nil
}

func (in *inbox) close() {
	_ = in.server.Close() // nobody waits for an answer any more
	in.serving.Wait()
}

// ServeHTTP implements http.Handler.
func (in *inbox) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		http.Error(w, "cut off", http.StatusBadRequest)
		return
	}
	var ts int64
	if i := bytes.Index(body, tsField); i >= 0 {
		ts = digits(body[i+len(tsField):])
	}
	h := req.Header
	id, good := h.Get(signature.HeaderID), false
	if v := in.keys[req.URL.Path]; v != nil {
		_, err := v.Verify(id, h.Get(signature.HeaderTimestamp), h.Get(signature.HeaderSignature), body)
		good = err == nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	_, again := in.seen[id]
	switch {
	case !good:
		in.r.Refused++
	case again:
		in.r.Again++
	default:
		in.seen[strings.Clone(id)] = struct{}{}
		in.r.Arrived++
	}
	if in.measuring.Load() {
		in.r.Measured++
		_ = in.r.Histogram.RecordValue(min(max(1, now.UnixMicro()-ts), maxLatency)) // in range by construction
	}
}

func digits(b []byte) (n int64) {
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int64(c-'0')
	}
	return n
}

func (in *inbox) arrived() int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.r.Arrived
}

func (in *inbox) report(r *AlertsReport) {
	in.mu.Lock()
	defer in.mu.Unlock()
	r.Arrived, r.Again, r.Refused, r.Measured = in.r.Arrived, in.r.Again, in.r.Refused, in.r.Measured
	r.Histogram.Merge(in.r.Histogram)
}

// ownTime is the CPU time that this process has used.
func ownTime() time.Duration { return usage(os.Getpid()).CPU }
