package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/report"
)

// Storm is a load of alerts that all fire at once, again and again: what counts is how they are delivered.
type Storm struct {
	AlertsConfig
	Alerts int           // that one tick fires
	Every  time.Duration // from one tick to the next, whether all has been delivered or not
	Bad    int           // endpoints that are not well: slow, and failing
}

// DefaultStorm is a thousand alerts each two seconds.
func DefaultStorm() Storm {
	return Storm{AlertsConfig: defaultAlertsConfig(), Alerts: 1000, Every: 2 * time.Second}
}

// RegisterFlags adds the flags.
func (v *Storm) RegisterFlags(f *pflag.FlagSet) {
	v.AlertsConfig.RegisterFlags(f)
	f.IntVar(&v.Alerts, "fires", v.Alerts, "alerts that one tick fires")
	f.DurationVar(&v.Every, "every", v.Every, "from one tick to the next, whether all has been delivered or not")
	f.IntVar(&v.Bad, "bad", v.Bad, "endpoints that are not well: the first, the third, … answer after two seconds, the others with status 500; only those that are well are measured")
}

// Validate says which flag is wrong.
func (v *Storm) Validate() error {
	switch {
	case v.Alerts < 1 || v.Alerts > 100_000:
		return errors.New("--fires: from 1 to 100,000")
	case v.Every < 100*time.Millisecond:
		return errors.New("--every: at least 100ms")
	case v.Bad < 0 || v.Bad >= min(v.Endpoints, v.Alerts):
		return errors.New("--bad: not negative, and fewer than --endpoints and --fires")
	}
	return v.AlertsConfig.Validate()
}

// RunStorm runs the load.
func RunStorm(ctx context.Context, v Storm, rec *report.Recorder) (*report.Report, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	r, err := v.repeat(ctx, rec, v.flags(), v.run)
	if err != nil {
		return nil, err
	}
	r.Title = fmt.Sprintf("%d alerts fire at once each %v, to %d endpoints; every signature verified", v.Alerts, v.Every, v.Endpoints)
	if v.Bad > 0 {
		r.Title += fmt.Sprintf("; %d endpoints are not well, and those that are were measured", v.Bad)
	}
	r.System.Protocol = "webhooks"
	return r, nil
}

func (v *Storm) run(ctx context.Context, on *stage) (_ *trial, err error) {
	j, err := v.begin(ctx, on, 1)
	defer func() { err = errors.Join(err, j.end(ctx)) }()
	if err != nil {
		return nil, err
	}
	for n, path := range j.paths[:v.Bad] {
		j.in.sicken(path, []http.HandlerFunc{slow, failing}[n%2])
	}
	var all []wanted
	well := int64(0)
	for n := range v.Alerts {
		to := n % len(j.ids)
		if to >= v.Bad {
			well++
		}
		all = append(all, wanted{Sym: j.trader.syms[0], Endpoints: []string{j.ids[to]}, Rule: crossing})
	}
	if err := j.desk.make(ctx, all); err != nil {
		return nil, err
	}
	before := int(v.Warmup / v.Every)
	at := time.Now().Add(100 * time.Millisecond).Truncate(time.Microsecond)
	from := at.Add(time.Duration(before) * v.Every)
	to := from.Add(v.Duration)
	s := storms{at: at, every: v.Every, to: to, sym: j.trader.syms[0]}
	t, err := j.measure(ctx, window{from: from, to: to, next: s.next, fired: func() int64 { return int64(len(s.ticks)) * well }})
	if err != nil {
		return nil, err
	}
	var busy, longest time.Duration
	for _, tick := range s.ticks[min(before, len(s.ticks)):] {
		took := time.Duration(max(0, j.in.took(tick))) * time.Microsecond
		busy, longest = busy+took, max(longest, took)
	}
	t.figures["delivered/s"] = float64(j.meter.total.updates) / max(1e-6, busy.Seconds())
	t.figures["recovery"] = longest.Seconds()
	t.figures["unfairness"] = j.in.unfairness()
	if v.Bad > 0 {
		t.note("endpoints that are not well got %d requests in run %d", j.in.sick(), on.number)
	}
	return t, nil
}

// slow answers late.
func slow(w http.ResponseWriter, r *http.Request) {
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

// failing answers that it can't.
func failing(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "not well", http.StatusInternalServerError)
}

// storms are ticks that fire all alerts, and ticks between them that arm them again.
type storms struct {
	at    time.Time
	every time.Duration
	to    time.Time
	sym   string
	n     int
	ticks []int64 // that fired, in µs
}

func (s *storms) next() (tick, bool) {
	due := s.at.Add(time.Duration(s.n) * s.every / 2)
	if !due.Before(s.to) {
		return tick{}, false
	}
	high := s.n%2 == 0
	if s.n++; high {
		s.ticks = append(s.ticks, due.UnixMicro())
	}
	return tick{at: due, sym: s.sym, high: high}, true
}
