package sse

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestEnds has many clients come from places that make the edge ask Kafka, which answers, and then does not.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, up := 0, true
		e := newEnds(nil)
		e.ask = func(ctx context.Context, partition int) (first, end int64, err error) {
			if asked++; up {
				return 0, int64(partition), nil
			}
			<-ctx.Done()
			return 0, 0, ctx.Err()
		}
		f := func(want bool, within time.Duration) {
			t.Helper()
			began := time.Now()
			asked = 0
			for range 100 { // one after the other: a bubble's clock stands while they wait for a lock
				if offset, ok := e.of(7); ok != want || ok && offset != 7 {
					t.Errorf("%d, %t", offset, ok)
				}
			}
			if passed := time.Since(began); asked != 1 || passed > within {
				t.Errorf("asked %d times, within %v", asked, passed)
			}
		}
		f(true, 0)
		time.Sleep(time.Second)
		up = false
		f(false, behindTimeout)
	})
}
