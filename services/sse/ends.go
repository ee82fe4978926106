package sse

import (
	"context"
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
)

// ends knows how long the partitions of md.events are, as of a moment ago: what clients make us ask Kafka costs at most one
// request for each partition and second.
type ends struct {
	cluster *stream.Cluster

	mu    sync.Mutex
	known map[int]end
}

type end struct {
	offset int64
	at     time.Time
}

func newEnds(c *stream.Cluster) *ends { return &ends{cluster: c, known: make(map[int]end)} }

// of returns the offset of the record to come; ok is false when Kafka does not say.
func (e *ends) of(partition int) (offset int64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock() // held while asking: others want the same
	if k, ok := e.known[partition]; ok && time.Since(k.at) < time.Second {
		return k.offset, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), behindTimeout)
	defer cancel()
	_, last, err := e.cluster.Offsets(ctx, e.cluster.Topics().Events, partition)
	if err != nil {
		return 0, false
	}
	e.known[partition] = end{last, time.Now()}
	return last, true
}
