package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/report"
)

// outcome is what is done with a report: flags that every scenario has.
type outcome struct {
	json  string
	quiet bool
}

func (o *outcome) registerFlags(f *pflag.FlagSet) {
	f.StringVar(&o.json, "json", "", "write the report to `FILE`, for compare and other programs")
	f.BoolVar(&o.quiet, "quiet", false, "print no table while it runs")
}

// scenarioCommand makes the command of a scenario: cmd with the flags that all have. Total is how long it takes, about; run measures.
// What the report says of machine, command and flags is filled in.
func scenarioCommand(cmd *cobra.Command, total func() time.Duration, run func(ctx context.Context, rec *report.Recorder) (*report.Report, error)) *cobra.Command {
	var o outcome
	o.registerFlags(cmd.Flags())
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var live io.Writer
		if !o.quiet {
			live = cmd.ErrOrStderr()
		}
		machine := report.Here()
		r, err := run(cmd.Context(), report.NewRecorder(live, total()))
		if err != nil {
			return err
		}
		r.Version, r.Scenario, r.Machine = report.Version, cmd.Name(), machine
		r.Command = strings.Join(append([]string{"tickwire-bench"}, os.Args[1:]...), " ")
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			switch f.Name {
			case "json", "quiet", "help", "token":
			default:
				r.Settings = append(r.Settings, report.Setting{Name: f.Name, Value: f.Value.String()})
			}
		})
		if o.json != "" {
			if err := r.Write(o.json); err != nil {
				return fmt.Errorf("--json: %w", err)
			}
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), r.Title)
		return err
	}
	return cmd
}
