package wire_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files and the examples in docs/PROTOCOL.md")

const goldenDir = "testdata/golden"

var (
	btc = &market.Instrument{
		ID: 1<<12 + 3, Sym: "BTC-USDT", Source: "binance", Symbol: "BTCUSDT", PriceScale: 2, SizeScale: 5, TickSize: 1,
	}
	odd = &market.Instrument{ID: 2<<12 + 3, Sym: `Ä"\` + "\n", Source: "tickwire", Symbol: "é", PriceScale: 18, SizeScale: 0}
)

const (
	ts  = market.Time(1_723_075_200_123_000_000)
	in  = market.Time(1_723_075_200_125_000_000)
	out = market.Time(1_723_075_200_125_714_000)
)

func lookup(sym []byte) *market.Instrument {
	for _, i := range []*market.Instrument{btc, odd} {
		if i.Sym == string(sym) {
			return i
		}
	}
	return nil
}

// sample is a message in the golden files: a pointer to its struct, and for data messages the instrument and the send time.
type sample struct {
	name string
	msg  any
	inst *market.Instrument
	out  market.Time
}

func head(seq uint64) market.Head {
	return market.Head{Inst: btc.ID, Epoch: 1_723_000_000, Prev: seq - 1, Seq: seq, Time: ts, In: in}
}

// whole is the head of a message without prev.
func whole(seq uint64) market.Head {
	h := head(seq)
	h.Prev = 0
	return h
}

func levels(l ...market.Level) []market.Level { return l }

var (
	bids = levels(market.Level{Price: 6_173_763, Size: 40_000}, market.Level{Price: 6_173_700, Size: 125_000}, market.Level{Price: 6_173_000, Size: 1})
	asks = levels(market.Level{Price: 6_173_764, Size: 300_000}, market.Level{Price: 6_173_810, Size: 7_500})
)

func samples() []sample {
	hash := market.Hash{Sum: hashOf(bids, asks), OK: true}
	after := market.Hash{Sum: hashOf(bids[1:], asks), OK: true}
	id := func(s string) market.TradeID { v, _ := market.MakeTradeID(s); return v }
	list := []sample{
		{name: "book-snapshot", msg: &market.Snapshot{Head: head(1001), Hash: hash, Part: 1, Parts: 1, Bids: bids, Asks: asks}},
		{name: "book-snapshot-part-1", msg: &market.Snapshot{Head: head(1001), Part: 1, Parts: 2, Bids: bids, Asks: asks[:1]}},
		{name: "book-snapshot-part-2", msg: &market.Snapshot{Head: head(1001), Hash: hash, Part: 2, Parts: 2, Asks: asks[1:]}},
		{name: "book-snapshot-empty", msg: &market.Snapshot{Head: head(7), Hash: market.Hash{OK: true}, Part: 1, Parts: 1}},
		{name: "book-snapshot-view", msg: &market.Snapshot{
			Head: market.Head{Inst: btc.ID, Epoch: 1_723_000_000, Prev: 1001, Seq: 1001, Time: ts},
			View: market.View{Depth: 10, Millis: 250}, Hash: hash, Part: 1, Parts: 1, Bids: bids, Asks: asks,
		}},
		{name: "book-update", msg: &market.Delta{Head: head(1002), Hash: after, Bids: levels(market.Level{Price: 6_173_763})}},
		{name: "book-update-view", msg: &market.Delta{
			Head: market.Head{Inst: btc.ID, Epoch: 1_723_000_000, Prev: 1001, Seq: 1009, Time: ts, In: in},
			View: market.View{Depth: 10, Millis: 250}, Hash: after, Bids: levels(market.Level{Price: 6_173_763}),
			Asks: levels(market.Level{Price: 6_173_764, Size: 300_000}),
		}},
		{name: "book-update-no-hash", msg: &market.Delta{Head: head(1003), Asks: levels(market.Level{Price: 6_173_810, Size: 7_501})}},
		{name: "trade", msg: &market.Trade{Head: head(51), Price: 6_173_763, Size: 1_500, Side: market.Ask, ID: id("3739112312")}},
		{name: "trade-plain", msg: &market.Trade{Head: head(52), Price: 6_173_800, Size: 100_000_000, Side: market.NoSide}},
		{name: "trade-odd", inst: odd, msg: &market.Trade{
			Head:  market.Head{Inst: odd.ID, Epoch: 1, Seq: 1, Time: -1_000},
			Price: 1, Size: 1, Side: market.Bid, ID: id("a\"b\x01ß€𝄞"),
		}},
		{name: "trade-gap", msg: &market.TradeGap{Head: head(53), Why: market.Venue, Missed: 12}},
		{name: "trade-gap-unknown", msg: &market.TradeGap{Head: head(54), Why: market.Session, Missed: -1}},
		{name: "trade-gap-slow", msg: &market.TradeGap{
			Head: market.Head{Inst: btc.ID, Epoch: 1_723_000_000, Prev: 54, Seq: 9054, Time: ts}, Why: market.Slow, Missed: 9000,
		}},
		{name: "bar-open", msg: &market.Bar{
			Head: whole(54), Interval: market.Minute, Start: ts.Truncate(market.Minute.Duration()),
			Open: 6_173_700, High: 6_173_800, Low: 6_173_700, Close: 6_173_763, Volume: 100_001_500, Trades: 3,
		}},
		{name: "bar-final", msg: &market.Bar{
			Head: head(18), Interval: market.Minute, Start: ts.Truncate(market.Minute.Duration()),
			Open: 6_173_700, High: 6_173_900, Low: 6_173_500, Close: 6_173_650, Volume: 123_456_789, Trades: 412, Final: true,
		}},
		{name: "bar-corrected", msg: &market.Bar{
			Head: head(19), Interval: market.Minute, Start: ts.Truncate(market.Minute.Duration()),
			Open: 6_173_700, High: 6_173_900, Low: 6_173_500, Close: 6_173_650, Volume: 123_457_789, Trades: 413, Final: true,
			Rev: 1, Incomplete: true,
		}},
		{name: "bar-gap", msg: &wire.BarGap{
			Head:     market.Head{Inst: btc.ID, Epoch: 1_723_000_000, Prev: 19, Seq: 219, Time: ts},
			Interval: market.Second, Why: market.Slow, Missed: 200,
		}},
		{name: "bbo", msg: &market.BBO{Head: whole(1001), Bid: bids[0], Ask: asks[0]}},
		{name: "bbo-one-side", msg: &market.BBO{Head: whole(1004), Ask: asks[0]}},
		{name: "bbo-empty", msg: &market.BBO{Head: whole(1005)}},
		{name: "ticker", msg: &market.Ticker{
			Head: whole(52), Last: 6_173_763, LastSize: 1_500, Bid: bids[0], Ask: asks[0], Open: 6_250_000, High: 6_301_000,
			Low: 6_000_050, Volume: 2_512_345_678, Quote: 154_321_987_654, Trades: 1_310_022,
		}},
		{name: "ticker-quiet", msg: &market.Ticker{Head: whole(52), Last: 6_173_763, LastSize: 1_500, Bid: bids[0]}},
		{name: "ticker-new", msg: &market.Ticker{Head: whole(0)}},
		{name: "status", msg: &market.Status{Head: whole(1), Instrument: *btc}},
		{name: "status-stale", msg: &market.Status{Head: whole(2), Instrument: *btc, Book: market.Stale, Why: market.Checksum}},
		{name: "status-odd", msg: &market.Status{
			Head: market.Head{Inst: odd.ID, Epoch: 1, Seq: 3, Time: ts}, Instrument: *odd, State: market.Delisted, Book: market.Stale,
			Why: market.Start,
		}},
	}
	for i := range list {
		s := &list[i]
		if s.inst == nil {
			s.inst = btc
		}
		if s.name != "trade-plain" {
			s.out = out
		}
	}
	return append(append(append(list, controls()...), requests()...), owners()...)
}

func controls() []sample {
	book := wire.Topic{Channel: market.Books, Sym: "BTC-USDT"}
	bars := wire.Topic{Channel: market.Bars, Sym: "BTC-USDT", Interval: market.Minute}
	at := market.Sequence{Epoch: 1_723_000_000, Seq: 1001}
	return []sample{
		{name: "hello", msg: &wire.Hello{
			Proto: wire.Proto, Conn: "k7q2m4xw", Time: ts, Limits: wire.Limits{Topics: 1000, Frame: 4096, Ops: 50},
			Resume: wire.Resume{Msgs: 4096, Ms: 120_000}, Auth: "none",
		}},
		{name: "hello-auth", msg: &wire.Hello{
			Proto: wire.Proto, Conn: "a", Time: ts, Limits: wire.Limits{Frame: 4096}, Resume: wire.Resume{Msgs: 8192, Ms: 60_000}, Auth: "required",
		}},
		{name: "hello-no-limits", msg: &wire.Hello{Proto: wire.Proto, Conn: "b", Time: ts, Auth: "optional"}},
		{name: "heartbeat", msg: &heartbeat{ts}},
		{name: "pong", msg: &pong{wire.NumberID(9), ts}},
		{name: "pong-string-id", msg: &pong{wire.StringID(`p"9`), ts}},
		{name: "topic-status", msg: &wire.TopicStatus{Topic: book, State: market.Stale, Why: market.Silent, Sequence: at, Time: ts}},
		{name: "topic-status-bars", msg: &wire.TopicStatus{Topic: bars, State: market.Quiet, Sequence: at, Time: ts}},
		{name: "lag", msg: &wire.Lag{Topics: []wire.Lagging{{Topic: book, Merged: 41}, {Topic: bars, Merged: 2}}, Ms: 350}},
		{name: "drain", msg: &wire.Drain{DeadlineMs: 30_000, RetryMs: [2]uint32{1000, 10_000}}},
		{name: "unsub-event", msg: &wire.Unsub{Topic: bars, Why: "forbidden"}},
		{name: "auth-event", msg: &wire.Auth{Why: wire.WhyExpiring, Expires: ts + 60_000_000_000, Time: ts}},
		{name: "ack-auth", msg: &wire.Ack{ID: wire.NumberID(3)}},
		{name: "error-auth", msg: &wire.Error{ID: wire.NumberID(3), Code: wire.CodeAuthFailed, Msg: "the token's key is not known"}},
		{name: "ack-sub", msg: &wire.Ack{
			ID: wire.NumberID(7),
			OK: []wire.Row{
				{Topic: book, View: market.View{Depth: 50, Millis: 100}, Inst: btc.ID, PriceScale: 2, SizeScale: 5, Sequence: at, How: wire.HowSnapshot, Why: wire.WhyNew},
				{Topic: bars, Inst: btc.ID, PriceScale: 2, SizeScale: 5, Sequence: at, State: market.Quiet, How: wire.HowReplay},
			},
			Errs: []wire.RowError{
				{Topic: wire.Topic{Channel: market.Trades, Sym: "NO-SUCH"}, Code: wire.CodeUnknownSymbol, Msg: "no such instrument"},
				{Topic: wire.Topic{Sym: "BTC-USDT"}, Unknown: "candles", Code: wire.CodeUnknownChannel, Msg: "no such channel"},
			},
		}},
		{name: "ack-wildcard", msg: &wire.Ack{ID: wire.StringID("all"), OK: []wire.Row{
			{Topic: wire.Topic{Channel: market.Tickers, Sym: wire.Wildcard}, N: 200, How: wire.HowSnapshot, Why: wire.WhyNew},
		}}},
		{name: "ack-unsub", msg: &wire.Ack{ID: wire.NumberID(8), OK: []wire.Row{{Topic: bars}}}},
		{name: "ack-resync", msg: &wire.Ack{ID: wire.NumberID(9), OK: []wire.Row{
			{Topic: book, View: market.View{Depth: 50, Millis: 100}, Inst: btc.ID, PriceScale: 2, SizeScale: 5, Sequence: at, How: wire.HowSnapshot, Why: wire.WhyNew},
		}}},
		{name: "ack-list", msg: &wire.Ack{ID: wire.NumberID(10), OK: []wire.Row{
			{Topic: book, View: market.View{Depth: 50, Millis: 100}, Inst: btc.ID, PriceScale: 2, SizeScale: 5, Sequence: at},
			{Topic: wire.Topic{Channel: market.Tickers, Sym: wire.Wildcard}, N: 200},
		}}},
		{name: "ack-behind", msg: &wire.Ack{Errs: []wire.RowError{
			{Topic: wire.Topic{Channel: market.Trades, Sym: "BTC-USDT"}, Code: wire.CodeBehind, Msg: "this server has not reached your place; try another one"},
		}}},
		{name: "ack-flow", msg: &wire.Ack{ID: wire.NumberID(11), Window: 65_536}},
		{name: "error", msg: &wire.Error{ID: wire.NumberID(7), Code: wire.CodeBadRequest, Msg: "topics[0].depth: not one of 0 10 25 50 100"}},
		{name: "error-no-id", msg: &wire.Error{Code: wire.CodeBadJSON, Msg: "not a JSON object"}},
	}
}

