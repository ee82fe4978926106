package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/report"
)

func resultsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "results FILE-OR-FOLDER…",
		Short: "Reports as Markdown: bench/RESULTS.md",
		Long: `Writes reports as Markdown to standard output: machine, commands, and a table for each report, beside the floor where it was measured. Of a
folder, as suite --dir writes one, every .json file is read. A file NAME.SYSTEM.json is laid beside NAME.json: another system under the same load.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			files, err := reportFiles(paths)
			if err != nil {
				return usage(err)
			}
			reports, err := readAll(files)
			if err != nil {
				return err
			}
			return report.Results(cmd.OutOrStdout(), files, reports)
		},
	}
}

// reportFiles are the files, and those of the folders, in the order of their names.
func reportFiles(paths []string) (files []string, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		all, err := filepath.Glob(filepath.Join(path, "*.json"))
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("%s: no report in it", path)
		}
		files = append(files, all...)
	}
	return files, nil
}
