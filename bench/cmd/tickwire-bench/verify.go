package main

import (
	"fmt"
	"os"
	"runtime/pprof"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/load"
)

// where is what the help of scenarios says of --ws and --kafka.
const where = `Without --ws the servers are started in a process of their own, anew for each run, on an embedded broker or on the cluster that --kafka
names. With --ws and --kafka the market is published to a deployment that runs: instruments whose names begin with BENCH-, which stay there.
With --ws alone the market that runs there is looked at, and age_p50 to age_max take the place of p50 to max.
Percentiles are of what was meant to be sent in the measured time, from the intended send time on, whenever it arrived.`

func e2eCommand() *cobra.Command {
	return profiled(lightCommand("e2e", "From a raw record's intended send time to the client's callback",
		`Publishes a simulated market as raw records on a fixed schedule, and measures to the callback of clients that verify each book's hash
and each trade's place: as a whole, up to the broker's stamp of the raw record (ingest_p50, ingest_p99; the stamp has milliseconds) and from
there on (edge_p50, edge_p99).

`+where, load.DefaultEndToEnd(), load.RunVerify))
}

func wsBooksCommand() *cobra.Command {
	return profiled(lightCommand("ws-books", "Many clients verify every book at every message, in all views",
		`Clients of package client, half of them in SBE and half in JSON, hold books at full depth and in views of 10 to 100 levels, as they come
and merged over 100 ms to 1 s, and compare every book's hash with the edge's behind every message. Percentiles are of books that are not merged.

`+where, load.DefaultBooks(), load.RunVerify))
}

func soakCommand() *cobra.Command {
	return profiled(lightCommand("soak", "Clients verify everything for a long time, and the servers' memory is watched",
		`Clients of package client, half of them in SBE and half in JSON, each on a random choice of topics: books in all views, trades, best
prices, tickers, bars, status. Something is wrong when one of them sees a gap, a wrong hash, a message that can't be verified or a lost
connection, or when a topic is stale in the end. --duration says how long; rss_growth is from a quarter of it on.

Without --ws the servers are started in a process of their own, with a simulated market. With --ws the market that runs there is looked at.`,
		load.DefaultSoak(), load.RunVerify))
}

func ingestCommand() *cobra.Command {
	return profiled(lightCommand("ingest", "From a raw record's intended send time to its event in the log",
		`Publishes a simulated market as raw records, reads md.events as edges read it, without clients, and checks that each book update and each
trade came out once and in order. Latency is from the intended send time until the event has been read.

Without --kafka the servers are started in a process of their own, anew for each run, on an embedded broker. --kafka alone starts them on that
cluster; with --ws (or another address of a deployment that runs) it is that deployment's ingest that is measured, with instruments whose names
begin with BENCH-.

With --saturate there is no schedule: as many records are sent as --in-flight allows, delivered/s is what ingest can do at most, and
latencies are those of a queue that is always full.`, load.DefaultIngest(), load.RunIngest))
}

// profiled adds --cpuprofile to a command whose clients are in this process.
func profiled(cmd *cobra.Command) *cobra.Command {
	file, run := "", cmd.RunE
	cmd.Flags().StringVar(&file, "cpuprofile", "", "write a CPU profile of the load itself to `FILE`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			return run(cmd, args)
		}
		f, err := os.Create(file)
		if err != nil {
			return usage(fmt.Errorf("--cpuprofile: %w", err))
		}
		defer func() { _ = f.Close() }() // a profile that can't be written is no profile
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("--cpuprofile: %w", err)
		}
		defer pprof.StopCPUProfile()
		return run(cmd, args)
	}
	return cmd
}
