package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// TestJSONIsValid holds every encoder to what another parser calls JSON.
func TestJSONIsValid(t *testing.T) {
	for _, s := range samples() {
		if text := s.json(); text != nil && !json.Valid(text) {
			t.Errorf("%s: %s", s.name, text)
		}
	}
}

func TestDecodeJSONLenient(t *testing.T) {
	var m wire.Message
	f := func(text string, want any) {
		t.Helper()
		if err := wire.DecodeJSON([]byte(text), lookup, &m); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := content(&m); want == nil && m.Kind != wire.KindUnknown || want != nil && (got == nil || show(got) != show(want)) {
			t.Errorf("%s:\ngot  %v\nwant %v", text, got, want)
		}
	}
	bbo := &market.BBO{Head: market.Head{Inst: btc.ID, Epoch: 1, Seq: 2, Time: 3_000}, Bid: market.Level{Price: 150, Size: 100_000}}
	// Any order, white space, escapes, and fields of a later version.
	f(`{"a":null,"b":["1.50","1"],"new":{"x":[1,{"y":"\u0000"}]},"ts":3,"seq":2,"ep":1,"sym":"BTC-USDT","ch":"bbo"}`, bbo)
	f("\t{ \"ch\" : \"\\u0062bo\" ,\r\n\"s\\u0079m\":\"BTC\\u002dUSDT\",\"ep\":1,\"seq\":2,\"ts\":3,\"a\":null,\"b\":[ \"1.5\" , \"1\" ] } ", bbo)
	f(`{"b":[["1.5","1"]],"a":[],"depth":0,"t":"u","prev":1,"ts":3,"seq":2,"ep":1,"sym":"BTC-USDT","ch":"book"}`,
		&market.Delta{Head: market.Head{Inst: btc.ID, Epoch: 1, Prev: 1, Seq: 2, Time: 3_000}, Bids: levels(bbo.Bid)})
	// Messages of a later version.
	f(`{"ch":"funding","sym":"BTC-USDT","rate":"0.01"}`, nil)
	f(`{"ch":"funding"}`, nil)
	f(`{"ch":"trades","sym":"BTC-USDT","t":"block","ep":1,"prev":1,"seq":2,"ts":3}`, nil)
	f(`{"ev":"news","text":"hello"}`, nil)
	f(`{"id":1,"new":true}`, nil)
	f(`{}`, nil)
	f(`{"ch":"trades","sym":"BTC-USDT","t":"gap","why":"fog","missed":null,"ep":1,"prev":1,"seq":2,"ts":3}`,
		&market.TradeGap{Head: market.Head{Inst: btc.ID, Epoch: 1, Prev: 1, Seq: 2, Time: 3_000}, Missed: -1})
}

