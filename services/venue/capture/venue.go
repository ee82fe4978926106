package capture

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
)

const (
	clockEvery = time.Second
	// alive is how long a silent venue connection counts as alive: three of the heartbeats of the slowest venue. A real
	// connector stops its clocks then, and so does the replay of a recording with a hole.
	alive = 10 * time.Second
	// maxHeld is how many depth updates are held for a snapshot; the oldest go first. Ten a second make seven minutes.
	maxHeld = 4096
)

// venueLayout turns the lines of a recorded venue connection into the records of a connector.
type venueLayout struct {
	cfg       *Config
	source    string
	nanos     bool // times are in nanoseconds, otherwise seconds with decimals
	separator string
	payload   func(*fastjson.Value) payload

	parser      fastjson.Parser
	instruments []*instrument // in order of appearance
	bySymbol    map[string]*instrument
	snapshots   int // REST snapshots in the whole recording

	connection int  // counts from 1
	received   bool // a payload came over this connection
	venue      []stream.Header
	native     []stream.Header

	last      market.Time // of the newest line
	nextClock market.Time
}

// instrument is one symbol of a recording.
type instrument struct {
	market.Instrument
	held   [][]byte // Binance: depth updates that wait for the snapshot
	synced bool
}

// payload is what a connector sees in a venue's frame.
type payload struct {
	symbol string
	depth  bool              // Binance: an update that only means something after a snapshot
	rest   bool              // Binance: the snapshot, which names no symbol
	seq    uint64            // Binance: u of a depth update, lastUpdateId of a snapshot
	levels []*fastjson.Value // arrays of [price, size] or [side, price, size], for the scales
	at     int               // where the price stands in a level
	price  *fastjson.Value   // of a trade
	size   *fastjson.Value
}

func newVenueLayout(cfg *Config) *venueLayout {
	v := &venueLayout{cfg: cfg, connection: 1, bySymbol: map[string]*instrument{}, separator: ": "}
	switch cfg.Format {
	case BinanceLines:
		v.source, v.nanos, v.separator, v.payload = "binance", true, " ", binancePayload
	case KrakenLines:
		v.source, v.payload = "kraken", krakenPayload
	default:
		v.source, v.payload = "coinbase", coinbasePayload
	}
	v.name()
	return v
}

// name makes the headers of the current connection.
func (v *venueLayout) name() {
	session := v.cfg.Session
	if v.connection > 1 {
		session = fmt.Sprintf("%s-%d", session, v.connection)
	}
	h := func(source string) []stream.Header {
		return []stream.Header{{Key: SourceHeader, Value: []byte(source)}, {Key: SessionHeader, Value: []byte(session)}}
	}
	v.venue, v.native = h(v.source), h("tickwire")
}

// cut splits a line. Cryptofeed's own lines (wss://… <-> time for a connection, <- for what it sent) are no payload.
func (v *venueLayout) cut(line []byte) (at, payload []byte, ok bool) {
	if bytes.HasPrefix(line, []byte("wss://")) {
		return nil, nil, false
	}
	return bytes.Cut(line, []byte(v.separator))
}

var errLine = errors.New("not a line of this format")

func (v *venueLayout) at(line []byte) (market.Time, bool, error) {
	text, _, ok := v.cut(line)
	if !ok {
		if bytes.HasPrefix(line, []byte("wss://")) {
			return 0, false, nil
		}
		return 0, false, errLine
	}
	scale := uint8(9)
	if v.nanos {
		scale = 0
	}
	ns, err := market.ParseFixed(text, scale)
	if err != nil {
		return 0, false, fmt.Errorf("time %q: %w", text, err)
	}
	return market.FromMicros(market.Time(ns).Micros()), true, nil
}

func (v *venueLayout) parse(line []byte) (payload, []byte, error) {
	_, text, ok := v.cut(line)
	if !ok {
		return payload{}, nil, errLine
	}
	frame, err := v.parser.ParseBytes(text)
	if err != nil {
		return payload{}, nil, err
	}
	return v.payload(frame), text, nil
}

