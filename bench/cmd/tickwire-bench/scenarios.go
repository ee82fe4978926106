package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/scenario"
)

// show runs a scenario, prints its table, and writes its figures to a file when one is named.
func show[R scenario.Report](out io.Writer, file string, run func() (R, error)) error {
	r, err := run()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, r.Table()); err != nil {
		return err
	}
	return r.Err()
}

func soakCommand() *cobra.Command {
	cfg, instruments, rate, file := scenario.DefaultSoak(), 60, 500, ""
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Clients that verify everything for a long time",
		Long: `Runs the servers in a process of their own (embedded broker, simulated market, ingest, WebSocket edge) and clients of package client in
this one, half of them in SBE and half in JSON, each on a random choice of topics: books in all views, trades, best prices, tickers, bars,
status. Exit code 1 when one of them saw a gap, a wrong hash, a message that could not be verified or a lost connection, or when a topic
is stale in the end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := deployment.Open(cmd.Context(), deployment.Config{}, "--webhook-addr", "", "--market", "sim", "--instruments", strconv.Itoa(instruments), "--rate", strconv.Itoa(rate))
			if err != nil {
				return err
			}
			cfg.URL, cfg.Server = server.WS, server.PID
			err = show(cmd.OutOrStdout(), file, func() (*scenario.SoakReport, error) { return scenario.Soak(cmd.Context(), cfg) })
			return errors.Join(err, server.Close())
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Clients, "clients", cfg.Clients, "connections")
	f.IntVar(&cfg.Each, "each", cfg.Each, "topics of each client, at random")
	f.DurationVar(&cfg.Duration, "duration", cfg.Duration, "how long")
	f.IntVar(&instruments, "instruments", instruments, "instruments of the simulated market")
	f.IntVar(&rate, "rate", rate, "raw records per second of the simulated market")
	f.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of the choice of topics")
	f.StringVar(&file, "json", "", "write all figures to `FILE`")
	return cmd
}
