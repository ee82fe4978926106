package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// peerCommand is what package proc starts.
func peerCommand() *cobra.Command {
	return &cobra.Command{
		Use: proc.Command + " NAME", Short: "A part of a measurement", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case target.Name:
				return target.Serve(os.Stdin, os.Stdout)
			case swarm.Name:
				return swarm.Serve(os.Stdin, os.Stdout)
			}
			return fmt.Errorf("no part named %q", args[0])
		},
	}
}
