package sse

import (
	"cmp"
	"errors"
	"slices"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
)

// errPartitions is why a view can't have positions.
var errPartitions = errors.New("the symbols lie in too many partitions")

// Why a client does not go on where it was.
const (
	resetLog        = "log"        // the position is one of another market's log
	resetUnreadable = "unreadable" // it is none
	resetView       = "view"       // it lacks a partition of the view
	resetTooOld     = "too_old"    // not everything behind it is known any more
	resetAhead      = "ahead"      // the log has never been so long
)

// resume is where a client wants to go on. The zero value is a client that has nothing yet.
type resume struct {
	given bool
	pos   position
	reset string // why that can't be
}

// parseResume reads a client's last event id.
func (v *view) parseResume(id string) resume {
	if id == "" {
		return resume{}
	}
	logID, pos, ok := parseID(id)
	r := resume{given: true, pos: pos}
	switch {
	case !ok:
		r.reset = resetUnreadable
	case logID != v.s.logID():
		r.reset = resetLog
	case !v.dated():
		r.given = false // a snapshot is what resuming is
	default:
		if r.pos, ok = pos.at(v.pos.parts); !ok {
			r.reset = resetView
		}
	}
	return r
}

// place is where a client enters a log.
type place struct {
	log    *fanout.Topic
	next   uint64 // position of the first chunk for it
	seq    market.Sequence
	id     []byte        // of what it has before first; nil when that is nothing
	first  *fanout.Frame // snapshot or replay; a chain of the client's own
	replay bool
}

// behind tells whether the view has not come to where the client is already.
func (v *view) behind(r resume) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return r.given && r.reset == "" && !v.covers(r.pos)
}

// covers tells whether the logs have everything up to a place, and lets them have what waits if that is it. v.mu is held.
func (v *view) covers(pos position) bool {
	v.settle()
	for i, o := range pos.offsets {
		if o <= v.pos.offsets[i] {
			continue
		}
		if o > v.reached().offsets[i] {
			return false
		}
		v.publish(nil)
	}
	return true
}

// join finds the place from which a client goes on, or begins.
func (v *view) join(f form, r resume) (p place) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.given && r.reset == "" && !v.covers(r.pos) {
		r.reset = resetAhead
	}
	v.settle()
	p.log = v.log(f)
	p.next, p.seq = p.log.Next(), market.Sequence{Epoch: 1, Seq: v.seq}
	if r.given && r.reset == "" {
		if fr, ok := v.replay(f, r.pos); ok {
			p.first, p.replay, p.id = again(fr), true, r.pos.appendID(nil, v.s.logID())
			return p
		}
		r.reset = resetTooOld
	}
	if !v.dated() { // otherwise the snapshot tells its place: who has not got that far has nothing to go on from
		p.id = v.appendID(nil)
	}
	p.first = v.shoot(f, r.reset)
	return p
}

// replay renders the events between a place and the end of the logs, and the states as they are now. It fails when some of
// the events are not there any more, or are too many. v.mu is held.
func (v *view) replay(f form, from position) (*fanout.Frame, bool) {
	key := string(from.appendBinary([]byte{byte(f)}))
	if fr, ok := v.replays[key]; ok {
		return fr, true
	}
	missed, ok := v.missed(from)
	if !ok {
		return nil, false
	}
	var b []byte
	at := from.clone()
	for _, h := range missed {
		at.set(h.it.part, h.e.Offset)
		if b = v.appendEntry(b, at, h); len(b) > replayLimit {
			return nil, false
		}
	}
	for _, it := range v.items { // it may have changed while the client was away, and a replay has no snapshot to say so
		b = v.appendStatus(b, it, it.seq)
	}
	fr := f.frame(b)
	v.s.metrics.encoded(f)
	if v.replays == nil {
		v.replays = make(map[string]*fanout.Frame)
	}
	if v.replayed+fr.Size() <= maxReplays {
		v.replays[key] = fr
		v.replayed += fr.Size() + len(key)
	}
	return fr, true
}

// maxReplays is how many bytes of replays are kept until the next chunk, for all who come back from the same place.
const maxReplays = 2 << 20

// missed lists what happened between a place and the end of the logs, each partition in order. v.mu is held.
func (v *view) missed(from position) (all []happening, ok bool) {
	for _, it := range v.items {
		after, ok := from.of(it.part)
		if !ok {
			return nil, false
		}
		entries, ok := it.in.Since(v.channel, v.interval, after)
		if !ok {
			return nil, false
		}
		end, _ := v.pos.of(it.part)
		for _, e := range entries {
			if e.Offset <= end {
				all = append(all, happening{it, e})
			}
		}
	}
	slices.SortFunc(all, func(a, b happening) int {
		return cmp.Or(cmp.Compare(a.it.part, b.it.part), cmp.Compare(a.e.Offset, b.e.Offset))
	})
	return all, true
}
