package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
)

// errUnmeasured is what errors are when there are no figures: the target is not there, clients were refused.
var errUnmeasured = errors.New("not measured")

// errInterrupted is the reason when the user has ended it.
var errInterrupted = errors.New("interrupted")

// exitCode is what scripts see: 1 for a check that failed and for nothing else, 2 for flags that make no sense, 3 when nothing could be
// measured, or not be written.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, report.ErrUsage):
		return 2
	case errors.Is(err, report.ErrFailed) && !errors.Is(err, errUnmeasured):
		return 1
	}
	return 3
}

// usage makes an error one of usage.
func usage(err error) error {
	if err == nil || errors.Is(err, report.ErrUsage) {
		return err
	}
	return fmt.Errorf("%w: %w", report.ErrUsage, err)
}

// strict makes what cobra complains about an error of usage: of root and the commands below it.
func strict(root *cobra.Command) *cobra.Command {
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			visit(c)
		}
		if !cmd.Runnable() { // it has commands below it, and cobra would print help whatever it is called with
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
		if args := cmd.Args; args != nil {
			cmd.Args = func(cmd *cobra.Command, all []string) error { return usage(args(cmd, all)) }
		}
	}
	visit(root)
	return root
}

// outcome is what is done with a report: flags that every scenario has.
type outcome struct {
	json   string
	html   string
	failIf string
	quiet  bool
}

func (o *outcome) registerFlags(f *pflag.FlagSet) {
	f.StringVar(&o.json, "json", "", "write the report to `FILE`, for compare and other programs")
	f.StringVar(&o.html, "html", "", "write the report with plots to `FILE`, a page that needs nothing else")
	f.StringVar(&o.failIf, "fail-if", report.Faults+">0", "exit with 1 if one of these `CONDITIONS` is true, such as 'p99>5ms,delivered/s<90k,faults>0'; faults are gaps, losses and all else that must not be; '' never")
	f.BoolVar(&o.quiet, "quiet", false, "print no table while it runs")
}

// private are flags that are no settings: what happens with the report, and secrets, which must not be in it.
var private = map[string]bool{
	"json": true, "html": true, "cpuprofile": true, "quiet": true, "help": true, "fail-if": true, "token": true, "publish-key": true,
}

// scenarioCommand makes the command of a scenario: cmd with the flags that all have. Total is how long it takes, about; run measures.
// What the report says of machine, command, flags and phases is filled in. Errors of run are report.ErrUsage where flags are wrong; any other
// means that there are no figures.
func scenarioCommand(cmd *cobra.Command, total func() time.Duration, run func(ctx context.Context, rec *report.Recorder) (*report.Report, error)) *cobra.Command {
	var o outcome
	o.registerFlags(cmd.Flags())
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conditions, err := report.ParseConditions(o.failIf)
		if err != nil {
			return fmt.Errorf("--fail-if: %w", err)
		}
		if err := o.writable(); err != nil {
			return usage(err)
		}
		if schedule.Interrupted(cmd.Context()) {
			return errInterrupted
		}
		var live io.Writer
		if !o.quiet {
			live = cmd.ErrOrStderr()
		}
		machine, rec, began := report.Here(), report.NewRecorder(live, total()), time.Now()
		r, err := run(cmd.Context(), rec)
		switch {
		case errors.Is(err, report.ErrUsage):
			return err
		case err != nil:
			return fmt.Errorf("%w: %w%s", errUnmeasured, err, hint(err))
		}
		r.Version, r.Scenario, r.Machine, r.Phases = report.Version, cmd.Name(), machine, rec.Phases()
		r.Command, r.Settings, r.System.Where = commandLine(cmd), settings(cmd.Flags()), redact(r.System.Where)
		r.Failed = conditions.Check(r)
		if !schedule.Interrupted(cmd.Context()) {
			return o.finish(r, cmd.OutOrStdout())
		}
		r.Notes = append(r.Notes, fmt.Sprintf("it was interrupted after %v, of about %v: this is what was measured until then",
			time.Since(began).Round(time.Second), total().Round(time.Second)))
		return errors.Join(o.finish(r, cmd.OutOrStdout()), errInterrupted)
	}
	return cmd
}

// writable tries the report's files before anything is measured: better now than when all is done.
func (o *outcome) writable() error {
	for _, to := range []struct{ flag, file string }{{"--json", o.json}, {"--html", o.html}} {
		if to.file == "" {
			continue
		}
		there, absent := os.Stat(to.file)
		if absent == nil && !there.Mode().IsRegular() && !there.IsDir() {
			continue // a pipe's reader would take this for all there is
		}
		f, err := os.OpenFile(to.file, os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			err = f.Close()
		}
		if err == nil && absent != nil {
			err = os.Remove(to.file)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", to.flag, err)
		}
	}
	return nil
}

// finish prints and writes the report. The files are written also when the check fails: that is when they are looked at.
func (o *outcome) finish(r *report.Report, out io.Writer) error {
	_, printed := io.WriteString(out, r.Table()) // to a terminal, perhaps, that is closed
	if o.json != "" {
		if err := r.Write(o.json); err != nil {
			return fmt.Errorf("--json: %w", err)
		}
	}
	if err := errors.Join(printed, writePage(o.html, r.HTML)); err != nil {
		return err
	}
	return failed(r.Failed)
}

// writePage writes a page to a file, if one is named.
func writePage(file string, page func(io.Writer) error) error {
	if file == "" {
		return nil
	}
	var b bytes.Buffer
	err := page(&b)
	if err == nil {
		err = os.WriteFile(file, b.Bytes(), 0o600)
	}
	if err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	return nil
}

// failed is the error of conditions that were true.
func failed(all []string) error {
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("--fail-if %w:\n  %s", report.ErrFailed, strings.Join(all, "\n  "))
}

// settings are all flags, changed or not.
func settings(f *pflag.FlagSet) (all []report.Setting) {
	f.VisitAll(func(f *pflag.Flag) {
		if !private[f.Name] {
			all = append(all, report.Setting{Name: f.Name, Value: value(f)})
		}
	})
	return all
}

// commandLine does the same again, whatever the shell.
func commandLine(cmd *cobra.Command) string {
	line := cmd.CommandPath()
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch v := value(f); {
		case f.Name == "token" || f.Name == "publish-key":
			line += " --" + f.Name + " …"
		case private[f.Name]:
		case f.NoOptDefVal == v:
			line += " --" + f.Name
		case f.NoOptDefVal != "":
			line += " --" + f.Name + "=" + quote(v)
		default:
			line += " --" + f.Name + " " + quote(v)
		}
	})
	return line
}

// value is a flag's as it is given.
func value(f *pflag.Flag) string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return redact(strings.Join(list.GetSlice(), ","))
	}
	return redact(f.Value.String())
}

var secrets = regexp.MustCompile(`(://)[^/@?\s]+@|([?&][a-z_]*(?:token|key|secret|password|authorization)=)[^&\s]*`)

// redact takes out of addresses what reports, which are passed on, must not tell.
func redact(s string) string {
	return secrets.ReplaceAllStringFunc(s, func(found string) string {
		m := secrets.FindStringSubmatch(found)
		if m[1] != "" {
			return m[1] + "…@"
		}
		return m[2] + "…"
	})
}

// quote makes one word of the shell's.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-_./:,=@%+", r)
	}
	if s != "" && strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
