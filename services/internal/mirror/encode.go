package mirror

import (
	"sync"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Encode implements fanout.Source: it derives the JSON of an entry.
func (f *feed) Encode(e *fanout.Entry, _ fanout.Format) *fanout.Frame {
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	def, out := e.Meta.(*market.Instrument), wall()
	var first, last *fanout.Frame
	for n := e.Native(); n != nil; n = n.Next() {
		text := fanout.NewFrame(fanout.Text, x.json(def, n.Payload(), out))
		if first == nil {
			first = text
		} else {
			fanout.Chain(last, text)
		}
		last = text
	}
	return first
}

// json turns an SBE message of our own making, or one that we have decoded before, into JSON. The result is valid until
// the next call.
func (x *scratch) json(def *market.Instrument, b []byte, out market.Time) []byte {
	t, err := wire.Peek(b)
	dst := x.out[:0]
	switch t {
	case wire.TemplateBookUpdate:
		if err = wire.DecodeDelta(b, &x.delta); err == nil {
			dst = wire.AppendDeltaJSON(dst, def, &x.delta, out)
		}
	case wire.TemplateBookSnapshot:
		if err = wire.DecodeSnapshot(b, &x.snapshot); err == nil {
			dst = wire.AppendSnapshotJSON(dst, def, &x.snapshot, out)
		}
	case wire.TemplateTrade:
		if err = wire.DecodeTrade(b, &x.trade); err == nil {
			dst = wire.AppendTradeJSON(dst, def, &x.trade, out)
		}
	case wire.TemplateTradeGap:
		if err = wire.DecodeTradeGap(b, &x.gap); err == nil {
			dst = wire.AppendTradeGapJSON(dst, def, &x.gap, out)
		}
	case wire.TemplateBar:
		if err = wire.DecodeBar(b, &x.bar); err == nil {
			dst = wire.AppendBarJSON(dst, def, &x.bar, out)
		}
	case wire.TemplateBarGap:
		if err = wire.DecodeBarGap(b, &x.barGap); err == nil {
			dst = wire.AppendBarGapJSON(dst, def, &x.barGap, out)
		}
	case wire.TemplateBbo:
		if err = wire.DecodeBBO(b, &x.bbo); err == nil {
			dst = wire.AppendBBOJSON(dst, def, &x.bbo, out)
		}
	case wire.TemplateTicker:
		if err = wire.DecodeTicker(b, &x.ticker); err == nil {
			dst = wire.AppendTickerJSON(dst, def, &x.ticker, out)
		}
	case wire.TemplateStatus:
		if err = wire.DecodeStatus(b, &x.status); err == nil {
			dst = wire.AppendStatusJSON(dst, &x.status.Instrument, &x.status, out)
		}
	}
	if err != nil {
		panic("mirror: a published message does not decode: " + err.Error())
	}
	x.out = dst
	return dst
}

// framed wraps an SBE message in a format.
func (x *scratch) framed(def *market.Instrument, b []byte, f fanout.Format) *fanout.Frame {
	if f == SBE {
		return fanout.NewFrame(fanout.Binary, b)
	}
	return fanout.NewFrame(fanout.Text, x.json(def, b, wall()))
}
