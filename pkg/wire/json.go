package wire

import (
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"

	"github.com/tickwire/tickwire/pkg/market"
)

// AppendSnapshotJSON appends m as a book message of type "s". Out is the edge's send time; 0 leaves it out.
func AppendSnapshotJSON(dst []byte, in *market.Instrument, m *market.Snapshot, out market.Time) []byte {
	dst = appendBookStart(dst, in, 's', m.View)
	dst = appendPlace(dst, &m.Head)
	if m.Parts > 1 {
		dst = append(dst, `,"part":`...)
		dst = strconv.AppendUint(dst, uint64(m.Part), 10)
		dst = append(dst, `,"of":`...)
		dst = strconv.AppendUint(dst, uint64(m.Parts), 10)
	}
	dst = appendLevels(dst, in, m.Bids, m.Asks)
	return appendBookEnd(dst, m.Hash, &m.Head, out)
}

// AppendDeltaJSON appends m as a book message of type "u".
func AppendDeltaJSON(dst []byte, in *market.Instrument, m *market.Delta, out market.Time) []byte {
	dst = appendBookStart(dst, in, 'u', m.View)
	dst = appendPlace(dst, &m.Head)
	dst = appendLevels(dst, in, m.Bids, m.Asks)
	return appendBookEnd(dst, m.Hash, &m.Head, out)
}

func appendBookStart(dst []byte, in *market.Instrument, kind byte, v market.View) []byte {
	dst = appendTopic(dst, market.Books, in.Sym)
	dst = append(dst, `,"t":"`...)
	dst = append(dst, kind)
	dst = append(dst, `","depth":`...)
	dst = strconv.AppendUint(dst, uint64(v.Depth), 10)
	if v.Millis > 0 {
		dst = append(dst, `,"ms":`...)
		dst = strconv.AppendUint(dst, uint64(v.Millis), 10)
	}
	return dst
}

func appendBookEnd(dst []byte, h market.Hash, head *market.Head, out market.Time) []byte {
	if h.OK {
		dst = append(dst, `,"h":"`...)
		dst = AppendHash(dst, h.Sum)
		dst = append(dst, '"')
	}
	return appendEnd(dst, head, out)
}

// AppendHash appends a hash as it stands in JSON: 16 lower-case hexadecimal digits.
func AppendHash(dst []byte, sum uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[sum>>shift&15])
	}
	return dst
}

func appendLevels(dst []byte, in *market.Instrument, bids, asks []market.Level) []byte {
	dst = append(dst, `,"b":[`...)
	dst = appendSide(dst, in, bids)
	dst = append(dst, `],"a":[`...)
	dst = appendSide(dst, in, asks)
	return append(dst, ']')
}

// AppendTradeJSON appends m as a trades message of type "trade".
func AppendTradeJSON(dst []byte, in *market.Instrument, m *market.Trade, out market.Time) []byte {
	dst = appendTopic(dst, market.Trades, in.Sym)
	dst = append(dst, `,"t":"trade"`...)
	dst = appendPlace(dst, &m.Head)
	dst = appendDecimal(dst, `,"price":"`, m.Price, in.PriceScale)
	dst = appendDecimal(dst, `,"size":"`, m.Size, in.SizeScale)
	switch m.Side {
	case market.Bid:
		dst = append(dst, `,"side":"buy"`...)
	case market.Ask:
		dst = append(dst, `,"side":"sell"`...)
	}
	if m.ID.Len() > 0 {
		var id [market.MaxTradeID]byte
		dst = append(dst, `,"id":`...)
		dst = appendString(dst, m.ID.Append(id[:0]))
	}
	return appendEnd(dst, &m.Head, out)
}

// AppendTradeGapJSON appends m as a trades message of type "gap".
func AppendTradeGapJSON(dst []byte, in *market.Instrument, m *market.TradeGap, out market.Time) []byte {
	dst = appendTopic(dst, market.Trades, in.Sym)
	return appendGap(dst, &m.Head, m.Why, m.Missed, out)
}

// AppendBarGapJSON appends m as a bars message of type "gap".
func AppendBarGapJSON(dst []byte, in *market.Instrument, m *BarGap, out market.Time) []byte {
	dst = appendTopic(dst, market.Bars, in.Sym)
	dst = appendName(dst, `,"iv":"`, m.Interval.String())
	return appendGap(dst, &m.Head, m.Why, m.Missed, out)
}

