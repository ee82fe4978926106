package target

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// lateness is how much later than they were due messages were handed over. The zero value is ready.
type lateness struct {
	mu   sync.Mutex              // guards what follows
	hist *hdrhistogram.Histogram // nil: there was none
}

const maxLate = 60_000_000 // µs; what is later counts as this

func (l *lateness) record(us int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hist == nil {
		l.hist = hdrhistogram.New(1, maxLate, 3)
	}
	_ = l.hist.RecordValue(min(max(1, us), maxLate)) // in range by construction
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