func requests() []sample {
	topic := func(ch market.Channel) wire.TopicRequest {
		return wire.TopicRequest{Topic: wire.Topic{Channel: ch, Sym: "BTC-USDT"}}
	}
	book, trades, bars := topic(market.Books), topic(market.Trades), topic(market.Bars)
	book.View = market.View{Depth: 50, Millis: 100}
	trades.Last = 50
	bars.Interval, bars.History = market.Minute, 500
	plain := []wire.TopicRequest{topic(market.Books), {Topic: bars.Topic}}
	from := topic(market.Trades)
	from.From = market.Sequence{Epoch: 1_723_000_000, Seq: 54}
	all := wire.TopicRequest{Topic: wire.Topic{Channel: market.BBOs, Sym: wire.Wildcard}}
	unknown := wire.TopicRequest{Unknown: "candles", Topic: wire.Topic{Sym: "BTC-USDT"}}
	return []sample{
		{name: "request-sub", msg: &wire.Request{ID: "7", Op: wire.OpSub, Topics: []wire.TopicRequest{book, trades, bars, topic(market.Tickers)}}},
		{name: "request-sub-from", msg: &wire.Request{ID: `"r-1"`, Op: wire.OpSub, Mode: wire.Lossless, Topics: []wire.TopicRequest{from}}},
		{name: "request-sub-all", msg: &wire.Request{ID: "1", Op: wire.OpSub, Topics: []wire.TopicRequest{all}}},
		{name: "request-sub-unknown", msg: &wire.Request{ID: "1", Op: wire.OpSub, Topics: []wire.TopicRequest{unknown}}},
		{name: "request-unsub", msg: &wire.Request{ID: "8", Op: wire.OpUnsub, Topics: plain}},
		{name: "request-resync", msg: &wire.Request{ID: "9", Op: wire.OpResync, Topics: plain[:1]}},
		{name: "request-list", msg: &wire.Request{ID: "10", Op: wire.OpList}},
		{name: "request-ping", msg: &wire.Request{ID: "-1.5", Op: wire.OpPing}},
		{name: "request-auth", msg: &wire.Request{ID: "3", Op: wire.OpAuth, Token: "eyJhbGciOi..."}},
		{name: "request-flow", msg: &wire.Request{ID: "11", Op: wire.OpFlow, Window: 65_536}},
		{name: "request-ack", msg: &wire.Request{Op: wire.OpAck, Bytes: 1_048_576}},
	}
}

