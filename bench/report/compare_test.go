package report

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// row makes a report of one row with figures of runs.
func rowOf(runs map[string][]float64) *Report {
	r := &Report{Version: Version, Scenario: "ws-fanout", Title: "fan-out", Rows: []Row{{Name: "100 clients"}}}
	for i := range Kinds {
		if all, ok := runs[Kinds[i].Name]; ok {
			r.Rows[0].Measures = append(r.Rows[0].Measures, Measure{Kinds[i].Name, Kinds[i].Unit, all})
		}
	}
	return r
}

func TestVerdicts(t *testing.T) {
	f := func(name string, a, b []float64, want Verdict) {
		t.Helper()
		c, err := Compare([]string{"a.json", "b.json"}, []*Report{rowOf(map[string][]float64{name: a, "bytes": {1}}), rowOf(map[string][]float64{name: b, "bytes": {1}})})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range c.Rows[0].Measures {
			if m.Name == name && m.Against[0].Verdict != want {
				t.Errorf("%s of %v and %v: %s, want %s", name, a, b, m.Against[0].Verdict, want)
			}
		}
	}
	steady, third, half := []float64{10, 10.1, 9.9}, []float64{13.3, 13.2, 13.4}, []float64{5, 5.1, 5}
	f("p99", steady, steady, Same)
	f("p99", steady, third, Worse)
	f("p99", third, half, Improved)
	f("p99", []float64{10, 15, 7}, third, Same) // noisy
	f("delivered/s", steady, third, Improved)
	f("delivered/s", third, steady, Worse)
	f("sent/s", steady, third, Changed)
	f("p99", steady[:1], third[:1], Unclear)
	f("p99", steady[:1], third, Worse)
	f("p99", nil, third, Missing)
	f("p99", steady, nil, Missing)
	f("gaps", []float64{0, 0, 0}, []float64{0, 1, 0}, Faulty)
	f("gaps", nil, []float64{1}, Faulty)
	f("gaps", []float64{0, 1}, []float64{1, 0}, Faulty)
	f("gaps", []float64{0, 1, 0}, []float64{0, 0}, Improved)
	f("gaps", []float64{0}, []float64{0}, Same)
	f("failed_connects", []float64{0, 0, 0}, []float64{9, 9, 8}, Worse)
	f("failed_connects", []float64{0, 0, 0}, []float64{0, 0, 0}, Same)
	f("p50", []float64{0.001, 0.001, 0.001}, []float64{0.03, 0.03, 0.03}, Same) // the clock is not as good
}

// A check for anything that is worse looks at many measures, and must not cry wolf at each third change that changes nothing.
func TestWorseIsRarelyChance(t *testing.T) {
	const trials = 500
	rnd := rand.New(rand.NewPCG(7, 8))
	figures := func(more float64) *Report {
		all := map[string][]float64{}
		for _, k := range Kinds {
			if k.Better == Neither || k.Fault {
				continue
			}
			all[k.Name] = invocation(rnd, 5, 1000, 0.5).Runs // the floors are far below
			if k.Name == "p99" {
				for i := range all[k.Name] {
					all[k.Name][i] *= more
				}
			}
		}
		return rowOf(all)
	}
	worse, err := ParseRatioConditions("worse")
	if err != nil {
		t.Fatal(err)
	}
	alarms, doubts, found := 0, 0, 0
	for range trials {
		same, err := Compare([]string{"a.json", "b.json"}, []*Report{figures(1), figures(1)})
		if err != nil {
			t.Fatal(err)
		}
		if len(worse.Check(same)) > 0 {
			alarms++
		}
		if same.doubts() {
			doubts++
		}
		slower, err := Compare([]string{"a.json", "b.json"}, []*Report{figures(1), figures(40)})
		if err != nil {
			t.Fatal(err)
		}
		if len(worse.Check(slower)) > 0 {
			found++
		}
	}
	if alarms > trials*7/100 || doubts < trials/2 || found < trials*9/10 {
		t.Errorf("of %d comparisons: %d false alarms, %d doubts, %d of what was worse were found", trials, alarms, doubts, found)
	}
}

