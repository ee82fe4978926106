package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/bench/report"
)

// written writes a report with runs of p99 to a file.
func written(t *testing.T, scenario, name string, p99 ...float64) (file string) {
	t.Helper()
	r := report.Report{Version: report.Version, Scenario: scenario, Title: "the title", Rows: make([]report.Row, 1)}
	for _, v := range p99 {
		r.Rows[0].Record(map[string]float64{"p99": v, "gaps": 0})
	}
	file = filepath.Join(t.TempDir(), name)
	if err := r.Write(file); err != nil {
		t.Fatal(err)
	}
	return file
}

// holds looks for texts in a file.
func holds(t *testing.T, file string, texts ...string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if !strings.Contains(string(b), text) {
			t.Errorf("%s has no %q", file, text)
		}
	}
}

func TestCompareCommand(t *testing.T) {
	a, b, storm := written(t, "ws-fanout", "a.json", 10, 10, 10), written(t, "ws-fanout", "b.json", 15, 15, 15), written(t, "storm", "storm.json", 1)
	page := filepath.Join(t.TempDir(), "page.html")
	f := func(code int, want string, args ...string) {
		t.Helper()
		root := rootCommand()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(append([]string{"compare"}, args...))
		err := root.ExecuteContext(t.Context())
		if text := fmt.Sprint(out.String(), err); exitCode(err) != code || !strings.Contains(text, want) {
			t.Errorf("%v: exit code %d\n%s", args, exitCode(err), text)
		}
	}
	f(0, "worse", a, b)
	f(0, "better", b, a)
	f(1, "1.50 times", a, b, "--fail-if", "worse")
	f(0, "same", a, a, "--fail-if", "worse,fault,p99>1.1")
	f(1, "1.50 times", a, b, "--fail-if", "p99>1.2")
	f(2, "no measure", a, b, "--fail-if", "p98>1.2")
	f(2, "storm.json of storm", a, storm)
	f(2, "nothing to compare", a)
	f(2, "nothing to compare", a, "--fail-if", "worse", "--html", page)
	f(0, "nil", a, "--html", page)
	holds(t, page, "the title", "p99")
	f(1, "1.50 times", a, b, "--html", page, "--fail-if", "worse")
	holds(t, page, "The check failed", "1.50 times")
	f(2, "no such file", a, "nowhere.json")
}
