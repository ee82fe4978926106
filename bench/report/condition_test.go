package report

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestParseConditions(t *testing.T) {
	f := func(s, name, op string, limit float64) {
		t.Helper()
		all, err := ParseConditions(s)
		if err != nil || len(all) != 1 {
			t.Errorf("%s: %v %v", s, all, err)
			return
		}
		if c := all[0]; c.Name != name || c.Op != op || math.Abs(c.Limit-limit) > 1e-9*limit || c.String() != s {
			t.Errorf("%s: %+v", s, c)
		}
	}
	f("p99>5ms", "p99", ">", 5)
	f("p99.9 >= 1.5 s", "p99.9", ">=", 1500)
	f("p50<250us", "p50", "<", 0.25)
	f("p50<=250µs", "p50", "<=", 0.25)
	f("cpu>900ns", "cpu", ">", 0.9)
	f("recovery>500ms", "recovery", ">", 0.5)
	f("rss>1.5GiB", "rss", ">", 1536)
	f("memory>7168B", "memory", ">", 7)
	f("bytes>1KiB", "bytes", ">", 1024)
	f("delivered/s<90k", "delivered/s", "<", 90e3)
	f("delivered/s<1.5M/s", "delivered/s", "<", 1.5e6)
	f("delivered/s<100/s", "delivered/s", "<", 100)
	f("served<10k", "served", "<", 10e3)
	f("busy>180%", "busy", ">", 180)
	f("ratio>1.25x", "ratio", ">", 1.25)
	f("ratio>1.25", "ratio", ">", 1.25)
	f("gaps>0", "gaps", ">", 0)
	f("faults>0", "faults", ">", 0)
	f("p99>0", "p99", ">", 0)
	if all, err := ParseConditions("p99>5ms, gaps>0"); err != nil || len(all) != 2 {
		t.Errorf("%v %v", all, err)
	}
	if all, err := ParseConditions(" "); err != nil || len(all) != 0 {
		t.Errorf("%v %v", all, err)
	}
}

func TestParseConditionsRefuses(t *testing.T) {
	for s, want := range map[string]string{
		"p98>5ms":       "there are faults, sent/s",
		"p99>5":         "needs a unit",
		"p99>5MiB":      `in "MiB"`,
		"p99>5m":        `in "m"`,
		"rss>5s":        `"GiB"`,
		"gaps>1ms":      `in "ms"`,
		"faults>1%":     `in "%"`,
		"p99=5ms":       "no condition",
		"p99":           "no condition",
		"p99>":          "no number",
		"p99>-1ms":      "no number",
		"p99>1e999ms":   "no number",
		"p99>NaN":       "no number",
		"p99>5ms,":      "no condition",
		"p99>>5ms":      "no number",
		"gaps>0 p99>1":  "no number",
		",p99>5ms":      "no condition",
		"delivered>90k": "delivered/s",
	} {
		if all, err := ParseConditions(s); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v", s, all, err)
		}
	}
}

// Each kind's unit is one that a limit can be written in.
func TestKindsHaveLimits(t *testing.T) {
	for _, k := range Kinds {
		if _, err := ParseConditions(k.Name + ">1" + k.Unit); err != nil {
			t.Error(err)
		}
		if strings.ContainsAny(k.Name, "<>, ") || k.Help == "" || (k.Fault != (k.Noise == 0)) {
			t.Errorf("%+v", k)
		}
	}
}

func FuzzParseConditions(f *testing.F) {
	f.Add("p99>5ms,gaps>0")
	f.Fuzz(func(t *testing.T, s string) {
		all, err := ParseConditions(s)
		if err != nil {
			return
		}
		for _, c := range all {
			if again, err := ParseConditions(c.String()); err != nil || len(again) != 1 || again[0] != c {
				t.Errorf("%q: %v %v", c, again, err)
			}
		}
	})
}

func TestCheck(t *testing.T) {
	few, many := Row{Name: "100 clients"}, Row{Name: "1000 clients"}
	for i, p99 := range []float64{9, 4, 4.5} {
		few.Record(map[string]float64{"p99": p99, "gaps": 0, "lost": 0, "max": math.NaN()})
		many.Record(map[string]float64{"p99": p99 + 1, "gaps": float64(i % 2), "lost": 0, "p50": []float64{1, math.NaN(), 1}[i]})
	}
	r := &Report{Scenario: "ws-fanout", Rows: []Row{few, many}}
	f := func(s string, want ...string) {
		t.Helper()
		all, err := ParseConditions(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := all.Check(r); !slices.Equal(got, want) {
			t.Errorf("%s: %q", s, got)
		}
	}
	f("p99>5.5ms")
	f("p99>5ms", "p99>5ms: 5.50 ms, 1000 clients") // the medians
	f("p99<5ms", "p99<5ms: 4.50 ms, 100 clients")
	f("p99>4ms", "p99>4ms: 4.50 ms, 100 clients", "p99>4ms: 5.50 ms, 1000 clients")
	f("gaps>0", "gaps>0: 1 in run 2 of 3, 1000 clients") // not the median, which is 0
	f("faults>0", "faults>0: gaps 1 in run 2 of 3, 1000 clients")
	f("lost>0")
	f("max>1s", "max>1s: it was not measured by ws-fanout")
	f("cpu>1us,lost>0", "cpu>1us: it was not measured by ws-fanout")
	f("p50>1s", "p50>1s: 1 of 3 runs did not measure it, 1000 clients", "p50>1s: it was not measured by ws-fanout, 100 clients")
	r.Rows = r.Rows[:0]
	f("faults>0", "faults>0: it was not measured by ws-fanout")
	f("")
}
