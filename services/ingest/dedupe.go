package ingest

import (
	"crypto/sha256"

	"github.com/tickwire/tickwire/pkg/market"
)

// recentIDs is how many trade ids without order are remembered.
const recentIDs = 4096

// digest stands for a trade id: half a SHA-256, so that nobody can make a trade vanish by an id that collides with
// another's, in a quarter of the room.
type digest [16]byte

func digestOf(id *market.TradeID) (d digest) {
	var text [market.MaxTradeID]byte
	sum := sha256.Sum256(id.Append(text[:0]))
	copy(d[:], sum[:])
	return d
}

// recent remembers the last recentIDs trade ids. The zero value remembers none.
type recent struct {
	ring []digest // oldest at next, once it is full
	next int
	set  map[digest]struct{}
}

// add remembers an id, and tells whether it was new.
func (r *recent) add(d digest) bool {
	if _, known := r.set[d]; known {
		return false
	}
	if r.set == nil {
		r.set = make(map[digest]struct{})
	}
	r.set[d] = struct{}{}
	if len(r.ring) < recentIDs {
		r.ring = append(r.ring, d)
		return true
	}
	delete(r.set, r.ring[r.next])
	r.ring[r.next] = d
	r.next = (r.next + 1) % recentIDs
	return true
}

// each calls fn with the ids, oldest first.
func (r *recent) each(fn func(d digest)) {
	for i := range r.ring {
		fn(r.ring[(r.next+i)%len(r.ring)])
	}
}

func (r *recent) clear() { *r = recent{} }
