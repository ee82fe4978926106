package ingest

import (
	"slices"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// blockBars is how many bars a block in md.snapshots holds.
const blockBars = 128

// blocks says how the final bars of one interval are saved: those up to end in blocks that are written once, the others in
// the instrument's snapshot. A bar that a late trade corrects (or makes) after its block was written goes into the
// instrument's snapshot as well and takes precedence there: rewriting the block would put the correction into a record that
// a crash can separate from the instrument's snapshot, and the trade would be counted again.
//
//	start:   … [ block 7 ][ block 8 ] | bar bar bar
//	                 ^ corrected     end  ^ open block
//	snapshot:  corrected bar, and the bars behind end
type blocks struct {
	n         uint64 // blocks complete so far; number n goes into slot n modulo stream.BarBlocks
	end       market.Time
	open      int          // bars behind end, as far as the series still has them
	corrected []market.Bar // at most end, ascending
}

// note takes notice of a bar that became final or was corrected.
func (bl *blocks) note(b *market.Bar) {
	if bl.n == 0 || b.Start > bl.end {
		// A late trade for an interval that had none makes a bar of one trade with a revision.
		if b.Rev == 0 || b.Rev == 1 && b.Trades == 1 {
			bl.open = min(bl.open+1, bar.MaxClosed)
		}
		return
	}
	i, found := slices.BinarySearchFunc(bl.corrected, b.Start, func(b market.Bar, start market.Time) int {
		switch {
		case b.Start < start:
			return -1
		case b.Start > start:
			return 1
		}
		return 0
	})
	if found {
		bl.corrected[i] = *b
		return
	}
	bl.corrected = slices.Insert(bl.corrected, i, *b)
}

// block is a complete block of bars on its way to md.snapshots.
type block struct {
	interval market.Interval
	slot     uint8
	payload  []byte // SBE bars, end to end
}

// saveBars returns the bars that belong into the instrument's snapshot, appended to bars, and the blocks that have become
// complete; done must be called once they are on their way.
func (it *instrument) saveBars(bars []market.Bar) (open []market.Bar, complete []block, done func()) {
	next := it.blocks
	for iv := range next {
		bl := &next[iv]
		start := len(bars)
		bars = it.series.Closed(market.Interval(iv), bl.open, bars)
		fresh := bars[start:]
		for len(fresh) >= blockBars {
			complete = append(complete, bl.complete(market.Interval(iv), fresh[:blockBars]))
			fresh = fresh[blockBars:]
		}
		if n := len(fresh); n < len(bars)-start {
			copy(bars[start:], fresh)
			bars = bars[:start+n]
			bl.open = n
			bl.forget(it.series.Closed(market.Interval(iv), bar.MaxClosed, nil))
		}
		bars = append(bars, bl.corrected...)
	}
	return bars, complete, func() { it.blocks = next }
}

// complete closes a block of these bars.
func (bl *blocks) complete(iv market.Interval, bars []market.Bar) block {
	b := block{interval: iv, slot: uint8(bl.n % stream.BarBlocks)}
	for i := range bars {
		b.payload = wire.AppendBar(b.payload, &bars[i])
	}
	bl.n++
	bl.end = bars[len(bars)-1].Start
	return b
}

// forget drops corrected bars that the series has let go. kept are the bars it has.
func (bl *blocks) forget(kept []market.Bar) {
	n := 0
	for n < len(bl.corrected) && bl.corrected[n].Start < kept[0].Start {
		n++
	}
	bl.corrected = bl.corrected[n:]
}

// loadBlock gives a block's bars back to the series. A block may be newer than the instrument's snapshot, or of an epoch
// that is over: such bars are left out, the snapshot or md.raw has what is right.
func (it *instrument) loadBlock(iv market.Interval, payload []byte) error {
	const size = 110 // of an SBE bar of our own version
	var b market.Bar
	for ; len(payload) > 0; payload = payload[min(size, len(payload)):] {
		if err := wire.DecodeBar(payload[:min(size, len(payload))], &b); err != nil {
			return err
		}
		if bl := &it.blocks[iv]; bl.n > 0 && b.Start <= bl.end && b.Epoch == it.epoch {
			it.series.Final(&b)
		}
	}
	return nil
}
