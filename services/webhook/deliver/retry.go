package deliver

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// How long after each failed attempt comes the next one. The first attempt is made at once.
var profiles = map[store.Profile][]time.Duration{
	store.ProfileRealtime: {time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour},
	// The schedule that Standard Webhooks proposes: 75 hours and 35 minutes in all.
	store.ProfileStandard: {
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	},
}

// retry says when to try again after so many attempts, or that there is none left.
func retry(p store.Profile, attempts int) (time.Duration, bool) {
	waits, ok := profiles[p]
	if !ok {
		waits = profiles[store.ProfileStandard]
	}
	if attempts > len(waits) {
		return 0, false
	}
	return jitter(waits[max(attempts, 1)-1]), true
}

// jitter spreads a time by a fifth to both sides, so that what has failed together does not come back together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // nobody gains by guessing it
}

// maxRetryAfter bounds what an endpoint may ask for.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads Retry-After: a number of seconds or a date. 0 is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n > uint64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
