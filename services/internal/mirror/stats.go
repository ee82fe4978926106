package mirror

import "sync/atomic"

// Stats counts what a mirror does.
type Stats struct {
	Events     atomic.Uint64 // records of md.events
	Heartbeats atomic.Uint64
	Orphans    atomic.Uint64 // events before anything was known of their instrument
	Faults     atomic.Uint64 // events that contradict the state before them
	Snapshots  atomic.Uint64 // book snapshots encoded
}

// Stats are the mirror's counters, live.
func (m *Mirror) Stats() *Stats { return &m.stats }
