package all

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/sim"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/venue/capture"
	"github.com/tickwire/tickwire/services/venue/pump"
)

// Market says what is written to md.raw.
type Market struct {
	Kind        string // sim, none, or replay:FILE[,FILE…]
	Format      string // of the files
	Speed       float64
	Instruments int
	Rate        int
	Seed        uint64
}

const replayPrefix = "replay:"

// DefaultMarket is a simulated one.
func DefaultMarket() Market {
	return Market{Kind: "sim", Format: string(capture.Raw), Speed: 1, Instruments: 12, Rate: 500, Seed: 1}
}

// RegisterFlags defines the flags of the market.
func (m *Market) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&m.Kind, "market", m.Kind, "what to write to md.raw: `sim|none|replay:FILE[,FILE…]`")
	fs.StringVar(&m.Format, "format", m.Format, "format of the replayed files: "+formats())
	fs.Float64Var(&m.Speed, "speed", m.Speed, "speed of the replay: 1 as recorded, 0 as fast as possible")
	m.registerSim(fs)
}

func (m *Market) registerSim(fs *pflag.FlagSet) {
	fs.IntVar(&m.Instruments, "instruments", m.Instruments, "instruments of the simulated market")
	fs.IntVar(&m.Rate, "rate", m.Rate, "raw records per second of the simulated market, over all instruments")
	fs.Uint64Var(&m.Seed, "seed", m.Seed, "seed of the simulated market: the same one makes the same market")
}

func formats() string {
	var names []string
	for _, f := range capture.Formats {
		names = append(names, string(f))
	}
	return strings.Join(names, "|")
}

// Validate says which flag is wrong.
func (m *Market) Validate() error {
	switch {
	case m.Kind != "sim" && m.Kind != "none" && !strings.HasPrefix(m.Kind, replayPrefix):
		return fmt.Errorf("--market: %q is neither sim, none nor replay:FILE", m.Kind)
	case m.Instruments < 1 || m.Instruments > 10_000:
		return fmt.Errorf("--instruments: %d is not between 1 and 10,000", m.Instruments)
	case m.Rate < 1 || m.Rate > 1_000_000:
		return fmt.Errorf("--rate: %d is not between 1 and 1,000,000", m.Rate)
	case m.Speed < 0:
		return fmt.Errorf("--speed: %g is negative", m.Speed)
	}
	return nil
}

// feed is an open market.
type feed struct {
	title   string // for people
	example string // an instrument to look at
	listed  bool   // the market's instruments are known beforehand, example among them
	source  pump.Source
	sim     *pump.Sim // when it is simulated
	speed   float64
	cluster *stream.Cluster
	close   func()
}

// open prepares the market; it reads a recording through once.
func (m *Market) open(cluster *stream.Cluster) (*feed, error) {
	f := &feed{cluster: cluster, speed: m.Speed, example: "BTC-USDT", close: func() {}}
	now := time.Now()
	session := fmt.Sprintf("%d", now.UnixMicro()) // never reused
	switch m.Kind {
	case "none":
		f.title = "none: only what arrives in " + cluster.Topics().Raw
	case "sim":
		f.sim = pump.NewSim(sim.Config{
			Seed: m.Seed, Instruments: m.Instruments, Rate: m.Rate, Start: market.FromTime(now), Session: "sim-" + session,
		}, 0)
		f.source, f.speed = f.sim, 1
		f.describe("simulated", f.sim.Instruments())
	default:
		r, err := capture.Open(capture.Config{
			Format: capture.Format(m.Format), Files: strings.Split(strings.TrimPrefix(m.Kind, replayPrefix), ","), Session: "replay-" + session,
		})
		if err != nil {
			return nil, fmt.Errorf("--market: %w", err)
		}
		f.source, f.close = r, func() { _ = r.Close() } // it was only read
		f.describe("replayed from "+strings.TrimPrefix(m.Kind, replayPrefix), r.Summary().Instruments)
	}
	return f, nil
}

func (f *feed) describe(how string, instruments []market.Instrument) {
	f.title = how
	if len(instruments) == 0 {
		return
	}
	f.example, f.listed = instruments[0].Sym, true
	var syms []string
	for i := range instruments {
		if i == 6 {
			syms = append(syms, "…")
			break
		}
		syms = append(syms, instruments[i].Sym)
	}
	f.title = fmt.Sprintf("%s, %d instrument(s): %s", how, len(instruments), strings.Join(syms, " "))
}

// run writes the market to md.raw until ctx ends. When a recording ends, the rest of the process goes on.
func (f *feed) run(ctx context.Context, log *zap.Logger) error {
	if f.source == nil {
		return nil
	}
	w, err := f.cluster.RawWriter(ctx, f.cluster.Topics().Raw, stream.RawWriterConfig{})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if f.sim != nil {
		group.Go(func() error {
			return f.cluster.Reader(stream.ReaderConfig{}, pump.NewResyncer("tickwire", f.sim.Resync)).Run(ctx)
		})
	}
	group.Go(func() error {
		stats, err := pump.Run(ctx, f.source, w, pump.Config{Speed: f.speed})
		if err == nil {
			log.Info("replay finished", zap.Int64("records", stats.Records), zap.Duration("elapsed", stats.Elapsed))
		}
		return err
	})
	err = group.Wait()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if closed := w.Close(grace); err == nil {
		err = closed
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
