package door

import "time"

// wave is how often some of those who have to leave are sent away.
const wave = 50 * time.Millisecond

// Waves calls send with each number below n, in order, some at a time and evenly over the window. It returns with the last.
func Waves(window time.Duration, n int, send func(i int)) {
	begin := time.Now()
	for sent := 0; sent < n; {
		due := n
		if passed := time.Since(begin); passed < window {
			due = int(float64(n) * float64(passed+wave) / float64(window+wave))
		}
		for ; sent < due; sent++ {
			send(sent)
		}
		if sent < n {
			time.Sleep(wave)
		}
	}
}
