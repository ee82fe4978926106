package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/pkg/auth"
)

func keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make API keys",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeyCommand())
	return cmd
}

func newKeyCommand() *cobra.Command {
	var (
		subject string
		life    time.Duration
		scope   auth.Scope
	)
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make an API key and its entry for the file of --auth-keys",
		Long: `Make an API key and its entry for the file of --auth-keys.

The file keeps a hash; the key itself is printed, on stderr, and never again. The entry goes to stdout. What a scope leaves out is not limited.`,
		Example: "  tickwire key new --subject desk-7\n  tickwire key new --subject web --channels bbo,ticker --symbols 'BTC-*' --expires 720h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var expires time.Time
			if life != 0 {
				expires = time.Now().Add(life).UTC().Truncate(time.Second)
			}
			if life < 0 {
				return usageError{cmd.CommandPath(), fmt.Errorf("--expires: negative")}
			}
			key, entry, err := auth.NewKey(subject, expires, scope)
			if err != nil {
				return usageError{cmd.CommandPath(), err}
			}
			text, err := entry.YAML()
			if err != nil {
				return err
			}
			// Apart, so that the entry can be appended to the file and the key never gets there.
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "The key, for its user; it can't be shown again:\n  %s\nIts entry, for the list under keys: in the file of --auth-keys:\n", key)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().StringVar(&subject, "subject", "", "`NAME` of who will use it; its connections are counted together")
	cmd.Flags().DurationVar(&life, "expires", 0, "how long it will be good (default: for ever)")
	cmd.Flags().StringSliceVar(&scope.Channels, "channels", nil, "`CHANNEL,…` it covers: book, bbo, trades, ticker, bars, status (default: all)")
	cmd.Flags().StringSliceVar(&scope.Symbols, "symbols", nil, "`SYM,…` it covers; * in one stands for any characters (default: all)")
	cmd.Flags().Uint16Var(&scope.Depth, "depth", 0, "greatest depth of a book: 10, 25, 50 or 100 (default: all of it)")
	cmd.Flags().Uint16Var(&scope.Millis, "ms", 0, "least time over which a book's updates are merged: 100, 250 or 1000 (default: none)")
	cmd.Flags().IntVar(&scope.Topics, "topics", 0, "topics of one connection (default: the server's limit)")
	cmd.Flags().IntVar(&scope.Conns, "conns", 0, "connections at one server (default: no limit)")
	cmd.Flags().Float64Var(&scope.Ops, "ops", 0, "requests per second at one server, of all its connections together (default: the server's limit for each)")
	_ = cmd.MarkFlagRequired("subject")
	return cmd
}
