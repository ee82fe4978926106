package sse

import (
	"context"
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
)

// ends knows how long the partitions of md.events are, as of a moment ago: what clients make us ask Kafka costs at most one
// request for each partition and second, whether it is answered or not.
type ends struct {
	ask func(ctx context.Context, partition int) (first, end int64, err error)

	mu    sync.Mutex
	known map[int]end
}

type end struct {
	offset int64
	ok     bool
	at     time.Time
}

func newEnds(c *stream.Cluster) *ends {
	return &ends{known: make(map[int]end), ask: func(ctx context.Context, partition int) (first, end int64, err error) {
		return c.Offsets(ctx, c.Topics().Events, partition)
	}}
}

// of returns the offset of the record to come; ok is false when Kafka does not say.
func (e *ends) of(partition int) (offset int64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock() // held while asking: others want the same
	if k, known := e.known[partition]; known && time.Since(k.at) < time.Second {
		return k.offset, k.ok
	}
	ctx, cancel := context.WithTimeout(context.Background(), behindTimeout)
	defer cancel()
	_, offset, err := e.ask(ctx, partition)
	k := end{offset, err == nil, time.Now()}
	e.known[partition] = k
	return k.offset, k.ok
}
