package report

// Goal is what a row is to reach. Missing it is no fault: the machine may be too slow.
type Goal struct {
	Goal string `json:"goal"`
	Is   string `json:"is"`
	Met  bool   `json:"met"`
}

// Judge holds the row to goals, which are written as conditions: cpu<=2.2us,p99<=25ms.
func (r *Row) Judge(goals string) error {
	all, err := ParseConditions(goals)
	if err != nil {
		return err
	}
	for i := range all {
		g := Goal{Goal: all[i].String(), Is: "not measured"}
		if m := r.Measure(all[i].Name); m != nil {
			g.Is, g.Met = quantity(m.Value(), m.Unit), all[i].holds(m.Value())
		}
		r.Goals = append(r.Goals, g)
	}
	return nil
}

// String is a line for people.
func (g Goal) String() string {
	if g.Met {
		return "goal: " + g.Goal + ": " + g.Is + ", met"
	}
	return "goal: " + g.Goal + ": " + g.Is + ", NOT MET"
}
