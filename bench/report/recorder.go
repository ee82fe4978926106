package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Sample is how it stands at a moment. NaN is not known, and so is 0 where a measured one can't be: RSS, and CPU without RSS.
type Sample struct {
	Clients   int
	Sent      float64 // per second, since the last sample
	Delivered float64 // per second
	P50       float64 // ms, of what was delivered since the last sample
	P99       float64
	Max       float64
	Aged      bool    // these are ages of the data at receipt, not latencies: nobody knows when it was meant to be sent
	Faults    int64   // so far
	CPU       float64 // percent of one processor, of the server
	RSS       float64 // MiB
}

// Recorder takes samples while a scenario runs, prints them as a table with the time that is left, and keeps them for the
// report, all runs on one time axis. What it keeps is bounded however long it runs. It is for one goroutine at a time.
type Recorder struct {
	out    io.Writer // nil prints nothing
	began  time.Time
	total  time.Duration
	phases []Phase
	series []*collected
	lines  int
	shown  time.Time // when a sample was printed: of many in a second one is
}

// NewRecorder begins now. Total is how long the scenario is going to take, about; 0 when nobody knows.
func NewRecorder(out io.Writer, total time.Duration) *Recorder {
	return &Recorder{out: out, began: time.Now(), total: total}
}

// Phase says what happens from now on: connect, warm up, run 2, recovery.
func (r *Recorder) Phase(name string) {
	at := time.Since(r.began).Seconds()
	if n := len(r.phases); n > 0 {
		if r.phases[n-1].Name == name {
			return
		}
		r.phases[n-1].To = at
	}
	r.phases = append(r.phases, Phase{Name: name, From: at})
	r.print()
}

// Phases are those so far, the last one until now.
func (r *Recorder) Phases() []Phase {
	if n := len(r.phases); n > 0 {
		r.phases[n-1].To = time.Since(r.began).Seconds()
	}
	return r.phases
}

// Sample takes one.
func (r *Recorder) Sample(s Sample) {
	if s.RSS <= 0 {
		s.RSS = math.NaN()
		if s.CPU == 0 {
			s.CPU = math.NaN()
		}
	}
	at := time.Since(r.began).Seconds()
	r.keep("clients", "", at, float64(s.Clients))
	r.keep("sent", "/s", at, s.Sent)
	r.keep("delivered", "/s", at, s.Delivered)
	age := ""
	if s.Aged {
		age = "age "
	}
	r.keep(age+"p50", "ms", at, s.P50)
	r.keep(age+"p99", "ms", at, s.P99)
	r.keep(age+"max", "ms", at, s.Max)
	r.keep("faults", "", at, float64(s.Faults))
	r.keep("CPU", "%", at, s.CPU)
	r.keep("memory", "MiB", at, s.RSS)
	if now := time.Now(); now.Sub(r.shown) > 900*time.Millisecond {
		r.shown = now
		r.print(fmt.Sprint(s.Clients), round(s.Delivered), Number(s.P50), Number(s.P99), Number(s.Max), fmt.Sprint(s.Faults), round(s.CPU), round(s.RSS))
	}
}

// round leaves out what is behind the point.
func round(v float64) string { return Number(math.Round(v)) }

// heading is printed again each so many lines, so that it is in sight.
const heading = 25

// print writes a line, the same to a terminal and to a file.
func (r *Recorder) print(cells ...string) {
	if r.out == nil {
		return
	}
	elapsed, left := time.Since(r.began), "-"
	if elapsed <= r.total {
		left = strings.Replace(clock((r.total - elapsed).Round(time.Second)), ".0s", "s", 1)
	}
	phase := ""
	if n := len(r.phases); n > 0 {
		phase = r.phases[n-1].Name
	}
	if r.lines%heading == 0 {
		r.line("elapsed", "left", "phase", "clients", "delivered/s", "p50 ms", "p99 ms", "max ms", "faults", "CPU %", "MiB")
	}
	r.lines++
	r.line(append([]string{clock(elapsed), left, phase}, cells...)...)
}

func (r *Recorder) line(cells ...string) {
	widths := []int{8, 6, -20, 7, 12, 8, 8, 8, 7, 6, 7}
	var b strings.Builder
	for i, c := range cells[:min(len(cells), len(widths))] {
		pad := strings.Repeat(" ", max(0, max(widths[i], -widths[i])-utf8.RuneCountInString(c)))
		if widths[i] < 0 {
			if short := []rune(c); len(short) > -widths[i] {
				c = string(short[:-widths[i]-1]) + "…"
			}
			b.WriteString("  " + c + pad)
			continue
		}
		b.WriteString(pad + c)
	}
	_, _ = fmt.Fprintln(r.out, strings.TrimRight(b.String(), " ")) // only to look at
}

func (r *Recorder) keep(name, unit string, at, value float64) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return
	}
	for _, s := range r.series {
		if s.Name == name {
			s.add(at, value)
			return
		}
	}
	s := &collected{Series: Series{Name: name, Unit: unit}, stride: 1}
	s.add(at, value)
	r.series = append(r.series, s)
}

// Take returns the series since the last call, for a row of the report.
func (r *Recorder) Take() (all []Series) {
	for _, s := range r.series {
		s.flush()
		all = append(all, s.Series)
	}
	r.series = nil
	return all
}

// most is how many samples are kept of a series: an hour of seconds, and more than a plot has pixels. Of a longer one several are put together.
const most = 3600

// collected is a series that comes in.
type collected struct {
	Series
	stride  int       // samples that make one
	pending []float64 // of the next one
	at      float64   // of the last of them
}

func (c *collected) add(at, value float64) {
	c.pending, c.at = append(c.pending, value), at
	if len(c.pending) < c.stride {
		return
	}
	c.flush()
	if len(c.Values) < most {
		return
	}
	for i := range most / 2 {
		c.At[i], c.Values[i] = c.At[2*i+1], c.together(c.Values[2*i:2*i+2])
	}
	c.At, c.Values, c.stride = c.At[:most/2], c.Values[:most/2], 2*c.stride
}

func (c *collected) flush() {
	if len(c.pending) > 0 {
		c.At, c.Values = append(c.At, c.at), append(c.Values, c.together(c.pending))
		c.pending = c.pending[:0]
	}
}

// together is the mean, or the most of latencies and numbers, which is what one looks for.
func (c *collected) together(values []float64) float64 {
	if c.Unit == "ms" || c.Unit == "" {
		return slices.Max(values)
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
