package report

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Results writes reports as Markdown: each with its table, ours beside the floor, and beside other systems. Files name the sections:
// fanout.json is a section, and fanout.nats.json a report in it that is laid beside the first.
func Results(out io.Writer, files []string, reports []*Report) error {
	sections, err := sectionsOf(files, reports)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# What was measured\n")
	b.WriteString("`tickwire-bench results` wrote this file from reports; [docs/decisions/0011](../docs/decisions/0011-measuring-the-edge.md) says how it measures and why so.\n\n")
	machines(&b, reports)
	b.WriteString("\nFigures are medians of several runs; *±* and *×÷* say how far another invocation may be from them with a probability of 95 % when nothing has changed: " +
		"from the spread of the runs, and not less than what a shared machine drifts by. Latency is from the intended send time.\n")
	overview(&b, sections)
	for _, s := range sections {
		s.write(&b)
	}
	glossary(&b, reports)
	_, err = io.WriteString(out, b.String())
	return err
}

// section is the reports of one measurement: ours, or whichever is first, and others beside it.
type section struct {
	name string
	*Comparison
}

// ours is the name of our system in reports.
const ours = "tickwire"

func sectionsOf(files []string, reports []*Report) (all []section, err error) {
	var names []string
	members := map[string][]int{}
	for i, f := range files {
		name, _, _ := strings.Cut(filepath.Base(f), ".")
		if members[name] == nil {
			names = append(names, name)
		}
		members[name] = append(members[name], i)
	}
	for _, name := range names {
		order := members[name]
		slices.SortStableFunc(order, func(a, b int) int {
			ax, bx := reports[a].System.Name != ours, reports[b].System.Name != ours
			switch {
			case ax == bx:
				return strings.Compare(reports[a].System.Name, reports[b].System.Name)
			case ax:
				return 1
			}
			return -1
		})
		var f []string
		var r []*Report
		for _, i := range order {
			f, r = append(f, files[i]), append(r, reports[i])
		}
		c, err := Compare(f, r)
		if err != nil {
			return nil, err
		}
		all = append(all, section{name, c})
	}
	return all, nil
}

// machines says where it ran.
func machines(b *strings.Builder, reports []*Report) {
	type machine struct{ text, build string }
	var order []machine
	from := map[machine][]string{}
	for _, r := range reports {
		m := r.Machine
		text := []string{fmt.Sprintf("%d cores", m.Cores)}
		for _, s := range []string{m.CPU, m.System, m.Go} {
			if s != "" {
				text = append(text, s)
			}
		}
		key := machine{strings.Join(text, ", "), m.Build}
		if from[key] == nil {
			order = append(order, key)
		}
		from[key] = append(from[key], m.Date.UTC().Format("2006-01-02"))
	}
	for _, m := range order {
		days := slices.Compact(slices.Sorted(slices.Values(from[m])))
		when := days[0]
		if last := days[len(days)-1]; last != when {
			when += " to " + last
		}
		build := ""
		if m.build != "" {
			build = "; build " + m.build
		}
		fmt.Fprintf(b, "**Machine**: %s; %s%s. Server, clients and publisher share it where the server was started for the run.\n", md(m.text), when, md(build))
	}
}

// overview is a line for each row of ours.
func overview(b *strings.Builder, sections []section) {
	columns := []string{"delivered/s", "p50", "p99", "cpu", "ratio", "memory", "recovery"}
	rows := [][]string{{"measurement", "variant"}}
	columns = slices.DeleteFunc(columns, func(name string) bool {
		return !slices.ContainsFunc(sections, func(s section) bool {
			return slices.ContainsFunc(s.Reports[0].Rows, func(r Row) bool { return r.Measure(name) != nil })
		})
	})
	for _, name := range columns {
		rows[0] = append(rows[0], named(KindOf(name)))
	}
	rows[0] = append(rows[0], "faults", "goals met")
	for _, s := range sections {
		r := s.Reports[0]
		for i := range r.Rows {
			row := &r.Rows[i]
			cells := []string{"[" + md(s.name) + "](#" + anchor(s.name) + ")", md(row.Name)}
			for _, name := range columns {
				cells = append(cells, figure(row.Measure(name)))
			}
			rows = append(rows, append(cells, row.verdictOfFaults(), row.verdictOfGoals()))
		}
	}
	b.WriteString("\n")
	markdown(b, rows, 2)
}

