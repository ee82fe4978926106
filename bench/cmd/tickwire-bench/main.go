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
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/bench/load"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/all"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := &cobra.Command{
		Use: "tickwire-bench", Short: "Load and latency of a Tickwire deployment", SilenceErrors: true, SilenceUsage: true,
	}
	root.AddCommand(latencyCommand())
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tickwire-bench:", err)
		os.Exit(1)
	}
}

func latencyCommand() *cobra.Command {
	cfg, kafka, profile := load.DefaultLatency(), []string{}, ""
	cmd := &cobra.Command{
		Use:   "latency",
		Short: "From a raw record's intended send time to the client's callback",
		Long: `Runs everything in this process (broker, ingest, WebSocket edge, producer and clients; with --kafka the broker is that
cluster, whose Kafka topics must exist), feeds a simulated market at a fixed rate, and measures from each record's intended
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
	serve := all.DefaultConfig()
	serve.Kafka.Brokers, serve.Market.Kind = kafka, "none"
	serve.BrokerAddr, serve.WS.Addr, serve.Admin.Addr = "127.0.0.1:0", "127.0.0.1:0", ""
	serve.WS.Drain = time.Millisecond
	service, err := all.New(serve, all.Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Out: io.Discard})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- service.Run(run) }()
	report, err := measure(ctx, service, cfg, done)
	stop()
	if ended := <-done; err == nil {
		err = ended
	}
	if err != nil {
		return err
	}
	where := "embedded broker"
	if len(kafka) > 0 {
		where = "Kafka at " + kafka[0]
	}
	if _, err := fmt.Fprintf(out, "%d raw records/s, %d instruments, %d subscribers on %d each, %s, %d cores, %s\n%s",
		cfg.Rate, cfg.Instruments, cfg.Subscribers, cfg.Each, where, runtime.NumCPU(), runtime.Version(), report); err != nil {
		return err
	}
	return report.Err()
}

func measure(ctx context.Context, service *all.Service, cfg load.LatencyConfig, done chan error) (*load.LatencyReport, error) {
	select {
	case <-service.Ready():
	case err := <-done:
		done <- err
		return nil, errors.Join(errors.New("the servers did not start"), err)
	}
	addrs := service.Addrs()
	cluster, err := stream.Open(stream.Config{Brokers: strings.Split(addrs.Kafka, ","), ClientID: "tickwire-bench"})
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	cfg.URL, cfg.Cluster = "ws://"+addrs.WS, cluster
	return load.Latency(ctx, cfg)
}
