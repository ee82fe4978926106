package report

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// width is that of a terminal on which the tables are readable.
const width = 100

// Table is for people at a terminal.
func (r *Report) Table() string {
	var b strings.Builder
	b.WriteString("\n")
	paragraph(&b, "", r.Title)
	paragraph(&b, "  ", r.System.String())
	paragraph(&b, "  ", r.Machine.String())
	for i := range r.Rows {
		r.Rows[i].table(&b)
	}
	if faults := r.faults(); len(faults) > 0 {
		b.WriteString("\nFAULTS, which must be none in a run that is to be believed\n")
		for _, f := range faults {
			paragraph(&b, "  ", f)
		}
	} else if counted := r.counted(); len(counted) > 0 {
		b.WriteString("\n")
		paragraph(&b, "", "No faults: "+strings.Join(counted, ", ")+" are 0 in every run.")
	}
	if len(r.Notes) > 0 {
		b.WriteString("\n")
	}
	for _, n := range r.Notes {
		paragraph(&b, "note: ", n)
	}
	return b.String()
}

func (r *Row) table(b *strings.Builder) {
	runs := r.runs()
	b.WriteString("\n")
	if r.Name != "" {
		paragraph(b, "", r.Name)
	}
	rows := [][]string{{"", "median", "", "another run", fmt.Sprintf("%d runs", runs)}}
	if runs == 1 {
		rows[0] = []string{"", "one run", "", "", ""}
	}
	for i := range r.Measures {
		m := &r.Measures[i]
		if m.fault() {
			continue
		}
		cells := []string{m.Name, Number(m.Value()), m.Unit, "", ""}
		if runs > 1 {
			cells[3], cells[4] = m.Band().String(m.Value(), m.Unit), m.span()
		}
		rows = append(rows, cells)
	}
	align(b, rows, "lrlrl")
	if runs == 1 {
		b.WriteString("  One run says nothing of the noise.\n")
	}
	for _, g := range r.Goals {
		paragraph(b, "  ", g.String())
	}
	for _, n := range r.Notes {
		paragraph(b, "  note: ", n)
	}
}

// span is from the least to the most of the runs.
func (m *Measure) span() string {
	if len(m.Runs) == 0 {
		return "-"
	}
	from, to := Number(slices.Min(m.Runs)), Number(slices.Max(m.Runs))
	if from == to {
		return from
	}
	return from + " … " + to
}

// faults are a line for each row and fault that was seen, with the figures of the runs.
func (r *Report) faults() (all []string) {
	for i := range r.Rows {
		row := &r.Rows[i]
		for j := range row.Measures {
			m := &row.Measures[j]
			if !faulty(m) {
				continue
			}
			var runs []string
			for _, v := range m.Runs {
				runs = append(runs, Number(v))
			}
			which := "in the only run"
			if len(runs) > 1 {
				which = fmt.Sprintf("in runs 1 to %d", len(runs))
			}
			all = append(all, fmt.Sprintf("%s (%s): %s %s%s", m.Name, KindOf(m.Name).Help, strings.Join(runs, ", "), which, in(row)))
		}
	}
	return all
}

// counted are the faults that were looked for.
func (r *Report) counted() (all []string) {
	for i := range r.Rows {
		for j := range r.Rows[i].Measures {
			if m := &r.Rows[i].Measures[j]; m.fault() && !slices.Contains(all, m.Name) {
				all = append(all, m.Name)
			}
		}
	}
	return all
}

// String is a line on what was measured.
func (s System) String() string {
	text := s.Name
	if s.Protocol != "" {
		text += " (" + s.Protocol + ")"
	}
	if s.Where != "" {
		text += ", " + s.Where
	}
	if !s.Local {
		text += "; its processes could not be seen (--pid)"
	}
	return text
}

// String is a line on what it ran on.
func (m Machine) String() string {
	var all []string
	cores := fmt.Sprintf("%d cores", m.Cores)
	if m.Cores == 1 {
		cores = "1 core"
	}
	for _, s := range []string{cores, m.CPU, m.System, m.Go, m.Build} {
		if s != "" {
			all = append(all, s)
		}
	}
	if m.Load != "" {
		all = append(all, "load average "+m.Load+" before")
	}
	return m.Date.UTC().Format("2006-01-02 15:04") + ", " + strings.Join(all, ", ")
}

// align writes rows in columns that are left or right.
func align(b *strings.Builder, rows [][]string, columns string) {
	widths := make([]int, len(columns))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, row := range rows {
		line := ""
		for i, c := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if columns[i] == 'r' {
				line += "  " + pad + c
			} else {
				line += "  " + c + pad
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

// paragraph writes text in lines that are not too long.
func paragraph(b *strings.Builder, prefix, text string) {
	line, used := prefix, 0
	for _, word := range strings.Fields(text) {
		if used > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			b.WriteString(line + "\n")
			line, used = strings.Repeat(" ", utf8.RuneCountInString(prefix)), 0
		}
		if used > 0 {
			line += " "
		}
		line += word
		used++
	}
	b.WriteString(line + "\n")
}