func owners() []sample {
	return []sample{
		{name: "owner-marker", msg: &wire.OwnerMarker{Partition: 3, Version: 1, Instance: "ingest-0"}},
		{name: "owner-heartbeat", msg: &wire.OwnerHeartbeat{
			Partition: 3, OwnerEpoch: 123_456, InputOffset: 987_654_321, InputLag: 2, Time: ts,
			Sources: []wire.SourceClock{{Source: "binance", Last: ts}, {Source: "kraken", Last: in}},
		}},
		{name: "owner-heartbeat-empty", msg: &wire.OwnerHeartbeat{OwnerEpoch: -1, InputOffset: -1}},
		{name: "owner-batch", msg: &wire.OwnerBatch{Partition: 3, OwnerEpoch: 123_456, InputOffset: 987_654_321, Version: 1}},
		{name: "snapshot-part", msg: &wire.SnapshotPart{
			Inst: btc.ID, Kind: 1, Slot: 1, Part: 2, Parts: 3, EventsOffset: 5_000_000_000, InputOffset: 987_654_321, OwnerEpoch: 123_456,
			Version: 1, Payload: []byte("\x00state"),
		}},
		{name: "log-id", msg: &wire.LogID{ID: "k7q2m4xw"}},
	}
}

type heartbeat struct{ time market.Time }

