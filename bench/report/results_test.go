package report

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestResults(t *testing.T) {
	rival := sample(3, "centrifugo", 3)
	rival.System.Protocol, rival.System.Where, rival.System.Local, rival.Rows = "JSON", "ws://127.0.0.1:8000/connection/websocket", false, rival.Rows[:1]
	rival.Rows[0].Measures = rival.Rows[0].Measures[:6]
	storm := rowOf(map[string][]float64{"recovery": {1.6}, "served": {10_000}, "missing": {0}})
	storm.Scenario, storm.Title, storm.System.Name, storm.Rows[0].Name, storm.Command = "storm", "all resume at once", ours, "", "tickwire-bench storm"
	storm.Machine, storm.System.Local = sample(1, ours, 1).Machine, true
	storm.Machine.Date = storm.Machine.Date.AddDate(0, 0, 1)
	f := func(name string, files []string, reports ...*Report) {
		t.Helper()
		var a, b bytes.Buffer
		for _, out := range []*bytes.Buffer{&a, &b} {
			if err := Results(out, files, reports); err != nil {
				t.Fatal(err)
			}
		}
		if a.String() != b.String() {
			t.Error("two calls, two results")
		}
		golden(t, name, a.String())
	}
	f("results.golden", []string{"x/market.json", "x/storm.json"}, withFaults(sample(1, ours, 1)), storm)
	f("results-rivals.golden", []string{"market.centrifugo.json", "market.json"}, rival, sample(1, ours, 1))
}

func TestResultsRefuse(t *testing.T) {
	other := sample(2, ours, 1)
	other.Scenario = "storm"
	if err := Results(new(bytes.Buffer), []string{"a.json", "a.x.json"}, []*Report{sample(1, ours, 1), other}); !errors.Is(err, ErrUsage) {
		t.Error(err)
	}
}

// Whatever texts a report has, each table keeps its columns, and nothing becomes HTML.
func TestResultsHostile(t *testing.T) {
	r := hostile()
	for _, text := range []string{"a | b", "`x` | y"} {
		r.Rows[0].Name, r.Title, r.Notes = text, text, []string{text + "\n# heading"}
		var b bytes.Buffer
		if err := Results(&b, []string{"a.json", "a.other.json"}, []*Report{r, hostile()}); err != nil {
			t.Fatal(err)
		}
		columns := 0
		for line := range strings.Lines(b.String()) {
			if !strings.HasPrefix(line, "|") {
				columns = 0
				continue
			}
			n := strings.Count(line, "|") - strings.Count(line, `\|`)
			if columns > 0 && n != columns {
				t.Errorf("%d columns: %s", n, line)
			}
			columns = n
		}
		if strings.Contains(b.String(), "\n# heading") {
			t.Error("a note made a heading")
		}
	}
}
