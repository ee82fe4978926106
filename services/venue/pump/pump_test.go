package pump_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/sim"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/venue/capture"
	"github.com/tickwire/tickwire/services/venue/pump"
)

var _ pump.Writer = (*stream.RawWriter)(nil)

// script is a source of prepared records.
type script struct {
	records []capture.Record
	err     error
}

func (s *script) Next() (*capture.Record, error) {
	if len(s.records) == 0 {
		if s.err != nil {
			return nil, s.err
		}
		return nil, io.EOF
	}
	r := &s.records[0]
	s.records = s.records[1:]
	return r, nil
}

// tape notes what is written, and when.
type tape struct {
	began   time.Time
	written []string
	err     error
	delay   time.Duration // of each write
}

func (w *tape) Partitions() int          { return 4 }
func (w *tape) Partition(key []byte) int { return int(key[0] % 4) }

func (w *tape) WriteTo(partition int, r *stream.Record) error {
	if w.err != nil {
		return w.err
	}
	time.Sleep(w.delay)
	w.written = append(w.written, fmt.Sprintf("%s %d %s=%s", time.Since(w.began), partition, r.Key, r.Value))
	return nil
}

func (w *tape) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(w.written, want) {
		t.Errorf("wrote\n%q, want\n%q", w.written, want)
	}
}

func record(ms int64, session, key, value string) capture.Record {
	return capture.Record{
		At: market.FromMillis(1_700_000_000_000 + ms), Partition: capture.ByKey, Key: []byte(key), Value: []byte(value),
		Headers: []stream.Header{{Key: capture.SessionHeader, Value: []byte(session)}},
	}
}

func records() []capture.Record {
	at := record(1500, "s", "", "explicit")
	at.Partition = 2
	return []capture.Record{
		record(0, "s", "a", "1"), // 'a' is 97: partition 1
		record(250, "s", "d", "2"),
		record(250, "other", "b", "3"),
		record(1000, "s", "", "clock"),
		at,
		record(1400, "s", "a", "late"), // recorded times may step back a little
		record(4000, "s", "a", "4"),
	}
}

func TestPaces(t *testing.T) {
	f := func(speed float64, want ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := &tape{began: time.Now()}
			stats, err := pump.Run(t.Context(), &script{records: records()}, w, pump.Config{Speed: speed})
			if err != nil {
				t.Fatal(err)
			}
			w.expect(t, want...)
			if stats.Records != 7 || stats.Written != 8 || stats.Clocks != 1 || stats.Last-stats.First != 4e9 || stats.Bytes != 26 {
				t.Errorf("%+v", stats)
			}
			if stats.Elapsed != time.Since(w.began) {
				t.Errorf("elapsed %s", stats.Elapsed)
			}
		})
	}
	f(1, "0s 1 a=1", "250ms 0 d=2", "250ms 2 b=3", "1s 0 =clock", "1s 1 =clock", "1.5s 2 =explicit", "1.5s 1 a=late", "4s 1 a=4")
	f(2, "0s 1 a=1", "125ms 0 d=2", "125ms 2 b=3", "500ms 0 =clock", "500ms 1 =clock", "750ms 2 =explicit", "750ms 1 a=late", "2s 1 a=4")
	f(0, "0s 1 a=1", "0s 0 d=2", "0s 2 b=3", "0s 0 =clock", "0s 1 =clock", "0s 2 =explicit", "0s 1 a=late", "0s 1 a=4")
}

// TestCatchesUp: a writer that is slow for a while delays nothing for good.
func TestCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tape{began: time.Now(), delay: 100 * time.Millisecond}
		stats, err := pump.Run(t.Context(), &script{records: []capture.Record{
			record(0, "s", "a", "1"), record(10, "s", "a", "2"), record(20, "s", "a", "3"), record(1000, "s", "a", "4"),
		}}, w, pump.Config{Speed: 1})
		if err != nil {
			t.Fatal(err)
		}
		w.expect(t, "100ms 1 a=1", "200ms 1 a=2", "300ms 1 a=3", "1.1s 1 a=4")
		if stats.MostBehind != 180*time.Millisecond || stats.Behind != 0 {
			t.Errorf("%+v", stats)
		}
	})
}

func TestReportsProgressWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var seen []string
		_, err := pump.Run(t.Context(), &script{records: records()}, &tape{began: began}, pump.Config{
			Speed: 1, Every: 1500 * time.Millisecond,
			Progress: func(s pump.Stats) { seen = append(seen, fmt.Sprintf("%s %d", time.Since(began), s.Records)) },
		})
		if want := []string{"1.5s 4", "3s 6", "4s 7"}; err != nil || !slices.Equal(seen, want) {
			t.Errorf("%q, want %q, %v", seen, want, err)
		}
	})
}

func TestEndsWithItsContext(t *testing.T) {
	f := func(speed float64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
			defer cancel()
			w := &tape{began: time.Now(), delay: time.Millisecond}
			many := make([]capture.Record, 0, 10_000)
			for i := range cap(many) {
				many = append(many, record(int64(i)*100, "s", "a", "x"))
			}
			_, err := pump.Run(ctx, &script{records: many}, w, pump.Config{Speed: speed})
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(w.began) > 1500*time.Millisecond {
				t.Errorf("%v after %s", err, time.Since(w.began))
			}
		})
	}
	f(1)
	f(0)
}

func TestFailsWithSourceAndWriter(t *testing.T) {
	boom := errors.New("boom")
	f := func(src *script, w *tape) {
		t.Helper()
		if _, err := pump.Run(t.Context(), src, w, pump.Config{}); !errors.Is(err, boom) {
			t.Error(err)
		}
	}
	f(&script{err: boom}, &tape{})
	f(&script{records: records()}, &tape{err: boom})
	if _, err := pump.Run(t.Context(), &script{}, &tape{}, pump.Config{Speed: -1}); err == nil {
		t.Error("a negative speed is accepted")
	}
}

// TestSimulatedMarket runs ten seconds of a market at its pace: each partition gets its clocks, all with the headers of a
// connector, and a resync is answered.
func TestSimulatedMarket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		src := pump.NewSim(sim.Config{Instruments: 3, Rate: 100, Start: market.FromTime(began), Session: "s-1"}, market.FromTime(began.Add(10*time.Second)))
		w := &snapshots{tape: tape{began: began}, clocks: map[int]int{}}
		syms := src.Instruments()
		time.AfterFunc(5*time.Second, func() { src.Resync(syms[1].Sym) })
		stats, err := pump.Run(t.Context(), src, w, pump.Config{Speed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if elapsed := time.Since(began); elapsed < 9*time.Second || elapsed > 10*time.Second {
			t.Errorf("took %s", elapsed)
		}
		held := map[int]bool{}
		for _, in := range syms {
			held[w.Partition([]byte(in.Sym))] = true
		}
		for partition := range w.Partitions() {
			if want := 9; held[partition] && w.clocks[partition] < want || !held[partition] && w.clocks[partition] != 0 {
				t.Errorf("partition %d: %d clocks", partition, w.clocks[partition])
			}
		}
		if w.snapshots != 4 || w.unnamed > 0 {
			t.Errorf("%d snapshots, %d records without headers; %+v", w.snapshots, w.unnamed, stats)
		}
	})
}

// snapshots counts what is written.
type snapshots struct {
	tape
	clocks             map[int]int
	snapshots, unnamed int
}

func (w *snapshots) WriteTo(partition int, r *stream.Record) error {
	of := capture.Record{Headers: r.Headers}
	if string(of.Header(capture.SourceHeader)) != "tickwire" || string(of.Header(capture.SessionHeader)) != "s-1" {
		w.unnamed++
	}
	if bytes.Contains(r.Value, []byte(`"snapshot":true`)) {
		w.snapshots++
	}
	if bytes.Contains(r.Value, []byte(`"clock"`)) {
		w.clocks[partition]++
	}
	return nil
}