func (r *Row) verdictOfFaults() string {
	counted, seen := false, []string{}
	for i := range r.Measures {
		m := &r.Measures[i]
		counted = counted || m.fault()
		if faulty(m) {
			seen = append(seen, "**"+m.Name+"**")
		}
	}
	switch {
	case len(seen) > 0:
		return strings.Join(seen, " ")
	case counted:
		return "none"
	}
	return "-"
}

func (r *Row) verdictOfGoals() string {
	if len(r.Goals) == 0 {
		return ""
	}
	met := 0
	for _, g := range r.Goals {
		if g.Met {
			met++
		}
	}
	if met < len(r.Goals) {
		return fmt.Sprintf("**%d of %d**", met, len(r.Goals))
	}
	return fmt.Sprintf("%d of %d", met, len(r.Goals))
}

// write writes a section.
func (s *section) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n%s.\n\n", md(s.name), strings.TrimSuffix(md(upper(s.Reports[0].Title)), "."))
	for i, r := range s.Reports {
		label := ""
		if len(s.Reports) > 1 {
			label = "**" + md(s.Labels[i]) + "**: "
		}
		runs := 0
		for j := range r.Rows {
			runs = max(runs, r.Rows[j].runs())
		}
		fmt.Fprintf(b, "- %s`%s`<br>\n  %s; %s, medians of %d, load average %s before\n", label, code(r.Command), md(r.System.String()), r.Machine.Date.UTC().Format("2006-01-02 15:04"), runs, orNone(md(r.Machine.Load)))
	}
	b.WriteString("\n")
	if len(s.Reports) == 1 {
		s.alone(b)
	} else {
		for i := range s.Rows {
			if i > 0 {
				b.WriteString("\n")
			}
			s.beside(b, &s.Rows[i])
		}
	}
	s.remarks(b)
}

// alone writes one table: a column for each row of the report.
func (s *section) alone(b *strings.Builder) {
	rows := [][]string{{""}}
	for i := range s.Rows {
		rows[0] = append(rows[0], md(s.Rows[i].Name))
	}
	for i := range Kinds {
		k := &Kinds[i]
		cells, any := []string{named(k)}, false
		for j := range s.Rows {
			m := s.Rows[j].rows[0].Measure(k.Name)
			any = any || m != nil
			cells = append(cells, banded(m))
		}
		if any && !k.aside() {
			rows = append(rows, cells)
		}
	}
	markdown(b, rows, 1)
}

// floors are what the floor has of ours.
var floors = map[string]string{"delivered/s": "floor/s", "cpu": "floor_cpu"}

// beside writes a table of a row: a column for each system, and the floor.
func (s *section) beside(b *strings.Builder, row *ComparedRow) {
	head := []string{md(row.Name), md(s.Labels[0])}
	floor := row.rows[0] != nil && (row.rows[0].Measure("floor_cpu") != nil || row.rows[0].Measure("floor/s") != nil)
	if floor {
		head = append(head, "floor")
	}
	for _, l := range s.Labels[1:] {
		head = append(head, md(l), "")
	}
	rows := [][]string{head}
	for i := range row.Measures {
		m := &row.Measures[i]
		k := KindOf(m.Name)
		if k.aside() || strings.HasPrefix(m.Name, "floor") {
			continue
		}
		cells := []string{named(k), banded(m.Measures[0])}
		if floor {
			cells = append(cells, "")
			if name := floors[m.Name]; name != "" {
				cells[2] = banded(row.rows[0].Measure(name))
			}
		}
		for j, x := range m.Against {
			cells = append(cells, banded(m.Measures[j+1]), x.words())
		}
		rows = append(rows, cells)
	}
	markdown(b, rows, 1)
}

// words is the ratio, and the verdict where there is one to tell.
func (a *Against) words() string {
	switch a.Verdict {
	case Missing, Unclear:
		return ""
	case Same, Changed, MaybeImproved, MaybeWorse:
		return times(a.Ratio) + " × (" + string(a.Verdict) + ")"
	case Faulty:
		return "**fault**"
	}
	if math.IsNaN(a.Ratio) {
		return string(a.Verdict)
	}
	return times(a.Ratio) + " × " + string(a.Verdict)
}

