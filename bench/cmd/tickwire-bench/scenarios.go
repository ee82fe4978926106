package main

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/scenario"
)

func memoryCommand() *cobra.Command {
	cfg, format := scenario.DefaultMemory(), "sbe"
	cmd := memoryOf(&cfg, func() (err error) {
		cfg.JSON, err = scenario.ParseFormat(format)
		return err
	})
	cmd.Short = "What idle connections cost the edge: resident memory, and CPU for heartbeats"
	cmd.Flags().StringVar(&cfg.Channel, "channel", cfg.Channel, "`book|trades`")
	cmd.Flags().StringVar(&format, "format", format, "`sbe|json`")
	return cmd
}

func streamMemoryCommand() *cobra.Command {
	cfg := scenario.DefaultStreamMemory()
	cmd := memoryOf(&cfg, func() error { return nil })
	cmd.Short = "What idle event streams cost the edge: resident memory, goroutines, and CPU for heartbeats"
	return cmd
}

// memoryOf makes the command of a look at idle connections with the flags that both edges have.
func memoryOf(cfg *scenario.MemoryConfig, finish func() error) *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use: "memory", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := finish(); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), file, func() (*scenario.MemoryReport, error) { return scenario.Memory(cmd.Context(), *cfg) })
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Clients, "clients", cfg.Clients, "connections")
	f.IntVar(&cfg.Topics, "topics", cfg.Topics, "topics there are")
	f.IntVar(&cfg.Each, "each", cfg.Each, "topics of each client, at random")
	f.DurationVar(&cfg.Settle, "settle", cfg.Settle, "from the last connection to the look at the memory")
	f.StringVar(&cfg.Heap, "memprofile", "", "write a heap profile of the edge to `FILE`")
	f.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of the choice of topics")
	f.StringVar(&file, "json", "", "write all figures to `FILE`")
	return cmd
}

func fairnessCommand() *cobra.Command {
	cfg, format, file := scenario.DefaultFairness(), "sbe", ""
	cmd := &cobra.Command{
		Use: "fairness", Short: "What the others notice when half of the clients stop reading", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cfg.JSON, err = scenario.ParseFormat(format); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), file, func() (*scenario.FairnessReport, error) { return scenario.Fairness(cmd.Context(), cfg) })
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Clients, "clients", cfg.Clients, "connections, half of which stop now and then")
	f.IntVar(&cfg.Topics, "topics", cfg.Topics, "topics there are")
	f.IntVar(&cfg.Each, "each", cfg.Each, "topics of each client, at random")
	f.Float64Var(&cfg.Rate, "rate", cfg.Rate, "messages per second, over all topics")
	f.DurationVar(&cfg.Flush, "flush", cfg.Flush, "the edge's pause between writes")
	f.IntVar(&cfg.Size, "size", cfg.Size, "bytes of a frame, as near as messages of the channel come")
	f.StringVar(&cfg.Channel, "channel", cfg.Channel, "`book|trades`")
	f.StringVar(&format, "format", format, "`sbe|json`")
	f.IntVar(&cfg.Shards, "shards", cfg.Shards, "the edge's loops that write")
	f.BoolVar(&cfg.NoRead, "no-read", cfg.NoRead, "the half does not read, rather than being stopped by SIGSTOP")
	f.DurationVar(&cfg.Settle, "settle", cfg.Settle, "after each change")
	f.DurationVar(&cfg.Duration, "duration", cfg.Duration, "measured, of each run")
	f.IntVar(&cfg.Repeat, "repeat", cfg.Repeat, "runs of both, of which the medians are shown")
	f.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of the choice of topics")
	f.StringVar(&file, "json", "", "write all figures to `FILE`")
	return cmd
}

func flowCommand() *cobra.Command {
	cfg, file := scenario.DefaultFlow(), ""
	cmd := &cobra.Command{
		Use: "flow", Short: "How old the data is that a client meets after a pause, with a flow window and without", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd.OutOrStdout(), file, func() (*scenario.FlowReport, error) { return scenario.Flow(cmd.Context(), cfg) })
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Window, "window", cfg.Window, "bytes of the flow window")
	f.Float64Var(&cfg.Rate, "rate", cfg.Rate, "book updates per second")
	f.DurationVar(&cfg.Pause, "pause", cfg.Pause, "of the client")
	f.DurationVar(&cfg.After, "after", cfg.After, "looked at behind the pause")
	f.StringVar(&file, "json", "", "write all figures to `FILE`")
	return cmd
}

func stormCommand() *cobra.Command {
	cfg, format := scenario.DefaultStorm(), "sbe"
	cmd := stormOf(&cfg, func() (err error) {
		cfg.JSON, err = scenario.ParseFormat(format)
		return err
	})
	cmd.Flags().StringVar(&cfg.Channel, "channel", cfg.Channel, "`book|trades`")
	cmd.Flags().StringVar(&format, "format", format, "`sbe|json`")
	return cmd
}

func streamStormCommand() *cobra.Command {
	cfg := scenario.DefaultStreamStorm()
	cmd := stormOf(&cfg, func() error { return nil })
	cmd.Flags().DurationVar(&cfg.Stream, "stream", cfg.Stream, "the streams' rate: 0, 100ms, 250ms, 1s or 5s")
	return cmd
}

// stormOf makes the command of a storm with the flags that both edges have.
func stormOf(cfg *scenario.StormConfig, finish func() error) *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use: "storm", Short: "An edge is killed, and all its clients resume on another one at once", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := finish(); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), file, func() (*scenario.StormReport, error) { return scenario.Storm(cmd.Context(), *cfg) })
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Clients, "clients", cfg.Clients, "connections")
	f.IntVar(&cfg.Topics, "topics", cfg.Topics, "topics there are")
	f.IntVar(&cfg.Each, "each", cfg.Each, "topics of each client, at random")
	f.Float64Var(&cfg.Rate, "rate", cfg.Rate, "messages per second, over all topics")
	f.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of the choice of topics")
	f.StringVar(&file, "json", "", "write all figures to `FILE`")
	return cmd
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

func suiteCommand() *cobra.Command {
	suite, file := scenario.Suite{}, ""
	cmd := &cobra.Command{
		Use:   "suite",
		Short: "All measurements that the edges are judged by, with their goals",
		Long: `Runs fanout in several shapes, memory, fairness, flow and storm one after the other, then sse fanout, memory and storm, and says which
goals are met. The whole takes about twenty-five minutes, with --quick a few. --only sse: runs the event streams' part. Exit code 1 when something was wrong, not when a goal is missed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			steps, err := suite.Run(cmd.Context(), cmd.OutOrStdout())
			if file != "" {
				err = errors.Join(err, scenario.WriteJSON(file, steps))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&suite.Quick, "quick", false, "short runs, once each: a look, not a verdict")
	f.StringVar(&suite.Only, "only", "", "the steps whose name contains `TEXT`")
	f.StringVar(&file, "json", "", "write all figures to `FILE`")
	return cmd
}
