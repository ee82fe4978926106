package report

import (
	"fmt"
	"io"
	"math"
	"time"
)

// Sample is how it stands at a moment. NaN is not known.
type Sample struct {
	Clients   int
	Sent      float64 // per second, since the last sample
	Delivered float64 // per second
	P50       float64 // ms, of what was delivered since the last sample
	P99       float64
	Max       float64
	Faults    int64   // so far
	CPU       float64 // percent of one processor, of the server
	RSS       float64 // MiB
}

// Recorder takes samples while a scenario runs, prints them as a table with the time that is left, and keeps them for the
// report. It is for one goroutine at a time.
type Recorder struct {
	out    io.Writer // nil prints nothing
	began  time.Time
	total  time.Duration
	phase  string
	series []Series
}

// NewRecorder begins now. Total is how long the scenario is going to take, about; 0 when nobody knows.
func NewRecorder(out io.Writer, total time.Duration) *Recorder {
	return &Recorder{out: out, began: time.Now(), total: total}
}

// Phase says what happens from now on.
func (r *Recorder) Phase(name string) { r.phase = name }

// Sample takes one.
func (r *Recorder) Sample(s Sample) {
	at := time.Since(r.began).Seconds()
	r.keep("delivered", "/s", at, s.Delivered)
	r.keep("p50", "ms", at, s.P50)
	r.keep("p99", "ms", at, s.P99)
	r.keep("max", "ms", at, s.Max)
	r.keep("CPU", "%", at, s.CPU)
	r.keep("memory", "MiB", at, s.RSS)
	if r.out != nil {
		_, _ = fmt.Fprintf(r.out, "%6.1fs %s %d %.0f/s %.2f %.2f\n", at, r.phase, s.Clients, s.Delivered, s.P50, s.P99) // only to look at
	}
}

func (r *Recorder) keep(name, unit string, at, value float64) {
	if math.IsNaN(value) {
		return
	}
	for i := range r.series {
		if s := &r.series[i]; s.Name == name {
			s.At, s.Values = append(s.At, at), append(s.Values, value)
			return
		}
	}
	r.series = append(r.series, Series{Name: name, Unit: unit, At: []float64{at}, Values: []float64{value}})
}

// Take returns the series since the last call, for a row of the report.
func (r *Recorder) Take() []Series {
	s := r.series
	r.series = nil
	return s
}
