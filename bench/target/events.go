package target

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// logID names the log that the messages stand in, as an owner of md.events would have chosen it.
const logID = "bench000"

// eventMaker makes of a trade what the public edge sends for it, byte for byte but for the time of sending, so that the floor
// writes as much.
type eventMaker struct {
	topics []topic
	offset int64 // of the newest record
	trade  market.Trade
	text   []byte
}

func newEvents(m *maker) *eventMaker {
	return &eventMaker{topics: m.topics, offset: int64(len(m.topics))} // the instruments' statuses come first
}

// chunk makes a chunk of one event (RFC 9112, 7.1). It is valid until the next call.
func (m *eventMaker) chunk(topic int, payload []byte) []byte {
	if err := wire.DecodeTrade(payload, &m.trade); err != nil {
		panic("target: a trade of our own does not decode: " + err.Error())
	}
	m.offset++
	t := append(appendEventID(append(m.text[:0], "0000\r\nid: "...), uint64(m.offset)), "\nevent: trade\ndata: "...)
	t = append(wire.AppendTradeJSON(t, &m.topics[topic].inst, &m.trade, m.trade.In), "\n\n"...)
	length := strconv.FormatInt(int64(len(t)-len("0000\r\n")), 16)
	m.text = append(t, "\r\n"...)
	skip := len("0000") - len(length)
	copy(m.text[skip:], length)
	return m.text[skip:]
}

// EventID is the id of an event at a place in the log.
func EventID(offset uint64) []byte { return appendEventID(nil, offset) }

func appendEventID(b []byte, offset uint64) []byte {
	var room [2 + binary.MaxVarintLen64]byte
	place := binary.AppendUvarint(append(room[:0], 1, 1), offset) // a bitmap of a byte, with partition 0
	return base64.RawURLEncoding.AppendEncode(append(append(b, logID...), '.'), place)
}
