package scenario

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/swarm"
)

// sampler takes samples of a rig.
type sampler struct {
	rig       *rig
	swarms    []*proc.Proc // whose clients are looked at
	at        time.Time
	published uint64
	updates   int64
	latest    *hdrhistogram.Histogram // of the last sample
}

// newSampler begins: what was measured before is not in its first sample.
func newSampler(m *rig, swarms []*proc.Proc) (*sampler, error) {
	s := &sampler{rig: m, swarms: swarms, at: time.Now(), latest: schedule.NewHistogram()}
	_, err := s.next()
	return s, err
}

// next takes one.
func (s *sampler) next() (out report.Sample, err error) {
	s.latest.Reset()
	var updates int64
	for _, p := range s.swarms {
		var one swarm.Sample
		if err := p.Call("sample", nil, &one); err != nil {
			return out, err
		}
		h, err := swarm.Decode(one.Histogram)
		if err != nil {
			return out, err
		}
		s.latest.Merge(h)
		updates += one.Updates
		out.Clients += one.Connected
		out.Faults += one.Sum()
	}
	published, err := s.rig.published()
	if err != nil {
		return out, err
	}
	if s.rig.pid > 0 && !proc.Alive(s.rig.pid) {
		return out, fmt.Errorf("the server, process %d, has ended", s.rig.pid)
	}
	now := time.Now()
	elapsed := now.Sub(s.at).Seconds()
	out.Sent, out.Delivered = float64(published-s.published)/elapsed, float64(updates-s.updates)/elapsed
	out.P50, out.P99, out.Max = math.NaN(), math.NaN(), math.NaN()
	if s.latest.TotalCount() > 0 {
		out.P50, out.P99, out.Max = ms(s.latest, 50), ms(s.latest, 99), float64(s.latest.Max())/1000
	}
	if out.Aged = s.rig.looks; out.Aged {
		out.Sent = math.NaN()
	}
	out.CPU, out.RSS = s.rig.watch.Next()
	s.at, s.published, s.updates = now, published, updates
	return out, nil
}

// until takes samples until a time, or until so many messages have been published, unless that is 0, or until the user cuts it short.
func (m *rig) until(ctx context.Context, rec *report.Recorder, end time.Time, last uint64) error {
	samples, err := newSampler(m, m.swarms)
	if err != nil {
		return err
	}
	every := time.Second
	if last > 0 {
		every = 10 * time.Millisecond
	}
	began, cut := time.Now(), m.cut
	for time.Now().Before(end) {
		if err := schedule.Wait(ctx, cut, min(every, time.Until(end))); errors.Is(err, schedule.ErrCut) {
			if soon := m.soon(began); soon.Before(end) {
				end = soon
			}
			cut = nil
			continue
		} else if err != nil {
			return err
		}
		if last > 0 {
			n, err := m.published()
			if err != nil || n >= last {
				return err
			}
			if time.Since(samples.at) < time.Second {
				continue
			}
		}
		s, err := samples.next()
		if err != nil {
			return err
		}
		rec.Sample(s)
		if s.Clients == 0 {
			return errors.New("the server has ended all connections")
		}
	}
	return nil
}

// soon is when a spell that is cut short ends: not before there is something to tell, and when an edge that gathers has sent all.
func (m *rig) soon(began time.Time) time.Time {
	long := max(time.Since(began), slice)
	if gathers := m.load.gathers(); gathers > 0 {
		long = (long + gathers - 1) / gathers * gathers
	}
	return began.Add(long)
}
