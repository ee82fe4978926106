package report

import (
	"io"
	"slices"
	"testing"
	"time"
)

// TestChartsOfAges has a market that is not ours: what is plotted is called age, in the curve and over time.
func TestChartsOfAges(t *testing.T) {
	titles := func(aged bool) (all []string) {
		t.Helper()
		rec := NewRecorder(io.Discard, time.Minute)
		for range 2 {
			rec.Sample(Sample{Clients: 1, Delivered: 1, P50: 1, P99: 2, Max: 3, Aged: aged})
		}
		row := Row{Series: rec.Take(), Latency: []Point{{50, 1}, {99, 2}}}
		row.Record(map[string]float64{map[bool]string{false: "p50", true: "age_p50"}[aged]: 1})
		c, err := Compare([]string{"a"}, []*Report{{Version: Version, Scenario: "ws-fanout", Rows: []Row{row}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, chart := range c.charts(0) {
			all = append(all, chart.Title)
		}
		return all
	}
	f := func(all []string, want, not string) {
		t.Helper()
		for _, kind := range []string{" by percentile", ""} {
			if name := want + kind; !slices.Contains(all, name) && !slices.Contains(all, name+" of the data at receipt") {
				t.Errorf("%q has no %q", all, name)
			}
			if slices.Contains(all, not+kind) {
				t.Errorf("%q has %q", all, not+kind)
			}
		}
	}
	f(titles(false), "Latency", "Age")
	f(titles(true), "Age", "Latency")
}
