package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/all"
	"github.com/tickwire/tickwire/services/ingest"
	"github.com/tickwire/tickwire/services/internal/conf"
	"github.com/tickwire/tickwire/services/internal/ops"
	"github.com/tickwire/tickwire/services/sse"
	"github.com/tickwire/tickwire/services/webhook"
	"github.com/tickwire/tickwire/services/ws"
)

func allCommand() *cobra.Command {
	cfg, level := all.DefaultConfig(), "warn"
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Everything in one process: embedded broker, market, ingest, both edges, alerts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := ops.NewLogger(level)
			if err != nil {
				return usageError{cmd.CommandPath(), err}
			}
			s, err := all.New(cfg, all.Deps{Log: log, Metrics: ops.NewRegistry(buildVersion()), Out: cmd.OutOrStdout()})
			if err != nil {
				return usageError{cmd.CommandPath(), err}
			}
			return s.Run(cmd.Context())
		},
	}
	cfg.RegisterFlags(cmd.Flags())
	logLevel(cmd, &level)
	return cmd
}

func ingestCommand() *cobra.Command {
	cfg := ingest.DefaultConfig()
	p := process{
		use: "ingest", short: "Turn raw records (md.raw) into numbered events (md.events)",
		flags:    []flags{&cfg},
		validate: cfg.Validate,
		start: func(d deps) (runner, error) {
			return ingest.New(cfg, ingest.Deps{Log: d.log, Metrics: d.metrics, Cluster: d.cluster})
		},
	}
	return p.command()
}

func wsCommand() *cobra.Command {
	cfg := ws.DefaultConfig()
	p := process{
		use: "ws", short: "Serve order books, trades, tickers and bars over WebSocket",
		flags:    []flags{&cfg, &cfg.Edge, &cfg.Mirror},
		validate: cfg.Validate,
		start: func(d deps) (runner, error) {
			return ws.New(cfg, ws.Deps{Log: d.log, Metrics: d.metrics, Cluster: d.cluster})
		},
	}
	return p.command()
}

func sseCommand() *cobra.Command {
	cfg := sse.DefaultConfig()
	p := process{
		use: "sse", short: "Serve tickers, trades and bars over Server-Sent Events, and the REST API",
		flags:    []flags{&cfg, &cfg.Edge, &cfg.Mirror},
		validate: cfg.Validate,
		start: func(d deps) (runner, error) {
			return sse.New(cfg, sse.Deps{Log: d.log, Metrics: d.metrics, Cluster: d.cluster})
		},
	}
	return p.command()
}

func webhookCommand() *cobra.Command {
	cfg := webhook.DefaultConfig()
	p := process{
		use: "webhook", short: "Evaluate price alerts, and tell users' servers by signed webhooks; the alerts API",
		flags:    []flags{&cfg},
		validate: cfg.Validate,
		start: func(d deps) (runner, error) {
			return webhook.New(cfg, webhook.Deps{Log: d.log, Metrics: d.metrics, Cluster: d.cluster})
		},
	}
	return p.command()
}

// process is a subcommand that serves until it is told to stop.
type process struct {
	use, short string
	flags      []flags
	validate   func() error
	start      func(deps) (runner, error)
}

type runner interface {
	Run(ctx context.Context) error
	Ready() error
}

type deps struct {
	log     *zap.Logger
	metrics prometheus.Registerer
	cluster *stream.Cluster
}

func (p process) command() *cobra.Command {
	var kafka conf.Kafka
	admin, level := ops.DefaultConfig(), "info"
	cmd := &cobra.Command{
		Use: p.use, Short: p.short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := ops.NewLogger(level)
			if err != nil {
				return usageError{cmd.CommandPath(), err}
			}
			if err := p.validate(); err != nil {
				return usageError{cmd.CommandPath(), err}
			}
			cluster, err := open(cmd, &kafka)
			if err != nil {
				return err
			}
			defer cluster.Close()
			return p.run(cmd.Context(), log.Named(p.use), cluster, admin)
		},
	}
	kafka.RegisterFlags(cmd.Flags())
	for _, f := range p.flags {
		f.RegisterFlags(cmd.Flags())
	}
	admin.RegisterFlags(cmd.Flags())
	logLevel(cmd, &level)
	return cmd
}

func (p process) run(ctx context.Context, log *zap.Logger, cluster *stream.Cluster, cfg ops.Config) error {
	metrics := ops.NewRegistry(buildVersion())
	service, err := p.start(deps{log: log, metrics: metrics, cluster: cluster})
	if err != nil {
		return err
	}
	var health ops.Readiness
	health.Add(p.use, service.Ready)
	group, ctx := errgroup.WithContext(ctx)
	if cfg.Addr != "" {
		admin, err := ops.Listen(cfg, metrics, &health)
		if err != nil {
			return err
		}
		log.Info("admin listener", zap.String("addr", admin.Addr()))
		group.Go(func() error { return admin.Run(ctx) })
	}
	group.Go(func() error { return service.Run(ctx) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", p.use, err)
	}
	log.Info("stopped")
	return nil
}
