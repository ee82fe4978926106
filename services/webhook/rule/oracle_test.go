package rule_test

import (
	"math"
	"math/big"
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

// oracle evaluates rules as their documentation says, in the slowest and most obvious way: it looks at every rule at every
// value, computes every window from its minutes, and keeps books in maps. It shares the records and the types of rules and
// fires with the package, and nothing else.
type oracle struct {
	t     fataler
	last  int64 // offset
	clock market.Time
	began bool
	insts map[uint32]*oracleInst
	rules map[int64]*oracleRule
	order []*oracleRule // nil: to be made again
	made  map[int64]rule.Series

	fires []rule.Fire
	ends  map[int64]rule.Ended
	lost  int
}

// oracleInst is an instrument. A nil value is one that there is not.
type oracleInst struct {
	status   market.Status
	sides    [2]map[market.Price]market.Size // nil: no book
	parts    []market.Snapshot
	bookSeq  market.Sequence
	bookTime market.Time
	broken   bool
	best     [2]market.Price // as last evaluated; 0: none

	seq     market.Sequence // of trades
	newest  market.Time
	price   market.Price // 0: none
	minutes map[int64]*oracleMinute
	from    int64 // first minute that is known whole

	gap map[string]bool // "last", "window", "book"
}

type oracleMinute struct {
	high, low, close market.Price
	volume           int64
}

type oracleRule struct {
	id      int64
	inst    uint32
	spec    rule.Spec
	armed   bool
	fires   uint32
	prev    *big.Int
	holding bool
	since   market.Time
	quiet   market.Time // end of the cooldown
	gapAt   int64       // record that brought the first value after a gap
}

func newOracle(t fataler) *oracle {
	return &oracle{t: t, last: -1, insts: map[uint32]*oracleInst{}, rules: map[int64]*oracleRule{}, ends: map[int64]rule.Ended{}, made: map[int64]rule.Series{}}
}

func groupOf(s rule.Series) string {
	switch s {
	case rule.Last:
		return "last"
	case rule.Bid, rule.Ask, rule.Mid, rule.SpreadBps:
		return "book"
	}
	return "window"
}

func (o *oracle) minute() int64 { return o.clock.Std().Unix() / 60 }

// add is a new rule, from here on.
func (o *oracle) add(id int64, inst uint32, s rule.Spec) {
	o.order, o.made[id] = nil, s.Series
	o.rules[id] = &oracleRule{id: id, inst: inst, spec: s, armed: true, prev: o.value(o.insts[inst], s), gapAt: -1}
}

// ordered returns the rules in order of their ids.
func (o *oracle) ordered() []*oracleRule {
	if o.order == nil {
		for _, r := range o.rules {
			o.order = append(o.order, r)
		}
		slices.SortFunc(o.order, func(a, b *oracleRule) int { return int(a.id - b.id) })
	}
	return o.order
}

// remove takes a rule out.
func (o *oracle) remove(id int64) {
	o.order = nil
	delete(o.rules, id)
}

// apply takes in a record.
func (o *oracle) apply(ev *stream.Event) {
	if ev.Offset <= o.last {
		return
	}
	o.last = ev.Offset
	before := len(o.fires)
	minute := o.minute()
	o.clock = max(o.clock, ev.Time)
	for _, r := range o.ordered() {
		if r.spec.Expires != 0 && o.clock >= r.spec.Expires {
			o.end(r, rule.Expired)
		}
	}
	if !o.began || o.minute() > minute {
		o.began = true
		for _, in := range o.insts {
			o.evaluate(in, "window")
		}
	}
	o.content(ev)
	for _, r := range o.ordered() { // the clock may have reached what somebody waits for
		if r.holding && !o.insts[r.inst].gap[groupOf(r.spec.Series)] {
			o.wait(r, nil)
		}
	}
	slices.SortStableFunc(o.fires[before:], func(a, b rule.Fire) int { return int(a.Rule - b.Rule) })
}

func (o *oracle) end(r *oracleRule, why rule.Ended) {
	o.ends[r.id] = why
	o.remove(r.id)
}

// content applies what a record says.
func (o *oracle) content(ev *stream.Event) {
	switch ev.Template {
	case wire.TemplateStatus:
		var s market.Status
		must(o.t, wire.DecodeStatus(ev.Value, &s))
		o.status(s)
	case wire.TemplateBookSnapshot:
		var s market.Snapshot
		must(o.t, wire.DecodeSnapshot(ev.Value, &s))
		if in := o.insts[s.Inst]; in != nil {
			o.snapshot(in, s)
		}
	case wire.TemplateBookUpdate:
		var d market.Delta
		must(o.t, wire.DecodeDelta(ev.Value, &d))
		if in := o.insts[d.Inst]; in != nil {
			o.update(in, d)
		}
	case wire.TemplateTrade:
		var t market.Trade
		must(o.t, wire.DecodeTrade(ev.Value, &t))
		if in := o.insts[t.Inst]; in != nil && o.follows(in, t.Head) {
			o.trade(in, t)
		}
	case wire.TemplateTradeGap:
		var g market.TradeGap
		must(o.t, wire.DecodeTradeGap(ev.Value, &g))
		if in := o.insts[g.Inst]; in != nil && o.follows(in, g.Head) {
			in.gaps("last", "window")
		}
	}
}

func (in *oracleInst) gaps(groups ...string) {
	for _, g := range groups {
		in.gap[g] = true
	}
}

func (in *oracleInst) live() bool {
	return in.sides[0] != nil && !in.broken && in.status.Book == market.Live && in.status.State != market.Delisted
}

func (o *oracle) status(s market.Status) {
	in := o.insts[s.Inst]
	if in == nil {
		o.insts[s.Inst] = &oracleInst{
			status: s, minutes: map[int64]*oracleMinute{}, gap: map[string]bool{}, from: o.minute() + 1,
		}
		return
	}
	if s.Sequence().Compare(in.status.Sequence()) <= 0 {
		return
	}
	was, wasLive := in.status, in.live()
	in.status = s
	if s.Epoch != was.Epoch {
		in.gaps("last", "window", "book")
	}
	if was.Instrument.PriceScale != s.Instrument.PriceScale || was.Instrument.SizeScale != s.Instrument.SizeScale {
		o.rescale(in, was.Instrument, s.Instrument)
	}
	if s.State == market.Delisted {
		for _, r := range o.ordered() {
			if r.inst == s.Inst {
				o.end(r, rule.Delisted)
			}
		}
	}
	if wasLive && !in.live() {
		in.gaps("book")
	}
	if !wasLive && in.live() {
		o.look(in)
	}
}

// scaled converts a number from one scale to another; nil when that is not exact or does not fit.
func scaled(v int64, from, to uint8) *big.Int {
	n := new(big.Int).Mul(big.NewInt(v), pow10(to))
	n, rest := n.QuoRem(n, pow10(from), new(big.Int))
	if rest.Sign() != 0 || !n.IsInt64() {
		return nil
	}
	return n
}

func pow10(n uint8) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

func (o *oracle) rescale(in *oracleInst, from, to market.Instrument) {
	exact := true
	price := func(p *market.Price) {
		if v := scaled(int64(*p), from.PriceScale, to.PriceScale); v != nil {
			*p = market.Price(v.Int64())
		} else {
			exact = false
		}
	}
	price(&in.price)
	price(&in.best[0])
	price(&in.best[1])
	oldest := int64(0) // that a window may begin with
	for at := range in.minutes {
		if at <= o.minute()-1440 {
			oldest = max(oldest, at)
		}
	}
	for at, m := range in.minutes {
		if at < oldest {
			delete(in.minutes, at)
			continue
		}
		price(&m.high)
		price(&m.low)
		price(&m.close)
		if v := scaled(m.volume, from.SizeScale, to.SizeScale); v != nil {
			m.volume = v.Int64()
		} else {
			exact = false
		}
	}
	if !exact {
		in.price, in.best, in.minutes, in.from = 0, [2]market.Price{}, map[int64]*oracleMinute{}, o.minute()+1
	}
	for _, r := range o.ordered() {
		if r.inst != in.status.Inst {
			continue
		}
		a, b := r.spec.Scale(rule.ScalesOf(&from)), r.spec.Scale(rule.ScalesOf(&to))
		limit, hysteresis := scaled(r.spec.Limit, a, b), scaled(r.spec.Hysteresis, a, b)
		if limit == nil || hysteresis == nil {
			o.end(r, rule.Rescaled)
			continue
		}
		r.spec.Limit, r.spec.Hysteresis = limit.Int64(), hysteresis.Int64()
		had := r.prev != nil
		r.prev = o.value(in, r.spec)
		if had && r.prev == nil {
			r.holding = false
		}
	}
}

// snapshot gathers the parts of a book and takes it over when they are all there.
func (o *oracle) snapshot(in *oracleInst, s market.Snapshot) {
	if in.sides[0] != nil && s.Sequence().Compare(in.bookSeq) <= 0 {
		return
	}
	if s.Part > 1 && len(in.parts) == 0 {
		return
	}
	if in.live() && (s.Epoch != in.bookSeq.Epoch || s.Prev > in.bookSeq.Seq) {
		in.gaps("book")
	}
	if s.Part == 1 {
		in.parts = nil
	}
	if s.Part > 1 && (int(s.Part) != len(in.parts)+1 || in.parts[0].Sequence() != s.Sequence()) {
		in.parts = nil
		o.broken(in)
		return
	}
	in.parts = append(in.parts, s)
	if s.Part < s.Parts {
		return
	}
	in.sides = [2]map[market.Price]market.Size{{}, {}}
	for _, part := range in.parts {
		for _, l := range part.Bids {
			in.sides[0][l.Price] = l.Size
		}
		for _, l := range part.Asks {
			in.sides[1][l.Price] = l.Size
		}
	}
	in.parts, in.broken, in.bookSeq, in.bookTime = nil, false, s.Sequence(), s.Time
	if in.live() {
		o.look(in)
	}
}

func (o *oracle) broken(in *oracleInst) {
	if in.live() {
		in.gaps("book")
	}
	in.broken = true
}

func (o *oracle) update(in *oracleInst, d market.Delta) {
	if in.sides[0] == nil || in.broken || d.Sequence().Compare(in.bookSeq) <= 0 {
		return
	}
	if d.Epoch != in.bookSeq.Epoch || d.Prev > in.bookSeq.Seq {
		o.broken(in)
		return
	}
	for side, levels := range [2][]market.Level{d.Bids, d.Asks} {
		for _, l := range levels {
			if in.sides[side][l.Price] = l.Size; l.Size == 0 {
				delete(in.sides[side], l.Price)
			}
		}
	}
	in.bookSeq = d.Sequence()
	if d.Hash.OK && d.Hash.Sum == badHash {
		o.broken(in)
		return
	}
	in.bookTime = d.Time
	if in.live() {
		o.look(in)
	}
}

// badHash is that of the updates whose hash is wrong on purpose.
const badHash = 0xBAD

// look evaluates the series of a live book.
func (o *oracle) look(in *oracleInst) {
	in.best = [2]market.Price{}
	for p := range in.sides[0] {
		in.best[0] = max(in.best[0], p)
	}
	for p := range in.sides[1] {
		if in.best[1] == 0 || p < in.best[1] {
			in.best[1] = p
		}
	}
	o.evaluate(in, "book")
}

// follows tells whether an event of trades is new, and sees a gap when it does not follow the newest.
func (o *oracle) follows(in *oracleInst, h market.Head) bool {
	if h.Sequence().Compare(in.seq) <= 0 {
		return false
	}
	if in.seq != (market.Sequence{}) && (h.Epoch != in.seq.Epoch || h.Prev > in.seq.Seq) {
		in.gaps("last", "window")
	}
	in.seq = h.Sequence()
	return true
}

func (o *oracle) trade(in *oracleInst, t market.Trade) {
	if in.price != 0 && t.Time < in.newest {
		return
	}
	in.newest, in.price = t.Time, t.Price
	m := in.minutes[o.minute()]
	if m == nil {
		m = &oracleMinute{high: t.Price, low: t.Price}
		in.minutes[o.minute()] = m
	}
	m.high, m.low, m.close = max(m.high, t.Price), min(m.low, t.Price), t.Price
	m.volume = plus(m.volume, int64(t.Size))
	o.evaluate(in, "last")
	o.evaluate(in, "window")
}

// evaluate shows every rule of a group its series' value.
func (o *oracle) evaluate(in *oracleInst, group string) {
	gap := in.gap[group]
	in.gap[group] = false
	values := map[rule.Spec]*big.Int{}
	for _, r := range o.ordered() {
		if r.inst != in.status.Inst || groupOf(r.spec.Series) != group {
			continue
		}
		key := rule.Spec{Series: r.spec.Series, W1: r.spec.W1, W2: r.spec.W2}
		if _, known := values[key]; !known {
			values[key] = o.value(in, r.spec)
		}
		o.show(r, values[key], gap)
	}
}

func (o *oracle) show(r *oracleRule, v *big.Int, gap bool) {
	prev := r.prev
	r.prev = v
	if v == nil {
		r.holding = false
		return
	}
	if gap {
		r.gapAt = o.last
	}
	limit := big.NewInt(r.spec.Limit)
	side := func(v, limit *big.Int) int { // above 0: beyond the limit in the direction of the rule
		if r.spec.Op == rule.CrossesAbove || r.spec.Op == rule.AtOrAbove {
			return v.Cmp(limit)
		}
		return limit.Cmp(v)
	}
	begins := gap && r.spec.OnGap == rule.GapResets
	if begins {
		prev = nil
	}
	there := side(v, limit) >= 0
	switch {
	case !r.armed:
		back := new(big.Int).Sub(limit, big.NewInt(r.spec.Hysteresis))
		if r.spec.Op == rule.CrossesBelow || r.spec.Op == rule.AtOrBelow {
			back.Add(limit, big.NewInt(r.spec.Hysteresis))
		}
		r.armed = side(v, back) < 0
	case r.holding && !there:
		r.holding = false
	case r.holding && begins:
		r.since = o.clock
	case r.holding: // goes on
	case there && (r.spec.Op == rule.AtOrAbove || r.spec.Op == rule.AtOrBelow || prev != nil && side(prev, limit) < 0):
		r.holding, r.since = true, o.clock
		o.wait(r, prev)
	}
}

// wait fires a rule whose condition has held for long enough.
func (o *oracle) wait(r *oracleRule, prev *big.Int) {
	if o.clock < r.since+market.Time(r.spec.HoldFor) {
		return
	}
	if o.clock < r.quiet {
		if r.spec.Op == rule.CrossesAbove || r.spec.Op == rule.CrossesBelow {
			r.holding, r.armed = false, false
			o.lost++
		}
		return
	}
	r.holding, r.armed = false, false
	r.fires++
	in := o.insts[r.inst]
	f := rule.Fire{
		Rule: r.id, ArmSeq: r.fires, Inst: r.inst, Scales: rule.ScalesOf(&in.status.Instrument), Value: clamp(r.prev), Clock: o.clock, Offset: o.last,
		Seq: in.seq, Time: in.newest, AfterGap: r.gapAt == o.last,
	}
	if groupOf(r.spec.Series) == "book" {
		f.Seq, f.Time = in.bookSeq, in.bookTime
	}
	if prev != nil {
		f.Prev, f.HasPrev = clamp(prev), true
	}
	o.fires = append(o.fires, f)
	if r.spec.Once {
		o.end(r, rule.Fired)
	}
	if r.spec.Cooldown > 0 {
		r.quiet = o.clock + market.Time(r.spec.Cooldown)
	}
}

// gap is a gap of everything.
func (o *oracle) gap() {
	for _, in := range o.insts {
		in.gaps("last", "window", "book")
	}
}

func clamp(v *big.Int) int64 {
	switch {
	case v.IsInt64():
		return v.Int64()
	case v.Sign() < 0:
		return -1 << 63
	}
	return 1<<63 - 1
}

// quo is a/b rounded towards zero, held at the ends of int64.
func quo(a, b *big.Int) *big.Int { return big.NewInt(clamp(new(big.Int).Quo(a, b))) }

func times(v int64, by ...int64) *big.Int {
	n := big.NewInt(v)
	for _, b := range by {
		n.Mul(n, big.NewInt(b))
	}
	return n
}

// value computes a series as it stands, nil when it has no value.
func (o *oracle) value(in *oracleInst, s rule.Spec) *big.Int {
	bid, ask := int64(in.best[0]), int64(in.best[1])
	sum := new(big.Int).Add(big.NewInt(bid), big.NewInt(ask))
	switch {
	case s.Series == rule.Last && in.price != 0:
		return big.NewInt(int64(in.price))
	case s.Series == rule.Bid && bid != 0:
		return big.NewInt(bid)
	case s.Series == rule.Ask && ask != 0:
		return big.NewInt(ask)
	case s.Series == rule.Mid && bid != 0 && ask != 0: // half the sum, at one decimal more
		return quo(sum.Mul(sum, big.NewInt(10)), big.NewInt(2))
	case s.Series == rule.SpreadBps && bid != 0 && ask != 0: // of half the sum: 10,000 basis points, 4 decimals
		d := times(ask, 1)
		return quo(d.Sub(d, big.NewInt(bid)).Mul(d, times(2, 10_000, 10_000)), sum)
	}
	now, w1, w2 := o.minute(), int64(s.W1), int64(s.W2)
	switch s.Series {
	case rule.ChangePct:
		if p := in.closeAt(now - w1); p != 0 {
			return percentOf(int64(in.price), p)
		}
	case rule.FromHighPct, rule.FromLowPct:
		if in.price == 0 || now-w1+1 < in.from {
			return nil
		}
		high, low := market.Price(0), market.Price(0)
		for m := now - w1 + 1; m <= now; m++ {
			if b := in.minutes[m]; b != nil {
				high = max(high, b.high)
				if low == 0 || b.low < low {
					low = b.low
				}
			}
		}
		switch {
		case high == 0:
			return new(big.Int)
		case s.Series == rule.FromHighPct:
			return percentOf(int64(in.price), int64(high))
		}
		return percentOf(int64(in.price), int64(low))
	case rule.Volume:
		if now-w1+1 >= in.from {
			return big.NewInt(in.volume(now, w1))
		}
	case rule.VolumeRatio:
		if now-max(w1, w2)+1 < in.from {
			return nil
		}
		if v2 := in.volume(now, w2); v2 != 0 {
			return quo(times(in.volume(now, w1), w2, 10_000), times(v2, w1))
		}
	case rule.MADiff:
		m1, m2 := in.closes(now, w1), in.closes(now, w2)
		if m1 == nil || m2 == nil {
			return nil
		}
		m1.Mul(m1, big.NewInt(100*w2))
		m2.Mul(m2, big.NewInt(100*w1))
		return quo(m1.Sub(m1, m2), big.NewInt(w1*w2))
	}
	return nil
}

func percentOf(v, base int64) *big.Int {
	d := big.NewInt(v)
	d.Sub(d, big.NewInt(base))
	return quo(d.Mul(d, big.NewInt(100*10_000)), big.NewInt(base))
}

// closeAt is the price at the end of a minute, 0 before the first trade.
func (in *oracleInst) closeAt(minute int64) int64 {
	best, price := int64(-1), market.Price(0)
	if m := in.minutes[minute]; m != nil {
		return int64(m.close)
	}
	for at, m := range in.minutes {
		if at <= minute && at > best {
			best, price = at, m.close
		}
	}
	return int64(price)
}

// plus adds what is not negative, up to the greatest number.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func (in *oracleInst) volume(now, w int64) (sum int64) {
	for m := now - w + 1; m <= now; m++ {
		if b := in.minutes[m]; b != nil {
			sum = plus(sum, b.volume)
		}
	}
	return sum
}

// closes is the sum of a window's closes.
func (in *oracleInst) closes(now, w int64) *big.Int {
	price := in.closeAt(now - w + 1)
	if price == 0 {
		return nil
	}
	total, sum := new(big.Int), int64(0)
	for m := now - w + 1; m <= now; m++ {
		if b := in.minutes[m]; b != nil {
			price = int64(b.close)
		}
		if sum > math.MaxInt64-price {
			total.Add(total, big.NewInt(sum))
			sum = 0
		}
		sum += price
	}
	return total.Add(total, big.NewInt(sum))
}