func appendGap(dst []byte, head *market.Head, why market.Reason, missed int64, out market.Time) []byte {
	dst = append(dst, `,"t":"gap"`...)
	if why != market.NoReason {
		dst = appendName(dst, `,"why":"`, why.String())
	}
	dst = append(dst, `,"missed":`...)
	if missed < 0 {
		dst = append(dst, `null`...)
	} else {
		dst = strconv.AppendInt(dst, missed, 10)
	}
	dst = appendPlace(dst, head)
	return appendEnd(dst, head, out)
}

// AppendBarJSON appends m as a bars message.
func AppendBarJSON(dst []byte, in *market.Instrument, m *market.Bar, out market.Time) []byte {
	dst = appendTopic(dst, market.Bars, in.Sym)
	dst = appendName(dst, `,"iv":"`, m.Interval.String())
	if m.Final {
		dst = appendPlace(dst, &m.Head)
	} else {
		dst = appendSequence(dst, &m.Head)
	}
	dst = append(dst, `,"t":`...)
	dst = strconv.AppendInt(dst, m.Start.Micros(), 10)
	dst = appendDecimal(dst, `,"o":"`, m.Open, in.PriceScale)
	dst = appendDecimal(dst, `,"h":"`, m.High, in.PriceScale)
	dst = appendDecimal(dst, `,"l":"`, m.Low, in.PriceScale)
	dst = appendDecimal(dst, `,"c":"`, m.Close, in.PriceScale)
	dst = appendDecimal(dst, `,"v":"`, m.Volume, in.SizeScale)
	dst = append(dst, `,"n":`...)
	dst = strconv.AppendUint(dst, m.Trades, 10)
	if m.Final {
		dst = append(dst, `,"final":true`...)
	}
	if m.Rev > 0 {
		dst = append(dst, `,"rev":`...)
		dst = strconv.AppendUint(dst, uint64(m.Rev), 10)
	}
	if m.Incomplete {
		dst = append(dst, `,"inc":true`...)
	}
	return appendEnd(dst, &m.Head, out)
}

// AppendBBOJSON appends m as a bbo message; a side without levels is null.
func AppendBBOJSON(dst []byte, in *market.Instrument, m *market.BBO, out market.Time) []byte {
	dst = appendTopic(dst, market.BBOs, in.Sym)
	dst = appendSequence(dst, &m.Head)
	dst = appendBest(dst, in, m.Bid, m.Ask)
	return appendEnd(dst, &m.Head, out)
}

func appendBest(dst []byte, in *market.Instrument, bid, ask market.Level) []byte {
	dst = append(dst, `,"b":`...)
	dst = appendLevelOrNull(dst, in, bid)
	dst = append(dst, `,"a":`...)
	return appendLevelOrNull(dst, in, ask)
}

func appendLevelOrNull(dst []byte, in *market.Instrument, l market.Level) []byte {
	if l.Size == 0 {
		return append(dst, `null`...)
	}
	return appendLevel(dst, in, l)
}

// AppendTickerJSON appends m as a ticker message. Without a trade ever, last and size are left out; without one in the
// window, o, h, l, chg and pct.
func AppendTickerJSON(dst []byte, in *market.Instrument, m *market.Ticker, out market.Time) []byte {
	dst = appendTopic(dst, market.Tickers, in.Sym)
	dst = appendSequence(dst, &m.Head)
	if m.Last > 0 {
		dst = appendDecimal(dst, `,"last":"`, m.Last, in.PriceScale)
		dst = appendDecimal(dst, `,"size":"`, m.LastSize, in.SizeScale)
	}
	dst = appendBest(dst, in, m.Bid, m.Ask)
	if m.Open > 0 {
		dst = appendDecimal(dst, `,"o":"`, m.Open, in.PriceScale)
		dst = appendDecimal(dst, `,"h":"`, m.High, in.PriceScale)
		dst = appendDecimal(dst, `,"l":"`, m.Low, in.PriceScale)
	}
	dst = appendDecimal(dst, `,"v":"`, m.Volume, in.SizeScale)
	dst = appendDecimal(dst, `,"q":"`, m.Quote, in.PriceScale)
	dst = append(dst, `,"n":`...)
	dst = strconv.AppendUint(dst, m.Trades, 10)
	if m.Open > 0 && m.Last > 0 {
		dst = appendDecimal(dst, `,"chg":"`, m.Last-m.Open, in.PriceScale)
		dst = append(dst, `,"pct":"`...)
		dst = appendPercent(dst, m.Last, m.Open)
		dst = append(dst, '"')
	}
	return appendEnd(dst, &m.Head, out)
}

