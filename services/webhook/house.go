package webhook

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// How often, and how much at once, what may wait is done. Each step is a small transaction, so that it holds nobody up.
const (
	houseEvery  = time.Second
	purgeEvery  = time.Minute
	replaySteps = 256 // deliveries
	purgeSteps  = 1000
	stepPause   = 10 * time.Millisecond
)

// keepHouse works off replays, and deletes what is older than the retention, until ctx ends.
func keepHouse(ctx context.Context, st *store.Store, log *zap.Logger) error {
	tick := time.NewTicker(houseEvery)
	defer tick.Stop()
	var purged time.Time
	for {
		steps(ctx, log, "replay deliveries", func() (bool, error) { return st.ReplayStep(ctx, replaySteps) })
		if time.Since(purged) >= purgeEvery {
			purged = time.Now()
			steps(ctx, log, "purge", func() (bool, error) {
				n, err := st.Purge(ctx, time.Now(), purgeSteps)
				return n > 0, err
			})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// steps does what there is to do; what can't be done now will be tried again with the next tick.
func steps(ctx context.Context, log *zap.Logger, what string, step func() (more bool, err error)) {
	for {
		more, err := step()
		if err != nil && ctx.Err() == nil {
			log.Warn(what, zap.Error(err))
		}
		if err != nil || !more {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(stepPause):
		}
	}
}
