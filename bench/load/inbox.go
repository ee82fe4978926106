package load

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/signature"
)

// Receiver says where webhooks are received.
type Receiver struct {
	Listen string // host:port
	URL    string // that the service calls; empty: http and the address that is listened on
}

// RegisterFlags adds the flags.
func (r *Receiver) RegisterFlags(f *pflag.FlagSet) {
	f.StringVar(&r.Listen, "receive", r.Listen, "`HOST:PORT` where webhooks are received; port 0 takes any free one")
	f.StringVar(&r.URL, "receive-url", "", "`URL` of that as the servers reach it, when they run on another machine: http://HOST:PORT")
}

// Validate says which flag is wrong.
func (r *Receiver) Validate() error {
	if _, _, err := net.SplitHostPort(r.Listen); err != nil {
		return fmt.Errorf("--receive: %w", err)
	}
	if r.URL != "" && !strings.HasPrefix(r.URL, "http://") && !strings.HasPrefix(r.URL, "https://") {
		return fmt.Errorf("--receive-url: %q is not http://… or https://…", r.URL)
	}
	return nil
}

// inbox receives webhooks and verifies them.
type inbox struct {
	url     string
	ln      net.Listener
	server  *http.Server
	serving sync.WaitGroup
	meter   *meter

	mu     sync.Mutex
	boxes  map[string]*box
	done   map[int64]int64     // by the time of the tick that fired: when the last of its events came; both in µs
	seen   map[string]struct{} // ids of events
	fires  map[string]fires    // by alert
	counts counts
}

// counts is what came to boxes that are well.
type counts struct {
	arrived    int64 // different events
	again      int64 // requests with an event that had come
	unverified int64 // requests whose signature was not good
}

// fires is what came of one alert, which numbers its fires from 1 on.
type fires struct{ came, newest int64 }

// box is an endpoint's.
type box struct {
	keys     *signature.Verifier
	number   int
	answer   http.HandlerFunc        // of one that is not well; nil accepts
	requests int64                   // of one that is not well
	latency  *hdrhistogram.Histogram // in the window
}

// receive listens.
func (r *Receiver) receive(m *meter) (*inbox, error) {
	in := &inbox{meter: m, boxes: map[string]*box{}, done: map[int64]int64{}, seen: map[string]struct{}{}, fires: map[string]fires{}, url: strings.TrimSuffix(r.URL, "/")}
	in.server = &http.Server{Handler: in, ReadHeaderTimeout: time.Minute}
	var err error
	if in.ln, err = net.Listen("tcp", r.Listen); err != nil { //nolint:noctx // it ends with close
		return nil, fmt.Errorf("--receive: %w", err)
	}
	if in.url == "" {
		in.url = "http://" + in.ln.Addr().String()
	}
	in.serving.Go(func() { _ = in.server.Serve(in.ln) }) // ends by Close
	return in, nil
}

func (in *inbox) close() {
	_ = in.server.Close() // nobody waits for an answer any more
	in.serving.Wait()
}

// open accepts what comes to a path, with a signature by these keys.
func (in *inbox) open(path string, keys *signature.Verifier) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.boxes[path] = &box{keys: keys, number: len(in.boxes), latency: hdrhistogram.New(1, schedule.MaxLate, 2)}
}

// sicken has what comes to a path be answered in a way that is not well.
func (in *inbox) sicken(path string, answer http.HandlerFunc) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.boxes[path].answer = answer
}

var firedType = []byte(`"type":"alert.fired"`)

// ServeHTTP implements http.Handler.
func (in *inbox) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		http.Error(w, "cut off", http.StatusBadRequest)
		return
	}
	in.mu.Lock()
	b := in.boxes[req.URL.Path]
	var answer http.HandlerFunc
	if b != nil {
		answer = b.answer
	}
	in.mu.Unlock()
	switch {
	case b == nil:
		http.Error(w, "of an earlier run", http.StatusGone)
		return
	case answer != nil:
		in.mu.Lock()
		b.requests++
		in.mu.Unlock()
		answer(w, req)
		return
	}
	h := req.Header
	id := h.Get(signature.HeaderID)
	_, err = b.keys.Verify(id, h.Get(signature.HeaderTimestamp), h.Get(signature.HeaderSignature), body)
	in.take(b, id, body, err == nil, now)
}

// take counts a request.
func (in *inbox) take(b *box, id string, body []byte, good bool, now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !good {
		in.counts.unverified++
		return
	}
	if !bytes.Contains(body, firedType) {
		return // a test
	}
	if _, again := in.seen[id]; again {
		in.counts.again++
		return
	}
	in.seen[strings.Clone(id)] = struct{}{}
	in.counts.arrived++
	if alert, number, ok := strings.Cut(strings.TrimPrefix(id, "evt_"), "_"); ok {
		f := in.fires[alert]
		in.fires[strings.Clone(alert)] = fires{came: f.came + 1, newest: max(f.newest, digits([]byte(number)))}
	}
	var ts int64
	if i := bytes.Index(body, tsField); i >= 0 {
		ts = digits(body[i+len(tsField):])
	}
	in.done[ts] = now.UnixMicro()
	if in.meter.record(b.number, &market.Head{Time: market.FromMicros(ts)}, 1) {
		schedule.Record(b.latency, ts, now.UnixMicro())
	}
}

// last is when the last event came.
func (in *inbox) last() time.Time {
	in.mu.Lock()
	defer in.mu.Unlock()
	var at int64
	for _, came := range in.done {
		at = max(at, came)
	}
	return time.UnixMicro(at)
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

func (in *inbox) now() counts {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.counts
}

// unfairness is how many times later than that of the best one the p99 of the worst box is that is well; 0 of fewer than two.
func (in *inbox) unfairness() float64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	best, worst, n := int64(schedule.MaxLate), int64(0), 0
	for _, b := range in.boxes {
		if b.answer != nil || b.latency.TotalCount() == 0 {
			continue
		}
		p99 := b.latency.ValueAtPercentile(99)
		best, worst, n = min(best, p99), max(worst, p99), n+1
	}
	if n < 2 {
		return 0
	}
	return float64(worst) / float64(best)
}

// gaps is how many fires are missing among those of each alert that came.
func (in *inbox) gaps() (n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, f := range in.fires {
		n += f.newest - f.came
	}
	return n
}

// took is how many µs after a tick the last came of what it had fired.
func (in *inbox) took(tick int64) int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.done[tick] - tick
}

// sick is how many requests came to boxes that are not well.
func (in *inbox) sick() (n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, b := range in.boxes {
		n += b.requests
	}
	return n
}
