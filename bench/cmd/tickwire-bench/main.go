// Command tickwire-bench makes load on Tickwire and measures what its users would see.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/load"
	"github.com/tickwire/tickwire/services/all"
)

// main's exit codes: 0 all is well, 1 something was wrong or a condition of --fail-if is true, 2 usage, 3 nothing could be measured.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tickwire-bench:", err)
		os.Exit(exitCode(err))
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "tickwire-bench", Short: "Load and latency of a Tickwire deployment", SilenceErrors: true, SilenceUsage: true,
	}
	root.AddCommand(latencyCommand(), alertsCommand(), soakCommand(), suiteCommand(), compareCommand(), serveCommand(), peerCommand())
	root.AddCommand(lightCommands()...)
	return strict(root)
}

func latencyCommand() *cobra.Command {
	cfg, kafka, profile := load.DefaultLatency(), []string{}, ""
	cmd := &cobra.Command{
		Use:   "latency",
		Short: "From a raw record's intended send time to the client's callback",
		Long: `Runs the servers in a process of their own (broker, ingest, WebSocket edge; with --kafka the broker is that cluster, whose
Kafka topics must exist) and producer and clients in this one, feeds a simulated market at a fixed rate, and measures from each record's intended
send time to the callback of a client whose book was verified. Exit code 1 when a client saw a gap, a wrong hash or a loss.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if profile != "" {
				f, err := os.Create(profile)
				if err != nil {
					return fmt.Errorf("--cpuprofile: %w", err)
				}
				defer func() { _ = f.Close() }()
				cfg.Profile = f
			}
			return latency(cmd.Context(), cmd.OutOrStdout(), cfg, kafka)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&kafka, "kafka", nil, "use this Kafka cluster, `HOST:PORT,…`, instead of the embedded broker")
	f.IntVar(&cfg.Rate, "rate", cfg.Rate, "raw records per second")
	f.IntVar(&cfg.Instruments, "instruments", cfg.Instruments, "instruments")
	f.IntVar(&cfg.Subscribers, "subscribers", cfg.Subscribers, "WebSocket connections")
	f.IntVar(&cfg.Each, "each", cfg.Each, "instruments per connection: full book and trades")
	f.DurationVar(&cfg.Warmup, "warmup", cfg.Warmup, "not measured")
	f.DurationVar(&cfg.Duration, "duration", cfg.Duration, "measured")
	f.StringVar(&profile, "cpuprofile", "", "write a CPU profile of the measured part to `FILE`")
	f.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of the market and the choice of instruments")
	return cmd
}

func latency(ctx context.Context, out io.Writer, cfg load.LatencyConfig, kafka []string) error {
	if cfg.Rate < 1 || cfg.Instruments < 1 || cfg.Subscribers < 1 || cfg.Each < 1 || cfg.Duration <= 0 {
		return errors.New("--rate, --instruments, --subscribers, --each and --duration must be positive")
	}
	server, err := deployment.Open(ctx, deployment.Config{Kafka: kafka}, "--webhook-addr", "")
	if err != nil {
		return err
	}
	r, err := measure(ctx, server, cfg)
	if stopped := server.Close(); err == nil {
		err = stopped
	}
	if err != nil {
		return err
	}
	where := "embedded broker"
	if len(kafka) > 0 {
		where = "Kafka at " + kafka[0]
	}
	if _, err := fmt.Fprintf(out, "%d raw records/s, %d instruments, %d subscribers on %d each, %s, %d cores, %s\n%s",
		cfg.Rate, cfg.Instruments, cfg.Subscribers, cfg.Each, where, runtime.NumCPU(), runtime.Version(), r); err != nil {
		return err
	}
	return r.Err()
}

func measure(ctx context.Context, server *deployment.Deployment, cfg load.LatencyConfig) (*load.LatencyReport, error) {
	cluster, err := server.Cluster()
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	cfg.URL, cfg.Cluster, cfg.Server = server.WS, cluster, server.PID
	// The producer's thread sleeps in the kernel; its processor slot should not be missing to the clients.
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	return load.Latency(ctx, cfg)
}

// serveCommand is what package deployment starts.
func serveCommand() *cobra.Command {
	cfg := all.DefaultConfig()
	cfg.Market.Kind, cfg.BrokerAddr, cfg.WS.Addr, cfg.SSE.Addr, cfg.Admin.Addr = "none", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", ""
	cfg.WS.Drain, cfg.Webhook.Addr = time.Millisecond, ""
	cmd := &cobra.Command{
		Use: deployment.Command, Short: "What the other commands measure", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := zap.NewProduction(zap.IncreaseLevel(zap.ErrorLevel))
			if err != nil {
				return err
			}
			service, err := all.New(cfg, all.Deps{Log: log, Metrics: prometheus.NewRegistry(), Out: io.Discard})
			if err != nil {
				return err
			}
			return service.Run(cmd.Context())
		},
	}
	cfg.RegisterFlags(cmd.Flags())
	return cmd
}
