package fanout

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// Format is an encoding of messages; the caller gives the numbers their meaning.
type Format uint8

// Native is the format a message is published in. All others are derived from it, when first asked for.
const Native Format = 0

// NumFormats is how many formats there are, Native included.
const NumFormats = 2

// Kind says what a topic owes a subscriber that fell behind.
type Kind uint8

// The kinds.
const (
	State  Kind = iota // the newest value; it has no ring
	Merge              // the entries it missed merged into one, or a snapshot
	Log                // every entry it missed, and a gap message for those that are gone
	Replay             // every entry it missed, or a snapshot when some are gone
)

// Limits bound a topic's ring; what exceeds any of them goes, oldest first. Zero is no limit, except that Entries must be
// positive.
type Limits struct {
	Entries int
	Bytes   int // of all encodings made so far
	Age     time.Duration
}

// Source makes what a topic can't say by itself. The shards call it, with no lock of this package held, while the writer
// goes on publishing; Snapshot must see the state and the topic's position ([Topic.Next]) as of one instant, so the
// writer and Snapshot share a lock of the Source's own.
type Source interface {
	// Encode derives a message from an entry's native frames.
	Encode(e *Entry, f Format) *Frame
	// Merge makes one message, in whichever frames it takes, of consecutive entries. Nil asks for a snapshot instead.
	Merge(entries []*Entry, f Format) *Frame
	// Snapshot encodes the whole state as it is, or was a little while ago; for a Log, the History entries up to Seq.
	Snapshot(w Want) Snapshot
	// Gap makes the message that tells of missing entries: those behind after, up to and including last.
	Gap(after, last market.Sequence, f Format) *Frame
}

// Want says which snapshot a subscriber needs.
type Want struct {
	Format    Format
	History   int             // of a Log: how many entries
	Seq       market.Sequence // what the subscriber has, or where its history ends
	NotBefore market.Sequence // an older state is of no use
}

// Snapshot is a state and its place in the topic.
type Snapshot struct {
	Frames *Frame          // nil when there is no state yet
	Seq    market.Sequence // the state's own
	Next   uint64          // position of the first entry behind it; 0 leaves the subscriber where it is
}

// Entry is one published message.
type Entry struct {
	Seq   market.Sequence
	Prev  uint64 // sequence it follows, in the same epoch
	Reset bool   // it holds the whole state and does not depend on what was before
	Meta  any    // the publisher's, for its Source
	// Offset is where the event stands in the publisher's log, ascending from entry to entry; see Topic.From.
	Offset int64
	// Age is how old the event was when it was published; 0 is unknown. It is for statistics alone.
	Age time.Duration

	native  Frame
	mu      sync.Mutex // held while deriving, so that a message is encoded once
	derived atomic.Pointer[Frame]
	at      time.Duration // when it was published, by the hub's clock
	index   uint64        // position in the topic, guarded by Topic.mu
	bytes   int           // counted against the ring's limit, guarded by Topic.mu
}

// NewEntry makes an entry of its native payload, which is copied.
func NewEntry(seq market.Sequence, prev uint64, op Opcode, native []byte) *Entry {
	return &Entry{Seq: seq, Prev: prev, native: makeFrame(op, native)}
}

// NewReset makes an entry that holds the whole state, of a chain of native frames.
func NewReset(seq market.Sequence, prev uint64, native *Frame) *Entry {
	return &Entry{Seq: seq, Prev: prev, Reset: true, native: Frame{data: native.data, head: native.head, next: native.next}}
}

// NewFramed makes an entry of frames that are ready to be sent.
func NewFramed(seq market.Sequence, native *Frame) *Entry {
	return &Entry{Seq: seq, native: Frame{data: native.data, head: native.head, next: native.next, Tag: native.Tag}}
}

// Native returns the entry's frames as they were published.
func (e *Entry) Native() *Frame { return &e.native }

// Topic is one stream of messages with its subscribers. It has a single writer at a time: Publish, SetValue, SetNotice and
// Clear exclude each other.
type Topic struct {
	// Label is the owner's description of the topic, handed back in lag notices. Not changed after the first Sub.
	Label any

	hub    *Hub
	kind   Kind
	source Source
	limits Limits

	mu      sync.Mutex
	ring    []*Entry // entry i stands at i modulo the length, a power of two
	first   uint64   // position of the oldest entry
	next    uint64   // position of the entry to come
	bytes   int
	gone    int64           // Offset of the newest entry that has left the ring, -1 if none has
	last    market.Sequence // of the newest entry or value
	value   *Entry
	values  uint32 // how many values were set, but never 0 again
	notice  *Frame
	notices uint16 // the same of notices
	subs    []*Sub
	moved   time.Duration // when anything was last sent to the subscribers
}

