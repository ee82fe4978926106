package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
)

// step is a scenario of the suite, as one would call it, and the goals of its rows.
type step struct {
	name  string
	args  string
	goals []string // of each row, as conditions that are to be true
}

// suite is the list of measurements that we are judged by.
var suite = []step{
	{"market-5000", "ws-fanout --floor --rate 5000 --flush 0,20ms --duration 5s --repeat 3", []string{"cpu<=2.2us", "cpu<=0.75us,p99<=40ms,delivered/s>=495000"}},
	{"market-1000", "ws-fanout --floor --duration 5s --repeat 3", []string{"p99<=2ms"}},
	{"one-topic", "ws-fanout --floor --shape one --deliveries 50000 --clients 1000,10000 --channel trades --duration 5s --repeat 3", []string{"ratio<=1.25", "ratio<=1.25"}},
	{"one-topic-saturated", "ws-fanout --floor --shape saturated --duration 5s --repeat 3", []string{"delivered/s>=600000,cpu<=1.3us"}},
	{"one-topic-1000", "ws-fanout --floor --shape one --rate 1000 --flush 5ms --duration 5s --repeat 3", []string{"delivered/s>=990000,p99<=25ms"}},
	{"one-topic-deflate", "ws-fanout --shape one --deliveries 50000 --size 1000 --deflate --format json --duration 5s --repeat 3", []string{"ratio<=1.25"}},
	{"growth", "ws-fanout --floor --shape one --deliveries 50000 --clients 1000,5000,19000 --channel trades --duration 5s --repeat 3", []string{"ratio<=1.25", "ratio<=1.25", "ratio<=1.25"}},
	{"idle", "idle --settle 30s", []string{"memory<=7KiB,memory_freed<=7KiB"}},
	{"slow", "slow", []string{"slowdown<=1.25"}},
	{"slow-stopped", "slow --stop", []string{"slowdown<=1.25"}},
	{"burst", "burst", nil},
	{"storm", "storm", []string{"recovery<=10s"}},
	{"pause", "flow", []string{"age_max<=250ms", "age_max<=250ms", "age_max<=250ms"}},
	{"sse-100", "sse-fanout --floor --duration 5s --repeat 3", []string{"ratio<=1.25"}},
	{"sse-50000", "sse-fanout --floor --deliveries 50000 --clients 1000,10000 --duration 5s --repeat 3", []string{"ratio<=1.25", "ratio<=1.25"}},
	{"sse-flush", "sse-fanout --floor --clients 10000 --flush 50ms --duration 5s --repeat 3", []string{"cpu<=0.8us"}},
	{"sse-batches", "sse-fanout --floor --clients 10000 --stream 100ms,250ms --duration 5s --repeat 3", []string{"cpu<=0.8us", "cpu<=0.25us"}},
	{"sse-batches-gzip", "sse-fanout --clients 10000 --stream 250ms --gzip --duration 5s --repeat 3", nil},
	{"sse-idle", "idle --edge sse --topics 1 --each 1 --settle 35s", []string{"memory<=2.5KiB,memory_freed<=2.5KiB"}},
	{"sse-storm", "storm --edge sse --topics 1 --each 1 --rate 100 --stream 250ms", []string{"recovery<=5s"}},
	{"end-to-end", "e2e", []string{"p50<=1ms,p99<=5ms"}},
	{"books", "ws-books", nil},
	{"ingest", "ingest", nil},
	{"ingest-saturated", "ingest --saturate", nil},
	{"alerts", "alerts", []string{"p99<=50ms"}},
	{"webhooks", "webhook", nil},
	{"soak", "soak", nil},
}

func suiteCommand() *cobra.Command {
	only, dir, quick := "", "", false
	cmd := &cobra.Command{
		Use:   "suite",
		Short: "All measurements that we are judged by, with their goals",
		Long: `Runs scenarios one after the other, says which goals are met, and writes their reports to files, for results and compare. Exit code 1 when
something was wrong, not when a goal is missed. The steps:
` + steps(),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir != "" {
				if err := os.MkdirAll(dir, 0o750); err != nil {
					return fmt.Errorf("--dir: %w", err)
				}
			}
			return runSuite(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), only, dir, quick)
		},
	}
	f := cmd.Flags()
	f.StringVar(&only, "only", "", "the steps whose name contains `TEXT`")
	f.StringVar(&dir, "dir", "", "write the reports to this `FOLDER`")
	f.BoolVar(&quick, "quick", false, "one short run of each: a look, not a verdict")
	return cmd
}

func steps() string {
	var b strings.Builder
	for _, s := range suite {
		fmt.Fprintf(&b, "  %-20s %s\n", s.name, s.args)
	}
	return b.String()
}

// short are the flags that make one short run, by scenario.
var short = map[string]string{
	"ws-fanout": "--repeat 1 --duration 2s", "sse-fanout": "--repeat 1 --duration 2s", "idle": "--repeat 1 --settle 8s",
	"slow": "--repeat 1", "burst": "--repeat 1", "storm": "--repeat 1", "flow": "--after 2s",
	"e2e": "--repeat 1 --duration 4s", "ws-books": "--repeat 1 --duration 4s", "ingest": "--repeat 1 --duration 4s", "alerts": "--repeat 1 --duration 4s",
	"webhook": "--repeat 1", "soak": "--duration 10s",
}

func runSuite(ctx context.Context, out, errs io.Writer, only, dir string, quick bool) error {
	var failed []error
	temporary := dir == ""
	if temporary {
		var err error
		if dir, err = os.MkdirTemp("", "tickwire-bench-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
	}
	for _, s := range suite {
		if !strings.Contains(s.name, only) {
			continue
		}
		file := filepath.Join(dir, s.name+".json")
		now := file + ".now" // what is there is of an earlier suite, and stays until the step is done
		if err := s.run(ctx, errs, now, quick); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
			if schedule.Interrupted(ctx) || !errors.Is(err, report.ErrFailed) {
				_ = os.Remove(now) // of half a step, if there is any
				break
			}
		}
		r, err := report.Read(now)
		if err = errors.Join(err, os.Remove(now)); err != nil {
			return errors.Join(append(failed, err)...)
		}
		for i, goals := range s.goals {
			if err := r.Rows[i].Judge(goals); err != nil {
				return err
			}
		}
		if err := r.Write(file); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "\n== %s\n%s", s.name, r.Table()); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// run runs the scenario as its command does.
func (s *step) run(ctx context.Context, errs io.Writer, file string, quick bool) error {
	args := strings.Fields(s.args)
	if quick {
		args = append(args, strings.Fields(short[args[0]])...)
	}
	root := rootCommand()
	root.SetArgs(append(args, "--json", file))
	root.SetOut(io.Discard)
	root.SetErr(errs)
	return root.ExecuteContext(ctx)
}
