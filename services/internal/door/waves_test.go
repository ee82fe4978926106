package door

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWaves(t *testing.T) {
	f := func(window time.Duration, n, perSecond int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			begin, next := time.Now(), 0
			counts := make(map[time.Duration]int)
			Waves(window, n, func(i int) {
				if i != next {
					t.Errorf("%d, want %d", i, next)
				}
				next++
				counts[time.Since(begin).Truncate(time.Second)]++
			})
			if passed := time.Since(begin); next != n || passed > window {
				t.Errorf("%d of %d sent away in %v", next, n, passed)
			}
			for second, got := range counts {
				if second+time.Second <= window && (got < perSecond*9/10 || got > perSecond*11/10) {
					t.Errorf("%d in second %v, want about %d", got, second, perSecond)
				}
			}
		})
	}
	f(5*time.Second, 10_000, 2000)
	f(5*time.Second, 1, 0)
	f(time.Second, 0, 0)
	f(0, 1000, 0)
}
