package pump

import (
	"io"
	"sync"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/sim"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/venue/capture"
)

// Sim is the Source of a simulated market. A market run live begins at the current time (sim.Config.Start) and is pumped
// at speed 1.
type Sim struct {
	m       *sim.Market
	end     market.Time
	record  capture.Record
	mu      sync.Mutex
	resyncs []string
}

// NewSim makes the market that cfg describes; it ends before the time end, and never when that is 0. cfg.Session should be
// new each time, as that of any venue connection.
func NewSim(cfg sim.Config, end market.Time) *Sim {
	if cfg.Session == "" {
		cfg.Session = "sim"
	}
	return &Sim{
		m:   sim.New(cfg),
		end: end,
		record: capture.Record{Partition: capture.ByKey, Headers: []stream.Header{
			{Key: capture.SourceHeader, Value: []byte("tickwire")},
			{Key: capture.SessionHeader, Value: []byte(cfg.Session)},
		}},
	}
}

// Instruments lists what is traded.
func (s *Sim) Instruments() []market.Instrument { return s.m.Instruments() }

// maxResyncs bounds the requests that wait; more ask for nothing that is not asked for already.
const maxResyncs = 4096

// Resync asks for a new snapshot of an instrument's book, as a connector does when its book has become stale. It is safe
// for concurrent use.
func (s *Sim) Resync(sym string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.resyncs) < maxResyncs {
		s.resyncs = append(s.resyncs, sym)
	}
}

// Next returns the next record.
func (s *Sim) Next() (*capture.Record, error) {
	s.mu.Lock()
	for _, sym := range s.resyncs {
		s.m.Resync(sym)
	}
	s.resyncs = s.resyncs[:0]
	s.mu.Unlock()
	r := s.m.Next()
	if s.end != 0 && r.Time >= s.end {
		return nil, io.EOF
	}
	s.record.At, s.record.Key, s.record.Value = r.Time, r.Key, r.Value
	return &s.record, nil
}
