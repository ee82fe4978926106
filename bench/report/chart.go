package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// chart is a plot for page.js to draw.
type chart struct {
	ID     int     `json:"id"`
	Row    int     `json:"-"` // -1 for all
	Title  string  `json:"title"`
	Unit   string  `json:"unit"`
	Kind   string  `json:"kind"` // time or percentiles
	Log    bool    `json:"log"`
	Lines  []line  `json:"lines"`
	Phases []Phase `json:"phases"` // the chart begins with the first of them
}

// line is one in a chart. A y that is null is a gap.
type line struct {
	Label string     `json:"label"`
	Color int        `json:"color"`
	Dash  bool       `json:"dash"`
	X     []float64  `json:"x"`
	Y     []*float64 `json:"y"`
}

// percentilesOfRows has a line for each row of the one report.
func (c *Comparison) percentilesOfRows() chart {
	all := chart{Row: -1, Title: c.late() + " by percentile, all variants", Unit: "ms", Kind: "percentiles", Log: true}
	for i := range c.Rows {
		if row := c.Rows[i].rows[0]; len(row.Latency) > 1 {
			all.Lines = append(all.Lines, percentiles(row.Name, i, row.Latency))
		}
	}
	return all
}

// shown are the time series' charts: which series are in them, with one report and with several.
var shown = []struct {
	title  string
	log    bool
	alone  []string
	beside []string
}{
	{"Rate", false, []string{"delivered", "sent"}, []string{"delivered"}},
	{"Latency", true, []string{"p50", "p99", "max"}, []string{"p99"}},
	{"Age of the data at receipt", true, []string{"age p50", "age p99", "age max"}, []string{"age p99"}},
	{"Processor time of the server, of one core", false, []string{"CPU"}, []string{"CPU"}},
	{"Memory of the server", false, []string{"memory"}, []string{"memory"}},
	{"Clients", false, []string{"clients"}, []string{"clients"}},
	{"Faults so far", false, []string{"faults"}, []string{"faults"}},
}

// late is what the curves are of: latency, or the age of a market's data that is not ours.
func (c *Comparison) late() string {
	for i := range c.Rows {
		for _, row := range c.Rows[i].rows {
			if row != nil && row.Measure("age_p50") != nil {
				return "Age"
			}
		}
	}
	return "Latency"
}

// charts are those of a row.
func (c *Comparison) charts(i int) (all []chart) {
	curve := chart{Row: i, Title: c.late() + " by percentile", Unit: "ms", Kind: "percentiles", Log: true}
	for j, row := range c.Rows[i].rows {
		if row != nil && len(row.Latency) > 1 {
			curve.Lines = append(curve.Lines, percentiles(c.Labels[j], j, row.Latency))
		}
	}
	if len(c.Reports) == 1 && len(curve.Lines) > 0 {
		curve.Lines[0].Label = "all runs"
	}
	if len(curve.Lines) > 0 {
		all = append(all, curve)
	}
	for _, s := range shown {
		x := chart{Row: i, Title: s.title, Kind: "time", Log: s.log}
		names := s.alone
		if len(c.Reports) > 1 {
			names = s.beside
			if len(s.alone) > len(s.beside) {
				x.Title += ": " + names[0]
			}
		}
		for j, row := range c.Rows[i].rows {
			if row == nil {
				continue
			}
			begin, phases := 0.0, c.Reports[j].Phases
			if len(c.Reports) > 1 {
				begin = row.begin()
			}
			for n, name := range names {
				at := slices.IndexFunc(row.Series, func(s Series) bool { return s.Name == name })
				if at < 0 || !row.worthwhile(&row.Series[at]) {
					continue
				}
				label, color := name, n
				if len(c.Reports) > 1 {
					label, color = c.Labels[j], j
				}
				x.Unit = row.Series[at].Unit
				x.Lines = append(x.Lines, overTime(label, color, begin, &row.Series[at], phases))
			}
		}
		if len(x.Lines) == 0 {
			continue
		}
		if len(c.Reports) == 1 {
			x.Phases = c.Reports[0].during(c.Rows[i].rows[0])
		}
		all = append(all, x)
	}
	return all
}

// worthwhile tells whether a series is worth a plot: the number of clients is when it changes, faults are when there are some.
func (r *Row) worthwhile(s *Series) bool {
	if len(s.Values) < 2 || len(s.At) != len(s.Values) {
		return false
	}
	switch s.Name {
	case "faults":
		return slices.ContainsFunc(r.Measures, func(m Measure) bool { return faulty(&m) })
	case "clients", "sent":
		return slices.Min(s.Values) != slices.Max(s.Values)
	}
	return true
}

// begin is when a row's series begin.
func (r *Row) begin() float64 {
	first := math.Inf(1)
	for i := range r.Series {
		if at := r.Series[i].At; len(at) > 0 {
			first = min(first, at[0])
		}
	}
	return first
}

// during are the phases of a row, whose name is not in theirs.
func (r *Report) during(row *Row) (all []Phase) {
	first, last := row.begin(), 0.0
	for i := range row.Series {
		if at := row.Series[i].At; len(at) > 0 {
			last = max(last, at[len(at)-1])
		}
	}
	for _, p := range r.Phases {
		if p.To > first && p.From < last {
			p.Name = strings.TrimPrefix(p.Name, row.Name+", ")
			p.To = min(p.To, last)
			all = append(all, p)
		}
	}
	return all
}

// percentiles draws a curve over the logarithm of what is missing to 100: 90, 99, 99.9 are as far from each other.
func percentiles(label string, color int, curve []Point) line {
	l := line{Label: label, Color: color % palette}
	for _, p := range curve {
		var x float64
		switch n := len(l.X); {
		case p.Percentile < 100:
			x = math.Log10(100 / (100 - p.Percentile))
		case n > 0:
			x = l.X[n-1] + 0.25 // the end, wherever that is
		}
		l.X, l.Y = append(l.X, x), append(l.Y, positive(p.Ms))
	}
	return l
}

// overTime draws a series, with gaps where there were no samples for a while: between runs above all.
func overTime(label string, color int, begin float64, s *Series, phases []Phase) line {
	l := line{Label: label, Color: color % palette, Dash: s.Name == "sent"}
	var steps []float64
	for i := 1; i < len(s.At); i++ {
		steps = append(steps, s.At[i]-s.At[i-1])
	}
	slices.Sort(steps)
	usual := steps[len(steps)/2]
	for i, at := range s.At {
		if pause := at - s.At[max(0, i-1)]; pause > 2.5*usual || pause > 1.5*usual && phaseAt(phases, at) != phaseAt(phases, s.At[i-1]) {
			l.X, l.Y = append(l.X, (at+s.At[i-1])/2-begin), append(l.Y, nil)
		}
		v := &s.Values[i]
		if s.Unit == "ms" {
			v = positive(*v)
		}
		l.X, l.Y = append(l.X, at-begin), append(l.Y, v)
	}
	return l
}

// phaseAt is the phase that a sample is of, which is taken when it ends; -1 when there is none.
func phaseAt(phases []Phase, at float64) int {
	return slices.IndexFunc(phases, func(p Phase) bool { return at > p.From && at <= p.To })
}

// positive is for axes that are logarithmic: histograms begin with a microsecond.
func positive(ms float64) *float64 {
	ms = max(ms, 0.001)
	return &ms
}

// Key names the chart in the page.
func (c chart) Key() string { return fmt.Sprintf("chart-%d", c.ID) }
