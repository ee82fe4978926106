package report

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Verdict is what a measure of another report is beside the first one's.
type Verdict string

// The verdicts.
const (
	Improved Verdict = "better"
	Worse    Verdict = "worse"
	Same     Verdict = "same" // the noise explains the difference
	// Beyond the measure's noise, which one of twenty is by chance; not beyond what is to be expected of so many as were compared.
	MaybeImproved Verdict = "better?"
	MaybeWorse    Verdict = "worse?"
	Changed       Verdict = "changed"
	Faulty        Verdict = "fault" // what must be zero is not
	Unclear       Verdict = "?"     // one run each: nobody knows the noise
	Missing       Verdict = "-"     // one of the two did not measure it
)

// Comparison is one report beside others of the same scenario.
type Comparison struct {
	Labels      []string // of the reports
	Reports     []*Report
	Differences []string // of settings and machines: what else may be the reason
	Rows        []ComparedRow
}

// ComparedRow is a row of the first report, or one that it does not have.
type ComparedRow struct {
	Name     string
	rows     []*Row // of each report; nil where it has none
	Measures []ComparedMeasure
}

// ComparedMeasure is a measure in each report.
type ComparedMeasure struct {
	Name, Unit string
	Measures   []*Measure // of each report; nil where it has none
	Against    []Against  // of each report but the first, with the first
}

// Against is what became of a measure.
type Against struct {
	Ratio   float64 // over the first; NaN when there is none
	Band    Band    // that the noise of both explains
	Verdict Verdict
}

// Compare compares reports, read from files, with the first of them.
func Compare(files []string, reports []*Report) (*Comparison, error) {
	c := &Comparison{Labels: labels(files, reports), Reports: reports}
	for i, r := range reports {
		if r.Scenario != reports[0].Scenario {
			return nil, fmt.Errorf("%w: %s is a report of %s, %s of %s", ErrUsage, files[0], reports[0].Scenario, files[i], r.Scenario)
		}
		c.differences(i)
		for j := range r.Rows {
			name := r.Rows[j].Name
			if !slices.ContainsFunc(c.Rows, func(x ComparedRow) bool { return x.Name == name }) {
				c.Rows = append(c.Rows, compareRow(name, reports))
			}
		}
	}
	if len(reports) > 1 && !slices.ContainsFunc(c.Rows, func(x ComparedRow) bool { return !slices.Contains(x.rows, nil) }) {
		return nil, fmt.Errorf("%w: no row is in all of the reports; %s has %s", ErrUsage, files[0], rowNames(reports[0]))
	}
	c.doubt()
	return c, nil
}

// doubt takes back verdicts that may be chance: all of them together are to be right with the probability that a band has, which is Bonferroni's
// correction, for one side.
func (c *Comparison) doubt() {
	judged := 0.0
	each := func(f func(m *ComparedMeasure, i int)) {
		for i := range c.Rows {
			for j := range c.Rows[i].Measures {
				m := &c.Rows[i].Measures[j]
				for n := range m.Against {
					if m.Against[n].Band.Known() && KindOf(m.Name).Better != Neither {
						f(m, n)
					}
				}
			}
		}
	}
	each(func(*ComparedMeasure, int) { judged++ })
	p := max(likely, 1-2*(1-likely)/max(judged, 1))
	each(func(m *ComparedMeasure, n int) {
		from, to := m.Measures[0], m.Measures[n+1]
		if x := &m.Against[n]; joint(p, from, to).Holds(from.Value(), to.Value()) {
			switch x.Verdict {
			case Improved:
				x.Verdict = MaybeImproved
			case Worse:
				x.Verdict = MaybeWorse
			}
		}
	})
}

// doubtful says what a question mark behind a verdict means.
const doubtful = "better? and worse? are beyond the measure's own noise, but among so many measures that may be chance."

