package door

import (
	"testing"
	"time"
)

type payer struct {
	subject string
	place   Place
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := NewLimiter[payer](10, 20)
	drain := func(p payer, own float64) (n int) {
		for l.Take(p, own, now).OK {
			n++
		}
		return n
	}
	a, b := payer{place: 1}, payer{place: 2}
	if drain(a, 0) != 20 || drain(b, 0) != 20 || drain(payer{subject: "desk"}, 50) != 100 || drain(payer{subject: "slow"}, 0.1) != 1 {
		t.Error("payers share a bucket, or have another's")
	}
	q := l.Take(a, 0, now)
	if q.OK || q.Left != 0 || q.Wait <= 0 || q.Wait > 100*time.Millisecond || q.Full < 1900*time.Millisecond || q.Full > 2*time.Second {
		t.Errorf("%+v", q)
	}
	// Who asks all the time is not forgotten, whatever the generations do.
	granted := 0
	for range 1000 {
		now = now.Add(10 * time.Millisecond)
		if l.Take(a, 0, now).OK {
			granted++
		}
	}
	if granted < 99 || granted > 101 {
		t.Errorf("%d in 10 seconds", granted)
	}
	// However many come, few are remembered.
	for i := range 3 * maxPayers {
		l.Take(payer{place: Place(1000 + i)}, 0, now)
	}
	if n := l.Payers(); n > 2*maxPayers {
		t.Errorf("%d payers are remembered", n)
	}
	now = now.Add(time.Minute)
	l.Take(a, 0, now)
	now = now.Add(time.Minute)
	l.Take(a, 0, now)
	if n := l.Payers(); n > 2 {
		t.Errorf("%d payers are remembered who have been silent", n)
	}
	if l := NewLimiter[payer](0, 20); !l.Take(a, 0, now).Exempt || l.Take(a, 3, now).Limit != 3 {
		t.Error("no limit")
	}
}
