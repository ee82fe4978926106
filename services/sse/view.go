package sse

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/mirror"
)

// view is one stream: what a spec asks for, rendered once for all clients that want it. It is a mirror.Tap: what happens to
// its instruments is noted, and at its beat goes into its logs as one chunk. Trades of rate 0 go in at once.
type view struct {
	spec
	s      *Server
	tapped mirror.Tapped
	due    atomic.Bool // something waits for the next beat

	// Guarded by Server.viewsMu.
	clients int
	unused  time.Duration // since when there have been none
	failed  error         // it could not begin; set before ready is closed
	ready   chan struct{}

	mu       sync.Mutex // taken after an Instrument's
	open     bool       // all instruments have begun
	items    []*item    // by sym
	byInst   map[*mirror.Instrument]*item
	pos      position
	waiting  []happening // not yet in the logs
	dirty    []*item     // whose value or state may have changed
	broken   bool        // what comes does not follow what was: say so
	seq      uint64      // of the newest chunk
	moved    time.Duration
	logs     [numForms]*fanout.Topic // made when first needed
	snapshot shot                    // the newest
	replays  map[string]*fanout.Frame
	replayed int           // bytes of replays
	changed  chan struct{} // closed by the next chunk; nil when nobody waits
	text     []byte
}

// item is one instrument of a view.
type item struct {
	in     *mirror.Instrument
	name   []byte // its sym as JSON
	part   int    // of md.events
	seq    market.Sequence
	state  market.State
	why    market.Reason
	value  []byte   // JSON: the ticker, the bbo, the open bar
	recent [][]byte // JSON: the newest trades or final bars
	events uint32   // so far
	dirty  bool
}

// happening is an entry of an instrument's log.
type happening struct {
	it *item
	e  *fanout.Entry
}

// update is one instrument's part of a chunk of values.
type update struct {
	it   *item
	text []byte
}

// shot is a rendered snapshot.
type shot struct {
	seq    uint64
	frames [numForms]*fanout.Frame
}

const (
	recentTrades = 20
	recentBars   = 2
	maxWaiting   = 4096 // entries that wait for the beat; beyond, they do not
	beatEvery    = 50 * time.Millisecond
	heartbeat    = 15 * time.Second
	lingerFor    = 30 * time.Second // of a view without clients, for those who come back
	replayLimit  = 1 << 20          // bytes of one replay; beyond, a reset is shorter
	maxSpare     = 64 << 10         // of a buffer that a view keeps
)

// logLimits bound what a client that falls behind can still have.
var logLimits = fanout.Limits{Entries: 4096, Bytes: 1 << 20, Age: 30 * time.Second}

func newView(s *Server, p spec) *view {
	v := &view{spec: p, s: s, byInst: make(map[*mirror.Instrument]*item), ready: make(chan struct{}), moved: s.now()}
	v.tapped = mirror.Tapped{Channel: p.channel, Interval: p.interval, Syms: p.syms, All: p.all}
	switch p.channel {
	case market.Trades:
		v.tapped.Recent = recentTrades
	case market.Bars:
		v.tapped.Recent = recentBars
	}
	return v
}

// begin taps the instruments.
func (v *view) begin() error {
	if err := v.s.mirror.Tap(v, v.tapped); err != nil {
		v.s.mirror.Untap(v, v.tapped)
		return err
	}
	v.mu.Lock()
	tooMany := len(v.pos.parts) > maxPartitions || v.pos.longest() > maxID
	v.open = !tooMany
	v.mu.Unlock()
	if tooMany {
		v.s.mirror.Untap(v, v.tapped)
		return errPartitions
	}
	return nil
}

