// Package pump writes recorded or simulated raw records to md.raw at the pace of their own times: as recorded, faster, or
// as fast as Kafka takes them. It does what a connector does at this end: records go to the partition of their key, and a
// clock to each partition that holds an instrument of its session.
//
// Record stamps are the writer's affair and always now; the times in the payloads stay what they were.
package pump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/venue/capture"
)

// Source yields raw records, each valid until the call after, and io.EOF at the end. [capture.Reader] and [Sim] are ones.
type Source interface {
	Next() (*capture.Record, error)
}

// Writer takes raw records; *stream.RawWriter is one. WriteTo copies what it is given, and waits while too much is not
// acknowledged yet: that is all the queueing there is.
type Writer interface {
	Partitions() int
	Partition(key []byte) int
	WriteTo(partition int, r *stream.Record) error
}

// Config says how to pump.
type Config struct {
	Speed    float64     // recorded seconds per second; 1 is as recorded, 0 as fast as possible
	Progress func(Stats) // called each Every, and once at the end; may be nil
	Every    time.Duration
}

// DefaultEvery is how often Progress is called when Config does not say.
const DefaultEvery = time.Second

// Validate checks the configuration.
func (c *Config) Validate() error {
	if c.Speed < 0 || math.IsNaN(c.Speed) || math.IsInf(c.Speed, 0) {
		return fmt.Errorf("speed %v: want 0 or more", c.Speed)
	}
	return nil
}

// Stats is what was pumped so far.
type Stats struct {
	Records     int64         // records of the source
	Clocks      int64         // of them clocks for several partitions
	Written     int64         // records written: a clock counts once for each partition
	Bytes       int64         // of the values written
	First, Last market.Time   // recorded times
	Elapsed     time.Duration // since Run began
	Behind      time.Duration // how late the last record was written
	MostBehind  time.Duration // the greatest Behind
}

// Run pumps records from src to w until src ends, ctx is done or something fails, and returns what it did. The end of src
// is no error. What was written may not be acknowledged yet: wait for the writer.
func Run(ctx context.Context, src Source, w Writer, cfg Config) (Stats, error) {
	if err := cfg.Validate(); err != nil {
		return Stats{}, err
	}
	if cfg.Every <= 0 {
		cfg.Every = DefaultEvery
	}
	p := &pump{w: w, cfg: &cfg, began: time.Now(), sessions: map[string][]bool{}}
	p.report = p.began.Add(cfg.Every)
	err := p.run(ctx, src)
	p.progress()
	return p.stats, err
}

type pump struct {
	w        Writer
	cfg      *Config
	stats    Stats
	began    time.Time
	report   time.Time         // when Progress is called next
	sessions map[string][]bool // which partitions hold instruments of a session
	record   stream.Record
}

// checkEvery is how many records go out between two looks at the clock and the context when nothing is paced.
const checkEvery = 256

func (p *pump) run(ctx context.Context, src Source) error {
	for {
		r, err := src.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if p.stats.Records == 0 {
			p.stats.First = r.At
		}
		if err := p.pace(ctx, r.At); err != nil {
			return err
		}
		p.stats.Records++
		p.stats.Last = max(p.stats.Last, r.At)
		if err := p.write(r); err != nil {
			return err
		}
	}
}

// pace waits until a record is due.
func (p *pump) pace(ctx context.Context, at market.Time) error {
	if p.cfg.Speed == 0 {
		if p.stats.Records%checkEvery != 0 {
			return nil
		}
		p.reportIfDue(time.Now())
		return ctx.Err()
	}
	due := p.began.Add(time.Duration(float64(at-p.stats.First) / p.cfg.Speed))
	for {
		now := time.Now()
		p.reportIfDue(now)
		if err := ctx.Err(); err != nil {
			return err
		}
		if !now.Before(due) {
			p.stats.Behind = now.Sub(due)
			p.stats.MostBehind = max(p.stats.MostBehind, p.stats.Behind)
			return nil
		}
		sleep(ctx, min(due.Sub(now), p.report.Sub(now)))
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (p *pump) reportIfDue(now time.Time) {
	if now.Before(p.report) {
		return
	}
	p.report = now.Add(p.cfg.Every)
	p.progress()
}

func (p *pump) progress() {
	p.stats.Elapsed = time.Since(p.began)
	if p.cfg.Progress != nil {
		p.cfg.Progress(p.stats)
	}
}

// write sends a record where it belongs.
func (p *pump) write(r *capture.Record) error {
	p.record = stream.Record{Value: r.Value, Headers: r.Headers}
	if len(r.Key) > 0 {
		p.record.Key = r.Key
	}
	switch {
	case r.Partition >= 0:
		return p.to(r.Partition)
	case len(r.Key) > 0:
		partition := p.w.Partition(r.Key)
		p.holds(r)[partition] = true
		return p.to(partition)
	}
	p.stats.Clocks++
	for partition, holds := range p.holds(r) {
		if holds {
			if err := p.to(partition); err != nil {
				return err
			}
		}
	}
	return nil
}

// holds returns which partitions hold instruments of the record's session.
func (p *pump) holds(r *capture.Record) []bool {
	session := r.Header(capture.SessionHeader)
	of := p.sessions[string(session)]
	if of == nil {
		of = make([]bool, p.w.Partitions())
		p.sessions[string(session)] = of
	}
	return of
}

func (p *pump) to(partition int) error {
	if err := p.w.WriteTo(partition, &p.record); err != nil {
		return fmt.Errorf("write to partition %d: %w", partition, err)
	}
	p.stats.Written++
	p.stats.Bytes += int64(len(p.record.Value))
	return nil
}