// NewTopic makes a topic. A nil source is right for a State topic with one format.
func (h *Hub) NewTopic(kind Kind, limits Limits, source Source) *Topic {
	return &Topic{hub: h, kind: kind, limits: limits, source: source, next: 1, first: 1, gone: -1, moved: h.now()}
}

// Publish appends an entry and marks the subscribers. The topic keeps e.
func (t *Topic) Publish(e *Entry) {
	e.at = t.hub.now()
	e.bytes = e.native.Size() + entryOverhead
	t.mu.Lock()
	defer t.mu.Unlock()
	e.index = t.next
	if t.next-t.first == uint64(len(t.ring)) {
		t.grow()
	}
	t.ring[t.next&uint64(len(t.ring)-1)] = e
	t.next++
	t.bytes += e.bytes
	t.last = e.Seq
	t.evict(e.at)
	t.mark(e.at)
}

// entryOverhead is what an entry costs beside its bytes.
const entryOverhead = 160

// SetValue replaces the topic's value and marks the subscribers. In a Log topic the value follows the entries: it is
// never sent before an entry that was published before it.
func (t *Topic) SetValue(e *Entry) {
	e.at = t.hub.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.value = e
	t.values = following(t.values)
	if t.kind == State {
		t.last = e.Seq
	}
	t.mark(e.at)
}

// SetNotice replaces the topic's notice, which is the same in every format, and marks the subscribers. A notice is sent
// behind the entries and the value that were there before it. A subscriber gets the newest only.
func (t *Topic) SetNotice(f *Frame) {
	now := t.hub.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notice = f
	t.notices = following(t.notices)
	t.mark(now)
}

// Clear forgets the entries and the value because they do not lead to the present state, whose sequence is last: every
// subscriber of a Merge or Replay topic gets a snapshot, of a Log topic a gap.
func (t *Topic) Clear(last market.Sequence) {
	now := t.hub.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first < t.next {
		t.gone = t.at(t.next - 1).Offset
	}
	clear(t.ring)
	t.bytes = 0
	t.value = nil
	t.last = last
	t.next++ // so that a subscriber that had everything has missed something
	t.first = t.next
	t.mark(now)
}

// Expire drops the entries that are older than the limit.
func (t *Topic) Expire() {
	now := t.hub.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.evict(now)
}

// Next is the position of the entry to come.
func (t *Topic) Next() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next
}

// Since counts the entries from position on. It fails when some of them have left the ring.
func (t *Topic) Since(position uint64) (entries int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int(t.next - position), position >= t.first && position <= t.next
}

// Entries returns the entries from position on, or nil when some of them have left the ring.
func (t *Topic) Entries(position uint64) []*Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if position < t.first {
		return nil
	}
	var all []*Entry
	for i := position; i < t.next; i++ {
		all = append(all, t.at(i))
	}
	return all
}

// From returns the entries whose Offset is greater. It fails when one of those has left the ring.
func (t *Topic) From(offset int64) (entries []*Entry, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone > offset {
		return nil, false
	}
	n := int(t.next - t.first)
	i := sort.Search(n, func(i int) bool { return t.at(t.first+uint64(i)).Offset > offset })
	for ; i < n; i++ {
		entries = append(entries, t.at(t.first+uint64(i)))
	}
	return entries, true
}

// Last is the sequence of the newest entry, or value.
func (t *Topic) Last() market.Sequence {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// Subscribers counts the subscriptions.
func (t *Topic) Subscribers() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.subs)
}

// Silent is how long nothing has been published.
func (t *Topic) Silent() time.Duration {
	now := t.hub.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	return now - t.moved
}

// After finds the position from which a reader that has everything up to seq goes on. It fails when the ring does not
// reach back that far, or when seq lies in another epoch or beyond the newest entry.
func (t *Topic) After(seq market.Sequence) (position uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := int(t.next - t.first)
	i := sort.Search(n, func(i int) bool { return t.at(t.first+uint64(i)).Seq.Compare(seq) > 0 })
	if i == n {
		return t.next, t.last == seq
	}
	e := t.at(t.first + uint64(i))
	return e.index, e.Seq.Epoch == seq.Epoch && e.Prev <= seq.Seq
}

// Back is the position n entries before the next one, or of the oldest entry when there are fewer.
func (t *Topic) Back(n int) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if have := t.next - t.first; uint64(n) > have {
		return t.first
	}
	return t.next - uint64(n)
}

func (t *Topic) at(i uint64) *Entry { return t.ring[i&uint64(len(t.ring)-1)] }

func (t *Topic) grow() {
	ring := make([]*Entry, max(8, 2*len(t.ring)))
	for i := t.first; i < t.next; i++ {
		ring[i&uint64(len(ring)-1)] = t.at(i)
	}
	t.ring = ring
}

