package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/load"
)

func alertsCommand() *cobra.Command {
	cfg, kafka, database := load.DefaultAlerts(), []string{}, ""
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "From a raw trade's intended send time to the signed request that an alert makes",
		Long: `Runs the servers in a process of their own (broker, ingest, webhook service; with --kafka the broker is that cluster), and
producer and receiver in this one. Each second trade of an instrument crosses the limit of its alerts. Every request's signature is
verified. Exit code 1 when a fire did not arrive.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return alerts(cmd.Context(), cmd.OutOrStdout(), cfg, kafka, database)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&kafka, "kafka", nil, "use this Kafka cluster, `HOST:PORT,…`, instead of the embedded broker")
	f.StringVar(&database, "webhook-database", "", "`URL` of a PostgreSQL database, instead of SQLite in a temporary folder")
	f.IntVar(&cfg.Fires, "fires", cfg.Fires, "fires a second")
	f.IntVar(&cfg.Instruments, "instruments", cfg.Instruments, "instruments")
	f.IntVar(&cfg.Alerts, "alerts", cfg.Alerts, "alerts of each instrument")
	f.IntVar(&cfg.Endpoints, "endpoints", cfg.Endpoints, "endpoints")
	f.DurationVar(&cfg.Warmup, "warmup", cfg.Warmup, "not measured")
	f.DurationVar(&cfg.Duration, "duration", cfg.Duration, "measured")
	return cmd
}

func alerts(ctx context.Context, out io.Writer, cfg load.AlertsConfig, kafka []string, database string) error {
	if cfg.Fires < 1 || cfg.Instruments < 1 || cfg.Alerts < 1 || cfg.Endpoints < 1 || cfg.Duration <= 0 {
		return errors.New("--fires, --instruments, --alerts, --endpoints and --duration must be positive")
	}
	server, err := deployment.Open(ctx, deployment.Config{Kafka: kafka}, "--webhook-addr", "127.0.0.1:0", "--webhook-rate", "0", "--webhook-database", database)
	if err != nil {
		return err
	}
	r, err := measureAlerts(ctx, server, cfg)
	if stopped := server.Close(); err == nil {
		err = stopped
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%d fires/s, %d alerts on %d instruments, %d endpoints, %d cores, %s\n%s",
		cfg.Fires, cfg.Alerts*cfg.Instruments, cfg.Instruments, cfg.Endpoints, runtime.NumCPU(), runtime.Version(), r); err != nil {
		return err
	}
	return r.Err()
}

func measureAlerts(ctx context.Context, server *deployment.Deployment, cfg load.AlertsConfig) (*load.AlertsReport, error) {
	cluster, err := server.Cluster()
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	cfg.API, cfg.Cluster, cfg.Server = server.Alerts, cluster, server.PID
	return load.Alerts(ctx, cfg)
}
