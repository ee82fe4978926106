package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/report"
)

// scripted is a scenario that finds what it is told, in a root of its own.
func scripted(t *testing.T, found map[string]float64, err error, args ...string) (out, live string, ran bool, _ error) {
	t.Helper()
	root := &cobra.Command{Use: "tickwire-bench", SilenceErrors: true, SilenceUsage: true}
	cmd := &cobra.Command{Use: "ws-fanout"}
	cmd.Flags().IntSlice("clients", []int{1000, 5000}, "connections")
	cmd.Flags().String("token", "", "secret")
	cmd.Flags().String("shape", "market", "of it")
	cmd.Flags().Bool("floor", true, "too")
	root.AddCommand(scenarioCommand(cmd, func() time.Duration { return time.Second }, func(_ context.Context, rec *report.Recorder) (*report.Report, error) {
		ran = true
		if err != nil {
			return nil, err
		}
		rec.Phase("run 1")
		rec.Sample(report.Sample{Clients: 7, P50: 1})
		row := report.Row{Series: rec.Take()}
		row.Record(found)
		return &report.Report{Title: "the title", Rows: []report.Row{row}, Settings: []report.Setting{{Name: "stale"}}}, nil
	}))
	var o, e bytes.Buffer
	strict(root).SetOut(&o)
	root.SetErr(&e)
	root.SetArgs(args)
	result := root.ExecuteContext(t.Context())
	return o.String(), e.String(), ran, result
}

func TestScenarioReports(t *testing.T) {
	file, page := filepath.Join(t.TempDir(), "a.json"), filepath.Join(t.TempDir(), "a.html")
	out, live, _, err := scripted(t, map[string]float64{"p99": 7, "gaps": 0}, nil, "ws-fanout", "--json", file, "--html", page, "--clients", "10,20", "--token", "hush", "--floor=false", "--shape", "it's one")
	if err != nil || !strings.Contains(out, "the title") || !strings.Contains(out, "No faults") || !strings.Contains(live, "run 1") {
		t.Errorf("%v\n%s\n%s", err, out, live)
	}
	r, err := report.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := `tickwire-bench ws-fanout --clients 10,20 --floor=false --shape 'it'\''s one' --token …`; r.Command != want || r.Scenario != "ws-fanout" || r.Machine.Cores == 0 || len(r.Phases) != 1 {
		t.Errorf("%+v", r)
	}
	holds(t, page, "the title", "--clients 10,20")
	if got := fmt.Sprint(r.Settings); got != "[{clients 10,20} {floor false} {shape it's one}]" {
		t.Error(got)
	}
	if _, live, _, err := scripted(t, map[string]float64{"gaps": 0}, nil, "ws-fanout", "--quiet"); err != nil || live != "" {
		t.Errorf("%v\n%s", err, live)
	}
}

func TestExitCodes(t *testing.T) {
	well, gap := map[string]float64{"p99": 7, "gaps": 0}, map[string]float64{"p99": 7, "gaps": 2}
	f := func(found map[string]float64, scenario error, code int, runs bool, want string, args ...string) {
		t.Helper()
		_, _, ran, err := scripted(t, found, scenario, args...)
		if got := exitCode(err); got != code || ran != runs || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v: exit code %d, ran %v: %v", args, got, ran, err)
		}
	}
	f(well, nil, 0, true, "nil", "ws-fanout")
	f(gap, nil, 1, true, "gaps 2 in run 1 of 1", "ws-fanout")
	f(gap, nil, 0, true, "nil", "ws-fanout", "--fail-if", "")
	f(gap, nil, 0, true, "nil", "ws-fanout", "--fail-if", "p99>8ms")
	f(well, nil, 1, true, "p99>5ms: 7 ms", "ws-fanout", "--fail-if", "p99>5ms,gaps>0")
	f(well, nil, 1, true, "not measured by ws-fanout", "ws-fanout", "--fail-if", "max>5ms")
	f(well, nil, 2, false, "there are faults, sent/s", "ws-fanout", "--fail-if", "p95>5ms")
	f(well, nil, 2, false, "unknown flag", "ws-fanout", "--nonsense")
	f(well, nil, 2, false, "invalid argument", "ws-fanout", "--clients", "many")
	f(well, nil, 2, false, "unknown command", "ws-fanout", "more")
	f(well, nil, 2, false, `unknown command "sw-fanout"`, "sw-fanout")
	f(well, nil, 0, false, "nil")
	f(well, fmt.Errorf("%w: --clients: too few", report.ErrUsage), 2, true, "too few", "ws-fanout")
	f(well, nil, 3, true, "no space left", "ws-fanout", "--json", "/dev/full")
	f(well, nil, 2, false, "--json: open /nowhere/a.json", "ws-fanout", "--json", "/nowhere/a.json")
	f(well, errors.New("refused"), 3, true, "refused", "ws-fanout")
}

// The real commands complain in the same way.
func TestUsageOfAll(t *testing.T) {
	for _, args := range [][]string{{"sse", "nonsense"}, {"sse", "fanout", "more"}, {"soak", "--nonsense"}, {"nonsense"}} {
		root := rootCommand()
		root.SetArgs(args)
		if err := root.ExecuteContext(t.Context()); exitCode(err) != 2 {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"ws://me:hush@host:1/a?x=1":           "ws://…@host:1/a?x=1",
		"http://host/a?token=hush&x=1":        "http://host/a?token=…&x=1",
		"http://host/a?x=1&access_token=hush": "http://host/a?x=1&access_token=…",
		"nats://hush@a:1,nats://hush@b:1":     "nats://…@a:1,nats://…@b:1",
		"http://host/{topic}/a@b":             "http://host/{topic}/a@b",
		"a@b":                                 "a@b",
	} {
		if got := redact(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
