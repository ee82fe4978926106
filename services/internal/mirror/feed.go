package mirror

import (
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// feed is one topic of an instrument. Its fields are guarded by the instrument's lock.
type feed struct {
	in    *Instrument
	key   wire.Topic
	view  market.View // of a book
	topic *fanout.Topic
	seq   market.Sequence // of the newest event applied
	tail  market.Sequence // of the newest entry in the ring; zero when it is empty

	taps    []Tap
	told    market.State // what the subscribers know
	toldWhy market.Reason
}

func (f *feed) entry(seq market.Sequence, prev uint64, payload []byte) *fanout.Entry {
	e := fanout.NewEntry(seq, prev, fanout.Binary, payload)
	e.Meta, e.Offset = f.in.def, f.in.part.at.Load()
	if head, err := wire.HeadOf(payload); err == nil && head.In > 0 {
		e.Age = time.Duration(max(1, wall()-head.In))
	}
	return e
}

// publish appends to the ring, live or, while the state from a snapshot is ahead of it, as history.
func (f *feed) publish(e *fanout.Entry) {
	switch {
	case f.tail == market.Sequence{}, e.Seq.Epoch > f.tail.Epoch && e.Prev == 0:
	case e.Seq.Compare(f.tail) <= 0:
		return // read again after a restart
	case f.tail.Epoch != e.Seq.Epoch || f.tail.Seq != e.Prev && !e.Reset:
		f.topic.Clear(market.Sequence{Epoch: e.Seq.Epoch, Seq: e.Prev})
		f.interrupted()
	}
	f.topic.Publish(e)
	f.tail = e.Seq
}

// restart is for a state that did not come through the events before it.
func (f *feed) restart(seq market.Sequence) {
	f.seq, f.tail = seq, market.Sequence{}
	f.topic.Clear(seq)
	f.interrupted()
}

// tell sends the topic's state to its subscribers if it has changed, or has to be repeated because nothing was sent for a
// while. Without subscribers it is the row of the next one's acknowledgement that tells.
func (f *feed) tell() {
	state, why := f.in.stateOf(f.key.Channel)
	changed := state != f.told || why != f.toldWhy
	if changed {
		f.changed()
	}
	if f.topic.Subscribers() == 0 {
		f.told, f.toldWhy = state, why
		return
	}
	if !changed && f.topic.Silent() < repeatState {
		return
	}
	f.told, f.toldWhy = state, why
	f.topic.SetNotice(fanout.NewFrame(fanout.Text, wire.AppendTopicStatusJSON(nil, &wire.TopicStatus{
		Topic: f.key, State: state, Why: why, Sequence: f.seq, Time: wall(),
	})))
}

// TopicOf names the topic behind a label of a lag notice; ok is false for topics that are not the market's.
func TopicOf(label any) (t wire.Topic, ok bool) {
	f, ok := label.(*feed)
	if !ok {
		return t, false
	}
	return f.key, true
}

// Followed tells what a subscription of [Mirror.Subscribe] is to. The topic is shared by all its subscriptions.
func Followed(s *fanout.Sub) (key *wire.Topic, view market.View) {
	f := s.Topic().Label.(*feed)
	return &f.key, f.view
}
