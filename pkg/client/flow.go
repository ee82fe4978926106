package client

import (
	"time"

	"github.com/tickwire/tickwire/pkg/wire"
)

// flow is the reading end of the flow window: it counts what the handler dealt with, and decides when to acknowledge and
// how large the window is to be. All of it is the reader's own.
//
// The edge stops sending at window bytes unacknowledged, so an acknowledgement goes out at each half of a window (the protocol
// allows eight per window, of those that were sent in all: a window does not grow beyond what this leaves). Whether the handler keeps up is judged once per window's worth of bytes: the share of
// the time that the reader spent waiting for the network. A window that fills within a second and leaves the handler idle
// for half of the time is doubled, since it may be what holds the stream back; one that keeps the handler busy nearly
// always is halved, since what stands in it only gets older.
type flow struct {
	on       bool // the edge has agreed
	window   int
	handled  uint64 // cumulative, since the edge agreed
	acked    uint64
	acks     uint64 // sent
	judgedAt uint64 // handled when the window was last judged
	began    time.Time
	waited   time.Duration
}

// start begins to count: the reply to the first flow request has been handled.
func (f *flow) start(window int, now time.Time, waited time.Duration) {
	f.on, f.window, f.began, f.waited = true, window, now, waited
}

// add counts a message and tells whether to acknowledge now.
func (f *flow) add(bytes int) bool {
	if !f.on {
		return false
	}
	f.handled += uint64(bytes)
	return f.handled-f.acked >= uint64(f.window/2)
}

// judge returns the window that is due after an acknowledgement; it differs from the present one when the handler has
// shown that it wants another.
func (f *flow) judge(now time.Time, waited time.Duration, least int) int {
	if f.handled-f.judgedAt < uint64(f.window) {
		return f.window
	}
	took, idle := now.Sub(f.began), waited-f.waited
	f.judgedAt, f.began, f.waited = f.handled, now, waited
	switch {
	case idle*2 >= took && took <= time.Second:
		if w := min(2*f.window, wire.MaxWindow); w > f.window && f.acks <= 8*(f.handled/uint64(w)) {
			return w
		}
	case idle*10 < took:
		return min(f.window, max(f.window/2, least))
	}
	return f.window
}
