package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/report"
)

func compareCommand() *cobra.Command {
	failIf, html := "", ""
	cmd := &cobra.Command{
		Use:   "compare FIRST.json OTHER.json…",
		Short: "Reports of a scenario beside the first of them: ratios, and whether the noise explains them",
		Long: `Compares reports that scenarios wrote by --json: another build, other settings, or another system. Each measure is better, worse or
the same as in the first report; it is the same where the difference is less than what another run of the same may show with a probability of 95 %
(the noise, from the spread of the runs, and not less than what a shared machine drifts by). Where that could be chance among all the measures that are compared, the verdict has a question mark, and is nothing for --fail-if worse. Of
reports of one run each nothing can be said.
With one report and --html, it is written as a page.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			conditions, err := report.ParseRatioConditions(failIf)
			if err != nil {
				return fmt.Errorf("--fail-if: %w", err)
			}
			reports, err := readAll(files)
			if err != nil {
				return err
			}
			if len(reports) == 1 {
				if html == "" || failIf != "" {
					return fmt.Errorf("%w: there is nothing to compare %s with", report.ErrUsage, files[0])
				}
				return writePage(html, reports[0].HTML)
			}
			c, err := report.Compare(files, reports)
			if err != nil {
				return err
			}
			if _, err := io.WriteString(cmd.OutOrStdout(), c.Table()); err != nil {
				return err
			}
			all := conditions.Check(c)
			if err := writePage(html, func(out io.Writer) error { return c.HTML(out, all) }); err != nil {
				return err
			}
			return failed(all)
		},
	}
	cmd.Flags().StringVar(&html, "html", "", "write the comparison with plots over each other to `FILE`, a page that needs nothing else")
	cmd.Flags().StringVar(&failIf, "fail-if", "", "exit with 1 if one of these `CONDITIONS` is true: ratios to the first report such as 'p99>1.2,cpu>1.1', worse (anything is, by more than the noise of them all), fault (anything that must be zero is not)")
	return cmd
}

func readAll(files []string) (all []*report.Report, err error) {
	for _, f := range files {
		r, err := report.Read(f)
		if err != nil {
			return nil, usage(err)
		}
		all = append(all, r)
	}
	return all, nil
}