// survey learns instruments and how many decimals the venue writes, which a checksum over its text needs to know.
func (v *venueLayout) survey(line []byte) error {
	p, _, err := v.parse(line)
	if err != nil {
		return err
	}
	if p.rest {
		v.snapshots++
	}
	in := v.instrument(p)
	if in == nil {
		return nil
	}
	for _, levels := range p.levels {
		for _, l := range levels.GetArray() {
			if values := l.GetArray(); len(values) >= p.at+2 {
				widen(&in.PriceScale, values[p.at])
				widen(&in.SizeScale, values[p.at+1])
			}
		}
	}
	widen(&in.PriceScale, p.price)
	widen(&in.SizeScale, p.size)
	return nil
}

func widen(scale *uint8, number *fastjson.Value) {
	if n := market.Decimals(number.GetStringBytes()); n > int(*scale) && n <= market.MaxScale {
		*scale = uint8(n)
	}
}

// instrument finds a payload's instrument, and adds it when it is new; nil for a payload about none.
func (v *venueLayout) instrument(p payload) *instrument {
	if p.rest && len(v.instruments) == 1 {
		return v.instruments[0]
	}
	if p.symbol == "" {
		return nil
	}
	in := v.bySymbol[p.symbol]
	if in == nil {
		in = &instrument{Instrument: market.Instrument{Sym: Canonical(v.source, p.symbol), Source: v.source, Symbol: p.symbol}}
		if v.cfg.AtSource {
			in.Sym += "@" + v.source
		}
		v.bySymbol[p.symbol] = in
		v.instruments = append(v.instruments, in)
	}
	return in
}

// begin writes the records that come before all others: the instruments. Without a snapshot in the whole recording there
// is nothing to hold updates for.
func (v *venueLayout) begin(first market.Time, q *queue) ([]market.Instrument, error) {
	if v.snapshots > 0 && len(v.instruments) > 1 {
		return nil, errors.New("a depth snapshot, which names no symbol, in a recording of several symbols")
	}
	all := make([]market.Instrument, 0, len(v.instruments))
	for _, in := range v.instruments {
		in.synced = v.snapshots == 0
		r := q.add()
		r.At, r.Key, r.Headers = first, append(r.Key, in.Sym...), v.native
		r.Value = fmt.Appendf(r.Value, `{"type":"instrument","sym":%q,"source":%q,"symbol":%q,"ps":%d,"ss":%d,"ts":%d}`,
			in.Sym, in.Source, in.Symbol, in.PriceScale, in.SizeScale, first.Micros())
		all = append(all, in.Instrument)
	}
	v.last = first
	v.nextClock = (first + market.Time(clockEvery) - 1).Truncate(clockEvery)
	return all, nil
}

func (v *venueLayout) read(line []byte, q *queue) error {
	at, ok, err := v.at(line)
	if err != nil {
		return err
	}
	if !ok {
		v.connected(line)
		return nil
	}
	at = max(at, v.last)
	v.clocks(at, q)
	p, text, err := v.parse(line)
	if err != nil {
		return err
	}
	v.received = true
	if in := v.instrument(p); in != nil {
		v.write(in, p, text, q)
	}
	return nil
}

// connected notes that the recorder connected again: another session.
func (v *venueLayout) connected(line []byte) {
	if !bytes.Contains(line, []byte(" <-> ")) || !v.received {
		return
	}
	v.connection++
	v.received = false
	v.name()
}

// clocks writes the clocks that are due before a line of the time at.
func (v *venueLayout) clocks(at market.Time, q *queue) {
	for ; v.nextClock <= at; v.nextClock += market.Time(clockEvery) {
		if v.nextClock > v.last+market.Time(alive) {
			v.nextClock = at.Truncate(clockEvery) + market.Time(clockEvery)
			break
		}
		r := q.add()
		r.At, r.Headers = v.nextClock, v.native
		r.Value = fmt.Appendf(r.Value, `{"type":"clock","source":%q,"session":%q,"ts":%d}`,
			v.source, v.native[1].Value, v.nextClock.Micros())
	}
	v.last = at
}

