package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/scenario"
)

// config is of a scenario.
type config interface {
	RegisterFlags(f *pflag.FlagSet)
	Validate() error
	Total() time.Duration
}

// ofPublishing are flags with defaults that mean nothing where nothing is published.
var ofPublishing = []string{"rate", "size", "instruments"}

// lightCommand makes the command of a scenario with light clients.
func lightCommand[C any, P interface {
	*C
	config
}](use, short, long string, cfg C, run func(ctx context.Context, cfg C, rec *report.Recorder) (*report.Report, error)) *cobra.Command {
	p := P(&cfg)
	var flags *pflag.FlagSet
	cmd := scenarioCommand(&cobra.Command{Use: use, Short: short, Long: short + ".\n\n" + long}, p.Total,
		func(ctx context.Context, rec *report.Recorder) (*report.Report, error) {
			if err := p.Validate(); err != nil {
				return nil, usage(err)
			}
			if l, ok := any(p).(interface{ Looks() bool }); ok && l.Looks() {
				for _, name := range ofPublishing {
					if flags.Changed(name) {
						return nil, usage(fmt.Errorf("--%s: nothing is published here; the market that runs there is looked at", name))
					}
				}
			}
			return run(ctx, cfg, rec)
		})
	flags = cmd.Flags()
	p.RegisterFlags(cmd.Flags())
	return cmd
}

const (
	aboutEdge = `Starts one edge in a process of its own, without Kafka, fed by hand on a fixed schedule; with --system all broker and ingest too; with --ws or
--sse it measures what runs there, and publishes to --kafka, or nothing. The clients are light, thousands in a process: they check that nothing is
missing, and no more. With TLS each costs several times as much, and 6,000 fit into a process. Latency is from the intended send time to the client's read; CPU time is the operating system's figure for the server's process.`
	aboutFloor = `With --floor a loop that makes one write per message and client, with the same frames and as many sockets, takes turns of a second with the server.`
)

func lightCommands() []*cobra.Command {
	return []*cobra.Command{
		lightCommand("ws-fanout", "CPU and latency of the WebSocket edge", aboutEdge+"\n"+aboutFloor, scenario.DefaultFanout(), scenario.Fanout),
		lightCommand("sse-fanout", "CPU and latency of event streams of trades", aboutEdge+"\n"+aboutFloor, scenario.DefaultStreamFanout(), scenario.Fanout),
		lightCommand("burst", "A market that is ten times as fast for a while", aboutEdge+`
normal_p99 is of the peace before; disturbed_p99 from the burst's begin until all is as before; recovery is how long that takes after its end:
until p99 is at most twice the normal one, or 2 ms more, for half a second.`, scenario.DefaultBurst(), scenario.Burst),
		lightCommand("slow", "What the others notice when some clients stop reading", aboutEdge+`
normal_p99 and disturbed_p99 are of the clients that go on reading, with all reading and with some stopped.`, scenario.DefaultSlow(), scenario.Slow),
		lightCommand("storm", "All clients lose their connection at once, and resume", aboutEdge+`
The edge alone is killed by kill -9 while another one that follows the same log stands by; of running servers the clients drop their connections.
recovery is until the last client has what it missed, and a message that was due after its connection ended.`, scenario.DefaultStorm(), scenario.Storm),
		lightCommand("idle", "Memory and CPU of idle connections", aboutEdge, scenario.DefaultIdle(), scenario.Idle),
		lightCommand("flow", "How old the data is that a client meets after a pause, with a flow window and without",
			"Starts one edge in a process of its own, fed by hand, and one client that verifies how it is kept up to date.", scenario.DefaultFlow(), scenario.Flow),
	}
}
