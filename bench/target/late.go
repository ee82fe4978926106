package target

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/schedule"
)

// lateness is how much later than they were due messages were handed over. The zero value is ready.
type lateness struct {
	mu   sync.Mutex              // guards what follows
	hist *hdrhistogram.Histogram // nil: there was none
}

func (l *lateness) record(us int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hist == nil {
		l.hist = schedule.NewHistogram()
	}
	schedule.Record(l.hist, 0, us)
}

func (l *lateness) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hist = nil
}

func (l *lateness) read() (p99, greatest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hist == nil {
		return 0, 0
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	return us(l.hist.ValueAtQuantile(99)), us(l.hist.Max())
}
