package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/report"
)

// TestSuite calls each step as far as its scenario would begin.
func TestSuite(t *testing.T) {
	for _, s := range suite {
		for _, more := range []string{"", short[strings.Fields(s.args)[0]]} {
			called := false
			root := rootCommand()
			args := append(strings.Fields(s.args), strings.Fields(more)...)
			cmd, _, err := root.Find(args[:1])
			if err != nil {
				t.Fatal(err)
			}
			cmd.RunE = func(*cobra.Command, []string) error { called = true; return nil }
			root.SetArgs(args)
			if err := root.Execute(); err != nil || !called {
				t.Errorf("%s: %v", s.name, err)
			}
		}
		for _, g := range s.goals {
			if err := new(report.Row).Judge(g); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		}
	}
}
