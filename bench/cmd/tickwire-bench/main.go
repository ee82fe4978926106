// Command tickwire-bench makes load on Tickwire and measures what its users would see.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/services/all"
)

// main's exit codes: 0 all is well, 1 something was wrong or a condition of --fail-if is true, 2 usage, 3 nothing could be measured,
// or not all, because the user has interrupted it.
func main() {
	ctx, interrupt := schedule.Interruptible(context.Background())
	watchSignals(interrupt)
	cmd, err := rootCommand().ExecuteContextC(ctx)
	if err != nil && schedule.Interrupted(ctx) && !errors.Is(err, errInterrupted) {
		err = fmt.Errorf("%w: %w", errInterrupted, err)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tickwire-bench:", err)
		if exitCode(err) == 2 {
			fmt.Fprintf(os.Stderr, "See: %s --help\n", cmd.CommandPath())
		}
		os.Exit(exitCode(err))
	}
}

// watchSignals interrupts a run at the first signal, so that it tells what it has measured, and once more at a later one, so that it
// tidies up and no more. A third ends the process.
func watchSignals(interrupt func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // nohup has it ignored
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() { // until the process ends
		<-signals
		interrupt()
		time.Sleep(time.Second) // timeout(1) sends two together
		select {
		case <-signals:
		default:
		}
		<-signals
		signal.Stop(signals)
		interrupt()
	}()
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "tickwire-bench", Short: "Load and latency of a Tickwire deployment", SilenceErrors: true, SilenceUsage: true,
	}
	root.AddCommand(e2eCommand(), wsBooksCommand(), ingestCommand(), alertsCommand(), webhookCommand(), soakCommand(), suiteCommand(), compareCommand(), resultsCommand(), serveCommand(), peerCommand())
	root.AddCommand(lightCommands()...)
	return strict(root)
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
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			go func() { // nobody waits for it: reading can't be ended, and the process ends with Run
				_, _ = io.Copy(io.Discard, os.Stdin)
				cancel() // who has started us is gone, killed perhaps
			}()
			return service.Run(ctx)
		},
	}
	cfg.RegisterFlags(cmd.Flags())
	return cmd
}