// doubts tells whether there is a verdict with a question mark.
func (c *Comparison) doubts() bool {
	return slices.ContainsFunc(c.Rows, func(r ComparedRow) bool {
		return slices.ContainsFunc(r.Measures, func(m ComparedMeasure) bool {
			return slices.ContainsFunc(m.Against, func(a Against) bool { return a.Verdict == MaybeImproved || a.Verdict == MaybeWorse })
		})
	})
}

func rowNames(r *Report) string {
	var all []string
	for i := range r.Rows {
		all = append(all, strconv.Quote(r.Rows[i].Name))
	}
	return strings.Join(all, ", ")
}

// labels are short and differ: the systems' names, or the files'.
func labels(files []string, reports []*Report) []string {
	systems, bases := []string{}, []string{}
	for i, r := range reports {
		systems, bases = append(systems, r.System.Name), append(bases, strings.TrimSuffix(filepath.Base(files[i]), ".json"))
	}
	for _, all := range [][]string{systems, bases} {
		if len(slices.Compact(slices.Sorted(slices.Values(all)))) == len(all) && !slices.Contains(all, "") {
			return all
		}
	}
	return files
}

// addresses are flags that name what was measured, which a report's System tells.
var addresses = []string{"ws", "sse", "alerts", "kafka", "pid", "protocol", "publish"}