// appendPercent appends the change from open to last in percent, rounded to two decimals, half away from zero.
func appendPercent(dst []byte, last, open market.Price) []byte {
	change := uint64(last - open)
	if last < open {
		change = uint64(open - last)
	}
	// Hundredths of a percent, rounded: (change*10000 + open/2) / open in 128 bits.
	hi, lo := bits.Mul64(change, 10_000)
	lo, carry := bits.Add64(lo, uint64(open)/2, 0)
	hi += carry
	q := uint64(math.MaxInt64)
	if hi < uint64(open) {
		q, _ = bits.Div64(hi, lo, uint64(open))
	}
	if last < open && q > 0 {
		dst = append(dst, '-')
	}
	dst = strconv.AppendUint(dst, q/100, 10)
	return append(dst, '.', byte('0'+q/10%10), byte('0'+q%10))
}

// AppendStatusJSON appends m as a status message. The instrument is m.Instrument; the second argument is there so that all
// data messages have encoders of one shape, and is not used.
func AppendStatusJSON(dst []byte, _ *market.Instrument, m *market.Status, out market.Time) []byte {
	in := &m.Instrument
	dst = appendTopic(dst, market.Statuses, in.Sym)
	dst = appendSequence(dst, &m.Head)
	dst = appendName(dst, `,"state":"`, m.State.String())
	dst = appendName(dst, `,"book":"`, m.Book.String())
	if m.Why != market.NoReason {
		dst = appendName(dst, `,"why":"`, m.Why.String())
	}
	dst = append(dst, `,"inst":`...)
	dst = strconv.AppendUint(dst, uint64(m.Inst), 10)
	dst = append(dst, `,"ps":`...)
	dst = strconv.AppendUint(dst, uint64(in.PriceScale), 10)
	dst = append(dst, `,"ss":`...)
	dst = strconv.AppendUint(dst, uint64(in.SizeScale), 10)
	if in.TickSize > 0 {
		dst = appendDecimal(dst, `,"tick":"`, in.TickSize, in.PriceScale)
	}
	dst = append(dst, `,"source":`...)
	dst = appendString(dst, in.Source)
	dst = append(dst, `,"symbol":`...)
	dst = appendString(dst, in.Symbol)
	return appendEnd(dst, &m.Head, out)
}

// appendTopic begins a data message.
func appendTopic(dst []byte, ch market.Channel, sym string) []byte {
	dst = appendName(dst, `{"ch":"`, ch.String())
	dst = append(dst, `,"sym":`...)
	return appendString(dst, sym)
}

// appendPlace appends epoch, previous and own sequence.
func appendPlace(dst []byte, h *market.Head) []byte {
	dst = append(dst, `,"ep":`...)
	dst = strconv.AppendUint(dst, uint64(h.Epoch), 10)
	dst = append(dst, `,"prev":`...)
	dst = strconv.AppendUint(dst, h.Prev, 10)
	dst = append(dst, `,"seq":`...)
	return strconv.AppendUint(dst, h.Seq, 10)
}

// appendSequence appends epoch and sequence of a message that is a whole value.
func appendSequence(dst []byte, h *market.Head) []byte {
	dst = append(dst, `,"ep":`...)
	dst = strconv.AppendUint(dst, uint64(h.Epoch), 10)
	dst = append(dst, `,"seq":`...)
	return strconv.AppendUint(dst, h.Seq, 10)
}

// appendEnd appends the times and closes the message.
func appendEnd(dst []byte, h *market.Head, out market.Time) []byte {
	dst = append(dst, `,"ts":`...)
	dst = strconv.AppendInt(dst, h.Time.Micros(), 10)
	if h.In != 0 {
		dst = append(dst, `,"in":`...)
		dst = strconv.AppendInt(dst, h.In.Micros(), 10)
	}
	if out != 0 {
		dst = append(dst, `,"out":`...)
		dst = strconv.AppendInt(dst, out.Micros(), 10)
	}
	return append(dst, '}')
}

// appendDecimal appends a key, which ends in the opening quote, and a decimal string.
func appendDecimal[T ~int64](dst []byte, key string, v T, scale uint8) []byte {
	dst = append(dst, key...)
	dst = market.AppendFixed(dst, v, scale)
	return append(dst, '"')
}

// appendName appends a key, which ends in the opening quote, and a name that needs no escaping.
func appendName(dst []byte, key, name string) []byte {
	dst = append(dst, key...)
	dst = append(dst, name...)
	return append(dst, '"')
}

// appendString appends s as a JSON string. Invalid UTF-8 becomes U+FFFD.
func appendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendEscaped(dst, string(s))
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func appendEscaped(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