// write passes a payload on. Binance's depth updates wait for the snapshot, whose lastUpdateId may lie before updates that
// came earlier: then come the snapshot and of the held updates those that end after it (Binance, "How to manage a local
// order book correctly").
func (v *venueLayout) write(in *instrument, p payload, text []byte, q *queue) {
	switch {
	case p.depth && !in.synced:
		if len(in.held) == maxHeld {
			in.held = append(in.held[:0], in.held[1:]...)
		}
		in.held = append(in.held, bytes.Clone(text))
	case p.rest && !in.synced:
		v.add(in, text, q)
		for _, held := range in.held {
			frame, err := v.parser.ParseBytes(held)
			if err == nil && v.payload(frame).seq > p.seq {
				v.add(in, held, q)
			}
		}
		in.held, in.synced = nil, true
	default:
		v.add(in, text, q)
	}
}

func (v *venueLayout) add(in *instrument, value []byte, q *queue) {
	r := q.add()
	r.At, r.Key, r.Headers, r.Value = v.last, append(r.Key, in.Sym...), v.venue, append(r.Value, value...)
}

func binancePayload(frame *fastjson.Value) payload {
	data := frame
	if frame.Exists("stream") {
		data = frame.Get("data")
	}
	p := payload{symbol: string(data.GetStringBytes("s")), price: data.Get("p"), size: data.Get("q")}
	switch {
	case string(data.GetStringBytes("e")) == "depthUpdate":
		p.depth, p.seq = true, data.GetUint64("u")
		p.levels = []*fastjson.Value{data.Get("b"), data.Get("a")}
	case data == frame && frame.Exists("lastUpdateId"):
		p.rest, p.seq = true, frame.GetUint64("lastUpdateId")
		p.levels = []*fastjson.Value{frame.Get("bids"), frame.Get("asks")}
	}
	return p
}

func krakenPayload(frame *fastjson.Value) payload {
	if frame.Type() == fastjson.TypeObject {
		return payload{symbol: string(frame.GetStringBytes("pair"))}
	}
	elements := frame.GetArray()
	if len(elements) == 0 {
		return payload{}
	}
	p := payload{symbol: string(elements[len(elements)-1].GetStringBytes())}
	for _, e := range elements[:len(elements)-1] {
		switch e.Type() {
		case fastjson.TypeObject:
			p.levels = append(p.levels, e.Get("as"), e.Get("bs"), e.Get("a"), e.Get("b"))
		case fastjson.TypeArray:
			p.levels = append(p.levels, e)
		}
	}
	return p
}

func coinbasePayload(frame *fastjson.Value) payload {
	p := payload{symbol: string(frame.GetStringBytes("product_id")), price: frame.Get("price"), size: frame.Get("size")}
	if changes := frame.Get("changes"); changes != nil {
		p.levels, p.at = []*fastjson.Value{changes}, 1
	} else {
		p.levels = []*fastjson.Value{frame.Get("bids"), frame.Get("asks")}
	}
	return p
}

// quotes are the assets that Binance quotes in, those first that another one ends like.
var quotes = []string{
	"FDUSD", "BUSD", "TUSD", "USDT", "USDC", "USDP", "USD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "GBP", "JPY", "AUD", "DAI",
}

// renamed are assets that Kraken spells in its own way.
var renamed = map[string]string{"XBT": "BTC", "XDG": "DOGE"}

// Canonical makes our instrument id out of a venue's symbol: base, dash and quote, such as BTC-USDT for Binance's BTCUSDT
// and KSM-BTC for Kraken's KSM/XBT. A symbol that cannot be told apart stays as it is.
func Canonical(source, symbol string) string {
	base, quote, ok := strings.Cut(symbol, "/")
	if !ok && source == "binance" {
		for _, q := range quotes {
			if base, ok = strings.CutSuffix(symbol, q); ok && base != "" {
				return base + "-" + q
			}
		}
	}
	if !ok || source != "kraken" {
		return symbol
	}
	return rename(base) + "-" + rename(quote)
}

func rename(asset string) string {
	if name, ok := renamed[asset]; ok {
		return name
	}
	return asset
}
