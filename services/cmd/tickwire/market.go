package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/sim"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/bookview"
	"github.com/tickwire/tickwire/services/internal/conf"
	"github.com/tickwire/tickwire/services/venue/capture"
	"github.com/tickwire/tickwire/services/venue/pump"
)

func bookCommand() *cobra.Command { return bookview.Command() }

func simCommand() *cobra.Command {
	var (
		kafka    conf.Kafka
		cfg      = sim.Config{Seed: 1, Instruments: 12, Rate: 500, Depth: 400}
		duration time.Duration
	)
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Write a simulated market to md.raw, live",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case cfg.Instruments < 1 || cfg.Instruments > 10_000:
				return usageError{cmd.CommandPath(), fmt.Errorf("--instruments: %d is not between 1 and 10,000", cfg.Instruments)}
			case cfg.Rate < 1 || cfg.Rate > 1_000_000:
				return usageError{cmd.CommandPath(), fmt.Errorf("--rate: %d is not between 1 and 1,000,000", cfg.Rate)}
			case cfg.Depth < 1 || cfg.Depth > 5_000:
				return usageError{cmd.CommandPath(), fmt.Errorf("--depth: %d is not between 1 and 5,000", cfg.Depth)}
			case duration < 0:
				return usageError{cmd.CommandPath(), fmt.Errorf("--duration: %v is negative", duration)}
			}
			cluster, err := open(cmd, &kafka)
			if err != nil {
				return err
			}
			defer cluster.Close()
			now := time.Now()
			cfg.Start, cfg.Session = market.FromTime(now), fmt.Sprintf("sim-%d", now.UnixMicro())
			var end market.Time
			if duration > 0 {
				end = market.FromTime(now.Add(duration))
			}
			src := pump.NewSim(cfg, end)
			resync := pump.NewResyncer("tickwire", src.Resync)
			return write(cmd, cluster, src, pump.Config{Speed: 1}, func(ctx context.Context) error {
				return cluster.Reader(stream.ReaderConfig{}, resync).Run(ctx)
			})
		},
	}
	kafka.RegisterFlags(cmd.Flags())
	cmd.Flags().Uint64Var(&cfg.Seed, "seed", cfg.Seed, "the same seed makes the same market")
	cmd.Flags().IntVar(&cfg.Instruments, "instruments", cfg.Instruments, "how many instruments are traded")
	cmd.Flags().IntVar(&cfg.Rate, "rate", cfg.Rate, "raw records per second, on average over all instruments")
	cmd.Flags().IntVar(&cfg.Depth, "depth", cfg.Depth, "levels a side, about")
	cmd.Flags().DurationVar(&duration, "duration", 0, "stop after so long (default: never)")
	return cmd
}

func replayCommand() *cobra.Command {
	var (
		kafka    conf.Kafka
		files    []string
		format   string
		speed    float64
		atSource bool
	)
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Write a recorded market to md.raw, as a connector would have",
		Long: `Write a recorded market to md.raw, as a connector would have: instruments, the venue's payloads as they came, and a
clock each second. Several files in sequence are one session. Files may be compressed with gzip.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := capture.Config{
				Format: capture.Format(format), Files: files, AtSource: atSource,
				Session: fmt.Sprintf("replay-%d", time.Now().UnixMicro()),
			}
			pace := pump.Config{Speed: speed}
			if err := errors.Join(cfg.Validate(), pace.Validate()); err != nil {
				return usageError{cmd.CommandPath(), err}
			}
			cluster, err := open(cmd, &kafka)
			if err != nil {
				return err
			}
			defer cluster.Close()
			src, err := capture.Open(cfg)
			if err != nil {
				return err
			}
			defer func() { _ = src.Close() }() // it was only read
			sum := src.Summary()
			pace.Progress = progress(os.Stderr, sum.First, sum.Last)
			return write(cmd, cluster, src, pace, nil)
		},
	}
	kafka.RegisterFlags(cmd.Flags())
	var formats []string
	for _, f := range capture.Formats {
		formats = append(formats, string(f))
	}
	cmd.Flags().StringSliceVar(&files, "file", nil, "what to replay, `FILE,…`; several are one session")
	cmd.Flags().StringVar(&format, "format", string(capture.Raw), "`FORMAT` of the files: "+strings.Join(formats, "|"))
	cmd.Flags().Float64Var(&speed, "speed", 1, "1 as recorded, 0 as fast as possible")
	cmd.Flags().BoolVar(&atSource, "at-source", false, "name instruments with their venue (BTC-USDT@binance)")
	_ = cmd.MarkFlagRequired("file")
	return cmd
}

// write pumps a source into md.raw, and runs beside, if there is one, as long as that takes.
func write(cmd *cobra.Command, cluster *stream.Cluster, src pump.Source, cfg pump.Config, beside func(context.Context) error) error {
	w, err := cluster.RawWriter(cmd.Context(), cluster.Topics().Raw, stream.RawWriterConfig{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	if beside != nil {
		group.Go(func() error { return beside(ctx) })
	}
	var stats pump.Stats
	group.Go(func() error {
		defer cancel()
		var err error
		stats, err = pump.Run(ctx, src, w, cfg)
		return err
	})
	err = group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil // told to stop, or finished
	}
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	if closed := w.Close(grace); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %d records (%.1f MB) in %v\n", stats.Written, float64(stats.Bytes)/1e6, stats.Elapsed.Round(time.Millisecond))
	return err
}

// progress draws a bar when out is a terminal.
func progress(out *os.File, first, last market.Time) func(pump.Stats) {
	info, err := out.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || last <= first {
		return nil
	}
	return func(s pump.Stats) { drawBar(out, s, float64(s.Last-first)/float64(last-first)) }
}

func drawBar(out io.Writer, s pump.Stats, done float64) {
	const width = 40
	done = min(max(done, 0), 1)
	full := int(done * width)
	rate := 0.0
	if s.Elapsed > 0 {
		rate = float64(s.Written) / s.Elapsed.Seconds()
	}
	end := ""
	if done == 1 {
		end = "\n"
	}
	_, _ = fmt.Fprintf(out, "\r[%s%s] %3.0f %%  %d records, %.0f/s %s", // a bar that can't be drawn is no error
		strings.Repeat("#", full), strings.Repeat(".", width-full), done*100, s.Written, rate, end)
}