// differences collects what differs between the first report and the i-th, figures aside.
func (c *Comparison) differences(i int) {
	a, b := c.Reports[0], c.Reports[i]
	f := func(what, x, y string) {
		if x != y {
			c.Differences = append(c.Differences, fmt.Sprintf("%s: %s in %s, %s in %s", what, orNone(x), c.Labels[0], orNone(y), c.Labels[i]))
		}
	}
	f("protocol", a.System.Protocol, b.System.Protocol)
	f("processor", a.Machine.CPU, b.Machine.CPU)
	f("processors", strconv.Itoa(a.Machine.Cores), strconv.Itoa(b.Machine.Cores))
	f("operating system", a.Machine.System, b.Machine.System)
	f("Go", a.Machine.Go, b.Machine.Go)
	f("build", a.Machine.Build, b.Machine.Build)
	value := func(r *Report, name string) string {
		for _, s := range r.Settings {
			if s.Name == name {
				return s.Value
			}
		}
		return ""
	}
	var names []string
	for _, s := range slices.Concat(a.Settings, b.Settings) {
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	if a.System.Name == b.System.Name {
		f("where", a.System.Where, b.System.Where)
	}
	for _, name := range names {
		if slices.Contains(addresses, name) {
			continue
		}
		f("--"+name, value(a, name), value(b, name))
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func compareRow(name string, reports []*Report) ComparedRow {
	c := ComparedRow{Name: name}
	for _, r := range reports {
		var row *Row
		for j := range r.Rows {
			if r.Rows[j].Name == name {
				row = &r.Rows[j]
			}
		}
		c.rows = append(c.rows, row)
	}
	for i := range Kinds {
		m := ComparedMeasure{Name: Kinds[i].Name, Unit: Kinds[i].Unit}
		for _, row := range c.rows {
			var one *Measure
			if row != nil {
				one = row.Measure(m.Name)
			}
			m.Measures = append(m.Measures, one)
		}
		if slices.ContainsFunc(m.Measures, func(x *Measure) bool { return x != nil }) {
			for _, x := range m.Measures[1:] {
				m.Against = append(m.Against, against(&Kinds[i], m.Measures[0], x))
			}
			c.Measures = append(c.Measures, m)
		}
	}
	return c
}

func against(k *Kind, a, b *Measure) Against {
	x := Against{Ratio: math.NaN(), Verdict: Missing}
	if faulty(b) {
		x.Verdict = Faulty
	}
	if a == nil || b == nil || len(a.Runs) == 0 || len(b.Runs) == 0 {
		return x
	}
	from, to := a.Value(), b.Value()
	if from != 0 {
		x.Ratio = to / from
	}
	if k.Fault {
		switch {
		case x.Verdict == Faulty:
		case slices.Max(a.Runs) != 0:
			x.Verdict = Improved
		default:
			x.Verdict = Same
		}
		return x
	}
	x.Band = joint(likely, a, b)
	switch {
	case !x.Band.Known():
		x.Verdict = Unclear
	case x.Band.Holds(from, to):
		x.Verdict = Same
	case k.Better == Neither:
		x.Verdict = Changed
	case (to < from) == (k.Better == Lower):
		x.Verdict = Improved
	default:
		x.Verdict = Worse
	}
	return x
}

// Table is for people at a terminal.
func (c *Comparison) Table() string {
	var b strings.Builder
	b.WriteString("\n")
	paragraph(&b, "", c.Reports[0].Title)
	for i, r := range c.Reports {
		paragraph(&b, fmt.Sprintf("  %s: ", c.Labels[i]), r.System.String()+"; "+r.Machine.String())
	}
	for _, d := range c.Differences {
		paragraph(&b, "  differs: ", d)
	}
	for i := range c.Rows {
		b.WriteString("\n")
		c.Rows[i].table(&b, c.Labels)
	}
	if c.doubts() {
		b.WriteString("\n")
		paragraph(&b, "", doubtful)
	}
	for i, r := range c.Reports {
		for _, f := range r.faults() {
			paragraph(&b, "\nFAULT in "+c.Labels[i]+": ", f)
		}
	}
	for _, n := range c.notes() {
		paragraph(&b, "note on ", n)
	}
	return b.String()
}

// notes are those of the reports and their rows, each once, with the reports that have it.
func (c *Comparison) notes() (all []string) {
	var order []string
	who := map[string][]string{}
	for i, r := range c.Reports {
		notes := slices.Clone(r.Notes)
		for j := range r.Rows {
			for _, n := range r.Rows[j].Notes {
				if name := r.Rows[j].Name; name != "" {
					n = name + ": " + n
				}
				notes = append(notes, n)
			}
		}
		for _, n := range notes {
			if who[n] == nil {
				order = append(order, n)
			}
			if !slices.Contains(who[n], c.Labels[i]) {
				who[n] = append(who[n], c.Labels[i])
			}
		}
	}
	for _, n := range order {
		all = append(all, strings.Join(who[n], ", ")+": "+n)
	}
	return all
}

func (c *ComparedRow) table(b *strings.Builder, labels []string) {
	if c.Name != "" {
		paragraph(b, "", c.Name)
	}
	head, columns := []string{"", "", labels[0]}, "llr"
	for _, l := range labels[1:] {
		if len(labels) == 2 {
			head, columns = append(head, l, "ratio", "noise", ""), columns+"rrrl"
		} else {
			head, columns = append(head, l, "ratio", ""), columns+"rrl"
		}
	}
	rows, none := [][]string{head}, []string{}
	for i := range c.Measures {
		m := &c.Measures[i]
		if m.fault() && !slices.ContainsFunc(m.Measures, faulty) {
			none = append(none, m.Name)
			continue
		}
		cells := []string{m.Name, m.Unit, figure(m.Measures[0])}
		for j, x := range m.Against {
			cells = append(cells, figure(m.Measures[j+1]), times(x.Ratio))
			if len(labels) == 2 {
				cells = append(cells, x.noise(m))
			}
			cells = append(cells, string(x.Verdict))
		}
		rows = append(rows, cells)
	}
	align(b, rows, columns)
	if len(none) > 0 {
		paragraph(b, "  no faults: ", strings.Join(none, ", "))
	}
}

// fault tells whether it is one of those that must be zero.
func (m *ComparedMeasure) fault() bool {
	k := KindOf(m.Name)
	return k != nil && k.Fault
}

// faulty tells whether a run of what must be zero was not.
func faulty(m *Measure) bool {
	return m != nil && m.fault() && slices.ContainsFunc(m.Runs, func(v float64) bool { return v != 0 })
}

// times writes a ratio.
func times(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return Number(v)
}

// noise is the band in words.
func (a *Against) noise(m *ComparedMeasure) string {
	if !a.Band.Known() {
		return ""
	}
	return a.Band.String(m.Measures[0].Value(), m.Unit)
}

// figure is the median, or of faults the most of a single run.
func figure(m *Measure) string {
	switch {
	case m == nil || len(m.Runs) == 0:
		return "-"
	case m.fault():
		return Number(slices.Max(m.Runs))
	}
	return Number(m.Value())
}

// RatioConditions are those under which a comparison fails.
type RatioConditions struct {
	worse, fault bool
	ratios       Conditions
}

// ParseRatioConditions reads some, separated by commas: p99>1.2 is a ratio to the first report, worse anything that is worse by more
// than the noise of all measures together, fault anything that must be zero and is not.
func ParseRatioConditions(s string) (c RatioConditions, err error) {
	var ratios []string
	for _, text := range strings.Split(s, ",") {
		switch text = strings.TrimSpace(text); {
		case text == "worse":
			c.worse = true
		case text == "fault":
			c.fault = true
		case text == "" && strings.TrimSpace(s) != "":
			return c, fmt.Errorf("%w: an empty condition in %q", ErrUsage, s)
		default:
			ratios = append(ratios, text)
		}
	}
	c.ratios, err = parseConditions(strings.Join(ratios, ","), ratio)
	if err != nil {
		err = fmt.Errorf("%w; here are ratios, p99>1.2, and the words worse and fault", err)
	}
	return c, err
}

// ratio reads a number that has no unit.
func ratio(k *Kind, text string) (float64, error) {
	if k.Fault {
		return 0, errors.New("what must be zero has no ratio")
	}
	return limit(&Kind{Name: "a ratio of " + k.Name, Unit: "×"}, text)
}

// Check says which conditions are true, one line each. What can't be judged fails too.
func (all *RatioConditions) Check(c *Comparison) (failed []string) {
	seen := map[string]bool{}
	for i := range c.Rows {
		row := &c.Rows[i]
		for j, label := range c.Labels {
			if row.rows[j] == nil && (all.worse || all.fault) {
				failed = append(failed, fmt.Sprintf("the row %q is not in %s", row.Name, label))
			}
		}
		if slices.Contains(row.rows, nil) {
			continue
		}
		for j := range row.Measures {
			m := &row.Measures[j]
			seen[m.Name] = true
			for n, x := range m.Against {
				where := fmt.Sprintf("%s, %s", row.Name, c.Labels[n+1])
				if row.Name == "" {
					where = c.Labels[n+1]
				}
				failed = append(failed, all.check(m, x, where)...)
			}
		}
	}
	for _, x := range all.ratios {
		if !seen[x.Name] {
			failed = append(failed, fmt.Sprintf("%s: it was not measured", x))
		}
	}
	return failed
}

func (all *RatioConditions) check(m *ComparedMeasure, x Against, where string) (failed []string) {
	add := func(what, found string) { failed = append(failed, fmt.Sprintf("%s: %s, %s", what, found, where)) }
	k := KindOf(m.Name)
	switch {
	case x.Verdict == Faulty && (all.worse || all.fault):
		add("fault", m.Name+" must be zero")
	case !all.worse || k.Better == Neither:
	case x.Verdict == Worse:
		add("worse", fmt.Sprintf("%s %s times, and the noise is %s", m.Name, times(x.Ratio), x.noise(m)))
	case x.Verdict == Unclear:
		add("worse", m.Name+" can not be judged by one run each")
	case x.Verdict == Missing:
		add("worse", m.Name+" can not be judged, as one report does not have it")
	}
	for _, c := range all.ratios {
		switch {
		case c.Name != m.Name:
		case math.IsNaN(x.Ratio):
			add(c.String(), "there is no ratio")
		case c.holds(x.Ratio):
			add(c.String(), times(x.Ratio)+" times")
		}
	}
	return failed
}
