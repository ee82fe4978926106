// Package report is what a measurement says: the figures of several runs and the noise between them, for people, for
// programs, and for the next build to be compared with.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// Version is that of the JSON file. A change that older readers would misread raises it.
const Version = 1

// Report is what one scenario found.
type Report struct {
	Version  int       `json:"version"`
	Scenario string    `json:"scenario"`
	Title    string    `json:"title"`   // what was done, in a line
	Command  string    `json:"command"` // that does it again
	Machine  Machine   `json:"machine"`
	System   System    `json:"system"`
	Settings []Setting `json:"settings,omitempty"` // flags by name, changed or not
	Phases   []Phase   `json:"phases,omitempty"`   // of all rows, on the series' time axis
	Rows     []Row     `json:"rows"`
	Failed   []string  `json:"failed,omitempty"` // conditions of --fail-if that were true
	Notes    []string  `json:"notes,omitempty"`  // what a reader must know before believing the figures
}

// System is what was measured.
type System struct {
	Name     string `json:"name"`               // tickwire, centrifugo, …
	Protocol string `json:"protocol,omitempty"` // that the clients spoke
	Where    string `json:"where"`              // addresses, or how it was started
	Local    bool   `json:"local"`              // its processor time and memory could be seen
}

// Setting is a flag and its value.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Row is one variant: a number of clients, a flush interval. Most scenarios have one.
type Row struct {
	Name     string    `json:"name,omitempty"`
	Measures []Measure `json:"measures"`
	Series   []Series  `json:"series,omitempty"`
	Latency  []Point   `json:"latency,omitempty"` // of all runs together
	Goals    []Goal    `json:"goals,omitempty"`
	Notes    []string  `json:"notes,omitempty"`
}

// Measure is a figure of each run.
type Measure struct {
	Name string    `json:"name"` // one of Kinds
	Unit string    `json:"unit,omitempty"`
	Runs []float64 `json:"runs"`
}

// Series is a figure over the time of the scenario.
type Series struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	At     []float64 `json:"at"` // seconds since the scenario's begin
	Values []float64 `json:"values"`
}

// Phase is a part of the scenario's time, in seconds since its begin.
type Phase struct {
	Name string  `json:"name"`
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

// Point is one of a curve of percentiles: so many of a hundred were at most so slow.
type Point struct {
	Percentile float64 `json:"percentile"`
	Ms         float64 `json:"ms"`
}

// Record adds the figures of a run to the row, by their names in Kinds. Each run of a row has the same ones; NaN is a figure that this
// run does not have, and a condition of --fail-if on it fails.
func (r *Row) Record(run map[string]float64) {
	for i := range Kinds {
		k := &Kinds[i]
		v, ok := run[k.Name]
		if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		n := slices.IndexFunc(r.Measures, func(m Measure) bool { return m.Name == k.Name })
		if n < 0 {
			n = len(r.Measures)
			r.Measures = append(r.Measures, Measure{Name: k.Name, Unit: k.Unit})
		}
		r.Measures[n].Runs = append(r.Measures[n].Runs, v)
	}
	for name := range run {
		if KindOf(name) == nil {
			panic("report: no measure is called " + name)
		}
	}
}

// runs is how many there were.
func (r *Row) runs() (n int) {
	for i := range r.Measures {
		n = max(n, len(r.Measures[i].Runs))
	}
	return n
}

// Measure is the row's measure of that name; nil when there is none.
func (r *Row) Measure(name string) *Measure {
	for i := range r.Measures {
		if r.Measures[i].Name == name {
			return &r.Measures[i]
		}
	}
	return nil
}

// Value is the median of the runs; 0 of none.
func (m *Measure) Value() float64 {
	if len(m.Runs) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(m.Runs))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Write writes the report to a file.
func (r *Report) Write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o600)
}

// Read reads a report from a file.
func Read(file string) (*Report, error) {
	f, err := os.Open(file) //nolint:gosec // the user's own
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	r, err := decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// largest is more than any scenario writes.
const largest = 256 << 20

func decode(in io.Reader) (*Report, error) {
	var r Report
	if err := json.NewDecoder(io.LimitReader(in, largest)).Decode(&r); err != nil {
		return nil, err
	}
	switch {
	case r.Version == 0 || r.Scenario == "":
		return nil, errors.New("not a report of tickwire-bench")
	case r.Version > Version:
		return nil, fmt.Errorf("version %d is newer than this program's, %d", r.Version, Version)
	}
	return &r, nil
}