// evict drops what the limits do not allow, but never the newest entry.
func (t *Topic) evict(now time.Duration) {
	for t.first+1 < t.next {
		e := t.at(t.first)
		over := int(t.next-t.first) > t.limits.Entries ||
			t.limits.Bytes > 0 && t.bytes > t.limits.Bytes ||
			t.limits.Age > 0 && now-e.at > t.limits.Age
		if !over {
			return
		}
		t.ring[t.first&uint64(len(t.ring)-1)] = nil
		t.gone = e.Offset
		t.first++
		t.bytes -= e.bytes
	}
}

// following counts on from n, past zero, which means none.
func following[N uint16 | uint32](n N) N { return max(n+1, 1) }

func (t *Topic) mark(now time.Duration) {
	t.moved = now
	due := t.hub.borrow()
	for _, s := range t.subs {
		if s.mark() {
			list := &due.conns[s.conn.shard.index]
			*list = append(*list, s.conn)
		}
	}
	for i, conns := range due.conns {
		if len(conns) > 0 {
			t.hub.shards[i].add(conns...)
			clear(conns)
			due.conns[i] = conns[:0]
		}
	}
	t.hub.giveBack(due)
}

// due is scratch space: connections to be handed to each shard, all at once.
type due struct{ conns [][]*Conn }

func (h *Hub) borrow() *due {
	select {
	case d := <-h.due:
		return d
	default:
		return &due{make([][]*Conn, len(h.shards))}
	}
}

func (h *Hub) giveBack(d *due) {
	select {
	case h.due <- d:
	default: // there are enough
	}
}

// form returns the entry as a subscription wants it: in its format, and compressed, if its connection wants that. Both are
// made once, and count as the ring's bytes.
func (t *Topic) form(e *Entry, s *Sub, p *pass) *Frame {
	first := t.frame(e, s.manner.format())
	if s.conn.deflate {
		bytes := 0
		for f := first; f != nil; f = f.next {
			_, made := f.deflated(&p.deflater)
			bytes += made
		}
		if bytes > 0 {
			p.conn.hub.stats.Deflated.Add(1)
			t.count(e, bytes)
		}
	}
	return first
}

// Form returns an entry of the topic in a format, encoding it if nobody has before.
func (t *Topic) Form(e *Entry, f Format) *Frame { return t.frame(e, f) }

// frame returns the entry in a format, encoding it if nobody has before.
func (t *Topic) frame(e *Entry, f Format) *Frame {
	if f == Native || t.source == nil {
		return &e.native
	}
	if d := e.derived.Load(); d != nil {
		return d
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.derived.Load(); d != nil {
		return d
	}
	d := t.source.Encode(e, f)
	e.derived.Store(d)
	t.count(e, d.Size())
	return d
}

// count charges the bytes of a derived encoding to the ring, if the entry is still there.
func (t *Topic) count(e *Entry, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.index >= t.first && e.index < t.next && t.at(e.index) == e {
		e.bytes += n
		t.bytes += n
	}
}

// owed is what a topic has for one subscriber.
type owed struct {
	pending  uint64   // entries it has not had
	entries  []*Entry // the oldest of them
	lost     bool     // some left the ring before it had them
	first    *Entry   // the oldest in the ring, when lost
	position uint64   // of the oldest in the ring, when lost
	last     market.Sequence
	value    *Entry
	values   uint32
	notice   *Frame
	notices  uint16
}

// position is the whole of a position of which a cursor keeps the lower half: it lies less than 2^32 entries back, for no
// connection is kept so long behind. t.mu is held.
func (t *Topic) position(cursor uint32) uint64 {
	return t.next - uint64(uint32(t.next)-cursor) //nolint:gosec // the lower half
}

// owed looks up what lies behind a cursor, at most limit entries of it in room.
func (t *Topic) owed(at uint32, room []*Entry, limit int) (o owed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	cursor := t.position(at)
	o.value, o.values, o.notice, o.notices, o.last = t.value, t.values, t.notice, t.notices, t.last
	if t.kind == State {
		return o
	}
	if cursor < t.first {
		o.lost, o.position = true, t.first
		if t.first < t.next {
			o.first = t.at(t.first)
		}
		return o
	}
	o.pending = t.next - cursor
	o.entries = room[:0]
	for i := cursor; i < t.next && len(o.entries) < limit; i++ {
		o.entries = append(o.entries, t.at(i))
	}
	return o
}

// add registers a subscription that begins at a position; one that has left the ring is as good as the last that did.
func (t *Topic) add(s *Sub, position uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.move(max(position, t.first-1))
	s.place, s.notices = uint32(len(t.subs)), t.notices
	t.subs = append(t.subs, s)
}

func (t *Topic) remove(s *Sub) {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := len(t.subs) - 1
	if int(s.place) > end || t.subs[s.place] != s {
		return
	}
	moved := t.subs[end]
	t.subs[s.place], moved.place = moved, s.place
	t.subs[end] = nil
	t.subs = t.subs[:end]
}
