package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/internal/conf"
)

func checkCommand() *cobra.Command {
	var (
		kafka   conf.Kafka
		options stream.PlanOptions
		create  bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Verify the Kafka topics and the brokers' settings; with --create-topics make the topics that are missing",
		Long: `Verify that the Kafka cluster is as Tickwire needs it: the four Kafka topics with their partitions, replicas and
settings, and brokers that do not forget producer ids within three days. Existing topics are never changed.

Exit code 0: all is well. 1: something is wrong, and the report says what.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if options.Partitions < 1 || options.Partitions > 4096 {
				return usageError{cmd.CommandPath(), fmt.Errorf("--partitions: %d is not between 1 and 4096", options.Partitions)}
			}
			if options.Replicas < 1 {
				return usageError{cmd.CommandPath(), fmt.Errorf("--replicas: %d is not a number of brokers", options.Replicas)}
			}
			cluster, err := open(cmd, &kafka)
			if err != nil {
				return err
			}
			defer cluster.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			report, err := cluster.Check(ctx, stream.Plan(cluster.Topics(), options), create)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprint(cmd.OutOrStdout(), report.String()); err != nil {
				return err
			}
			if !report.OK() {
				return errors.New("the cluster is not as it must be; see the problems above")
			}
			return nil
		},
	}
	kafka.RegisterFlags(cmd.Flags())
	cmd.Flags().BoolVar(&create, "create-topics", false, "make the Kafka topics that are missing")
	cmd.Flags().IntVar(&options.Partitions, "partitions", 12, "partitions of md.raw, md.events and md.snapshots; never changed afterwards")
	cmd.Flags().IntVar(&options.Replicas, "replicas", 3, "replicas of each Kafka topic")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to try to reach the cluster")
	return cmd
}

// open checks the --kafka flags and prepares the connection.
func open(cmd *cobra.Command, kafka *conf.Kafka) (*stream.Cluster, error) {
	if err := kafka.Validate(); err != nil {
		return nil, usageError{cmd.CommandPath(), err}
	}
	cfg, err := kafka.Stream("tickwire-" + cmd.Name())
	if err != nil {
		return nil, usageError{cmd.CommandPath(), err}
	}
	cluster, err := stream.Open(cfg)
	if err != nil {
		return nil, usageError{cmd.CommandPath(), err}
	}
	return cluster, nil
}
