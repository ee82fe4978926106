// Command tickwire is the whole platform in one program; its subcommands are the processes and the tools around them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/services/alerts"
	"github.com/tickwire/tickwire/services/internal/conf"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code: 0 when done, 1 when it failed, 2 when it was called wrongly.
func run(ctx context.Context, args []string) int {
	root := command()
	root.SetArgs(alerts.Args(args))
	failed, err := root.ExecuteContextC(ctx)
	var (
		usage  usageError
		called alerts.UsageError
	)
	if errors.As(err, &called) {
		err = usageError{failed.CommandPath(), called}
	}
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "tickwire: %v\nSee: %s -h\n", err, usage.command)
		return 2
	default:
		fmt.Fprintln(os.Stderr, "tickwire:", err)
		return 1
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "tickwire",
		Short: "Live market data: Kafka in, order books, trades, tickers and bars out",
		Long: `Tickwire takes market data from Kafka and serves order books, trades, tickers and bars to many readers.

To see it live on this machine:    tickwire all
Then, in a second terminal:        tickwire book BTC-USDT`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := conf.FromEnv(cmd.Flags(), os.LookupEnv); err != nil {
				return usageError{cmd.CommandPath(), err}
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{cmd.CommandPath(), err} })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(allCommand(), ingestCommand(), wsCommand(), sseCommand(), webhookCommand(), simCommand(), replayCommand(), bookCommand(), checkCommand(), keyCommand(), alerts.Command(), alerts.ListenCommand(), versionCommand())
	return root
}

// usageError is a command line that can't be run as it stands.
type usageError struct {
	command string
	err     error
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// flags is a Config that defines its own.
type flags interface {
	RegisterFlags(fs *pflag.FlagSet)
}

func logLevel(cmd *cobra.Command, level *string) {
	cmd.Flags().StringVar(level, "log-level", *level, "debug, info, warn or error; logs are JSON lines on stderr")
}