func TestCompareTable(t *testing.T) {
	a, b := sample(1, "tickwire", 1), withFaults(sample(2, "tickwire", 1.6))
	b.Machine.Cores, b.Settings[1].Value = 4, "10s"
	c, err := Compare([]string{"x/a.json", "x/b.json"}, []*Report{a, b})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "compare.golden", c.Table())
	rival := sample(3, "centrifugo", 3)
	rival.System.Local, rival.System.Protocol = false, "JSON"
	plain := sample(4, "nchan", 0.9)
	plain.Rows = plain.Rows[:1]
	if c, err = Compare([]string{"a.json", "b.json", "c.json"}, []*Report{a, rival, plain}); err != nil {
		t.Fatal(err)
	}
	golden(t, "compare-rivals.golden", c.Table())
}

func TestCompareRefuses(t *testing.T) {
	a, other, rows := sample(1, "tickwire", 1), sample(1, "tickwire", 1), sample(1, "tickwire", 1)
	other.Scenario = "storm"
	for i := range rows.Rows {
		rows.Rows[i].Name += " more"
	}
	for want, b := range map[string]*Report{"b.json of storm": other, `a.json has "1000 clients", "5000 clients"`: rows} {
		if _, err := Compare([]string{"a.json", "b.json"}, []*Report{a, b}); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

func TestRatioConditions(t *testing.T) {
	a := rowOf(map[string][]float64{"p99": {10, 10, 10}, "p50": {5, 5, 5}, "cpu": {2, 2, 2}, "gaps": {0, 0, 0}, "max": {50}, "sent/s": {1, 1, 1}, "failed_connects": {0, 0}})
	b := rowOf(map[string][]float64{"p99": {16, 16, 16}, "p50": {3, 3, 3}, "cpu": {2.1, 2.1, 2}, "gaps": {0, 1, 0}, "max": {51}, "sent/s": {2, 2, 2}, "failed_connects": {0, 0}})
	c, err := Compare([]string{"a.json", "b.json"}, []*Report{a, b})
	if err != nil {
		t.Fatal(err)
	}
	f := func(s string, want ...string) {
		t.Helper()
		all, err := ParseRatioConditions(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := all.Check(c); !slices.Equal(got, want) {
			t.Errorf("%s: %q", s, got)
		}
	}
	f("p99>1.7,cpu>1.1")
	f("p99>1.2,cpu>1.1x", "p99>1.2: 1.60 times, 100 clients, b")
	f("p50<1", "p50<1: 0.60 times, 100 clients, b")
	f("p99.9>1", "p99.9>1: it was not measured")
	f("failed_connects>1", "failed_connects>1: there is no ratio, 100 clients, b")
	f("fault", "fault: gaps must be zero, 100 clients, b")
	f("worse", "worse: p99 1.60 times, and the noise is ±25 %, 100 clients, b", "worse: max can not be judged by one run each, 100 clients, b", "fault: gaps must be zero, 100 clients, b")
	f("")
	b.Rows[0].Name = "200 clients"
	b.Rows = append(b.Rows, rowOf(map[string][]float64{"p99": {10, 10, 10}}).Rows[0])
	if c, err = Compare([]string{"a.json", "b.json"}, []*Report{rowOf(map[string][]float64{"p99": {10, 10, 10}, "p50": {1, 1}}), b}); err != nil {
		t.Fatal(err)
	}
	f("worse", "worse: p50 can not be judged, as one report does not have it, 100 clients, b", `the row "200 clients" is not in a`)
	for _, s := range []string{"gaps>1", "p99>1.2ms", "p98>1", "better", "worse,", "p99"} {
		if _, err := ParseRatioConditions(s); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v", s, err)
		}
	}
}