// remarks are what one must know beside the figures.
func (s *section) remarks(b *strings.Builder) {
	var all []string
	for i, r := range s.Reports {
		label := ""
		if len(s.Reports) > 1 {
			label = " in " + s.Labels[i]
		}
		for _, f := range r.faults() {
			all = append(all, "**Fault"+md(label)+"**: "+md(f))
		}
		for _, f := range r.Failed {
			all = append(all, "**Check failed"+md(label)+"**: "+md(f))
		}
	}
	for i := range s.Reports[0].Rows {
		row := &s.Reports[0].Rows[i]
		for _, g := range row.Goals {
			text := "Goal `" + code(g.Goal) + "`" + md(in(row)) + ": " + md(g.Is) + ", "
			if g.Met {
				all = append(all, text+"met")
			} else {
				all = append(all, text+"**not met**")
			}
		}
	}
	if s.doubts() {
		all = append(all, upper(doubtful))
	}
	notes := s.notes()
	for _, n := range notes {
		if len(s.Reports) == 1 {
			n = strings.TrimPrefix(n, s.Labels[0]+": ")
		}
		all = append(all, "Note: "+md(n))
	}
	for _, d := range s.Differences {
		all = append(all, "Differs: "+md(d))
	}
	if len(all) > 0 {
		b.WriteString("\n- " + strings.Join(all, "\n- ") + "\n")
	}
}

// glossary says what the measures are that occur.
func glossary(b *strings.Builder, reports []*Report) {
	b.WriteString("\n## The measures\n")
	for i := range Kinds {
		k := &Kinds[i]
		occurs := slices.ContainsFunc(reports, func(r *Report) bool {
			return slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Measure(k.Name) != nil })
		})
		if occurs && (k.Fault || !k.aside()) {
			fmt.Fprintf(b, "- *%s*: %s\n", md(k.Name), md(k.Help))
		}
	}
}

// aside tells whether a measure is left out of the tables: it serves to judge the others, or is a fault, which is told in words.
func (k *Kind) aside() bool {
	switch k.Name {
	case "sent/s", "messages/s", "p90", "failed_connects", "busy", "switches", "goroutines", "publisher_lag":
		return true
	}
	return k.Fault || strings.HasPrefix(k.Name, "client_")
}

// named is a kind's name with its unit.
func named(k *Kind) string {
	if k.Unit == "" || k.Unit == "/s" {
		return md(k.Name)
	}
	return md(k.Name) + ", " + k.Unit
}

// banded is a figure with its band.
func banded(m *Measure) string {
	if m == nil || len(m.Runs) == 0 {
		return ""
	}
	text := figure(m)
	if band := m.Band(); band.Known() {
		text += " " + band.String(m.Value(), "")
	}
	return strings.ReplaceAll(text, " ", "\u00a0") // a figure is not broken
}

// markdown writes a table; the first so many columns are left, the others right. It is aligned for those who read the file itself.
func markdown(b *strings.Builder, rows [][]string, left int) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c), 3)
		}
	}
	for n, row := range rows {
		for i, c := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if i < left {
				b.WriteString("| " + c + pad + " ")
			} else {
				b.WriteString("| " + pad + c + " ")
			}
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i := range row {
			rule := strings.Repeat("-", widths[i]+1)
			if i < left {
				b.WriteString("|" + rule + "-")
			} else {
				b.WriteString("|" + rule + ":")
			}
		}
		b.WriteString("|\n")
	}
}

// md is text that Markdown shows as it is.
func md(s string) string {
	return strings.NewReplacer("\n", " ", "\r", " ", `\`, `\\`, "|", `\|`, "<", "&lt;", "`", "\\`", "*", `\*`, "[", `\[`).Replace(s)
}

// code is what may stand between backquotes, in a table or not.
func code(s string) string {
	return strings.NewReplacer("\n", " ", "\r", " ", "`", "'").Replace(s)
}

// anchor is what GitHub makes of a heading.
func anchor(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

// upper begins a sentence.
func upper(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}
