package rule

import (
	"fmt"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
)

// seed takes the newest price from the bars of a snapshot.
func (p *Partition) seed(in *instrument, s *stream.InstrumentSnapshot) error {
	if len(s.Series) == 0 {
		return nil
	}
	var series bar.Series
	if err := series.DecodeBinary(s.Series); err != nil {
		return fmt.Errorf("bars of %s: %w", s.Status.Instrument.Sym, err)
	}
	var t market.Ticker
	series.Ticker(&t)
	in.last, in.hasLast = t.Last, t.Last > 0
	return nil
}
