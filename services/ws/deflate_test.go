package ws

import (
	"bytes"
	"compress/flate"
	"net/http"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

const agreedDeflate = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

func TestOffers(t *testing.T) {
	f := func(want bool, lines ...string) {
		t.Helper()
		h := http.Header{"Sec-Websocket-Extensions": lines}
		if got := offersDeflate(h); got != want {
			t.Errorf("%q: %v", lines, got)
		}
	}
	f(true, "permessage-deflate")
	f(true, "permessage-deflate; client_max_window_bits")
	f(true, "permessage-deflate;client_max_window_bits=12 ; server_no_context_takeover")
	f(true, `permessage-deflate; client_max_window_bits="15"; client_no_context_takeover; server_no_context_takeover`)
	f(true, "x-webkit-deflate-frame, permessage-deflate")
	f(true, "x-webkit-deflate-frame", "", "permessage-deflate")
	f(true, "permessage-deflate; server_max_window_bits=10, permessage-deflate; client_max_window_bits")
	f(true, "permessage-deflate; nonsense, permessage-deflate")
	f(false)
	f(false, "")
	f(false, "permessage-deflate; server_max_window_bits=10")
	f(false, "permessage-deflate; server_max_window_bits=15")
	f(false, "permessage-deflate; client_max_window_bits=7")
	f(false, "permessage-deflate; client_max_window_bits=16")
	f(false, "permessage-deflate; client_max_window_bits=08")
	f(false, "permessage-deflate; client_max_window_bits=")
	f(false, `permessage-deflate; client_max_window_bits="12`)
	f(false, "permessage-deflate; server_no_context_takeover=1")
	f(false, "permessage-deflate; client_no_context_takeover; client_no_context_takeover")
	f(false, "permessage-deflate; x")
	f(false, "permessage-deflate;")
	f(false, "permessage-deflate-x")
	f(false, "x-permessage-deflate")
	f(false, `other; x="a, permessage-deflate, b"`)
	f(false, `other; x="\", permessage-deflate, b"`)
}

// FuzzOffers only wants to see no panic.
func FuzzOffers(f *testing.F) {
	f.Add(`permessage-deflate; client_max_window_bits="15", a; b="\\\""`)
	f.Fuzz(func(_ *testing.T, line string) {
		offersDeflate(http.Header{"Sec-Websocket-Extensions": {line}})
	})
}

// deflating connects a client that compresses.
func (e *edge) deflating(protocol string) *peer {
	e.t.Helper()
	p := e.dial()
	headers := "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	if protocol != "" {
		headers += "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	p.write([]byte(upgradeRequest("/v1/ws", headers)))
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil || resp.Header.Get("Sec-WebSocket-Extensions") != agreedDeflate {
		e.t.Fatalf("agreed upon %v, %v", resp, err)
	}
	p.expect(wire.KindHello)
	return p
}

// packed is a client's compressed message.
func packed(payload []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	_, _ = w.Write(payload)
	_ = w.Flush()
	return masked(0x81|rsv1, b.Bytes()[:b.Len()-4])
}

func TestDeflate(t *testing.T) {
	f := func(protocol string, want bool) {
		t.Helper()
		e := startEdge(t, func(c *Config) { c.Deflate = want }).market(300)
		defer e.end()
		p := e.dial()
		if want {
			p = e.deflating(protocol)
			p.write(packed([]byte(`{"op":"sub","id":1,"topics":[{"ch":"book","sym":"BTC-USDT"},{"ch":"trades","sym":"BTC-USDT"}]}`)))
		} else {
			p.upgrade(protocol)
			p.expect(wire.KindHello)
			p.send(`{"op":"sub","id":1,"topics":[{"ch":"book","sym":"BTC-USDT"},{"ch":"trades","sym":"BTC-USDT"}]}`)
		}
		p.expect(wire.KindAck)
		var local book.Book
		for i := range 100 {
			e.update(market.Price(100_000-i%5), market.Size(1000+i))
			e.trade()
		}
		for trades := 0; local.Sequence() != e.book.Sequence() || trades < 100; {
			var err error
			switch p.next() {
			case wire.KindSnapshot:
				err = local.Load(&p.msg.Snapshot)
			case wire.KindDelta:
				if _, err = local.Apply(&p.msg.Delta); err == nil && local.Hash() != p.msg.Delta.Hash.Sum {
					t.Errorf("hash at %d", p.msg.Delta.Seq)
				}
			case wire.KindTrade:
				trades++
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if (p.packed > 0) != want {
			t.Errorf("%d compressed messages", p.packed)
		}
		if n := e.s.hub.Stats().Deflated.Load(); want && n == 0 {
			t.Error("none counted")
		}
	}
	f(wire.SubprotocolJSON, true)
	f(wire.SubprotocolSBE, true)
	f("", true)
	f("", false)
}

// TestHostileDeflate are clients that try to break the server by what they compress.
func TestHostileDeflate(t *testing.T) {
	e := startEdge(t, nil).market(5)
	f := func(name string, want int, b []byte) {
		t.Helper()
		p := e.deflating("")
		_, _ = p.conn.Write(b)
		if code := p.closed(); code != want {
			t.Errorf("%s: closed by %d, want %d", name, code, want)
		}
	}
	f("a bomb", 1009, packed(make([]byte, 3<<20)))
	f("a bomb just above the limit", 1009, packed(bytes.Repeat([]byte(" "), 4097)))
	f("a message that is too long compressed", 1009, masked(0xC1, make([]byte, 5000)))
	half := packed(make([]byte, 3<<20))[8:]
	f("a bomb in pieces", 1009, append(masked(0x41, half[:1000]), masked(0x80, half[1000:])...))
	f("garbage", 1007, masked(0xC1, bytes.Repeat([]byte{0xFF}, 100)))
	f("cut off", 1007, masked(0xC1, []byte{0x05, 0xFF}))
	f("not UTF-8 inside", 1007, packed([]byte{0xFF, 0xFE}))
	f("RSV1 on a ping", 1002, masked(0xC9, nil))
	f("RSV1 on a continuation", 1002, append(masked(0x41, []byte("x")), masked(0xC0, nil)...))
	f("RSV2 as well", 1002, masked(0xE1, nil))
	f("RSV3 as well", 1002, masked(0xD1, nil))

	// One that is in order, in pieces, with a ping in between; and one that is not compressed at all.
	p := e.deflating("")
	b := packed([]byte(`{"op":"ping","id":"` + strings.Repeat("7", 50) + `"}`))[6:]
	p.write(masked(0x41, b[:5]))
	p.write(masked(0x89, []byte("hi")))
	if op, b, err := p.frame(); op != opPong || string(b) != "hi" || err != nil {
		t.Errorf("ping within a message: %d %q %v", op, b, err)
	}
	p.write(masked(0x80, b[5:]))
	p.expect(wire.KindPong)
	p.send(`{"op":"ping","id":2}`)
	if p.expect(wire.KindPong); p.msg.ID != "2" {
		t.Errorf("%s", p.text)
	}
}
