package swarm

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"testing"
)

// TestSymbols has a server that numbers its instruments as it likes, and clients that hear of it by the acknowledgement.
func TestSymbols(t *testing.T) {
	s, c := newSwarm("trades", false)
	y, err := newSymbols([]string{"BTC-USDT", "ETH-USDT@kraken", "X"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	s.symbols, c.state, c.acks, s.opening = y, asking, 1, 1
	const ack = `{"id":"1","ok":[{"ch":"trades","sym":"ETH-USDT@kraken","inst":2,"ps":2,"ss":5,"ep":77,"seq":%d,"state":"live","how":"snapshot","why":"new"}]}`
	if err := s.sockets.message(c, opText, fmt.Appendf(nil, ack, uint64(1)<<40), 0); err == nil {
		t.Error("a sequence that is not counted is taken")
	}
	if err := s.sockets.message(c, opText, fmt.Appendf(nil, ack, 7), 0); err != nil {
		t.Fatal(err)
	}
	if c.seqs[1] != 7 || c.state != running || s.symbols.place(1, 9).Epoch != 77 {
		t.Errorf("%+v", c)
	}
	feed(t, s, c, 100, trade(false, 7, 8)) // of instrument 2
	if c.seqs[1] != 8 || s.report.Messages != 1 {
		t.Errorf("%+v at %d", s.report, c.seqs[1])
	}
	if m, _, ok := s.parseJSON([]byte(`{"ch":"trades","sym":"X","t":"trade","ep":1,"prev":8,"seq":9,"ts":5}`)); !ok || m.topic != 2 || m.prev != 8 || m.seq != 9 || m.due != 5 {
		t.Errorf("%+v", m)
	}
	feed(t, s, c, 100, trade(false, 8, 9))
	s.symbols.insts = map[uint32]int{}
	feed(t, s, c, 100, trade(false, 9, 10))
	if s.report.Malformed != 1 {
		t.Errorf("an instrument that nobody has asked for is no fault: %+v", s.report)
	}
}

func TestSymbolsRefused(t *testing.T) {
	for _, names := range [][]string{{"A", "B"}, {"A", "B", "A"}, {}} {
		if _, err := newSymbols(names, 3); err == nil {
			t.Errorf("%q are taken", names)
		}
	}
}

// TestPlaces has streams over several partitions: each event moves one of them.
func TestPlaces(t *testing.T) {
	id := func(bitmap []byte, offsets ...uint64) []byte {
		b := append([]byte{byte(len(bitmap))}, bitmap...)
		for _, o := range offsets {
			b = binary.AppendUvarint(b, o)
		}
		return base64.RawURLEncoding.AppendEncode([]byte("k7q2m4xw."), b)
	}
	if got, ok := placeOf(id([]byte{0b101, 0b1}, 5, 1<<30, 7)); !ok || got != 1<<30+12 {
		t.Errorf("%d, %v", got, ok)
	}
	for _, bad := range [][]byte{id([]byte{0b101}, 5), id([]byte{0}, 5), id(nil, 5)} {
		if got, ok := placeOf(bad); ok {
			t.Errorf("%q leads to %d", bad, got)
		}
	}
}
