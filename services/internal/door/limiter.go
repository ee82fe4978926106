package door

import (
	"math"
	"sync"
	"time"
)

// Limiter says how often each of many payers may ask, by a token bucket each.
//
// It remembers those who have asked of late, in two generations: whoever asks is in the newer one, and when that has lasted
// as long as a bucket takes to fill, it becomes the older one, and the older one is forgotten: those buckets are full, so
// nothing is. When a generation has maxPayers before that time, it makes room too. Then a payer who has not asked meanwhile
// may get a full bucket early: with so many payers it is not a single one who is the burden, and an honest one is never
// refused for the others' sake.
type Limiter[Payer comparable] struct {
	rate, burst float64 // a second, and at once
	fill        time.Duration

	mu     sync.Mutex
	newer  map[Payer]*Bucket
	older  map[Payer]*Bucket
	turned time.Time
}

const maxPayers = 1 << 16 // of a generation

// NewLimiter limits nobody when the rate is 0.
func NewLimiter[Payer comparable](rate float64, burst int) *Limiter[Payer] {
	l := &Limiter[Payer]{rate: rate, burst: float64(burst), newer: make(map[Payer]*Bucket)}
	if rate > 0 {
		l.fill = seconds(l.burst / rate)
	}
	return l
}

// Quota is what a payer may be told.
type Quota struct {
	OK     bool
	Limit  int           // at once
	Left   int           // at once, now
	Full   time.Duration // until Limit are left
	Wait   time.Duration // until one is, when there is none
	Exempt bool          // there is no limit
}

// Take takes a token. A payer with a rate of its own has that, and a burst in proportion.
func (l *Limiter[Payer]) Take(p Payer, own float64, now time.Time) Quota {
	rate, burst := l.rate, l.burst
	switch {
	case own > 0 && l.rate > 0:
		rate, burst = own, max(1, math.Round(own*l.burst/l.rate))
	case own > 0:
		rate, burst = own, max(1, math.Round(own))
	case l.rate == 0:
		return Quota{OK: true, Exempt: true}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(p, now)
	b.Rate, b.Burst = float32(rate), float32(burst)
	q := Quota{OK: b.Take(now), Limit: int(burst)}
	left := float64(b.Left())
	q.Left = int(left)
	q.Full = seconds((burst - left) / rate)
	if !q.OK {
		q.Wait = seconds((1 - left) / rate)
	}
	return q
}

// Solvent tells whether a payer without a rate of its own could take a token.
func (l *Limiter[Payer]) Solvent(p Payer, now time.Time) bool {
	if l.rate == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(p, now)
	b.Rate, b.Burst = float32(l.rate), float32(l.burst)
	return b.Has(now)
}

// Payers is how many are remembered.
func (l *Limiter[Payer]) Payers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.newer) + len(l.older)
}

// bucket is the payer's. l.mu is held.
func (l *Limiter[Payer]) bucket(p Payer, now time.Time) *Bucket {
	if now.Sub(l.turned) >= max(l.fill, time.Second) {
		l.turn(now)
	}
	b := l.newer[p]
	if b != nil {
		return b
	}
	if len(l.newer) >= maxPayers {
		l.turn(now)
	}
	if b = l.older[p]; b == nil {
		b = new(Bucket)
	}
	l.newer[p] = b
	return b
}

// turn begins a generation.
func (l *Limiter[Payer]) turn(now time.Time) {
	l.older, l.newer, l.turned = l.newer, make(map[Payer]*Bucket), now
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