// Begin implements mirror.Tap.
func (v *view) Begin(in *mirror.Instrument, at mirror.Look) {
	v.mu.Lock()
	defer v.mu.Unlock()
	name, err := json.Marshal(in.Sym())
	if err != nil {
		panic("sse: a sym that is no text: " + err.Error()) // strings always are
	}
	it := &item{in: in, name: name, part: at.Partition, seq: at.Sequence, state: at.State, why: at.Why, value: at.Value, recent: at.Final}
	if v.channel == market.Trades {
		for _, e := range at.Recent {
			it.keep(in.JSON(v.channel, v.interval, e), e)
		}
	}
	v.byInst[in] = it
	i, _ := slices.BinarySearchFunc(v.items, in.Sym(), func(it *item, sym string) int { return strings.Compare(it.in.Sym(), sym) })
	v.items = slices.Insert(v.items, i, it)
	if i, known := slices.BinarySearch(v.pos.parts, at.Partition); v.dated() && !known {
		v.pos.parts = slices.Insert(v.pos.parts, i, at.Partition)
		v.pos.offsets = slices.Insert(v.pos.offsets, i, max(0, at.Offset))
	}
	v.snapshot = shot{}
	if v.open { // it is new to the market: its first value is news
		it.value = nil
		v.touch(in)
	}
}

// Event implements mirror.Tap.
func (v *view) Event(in *mirror.Instrument, e *fanout.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	it := v.byInst[in]
	if it == nil {
		return
	}
	it.events++
	h := happening{it, e}
	if v.open && v.broken { // the snapshot to come includes it
		v.pos.set(it.part, e.Offset)
		v.note(h)
		return
	}
	v.waiting = append(v.waiting, h)
	if v.open && (v.rate == 0 || len(v.waiting) >= maxWaiting) {
		v.publish(nil)
		return
	}
	v.due.Store(true)
}

// Interrupted implements mirror.Tap.
func (v *view) Interrupted(in *mirror.Instrument) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open {
		v.publish(nil) // what happened before does follow
	}
	v.broken = true
	if it := v.byInst[in]; it != nil {
		it.recent = nil
	}
	v.touch(in)
}

// Changed implements mirror.Tap.
func (v *view) Changed(in *mirror.Instrument) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.touch(in)
}

func (v *view) touch(in *mirror.Instrument) {
	if it := v.byInst[in]; it != nil && !it.dirty {
		it.dirty = true
		v.dirty = append(v.dirty, it)
		v.due.Store(true)
	}
}

// taken is what a view takes along from one beat: whose value or state may have changed, and how many events each had had.
type taken struct {
	v      *view
	dirty  []*item
	events []uint32
}

