package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/scenario"
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

// show runs a scenario, prints its table, and writes its figures to a file when one is named.
func show[R scenario.Report](out io.Writer, file string, run func() (R, error)) error {
	r, err := run()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, r.Table()); err != nil {
		return err
	}
	if file != "" {
		if err := scenario.WriteJSON(file, r); err != nil {
			return fmt.Errorf("--json: %w", err)
		}
	}
	return r.Err()
}

func fanoutCommand() *cobra.Command {
	cfg, format := scenario.DefaultFanout(), "sbe"
	cmd := fanoutOf(&cfg, func() (err error) {
		cfg.JSON, err = scenario.ParseFormat(format)
		return err
	})
	cmd.Short = "CPU and latency of the WebSocket edge alone, beside a raw write loop"
	cmd.Long = `Runs the edge in a process of its own, without Kafka, publishing on a fixed schedule, and light WebSocket clients in others.
In turns of a second with the edge the floor is measured: a loop that makes one write per message and client, with the same frames and as
many sockets. CPU time is the operating system's figure for the server's process; latency is from the intended send time to the client's read.
Exit code 1 when a client missed a message, was told of a loss, or was closed; never for slowness.`
	f := cmd.Flags()
	f.StringVar(&cfg.Channel, "channel", cfg.Channel, "`book|trades`")
	f.StringVar(&format, "format", format, "`sbe|json`")
	f.BoolVar(&cfg.Deflate, "deflate", false, "compress (permessage-deflate), and compare with the edge that does not rather than with the floor")
	return cmd
}

// sseCommand measures the public edge's event streams as the commands beside it do the WebSocket's.
func sseCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "sse", Short: "The same for event streams: fanout, memory, storm", Args: cobra.NoArgs}
	cfg := scenario.DefaultStreams()
	fanout := fanoutOf(&cfg, func() error { return nil })
	fanout.Short = "CPU and latency of event streams of trades, beside a raw write loop"
	f := fanout.Flags()
	f.DurationSliceVar(&cfg.Streams, "stream", cfg.Streams, "the streams' rate: 0, 100ms, 250ms, 1s or 5s; several are run one after the other")
	f.BoolVar(&cfg.Deflate, "gzip", false, "compress, and compare with streams that are not rather than with the floor")
	cmd.AddCommand(fanout, streamMemoryCommand(), streamStormCommand())
	return cmd
}

// fanoutOf makes the command of a fan-out with the flags that both edges have. Finish is called before it runs.
func fanoutOf(cfg *scenario.FanoutConfig, finish func() error) *cobra.Command {
	file, floor := "", true
	cmd := &cobra.Command{
		Use: "fanout", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := finish(); err != nil {
				return err
			}
			cfg.NoFloor = !floor
			return show(cmd.OutOrStdout(), file, func() (*scenario.FanoutReport, error) { return scenario.Fanout(cmd.Context(), *cfg) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Shape, "shape", cfg.Shape, "`market|one|saturated`: many topics and some of them each; one topic; one topic as fast as it goes")
	f.IntSliceVar(&cfg.Clients, "clients", cfg.Clients, "connections; several numbers are run one after the other")
	f.IntVar(&cfg.Topics, "topics", cfg.Topics, "topics of the market")
	f.IntVar(&cfg.Each, "each", cfg.Each, "topics of each client, at random")
	f.Float64Var(&cfg.Rate, "rate", cfg.Rate, "messages per second, over all topics")
	f.Float64Var(&cfg.Deliveries, "deliveries", cfg.Deliveries, "instead of --rate: deliveries per second, over all clients")
	f.DurationSliceVar(&cfg.Flush, "flush", cfg.Flush, "the edge's pause between writes; several are run one after the other")
	f.IntVar(&cfg.InFlight, "in-flight", cfg.InFlight, "saturated: messages on their way to the slowest client")
	f.IntVar(&cfg.Size, "size", cfg.Size, "bytes of a message in SBE, as near as those of the channel come")
	f.IntVar(&cfg.Shards, "shards", cfg.Shards, "the edge's loops that write")
	f.DurationVar(&cfg.Warmup, "warmup", cfg.Warmup, "not measured")
	f.DurationVar(&cfg.Duration, "duration", cfg.Duration, "measured, of each run")
	f.IntVar(&cfg.Repeat, "repeat", cfg.Repeat, "runs, of which the medians are shown")
	f.BoolVar(&floor, "floor", floor, "measure the floor too")
	f.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of the choice of topics")
	f.StringVar(&cfg.Profile, "cpuprofile", "", "write a CPU profile of the edge's last run to `FILE`")
	f.StringVar(&cfg.Heap, "memprofile", "", "write a heap profile of the edge's last run to `FILE`")
	f.StringVar(&file, "json", "", "write all figures to `FILE`")
	return cmd
}
