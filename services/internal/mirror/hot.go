package mirror

import (
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
)

// hot keeps a topic's newest snapshot in each format, so that thousands who subscribe at once share one encoding, and its
// compressed form too. It holds what was asked for a moment ago and nothing else.
type hot struct {
	mu   sync.Mutex // taken before the instrument's lock, and held while encoding: those who come meanwhile wait for it
	kept [fanout.NumFormats]kept
}

type kept struct {
	fanout.Snapshot
	history int
	used    time.Duration
}

// keepHot is how long a snapshot is kept that nobody asks for.
const keepHot = 2 * time.Second

// get returns the snapshot that is kept if it is good, or else what cut makes.
func (h *hot) get(w fanout.Want, now time.Duration, good func(*kept) bool, cut func() fanout.Snapshot) fanout.Snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := &h.kept[w.Format]
	if k.Frames == nil || !good(k) {
		k.Snapshot, k.history = cut(), w.History
	}
	k.used = now
	return k.Snapshot
}

// cool forgets what nobody has asked for lately.
func (h *hot) cool(now time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.kept {
		if k := &h.kept[i]; now-k.used > keepHot {
			*k = kept{}
		}
	}
}