type pong struct {
	id   wire.ID
	time market.Time
}

// json returns the sample as JSON, or nil when it has no such form.
func (s *sample) json() []byte {
	switch m := s.msg.(type) {
	case *market.Snapshot:
		return wire.AppendSnapshotJSON(nil, s.inst, m, s.out)
	case *market.Delta:
		return wire.AppendDeltaJSON(nil, s.inst, m, s.out)
	case *market.Trade:
		return wire.AppendTradeJSON(nil, s.inst, m, s.out)
	case *market.TradeGap:
		return wire.AppendTradeGapJSON(nil, s.inst, m, s.out)
	case *market.Bar:
		return wire.AppendBarJSON(nil, s.inst, m, s.out)
	case *wire.BarGap:
		return wire.AppendBarGapJSON(nil, s.inst, m, s.out)
	case *market.BBO:
		return wire.AppendBBOJSON(nil, s.inst, m, s.out)
	case *market.Ticker:
		return wire.AppendTickerJSON(nil, s.inst, m, s.out)
	case *market.Status:
		return wire.AppendStatusJSON(nil, s.inst, m, s.out)
	case *wire.Hello:
		return wire.AppendHello(nil, m)
	case *heartbeat:
		return wire.AppendHeartbeat(nil, m.time)
	case *pong:
		return wire.AppendPong(nil, m.id, m.time)
	case *wire.TopicStatus:
		return wire.AppendTopicStatusJSON(nil, m)
	case *wire.Lag:
		return wire.AppendLag(nil, m)
	case *wire.Drain:
		return wire.AppendDrain(nil, m)
	case *wire.Unsub:
		return wire.AppendUnsub(nil, m)
	case *wire.Auth:
		return wire.AppendAuth(nil, m)
	case *wire.Ack:
		return wire.AppendAck(nil, m)
	case *wire.Error:
		return wire.AppendError(nil, m)
	case *wire.Request:
		return wire.AppendRequest(nil, m)
	}
	return nil
}

