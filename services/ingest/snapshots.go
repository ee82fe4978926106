package ingest

import (
	"errors"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
)

// snapshots returns what must be written to save an instrument as it stands: blocks of bars that have become complete, then
// the instrument. They must be written in this order; saved says that they will be. events is an offset in md.events below
// which nothing is missing in the state.
func (c *core) snapshots(it *instrument, events int64) (list []stream.Snapshot, saved func()) {
	bars, complete, done := it.saveBars(nil)
	for i := range complete {
		b := &complete[i]
		list = append(list, stream.Snapshot{
			Inst: it.def.ID, Kind: stream.KindBars + uint8(b.interval), Block: b.slot,
			EventsOffset: events, InputOffset: c.offset, Payload: b.payload,
		})
	}
	before := it.blocks
	done() // the private part tells the blocks as they will be
	s := c.save(it, bars)
	it.blocks = before
	list = append(list, stream.Snapshot{
		Inst: it.def.ID, Kind: stream.KindInstrument, EventsOffset: events, InputOffset: c.offset, Payload: s.Append(nil),
	})
	return list, func() {
		done()
		it.dirty, it.saved, it.savedEvents = false, c.offset, events
	}
}

// saveCheckpoint returns the snapshot that says where the partition stands. Every instrument must have been saved.
func (c *core) saveCheckpoint(events int64) stream.Snapshot {
	p := c.checkpoint()
	p.events = events
	for _, it := range c.list {
		if it.dirty {
			p.events = min(p.events, it.savedEvents)
		}
	}
	return stream.Snapshot{Kind: stream.KindCheckpoint, EventsOffset: p.events, InputOffset: c.offset, Payload: p.append(nil)}
}

// saver writes a core's snapshots: every changed instrument once per interval, spread over it, new ones at once, and then
// the checkpoint. What it hands over is written only when all outputs so far are acknowledged, in the order of the calls.
type saver struct {
	core   *core
	every  time.Duration
	write  func(stream.Snapshot) error
	events func() int64 // offset in md.events below which everything is acknowledged
	bytes  func(int)    // is told how much was written

	next  int       // in core.list
	began time.Time // of this round
	known int       // instruments that were saved once are all in list[:known]
}

// turn does what is due at now. It must be called between two inputs, many times per interval.
func (s *saver) turn(now time.Time) error {
	if s.core.resets != nil {
		return nil // the state says what the stream does not say yet
	}
	if s.began.IsZero() {
		s.began = now
	}
	if err := s.saveNew(); err != nil {
		return err
	}
	list := s.core.list
	due := len(list)
	if elapsed := now.Sub(s.began); elapsed < s.every {
		due = int(int64(len(list)) * int64(elapsed) / int64(s.every))
	}
	for ; s.next < due; s.next++ {
		if it := list[s.next]; it.dirty {
			if err := s.save(it); err != nil {
				return err
			}
		}
	}
	if now.Sub(s.began) < s.every {
		return nil
	}
	s.began, s.next = now, 0
	return s.put(s.core.saveCheckpoint(s.events()))
}

// all saves everything now.
func (s *saver) all() error {
	if s.core.resets != nil {
		return nil
	}
	for _, it := range s.core.list {
		if it.dirty || it.saved < 0 {
			if err := s.save(it); err != nil {
				return err
			}
		}
	}
	s.known = len(s.core.list)
	return s.put(s.core.saveCheckpoint(s.events()))
}

func (s *saver) saveNew() error {
	for ; s.known < len(s.core.list); s.known++ {
		if it := s.core.list[s.known]; it.saved < 0 {
			if err := s.save(it); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *saver) save(it *instrument) error {
	list, saved := s.core.snapshots(it, s.events())
	for i := range list {
		if err := s.put(list[i]); err != nil {
			return err
		}
	}
	saved()
	return nil
}

func (s *saver) put(snap stream.Snapshot) error {
	if err := s.write(snap); err != nil {
		return err
	}
	s.bytes(len(snap.Payload))
	return nil
}

// busy tells that a snapshot must wait for its next turn because too many are under way.
func busy(err error) bool { return errors.Is(err, stream.ErrBusy) }

// staleBooks counts the books that are not live, of instruments that are still listed.
func (c *core) staleBooks() (n int) {
	for _, it := range c.list {
		if it.state != market.Delisted && it.feed.state != market.Live {
			n++
		}
	}
	return n
}