// gather begins a beat. Nothing is lost between it and deliver: what changes from here on is looked at by the next beat.
func (v *view) gather() (t taken, ok bool) {
	if !v.due.Swap(false) {
		return t, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.open {
		v.due.Store(true)
		return t, false
	}
	t = taken{v: v, dirty: v.dirty, events: make([]uint32, len(v.dirty))}
	v.dirty = nil
	for i, it := range t.dirty {
		it.dirty = false
		t.events[i] = it.events
	}
	return t, true
}

// deliver ends a beat: it publishes what waits and what the looks have found.
func (t *taken) deliver(looks *looks) {
	v := t.v
	seen := make([]*looked, len(t.dirty)) // without the view's lock, which comes after the instrument's
	for i, it := range t.dirty {
		seen[i] = looks.at(it.in, v.channel, v.interval)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var updates []update
	for i, it := range t.dirty {
		if it.events != t.events[i] {
			v.touch(it.in) // the look may be older than an event that it would follow
			continue
		}
		updates = v.look(it, seen[i], updates)
	}
	if v.broken {
		v.restart()
		return
	}
	if len(v.waiting) > 0 || len(updates) > 0 {
		v.publish(updates)
	}
}

// looks are those of one beat, taken once for all views. They are taken behind the last gather, so none is older than the
// change that it is taken for.
type looks struct{ known map[lookKey]*looked }

type lookKey struct {
	in *mirror.Instrument
	ch market.Channel
	iv market.Interval
}

// looked is how a channel stands, and the event that tells so; nil when there is no value.
type looked struct {
	mirror.Look
	event []byte
}

func (l *looks) at(in *mirror.Instrument, ch market.Channel, iv market.Interval) *looked {
	key := lookKey{in, ch, iv}
	if k := l.known[key]; k != nil {
		return k
	}
	k := &looked{Look: in.Look(ch, iv)}
	if k.Value != nil {
		k.event = appendEvent(nil, nil, eventOf[ch], k.Value)
	}
	if l.known == nil {
		l.known = make(map[lookKey]*looked)
	}
	l.known[key] = k
	return k
}

// look takes what has changed of an item.
func (v *view) look(it *item, at *looked, updates []update) []update {
	if at.State != it.state || at.Why != it.why {
		it.state, it.why = at.State, at.Why
		updates = append(updates, update{it, v.appendStatus(nil, it, at.Sequence)})
	}
	if v.channel == market.Trades {
		if it.seq.Compare(at.Sequence) < 0 && v.broken {
			it.seq = at.Sequence
		}
		return updates
	}
	if at.Value != nil && !sameValue(at.Value, it.value) {
		updates = append(updates, update{it, at.event})
	}
	it.value = at.Value
	if v.channel != market.Bars {
		it.seq = at.Sequence
	}
	return updates
}

// appendStatus appends an item's state as an event.
func (v *view) appendStatus(b []byte, it *item, at market.Sequence) []byte {
	return appendEvent(b, nil, "status", wire.AppendTopicStatusJSON(nil, &wire.TopicStatus{
		Topic: wire.Topic{Channel: v.channel, Sym: it.in.Sym(), Interval: v.interval},
		State: it.state, Why: it.why, Sequence: at, Time: market.FromTime(time.Now()),
	}))
}

// sameValue compares messages but for the time at which they were made, which stands last.
func sameValue(a, b []byte) bool {
	cut := func(m []byte) []byte {
		if i := bytes.LastIndex(m, []byte(`,"out":`)); i >= 0 {
			return m[:i]
		}
		return m
	}
	return bytes.Equal(cut(a), cut(b))
}

// eventOf names the events of a channel.
var eventOf = map[market.Channel]string{market.Tickers: "ticker", market.BBOs: "bbo", market.Trades: "trade", market.Bars: "bar"}

// keep remembers a trade or a final bar for snapshots.
func (it *item) keep(json []byte, e *fanout.Entry) {
	if t, err := wire.Peek(e.Native().Payload()); err != nil || t != wire.TemplateTrade && t != wire.TemplateBar {
		return
	}
	it.recent = append(it.recent, json)
}

// publish appends a chunk to the logs: what waits, in order, then values. v.mu is held.
func (v *view) publish(updates []update) {
	reached := v.reached()
	b := v.text[:0]
	for _, h := range v.waiting {
		b = v.appendHappening(b, h)
		v.note(h)
	}
	for _, u := range updates {
		b = append(b, u.text...)
	}
	clear(v.waiting)
	v.waiting = v.waiting[:0]
	v.pos.raise(reached)
	if v.text = b; cap(b) > maxSpare {
		v.text = nil
	}
	if len(b) == 0 {
		return // an empty chunk would be the end of every client's stream
	}
	v.add(b, updates)
	v.s.metrics.chunks.Inc()
}

// add appends text to the logs as one chunk. v.mu is held.
func (v *view) add(text []byte, updates []update) {
	v.seq++
	v.moved = v.s.now()
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
	v.replays, v.replayed = nil, 0
	for f, log := range v.logs {
		if log == nil {
			continue
		}
		e := fanout.NewFramed(market.Sequence{Epoch: 1, Seq: v.seq}, form(f).frame(text))
		if len(updates) > 0 {
			e.Meta = updates
		}
		log.Publish(e)
		v.s.metrics.encoded(form(f))
	}
}

// appendHappening appends an event with the place it leads to. v.mu is held.
func (v *view) appendHappening(b []byte, h happening) []byte {
	v.pos.set(h.it.part, h.e.Offset)
	return v.appendEntry(b, v.pos, h)
}

// appendEntry appends an entry of a log as an event with an id.
func (v *view) appendEntry(b []byte, pos position, h happening) []byte {
	var room [maxID]byte
	return appendEvent(b, pos.appendID(room[:0], v.s.logID()), v.nameOf(h), h.it.in.JSON(v.channel, v.interval, h.e))
}

// nameOf is the name of the event that tells of a happening.
func (v *view) nameOf(h happening) string {
	if t, err := wire.Peek(h.e.Native().Payload()); err == nil && (t == wire.TemplateTradeGap || t == wire.TemplateBarGap) {
		return "gap"
	}
	return eventOf[v.channel]
}

// note keeps what snapshots tell. v.mu is held.
func (v *view) note(h happening) {
	h.it.seq = h.e.Seq
	h.it.keep(h.it.in.JSON(v.channel, v.interval, h.e), h.e)
	most := recentTrades
	if v.channel == market.Bars {
		most = recentBars
	}
	if over := len(h.it.recent) - most; over > 0 {
		h.it.recent = append(h.it.recent[:0], h.it.recent[over:]...)
	}
}

// reached is how far the partitions have been read: all events up to there are in the logs or wait. v.mu is held.
func (v *view) reached() position {
	p := position{parts: v.pos.parts, offsets: make([]int64, len(v.pos.parts))}
	for _, it := range v.items {
		if i, ok := slices.BinarySearch(p.parts, it.part); ok {
			_, p.offsets[i] = it.in.Partition()
		}
	}
	return p
}

// settle moves the place on when nothing waits, so that it does not grow old in a quiet market. v.mu is held.
func (v *view) settle() {
	if len(v.waiting) == 0 && v.dated() {
		v.pos.raise(v.reached())
	}
}

func (p position) set(part int, offset int64) {
	if i, ok := slices.BinarySearch(p.parts, part); ok {
		p.offsets[i] = max(p.offsets[i], offset)
	}
}

func (p position) raise(to position) {
	for i, o := range to.offsets {
		p.offsets[i] = max(p.offsets[i], o)
	}
}

// restart tells all clients that something is missing, and how things stand. v.mu is held.
func (v *view) restart() {
	v.broken = false
	reached := v.reached()
	for _, h := range v.waiting {
		v.pos.set(h.it.part, h.e.Offset)
		v.note(h)
	}
	clear(v.waiting)
	v.waiting = v.waiting[:0]
	v.pos.raise(reached)
	b := appendReset(nil, resetTooOld)
	v.add(v.appendSnapshot(b), nil)
}

// appendEvent appends an event of one line of JSON.
func appendEvent(b, id []byte, name string, json []byte) []byte {
	if len(id) > 0 {
		b = append(append(append(b, "id: "...), id...), '\n')
	}
	b = append(append(append(b, "event: "...), name...), "\ndata: "...)
	return append(append(b, json...), '\n', '\n')
}

func appendReset(b []byte, why string) []byte {
	return appendEvent(b, nil, "reset", append(append([]byte(`{"why":"`), why...), `"}`...))
}

// appendID appends the id of the view's place. v.mu is held.
func (v *view) appendID(b []byte) []byte { return v.pos.appendID(b, v.s.logID()) }

// appendSnapshot appends the snapshot as an event. v.mu is held.
func (v *view) appendSnapshot(b []byte) []byte {
	var room [maxID]byte
	id := room[:0]
	if v.dated() {
		id = v.appendID(id)
	}
	return appendEvent(b, id, "snapshot", append(v.appendItems([]byte(`{"ch":"`+v.channel.String()+`"`)), '}'))
}

// appendItems appends how every instrument stands. v.mu is held.
func (v *view) appendItems(b []byte) []byte {
	if v.channel == market.Bars {
		b = append(append(append(b, `,"iv":"`...), v.interval.String()...), '"')
	}
	b = append(b, `,"items":[`...)
	for i, it := range v.items {
		if i > 0 {
			b = append(b, ',')
		}
		b = v.appendItem(b, it)
	}
	return append(b, ']')
}

func (v *view) appendItem(b []byte, it *item) []byte {
	b = append(append(append(b, `{"sym":`...), it.name...), `,"ep":`...)
	b = strconv.AppendUint(b, uint64(it.seq.Epoch), 10)
	b = strconv.AppendUint(append(b, `,"seq":`...), it.seq.Seq, 10)
	b = append(append(append(b, `,"state":"`...), it.state.String()...), '"')
	if why := it.why.String(); it.why != 0 {
		b = append(append(append(b, `,"why":"`...), why...), '"')
	}
	if !v.dated() {
		b = append(append(append(b, `,"`...), eventOf[v.channel]...), `":`...)
		if it.value == nil {
			return append(b, "null}"...)
		}
		return append(append(b, it.value...), '}')
	}
	b = append(append(append(b, `,"`...), v.channel.String()...), `":[`...)
	for i, json := range it.recent {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, json...)
	}
	if v.channel == market.Bars && it.value != nil {
		if len(it.recent) > 0 {
			b = append(b, ',')
		}
		b = append(b, it.value...)
	}
	return append(b, "]}"...)
}

// shoot returns the snapshot, rendered once for all who want it before the next chunk, with a reset before it if there is a
// reason. v.mu is held.
func (v *view) shoot(f form, reset string) *fanout.Frame {
	if v.snapshot.seq != v.seq {
		v.snapshot = shot{seq: v.seq}
	}
	if v.snapshot.frames[f] == nil {
		v.snapshot.frames[f] = f.frame(v.appendSnapshot(nil))
		v.s.metrics.encoded(f)
	}
	fr := again(v.snapshot.frames[f])
	if reset == "" {
		return fr
	}
	return fanout.Chain(f.frame(appendReset(nil, reset)), fr)
}

// log returns the log of a form. v.mu is held.
func (v *view) log(f form) *fanout.Topic {
	if v.logs[f] == nil {
		kind := fanout.Merge
		if v.dated() {
			kind = fanout.Replay
		}
		v.logs[f] = v.s.hub.NewTopic(kind, logLimits, &source{v, f})
	}
	return v.logs[f]
}

// source is what a log's subscribers get when they have missed something.
type source struct {
	v *view
	f form
}

// Encode implements fanout.Source; there is one format.
func (s *source) Encode(e *fanout.Entry, _ fanout.Format) *fanout.Frame { return e.Native() }

// Gap implements fanout.Source; there are none.
func (s *source) Gap(_, _ market.Sequence, _ fanout.Format) *fanout.Frame { return nil }

// Merge implements fanout.Source: of values, the newest of each instrument.
func (s *source) Merge(entries []*fanout.Entry, _ fanout.Format) *fanout.Frame {
	type key struct {
		it     *item
		status bool
	}
	newest := make(map[key]int)
	var all []update
	for _, e := range entries {
		updates, ok := e.Meta.([]update)
		if !ok {
			continue // a heartbeat
		}
		for _, u := range updates {
			k := key{u.it, bytes.HasPrefix(u.text, []byte("event: status"))}
			if i, had := newest[k]; had {
				all[i].text = nil
			}
			newest[k] = len(all)
			all = append(all, u)
		}
	}
	var b []byte
	for _, u := range all {
		b = append(b, u.text...)
	}
	if len(b) == 0 {
		return nil
	}
	return s.f.frame(b)
}

// Snapshot implements fanout.Source: for those who have fallen off the log.
func (s *source) Snapshot(fanout.Want) fanout.Snapshot {
	v := s.v
	v.mu.Lock()
	defer v.mu.Unlock()
	reset := ""
	if v.dated() {
		reset = "slow"
	}
	return fanout.Snapshot{
		Frames: v.shoot(s.f, reset), Seq: market.Sequence{Epoch: 1, Seq: v.seq}, Next: v.log(s.f).Next(),
	}
}

// sweep sends a heartbeat where nothing else was sent for long.
func (v *view) sweep(now time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.open || now-v.moved < heartbeat {
		return
	}
	if !v.beats {
		v.add([]byte(":\n\n"), nil)
		return
	}
	v.settle()
	var room [maxID]byte
	id := room[:0]
	if v.dated() {
		id = v.appendID(id)
	}
	ts := strconv.AppendInt([]byte(`{"ts":`), market.FromTime(time.Now()).Micros(), 10)
	v.add(appendEvent(nil, id, "hb", append(ts, '}')), nil)
}