// sbe returns the sample as SBE, or nil when it has no such form.
func (s *sample) sbe() []byte {
	return appendSBE(nil, s.msg)
}

func appendSBE(dst []byte, msg any) []byte {
	switch m := msg.(type) {
	case *market.Snapshot:
		return wire.AppendSnapshot(dst, m)
	case *market.Delta:
		return wire.AppendDelta(dst, m)
	case *market.Trade:
		return wire.AppendTrade(dst, m)
	case *market.TradeGap:
		return wire.AppendTradeGap(dst, m)
	case *market.Bar:
		return wire.AppendBar(dst, m)
	case *wire.BarGap:
		return wire.AppendBarGap(dst, m)
	case *market.BBO:
		return wire.AppendBBO(dst, m)
	case *market.Ticker:
		return wire.AppendTicker(dst, m)
	case *market.Status:
		return wire.AppendStatus(dst, m)
	case *wire.OwnerMarker:
		return wire.AppendOwnerMarker(dst, m)
	case *wire.OwnerHeartbeat:
		return wire.AppendOwnerHeartbeat(dst, m)
	case *wire.OwnerBatch:
		return wire.AppendOwnerBatch(dst, m)
	case *wire.SnapshotPart:
		return wire.AppendSnapshotPart(dst, m)
	case *wire.LogID:
		return wire.AppendLogID(dst, m)
	}
	return dst
}

// decodeSBE reads b into a message of msg's type.
func decodeSBE(b []byte, msg any) (any, error) {
	into := reflect.New(reflect.TypeOf(msg).Elem()).Interface()
	switch m := into.(type) {
	case *market.Snapshot:
		return m, wire.DecodeSnapshot(b, m)
	case *market.Delta:
		return m, wire.DecodeDelta(b, m)
	case *market.Trade:
		return m, wire.DecodeTrade(b, m)
	case *market.TradeGap:
		return m, wire.DecodeTradeGap(b, m)
	case *market.Bar:
		return m, wire.DecodeBar(b, m)
	case *wire.BarGap:
		return m, wire.DecodeBarGap(b, m)
	case *market.BBO:
		return m, wire.DecodeBBO(b, m)
	case *market.Ticker:
		return m, wire.DecodeTicker(b, m)
	case *market.Status:
		return m, wire.DecodeStatus(b, m)
	case *wire.OwnerMarker:
		return m, wire.DecodeOwnerMarker(b, m)
	case *wire.OwnerHeartbeat:
		return m, wire.DecodeOwnerHeartbeat(b, m)
	case *wire.OwnerBatch:
		return m, wire.DecodeOwnerBatch(b, m)
	case *wire.SnapshotPart:
		return m, wire.DecodeSnapshotPart(b, m)
	case *wire.LogID:
		return m, wire.DecodeLogID(b, m)
	}
	return nil, fmt.Errorf("%T has no SBE form", msg)
}