func TestDecodeJSONRefuses(t *testing.T) {
	var m wire.Message
	syntax := func(text string) {
		t.Helper()
		if err := wire.DecodeJSON([]byte(text), lookup, &m); !errors.Is(err, wire.ErrJSON) || m.Kind != wire.KindUnknown {
			t.Errorf("%s: kind %v, %v", text, m.Kind, err)
		}
	}
	for _, text := range []string{
		``, ` `, `1`, `[]`, `{`, `{}x`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":1 "b":2}`, `{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":+1}`, `{"a":1e}`,
		`{"a":-}`, `{"a":NaN}`, `{"a":nul}`, `{"a":'x'}`, `{"a":"x}`, `{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a":"\u12`, "{\"a\":\"\x01\"}", "{\"a\":\"\xff\"}",
		`{"a":[1,]}`, `{"a":[1 2]}`, `{"a":[}`, `{"a":{]}`, `{a:1}`, "{\"a\":1}\x00", `{"a":` + strings.Repeat("[", 17) + strings.Repeat("]", 17) + `}`,
	} {
		syntax(text)
	}

	field := func(message, field string) {
		t.Helper()
		err := wire.DecodeJSON([]byte(message), lookup, &m)
		var fe *wire.FieldError
		if !errors.As(err, &fe) || fe.Field != field || m.Kind != wire.KindUnknown {
			t.Errorf("%s: want an error about %s, got %v", message, field, err)
		}
	}
	head := `"sym":"BTC-USDT","ep":1,"prev":1,"seq":2,"ts":3`
	book := func(rest string) string { return `{"ch":"book",` + head + `,"t":"u","depth":0,` + rest + `}` }
	field(`{"ch":"book","ep":1,"prev":1,"seq":2,"ts":3}`, "sym")
	field(`{"ch":"bbo","sym":"BTC-USDT","seq":2,"ts":3}`, "ep")
	field(`{"ch":"bbo","sym":"BTC-USDT","ep":4294967296,"seq":2,"ts":3}`, "ep")
	field(`{"ch":"bbo","sym":"BTC-USDT","ep":1,"seq":18446744073709551616,"ts":3,"b":null,"a":null}`, "seq")
	field(`{"ch":"bbo","sym":"BTC-USDT","ep":1,"seq":1.0,"ts":3,"b":null,"a":null}`, "seq")
	field(`{"ch":"bbo","sym":"BTC-USDT","ep":1,"seq":1,"ts":9223372036854776,"b":null,"a":null}`, "ts")
	field(`{"ch":"bbo","sym":"BTC-USDT","ep":1,"seq":1,"ts":"3","b":null,"a":null}`, "ts")
	field(`{"ch":"bbo","sym":"BTC-USDT","ep":1,"seq":1,"seq":2,"ts":3,"b":null,"a":null}`, "seq")
	field(`{"ch":"bbo","sym":"BTC-USDT","ep":1,"seq":1,"ts":3,"b":[["1","1"]],"a":null}`, "b")
	field(`{"ch":"bbo","sym":"BTC-USDT","ep":1,"seq":1,"ts":3,"b":["1","0"],"a":null}`, "b")
	field(book(`"b":[],"a":[["1","1"],["1"]]`), "a")
	field(book(`"b":[[1,1]],"a":[]`), "b")
	field(book(`"b":[["1.001","1"]],"a":[]`), "b")
	field(book(`"b":[["-1","1"]],"a":[]`), "b")
	field(book(`"b":[["1","-1"]],"a":[]`), "b")
	field(book(`"b":[["1e3","1"]],"a":[]`), "b")
	field(book(`"b":[],"a":null`), "a")
	field(book(`"b":[]`), "a")
	field(book(`"b":[],"a":[],"h":"00000000000000zz"`), "h")
	field(book(`"b":[],"a":[],"h":"0"`), "h")
	field(book(`"b":[],"a":[],"h":"000000000000000A"`), "h")
	field(`{"ch":"book",`+head+`,"t":"s","depth":0,"b":[["1","0"]],"a":[]}`, "b")
	field(`{"ch":"book",`+head+`,"t":"s","depth":0,"b":[],"a":[],"part":3,"of":2}`, "part")
	field(`{"ch":"book",`+head+`,"t":"s","depth":0,"b":[],"a":[],"of":2}`, "part")
	field(`{"ch":"book",`+head+`,"t":"x","depth":0,"b":[],"a":[]}`, "t")
	field(`{"ch":"trades",`+head+`,"t":"trade","price":"1","size":"0"}`, "size")
	field(`{"ch":"trades",`+head+`,"t":"trade","price":1,"size":"1"}`, "price")
	field(`{"ch":"trades",`+head+`,"t":"trade","price":"1","size":"1","side":"up"}`, "side")
	field(`{"ch":"trades",`+head+`,"t":"trade","price":"1","size":"1","id":"`+strings.Repeat("x", 41)+`"}`, "id")
	field(`{"ch":"trades",`+head+`,"t":"gap"}`, "missed")
	field(`{"ch":"trades",`+head+`,"t":"gap","missed":-1}`, "missed")
	field(`{"ch":"bars",`+head+`,"iv":"2m","t":1}`, "iv")
	field(`{"ch":"bars",`+head+`,"iv":"1m","t":1,"o":"1","h":"1","l":"1","c":"1","v":"1","n":1,"final":1}`, "final")
	field(`{"ch":"status",`+head+`,"inst":1,"ps":19,"ss":0,"source":"","symbol":"","state":"live","book":"live"}`, "ps")
	field(`{"ch":"status",`+head+`,"inst":1,"ps":1,"ss":0,"source":"","symbol":"","state":"dead","book":"live"}`, "state")
	field(`{"ev":"hb"}`, "ts")
	field(`{"ev":"drain","deadline_ms":1,"retry_ms":[1]}`, "retry_ms")
	field(`{"ev":"drain","deadline_ms":1,"retry_ms":[1,2,3]}`, "retry_ms")
	field(`{"ev":"lag","ms":1,"topics":[{"ch":"book","sym":"X"},{"ch":"x","sym":"X"}]}`, "topics[1].ch")
	field(`{"ev":"lag","ms":1,"topics":{}}`, "topics")
	field(`{"id":[],"ok":[]}`, "id")
	field(`{"id":1,"ok":[{"ch":"bars","sym":"X","iv":"x"}]}`, "ok[0].iv")
	field(`{"id":1,"err":{"msg":"x"}}`, "err.code")
	field(`{"ev":"hello","proto":1,"ts":1,"limits":{"topics":-1}}`, "limits.topics")

	if err := wire.DecodeJSON([]byte(`{"ch":"bbo","sym":"X","ep":1,"seq":1,"ts":3,"b":null,"a":null}`), lookup, &m); !errors.Is(err, wire.ErrUnknownSym) {
		t.Errorf("unknown instrument: %v", err)
	}
}

// TestPercent compares the rounded percentage with plain arithmetic, and tries values whose product leaves 64 bits.
func TestPercent(t *testing.T) {
	f := func(open, last market.Price, want string) {
		t.Helper()
		m := &market.Ticker{Head: whole(1), Open: open, High: open, Low: open, Last: last, LastSize: 1}
		text := string(wire.AppendTickerJSON(nil, btc, m, 0))
		if !strings.Contains(text, `"pct":"`+want+`"`) {
			t.Errorf("from %d to %d: want %s in %s", open, last, want, text)
		}
	}
	f(100, 100, "0.00")
	f(100, 101, "1.00")
	f(100, 99, "-1.00")
	f(30_000, 30_001, "0.00")
	f(30_000, 29_999, "0.00")
	f(20_000, 20_001, "0.01")
	f(20_000, 19_999, "-0.01")
	f(3, 4, "33.33")
	f(3, 1, "-66.67")
	f(1, 1_000_000, "99999900.00")
	f(math.MaxInt64-1, math.MaxInt64, "0.00")
	f(math.MaxInt64/2, math.MaxInt64, "100.00")
	f(1, math.MaxInt64, "92233720368547758.07") // held at the end of the range
}

func TestDecodeRequestRefuses(t *testing.T) {
	var r wire.Request
	f := func(text string, code wire.Code, msg string) {
		t.Helper()
		err := wire.DecodeRequest([]byte(text), &r)
		var re *wire.RequestError
		if !errors.As(err, &re) || re.Code != code || !strings.HasPrefix(re.Msg, msg) {
			t.Errorf("%s:\ngot  %v\nwant %s: %s", text, err, code, msg)
		}
	}
	f(`hello`, wire.CodeBadJSON, "")
	f(`{"op":"sub"`, wire.CodeBadJSON, "")
	f(`{"op":"ping","id":1}{}`, wire.CodeBadJSON, "")
	f(`{"id":1}`, wire.CodeBadRequest, "op: missing")
	f(`{"id":1,"op":7}`, wire.CodeBadRequest, "op: ")
	f(`{"id":1,"op":"subscribe"}`, wire.CodeUnknownOp, `unknown op "subscribe"`)
	f(`{"op":"ping"}`, wire.CodeBadRequest, "id: missing")
	f(`{"op":"ping","id":null}`, wire.CodeBadRequest, "id: ")
	f(`{"op":"ping","id":{}}`, wire.CodeBadRequest, "id: ")
	f(`{"op":"ping","id":"`+strings.Repeat("x", 63)+`"}`, wire.CodeBadRequest, "id: ")
	f(`{"op":"ping","id":1,"id":2}`, wire.CodeBadRequest, "id: given twice")
	f(`{"op":"ping","id":1,"x":2}`, wire.CodeBadRequest, `"x": unknown field`)
	f(`{"op":"ping","id":1,"topics":[]}`, wire.CodeBadRequest, "topics: not allowed here")
	f(`{"op":"sub","id":1}`, wire.CodeBadRequest, "topics: missing")
	f(`{"op":"sub","id":1,"topics":[]}`, wire.CodeBadRequest, "topics: empty")
	f(`{"op":"sub","id":1,"topics":{}}`, wire.CodeBadRequest, "topics: not a list")
	f(`{"op":"sub","id":1,"topics":[1]}`, wire.CodeBadRequest, "topics: not a list")
	f(`{"op":"sub","id":1,"mode":"fast","topics":[]}`, wire.CodeBadRequest, "mode: ")
	f(`{"op":"auth","id":1}`, wire.CodeBadRequest, "token: missing")
	f(`{"op":"flow","id":1,"window":4095}`, wire.CodeBadRequest, "window: ")
	f(`{"op":"flow","id":1,"window":1048577}`, wire.CodeBadRequest, "window: ")
	f(`{"op":"ack"}`, wire.CodeBadRequest, "bytes: missing")
	f(`{"op":"ack","bytes":-1}`, wire.CodeBadRequest, "bytes: ")
	topic := func(topic, msg string) {
		t.Helper()
		f(`{"op":"sub","id":1,"topics":[{"ch":"bbo","sym":"A"},`+topic+`]}`, wire.CodeBadRequest, "topics[1]."+msg)
	}
	topic(`{"sym":"A"}`, "ch: missing")
	topic(`{"ch":"book"}`, "sym: missing")
	topic(`{"ch":"book","sym":""}`, "sym: empty")
	topic(`{"ch":"book","sym":1}`, "sym: ")
	topic(`{"ch":"book","sym":"*"}`, "sym: ")
	topic(`{"ch":"book","sym":"A","depth":20}`, "depth: not one of 0 10 25 50 100")
	topic(`{"ch":"book","sym":"A","depth":"10"}`, "depth: ")
	topic(`{"ch":"book","sym":"A","ms":50}`, "ms: not one of 0 100 250 1000")
	topic(`{"ch":"book","sym":"A","last":1}`, "last: not allowed here")
	topic(`{"ch":"bbo","sym":"A","depth":10}`, "depth: not allowed here")
	topic(`{"ch":"bars","sym":"A"}`, "iv: missing")
	topic(`{"ch":"bars","sym":"A","iv":"1M"}`, "iv: not an interval")
	topic(`{"ch":"trades","sym":"A","last":1001}`, "last: ")
	topic(`{"ch":"bars","sym":"A","iv":"1m","history":2049}`, "history: ")
	topic(`{"ch":"trades","sym":"A","from":7}`, "from: not an object")
	topic(`{"ch":"trades","sym":"A","from":{"ep":7}}`, "from.seq: missing")
	topic(`{"ch":"trades","sym":"A","from":{"ep":0,"seq":1}}`, "from.ep: ")
	topic(`{"ch":"trades","sym":"A","from":{"ep":7,"seq":1,"x":1}}`, `from."x": unknown field`)
	topic(`{"ch":"trades","sym":"A","sym":"B"}`, "sym: given twice")
	f(`{"op":"unsub","id":1,"topics":[{"ch":"book","sym":"A","depth":10}]}`, wire.CodeBadRequest, "topics[0].depth: not allowed here")

	// A reply needs the id, also of a request that is refused.
	_ = wire.DecodeRequest([]byte(`{"op":"nope","id":"a\"b"}`), &r)
	if got := string(wire.AppendError(nil, &wire.Error{ID: r.ID, Code: wire.CodeUnknownOp})); got != `{"id":"a\"b","err":{"code":"unknown_op","msg":""}}` {
		t.Errorf("the id came back as %s", got)
	}
}

func ExampleAppendDeltaJSON() {
	btc := &market.Instrument{ID: 4099, Sym: "BTC-USDT", PriceScale: 2, SizeScale: 5}
	update := &market.Delta{
		Head: market.Head{Inst: 4099, Epoch: 1723000000, Prev: 1001, Seq: 1002, Time: market.FromMillis(1723075200123)},
		Bids: []market.Level{{Price: 6173763, Size: 40000}},
		Asks: []market.Level{{Price: 6173764, Size: 0}},
	}
	fmt.Printf("%s\n", wire.AppendDeltaJSON(nil, btc, update, 0))
	// Output: {"ch":"book","sym":"BTC-USDT","t":"u","depth":0,"ep":1723000000,"prev":1001,"seq":1002,"b":[["61737.63","0.4"]],"a":[["61737.64","0"]],"ts":1723075200123000}
}
