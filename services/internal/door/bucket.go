package door

import "time"

// Bucket is a token bucket. One that has never been used is full. Its owner sees to it that nobody else uses it at the same
// time.
type Bucket struct {
	Rate, Burst float32 // tokens per second, and at most
	tokens      float32
	at          int64 // nanoseconds since 1970; 0 is never
}

// Take takes a token, if there is one.
func (b *Bucket) Take(now time.Time) bool {
	if !b.Has(now) {
		return false
	}
	b.tokens--
	return true
}

// Has tells whether there is a token.
func (b *Bucket) Has(now time.Time) bool {
	at := now.UnixNano()
	if b.at == 0 {
		b.tokens = b.Burst
	} else {
		b.tokens = min(b.Burst, b.tokens+float32(max(0, at-b.at))/1e9*b.Rate)
	}
	b.at = at
	return b.tokens >= 1
}

// Left is how many tokens there are, as of the last time somebody asked.
func (b *Bucket) Left() float32 { return b.tokens }