// content returns what the message holds, in the form of a sample.
func content(m *wire.Message) any {
	switch m.Kind {
	case wire.KindSnapshot:
		return &m.Snapshot
	case wire.KindDelta:
		return &m.Delta
	case wire.KindTrade:
		return &m.Trade
	case wire.KindTradeGap:
		return &m.TradeGap
	case wire.KindBar:
		return &m.Bar
	case wire.KindBarGap:
		return &m.BarGap
	case wire.KindBBO:
		return &m.BBO
	case wire.KindTicker:
		return &m.Ticker
	case wire.KindStatus:
		return &m.Status
	case wire.KindHello:
		return &m.Hello
	case wire.KindHeartbeat:
		return &heartbeat{m.Time}
	case wire.KindPong:
		return &pong{m.ID, m.Time}
	case wire.KindTopicStatus:
		return &m.TopicStatus
	case wire.KindLag:
		return &m.Lag
	case wire.KindDrain:
		return &m.Drain
	case wire.KindUnsub:
		return &m.Unsub
	case wire.KindAuth:
		return &m.Auth
	case wire.KindAck:
		return &m.Ack
	case wire.KindError:
		return &m.Error
	}
	return nil
}

// show prints a message in full, so that two of them compare; empty and missing lists are the same.
func show(msg any) string {
	return fmt.Sprintf("%T %+v", msg, reflect.ValueOf(msg).Elem().Interface())
}

// golden compares b with a golden file, or writes it.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	path := filepath.Join(goldenDir, name)
	if *update {
		if err := os.MkdirAll(goldenDir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Errorf("%s:\ngot  %s\nwant %s", name, b, want)
	}
}

// hexLines is an SBE frame as a golden file: 32 bytes a line.
func hexLines(b []byte) []byte {
	var dst []byte
	for len(b) > 0 {
		n := min(32, len(b))
		dst = append(hex.AppendEncode(dst, b[:n]), '\n')
		b = b[n:]
	}
	return dst
}

func TestGolden(t *testing.T) {
	written := map[string]bool{}
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			if text := s.json(); text != nil {
				written[s.name+".json"] = true
				golden(t, s.name+".json", append(text, '\n'))
			}
			if frame := s.sbe(); frame != nil {
				written[s.name+".hex"] = true
				golden(t, s.name+".hex", hexLines(frame))
			}
		})
	}
	files, err := os.ReadDir(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !written[f.Name()] && filepath.Ext(f.Name()) != ".md" {
			t.Errorf("%s belongs to no sample", f.Name())
		}
	}
}

// TestDecodeGolden reads the golden files back: what comes out is the sample.
func TestDecodeGolden(t *testing.T) {
	var m, again wire.Message
	for _, s := range samples() {
		if frame := s.sbe(); frame != nil {
			got, err := decodeSBE(frame, s.msg)
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			if show(got) != show(s.msg) {
				t.Errorf("%s in SBE:\ngot  %s\nwant %s", s.name, show(got), show(s.msg))
			}
			if err := wire.DecodeSBE(frame, &m); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
			if msg := content(&m); msg != nil && show(msg) != show(s.msg) {
				t.Errorf("%s by DecodeSBE:\ngot  %s\nwant %s", s.name, show(msg), show(s.msg))
			}
		}
		text := s.json()
		if _, isRequest := s.msg.(*wire.Request); isRequest || text == nil {
			continue
		}
		if err := wire.DecodeJSON(text, lookup, &again); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		msg := content(&again)
		if msg == nil || show(msg) != show(s.msg) {
			t.Errorf("%s in JSON:\ngot  %v\nwant %s", s.name, msg, show(s.msg))
		}
		if again.Out != s.out {
			t.Errorf("%s: out is %d, want %d", s.name, again.Out, s.out)
		}
	}
}

func TestDecodeRequestGolden(t *testing.T) {
	var r wire.Request
	for _, s := range requests() {
		if err := wire.DecodeRequest(s.json(), &r); err != nil {
			t.Errorf("%s: %v", s.name, err)
		} else if show(&r) != show(s.msg) {
			t.Errorf("%s:\ngot  %s\nwant %s", s.name, show(&r), show(s.msg))
		}
	}
}
