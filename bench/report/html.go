package report

import (
	_ "embed"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
	//go:embed uplot/uPlot.iife.min.js
	uplotJS string
	//go:embed uplot/uPlot.min.css
	uplotCSS string
)

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// HTML writes the report as one page that needs nothing else.
func (r *Report) HTML(out io.Writer) error {
	c, err := Compare([]string{"report"}, []*Report{r})
	if err != nil {
		return err
	}
	return c.HTML(out, r.Failed)
}

// HTML writes the comparison as one page that needs nothing else. Failed are conditions that were true.
func (c *Comparison) HTML(out io.Writer, failed []string) error {
	p := page{
		Style: template.CSS(uplotCSS + pageCSS), Plot: template.JS(uplotJS), Script: template.JS(pageJS), //nolint:gosec // our own files
		Title: c.Reports[0].Title, Scenario: c.Reports[0].Scenario, Compares: len(c.Reports) > 1,
		Failed: failed, Differences: c.Differences, Notes: c.notes(),
	}
	if !p.Compares {
		p.Notes = c.Reports[0].Notes
	}
	if c.doubts() {
		p.Doubts = doubtful
	}
	for i, r := range c.Reports {
		s := source{Label: c.Labels[i], Color: i % palette, Report: r}
		for j := range r.Rows {
			s.Runs = max(s.Runs, r.Rows[j].runs())
		}
		p.Sources = append(p.Sources, s)
		for _, f := range r.faults() {
			if p.Compares {
				f = c.Labels[i] + ": " + f
			}
			p.Faults = append(p.Faults, f)
		}
		if len(r.counted()) == 0 {
			p.Uncounted = true
		}
	}
	if !p.Compares && len(c.Rows) > 1 {
		p.Charts = append(p.Charts, c.percentilesOfRows())
	}
	for i := range c.Rows {
		p.Rows = append(p.Rows, c.row(i))
		p.Charts = append(p.Charts, p.Rows[i].Charts...)
	}
	if len(p.Charts) > 0 && p.Charts[0].Row < 0 {
		p.All = p.Charts[:1]
	}
	for i := range p.Charts {
		p.Charts[i].ID = i
	}
	n := len(p.All)
	for i := range p.Rows {
		p.Rows[i].Charts = p.Charts[n : n+len(p.Rows[i].Charts)]
		n += len(p.Rows[i].Charts)
	}
	return pageTemplate.Execute(out, p)
}

// palette is how many colours page.css has for lines.
const palette = 6

// page is what page.html shows.
type page struct {
	Style           template.CSS
	Plot, Script    template.JS
	Title, Scenario string
	Compares        bool
	Doubts          string // what question marks mean, if there are any
	Uncounted       bool   // a report looked for no faults
	Failed          []string
	Faults          []string
	Differences     []string
	Notes           []string
	Sources         []source
	All             []chart // of all rows together
	Rows            []pageRow
	Charts          []chart // each one, for page.js
}

type source struct {
	*Report
	Label string
	Color int
	Runs  int
}

type pageRow struct {
	Name    string
	Notes   []string
	Goals   []Goal // of the one report
	Big     []pageMeasure
	Charts  []chart
	Table   []pageMeasure
	Clean   []string // faults that are zero everywhere
	Single  bool     // one run: no bands
	Missing []string // the reports that don't have it
}

// pageMeasure is a line of the table, or a tile above it.
type pageMeasure struct {
	Name, Help string
	Fault      bool
	Values     []pageValue
}

type pageValue struct {
	Text, Unit   string
	Color        int
	Band, Range  string
	Runs         string // each one
	Ratio, Noise string
	Verdict      Verdict
	Strip        *strip
}

// big are the measures that are shown large: the first few that there are.
var big = []string{
	"delivered/s", "p50", "p99", "p99.9", "disturbed_p99", "recovery", "slowdown", "memory", "cpu", "ratio", "connect/s", "age_p99", "edge_p99", "old_bytes", "rss",
}

const bigOnes = 6

func (c *Comparison) row(i int) pageRow {
	x := &c.Rows[i]
	p := pageRow{Name: x.Name, Single: true, Charts: c.charts(i)}
	for j, row := range x.rows {
		if row == nil {
			p.Missing = append(p.Missing, c.Labels[j])
			continue
		}
		p.Single = p.Single && row.runs() < 2
		if len(c.Reports) == 1 {
			p.Notes, p.Goals = row.Notes, row.Goals
		}
	}
	for j := range x.Measures {
		m := &x.Measures[j]
		if m.fault() && !slices.ContainsFunc(m.Measures, faulty) {
			p.Clean = append(p.Clean, m.Name)
			continue
		}
		p.Table = append(p.Table, m.page())
	}
	for _, name := range big {
		n := slices.IndexFunc(p.Table, func(m pageMeasure) bool { return m.Name == name })
		if n >= 0 && len(p.Big) < bigOnes {
			p.Big = append(p.Big, p.Table[n])
		}
	}
	return p
}

func (m *ComparedMeasure) page() pageMeasure {
	p := pageMeasure{Name: m.Name, Help: KindOf(m.Name).Help, Fault: m.fault()}
	low, high := m.domain()
	for i, x := range m.Measures {
		v := pageValue{Text: figure(x), Unit: m.Unit, Color: i % palette}
		if x != nil && len(x.Runs) > 0 {
			var runs []string
			for _, r := range x.Runs {
				runs = append(runs, Number(r))
			}
			v.Runs, v.Range = strings.Join(runs, ", "), x.span()
			if band := x.Band(); !m.fault() && band.Known() {
				v.Band = band.String(x.Value(), m.Unit)
			}
			v.Strip = x.strip(low, high)
		}
		if i > 0 {
			a := &m.Against[i-1]
			v.Ratio, v.Noise, v.Verdict = times(a.Ratio), a.noise(m), a.Verdict
		}
		p.Values = append(p.Values, v)
	}
	return p
}

// strip is a small picture of the runs: a dot each, and the band behind them.
type strip struct {
	Dots      []float64 // x
	Median    float64
	From, Len float64 // of the band
}

const stripWidth = 132.0

// domain is what the strips of a measure show, so that those of several reports can be compared: all runs, and some room.
func (m *ComparedMeasure) domain() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	reach := 0.0
	for _, x := range m.Measures {
		if x == nil {
			continue
		}
		for _, v := range x.Runs {
			low, high = min(low, v), max(high, v)
		}
		if v := x.Value(); v > 0 {
			reach = max(reach, v*(x.Band().Factor-1), x.Band().Within)
		}
	}
	room := max((high-low)/4, min(reach, 2*max(high-low, math.Abs(high)/20)))
	if room == 0 {
		room = 1
	}
	return low - room, high + room
}

func (m *Measure) strip(low, high float64) *strip {
	at := func(v float64) float64 {
		return math.Round(10*(4+(stripWidth-8)*min(1, max(0, (v-low)/(high-low))))) / 10
	}
	s := &strip{Median: at(m.Value())}
	for _, v := range m.Runs {
		s.Dots = append(s.Dots, at(v))
	}
	if b := m.Band(); b.Known() && !m.fault() {
		v := m.Value()
		from, to := v-b.Within, v+b.Within
		if v > 0 {
			from, to = min(from, v/b.Factor), max(to, v*b.Factor)
		}
		s.From = at(from)
		s.Len = math.Round(10*(at(to)-s.From)) / 10
	}
	return s
}
