package client

import (
	"context"
	"errors"
	"time"

	"github.com/tickwire/tickwire/pkg/wire"
)

// healthy is how long a connection must have lasted for the next wait to be a short one again. An edge that accepts and
// closes at once is not hammered.
const healthy = 10 * time.Second

// backoff decides how long to wait before the next connection.
type backoff struct {
	cfg     *Config
	attempt int
}

// next returns the wait after a connection, or an attempt at one, that ended with err.
func (b *backoff) next(end *ending) time.Duration {
	if end.lasted >= healthy {
		b.attempt = 0
	}
	if end.drain[1] > 0 {
		return b.between(end.drain[0], end.drain[1])
	}
	limit := b.cfg.MaxBackoff
	if !patient(end.err) {
		limit = min(limit, b.cfg.MinBackoff<<min(b.attempt, 20))
	}
	b.attempt++
	wait := time.Duration(b.cfg.Jitter() * float64(limit))
	var shake *HandshakeError
	if errors.As(end.err, &shake) && shake.RetryAfter > 0 {
		wait += shake.RetryAfter
	}
	return wait
}

func (b *backoff) between(least, most time.Duration) time.Duration {
	return least + time.Duration(b.cfg.Jitter()*float64(max(most-least, 0)))
}

// patient tells whether the edge said that there is too much of us, so that the longest wait is due at once.
func patient(err error) bool {
	var closed *CloseError
	return errors.As(err, &closed) && (closed.Code == wire.CloseRate || closed.Code == wire.CloseConnectionLimit)
}

// ending is how a connection, or an attempt at one, ended.
type ending struct {
	err    error
	lasted time.Duration    // since hello; 0 without one
	drain  [2]time.Duration // the wait that the edge asked for; zero when it did not
}

// sleep waits; it returns early when ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
