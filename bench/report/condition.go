package report

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrUsage is what errors are that say how the program was called wrong: exit code 2.
var ErrUsage = errors.New("usage")

// ErrFailed is what errors are that say that a condition of --fail-if was true: exit code 1.
var ErrFailed = errors.New("failed")

// Faults is the name that stands for all measures that must be zero.
const Faults = "faults"

// Condition is one under which a check fails: a measure is more or less than a limit.
type Condition struct {
	Name  string  // one of Kinds, or Faults
	Op    string  // > >= < <=
	Limit float64 // in the kind's unit
	text  string
}

// String is the condition as it was written.
func (c Condition) String() string { return c.text }

func (c *Condition) holds(v float64) bool {
	switch c.Op {
	case ">":
		return v > c.Limit
	case ">=":
		return v >= c.Limit
	case "<":
		return v < c.Limit
	}
	return v <= c.Limit
}

// Conditions are those of --fail-if.
type Conditions []Condition

// ParseConditions reads some, separated by commas: p99>5ms,delivered/s<90k,rss>=1GiB,faults>0. None is none.
func ParseConditions(s string) (Conditions, error) { return parseConditions(s, limit) }

func parseConditions(s string, limit func(k *Kind, text string) (float64, error)) (all Conditions, err error) {
	for _, text := range strings.Split(s, ",") {
		if text = strings.TrimSpace(text); text == "" && strings.TrimSpace(s) == "" {
			return nil, nil
		}
		c := Condition{text: text}
		at := strings.IndexAny(text, "<>")
		if at < 0 {
			return nil, fmt.Errorf("%w: %q is no condition such as p99>5ms", ErrUsage, text)
		}
		c.Name, c.Op = strings.TrimSpace(text[:at]), text[at:at+1]
		rest := text[at+1:]
		if strings.HasPrefix(rest, "=") {
			c.Op, rest = c.Op+"=", rest[1:]
		}
		k := KindOf(c.Name)
		switch {
		case c.Name == Faults:
			k = &Kind{Name: Faults, Fault: true}
		case k == nil:
			return nil, fmt.Errorf("%w: %q: no measure is called %q; there are %s", ErrUsage, text, c.Name, names())
		}
		if c.Limit, err = limit(k, strings.TrimSpace(rest)); err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrUsage, text, err)
		}
		all = append(all, c)
	}
	return all, nil
}

func names() string {
	all := []string{Faults}
	for i := range Kinds {
		all = append(all, Kinds[i].Name)
	}
	return strings.Join(all, ", ")
}

// units are families of them, with their sizes. The one that has a kind's unit is the one that its limits are written in.
var units = []map[string]float64{
	{"": 1, "k": 1e3, "M": 1e6},
	{"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1},
	{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30},
	{"/s": 1, "k/s": 1e3, "M/s": 1e6, "": 1, "k": 1e3, "M": 1e6},
	{"%": 1, "": 1},
	{"×": 1, "x": 1, "": 1},
}

var number = regexp.MustCompile(`^([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?) *([^0-9. ]*)$`)

// limit reads a number with a unit that fits the kind's.
func limit(k *Kind, text string) (float64, error) {
	m := number.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is no number with a unit", text)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%q is no number", m[1])
	}
	if v == 0 && m[2] == "" {
		return 0, nil
	}
	for _, family := range units {
		own, ok := family[k.Unit]
		if !ok {
			continue
		}
		if size, ok := family[m[2]]; ok {
			return v * size / own, nil
		}
		if m[2] == "" {
			return 0, fmt.Errorf("%s needs a unit, one of %s", k.Name, options(family))
		}
		return 0, fmt.Errorf("%s is not written in %q, but in one of %s", k.Name, m[2], options(family))
	}
	return 0, fmt.Errorf("%s has a unit that has no limits, %q", k.Name, k.Unit)
}

func options(family map[string]float64) string {
	var all []string
	for name := range family {
		all = append(all, strconv.Quote(name))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// Check says which conditions are true of the report, one line each. The medians of each row are looked at, of faults every single run. What
// was not measured fails too: a check that can't fail checks nothing.
func (all Conditions) Check(r *Report) (failed []string) {
	for _, c := range all {
		var without []string // rows
		for i := range r.Rows {
			measured := false
			for j := range r.Rows[i].Measures {
				row, m := &r.Rows[i], &r.Rows[i].Measures[j]
				if m.Name != c.Name && (c.Name != Faults || !m.fault()) {
					continue
				}
				measured = true
				if text := c.check(row, m); text != "" {
					failed = append(failed, fmt.Sprintf("%s: %s", c, text+in(row)))
				}
			}
			if !measured {
				without = append(without, in(&r.Rows[i]))
			}
		}
		if len(without) == len(r.Rows) { // of all there are, if any
			without = []string{""}
		}
		for _, row := range without {
			failed = append(failed, fmt.Sprintf("%s: it was not measured by %s", c, r.Scenario+row))
		}
	}
	return failed
}

func (c *Condition) check(row *Row, m *Measure) string {
	name := ""
	if c.Name != m.Name {
		name = m.Name + " "
	}
	if have, want := len(m.Runs), row.runs(); have < want {
		return fmt.Sprintf("%s%d of %d runs did not measure it", name, want-have, want)
	}
	if !m.fault() {
		if v := m.Value(); c.holds(v) {
			return name + quantity(v, m.Unit)
		}
		return ""
	}
	for i, v := range m.Runs {
		if c.holds(v) {
			return fmt.Sprintf("%s%s in run %d of %d", name, quantity(v, m.Unit), i+1, len(m.Runs))
		}
	}
	return ""
}

// fault tells whether it is one of those that must be zero.
func (m *Measure) fault() bool {
	k := KindOf(m.Name)
	return k != nil && k.Fault
}

// in names a row, if it has a name.
func in(row *Row) string {
	if row.Name == "" {
		return ""
	}
	return ", " + row.Name
}
