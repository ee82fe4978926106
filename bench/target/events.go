package target

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"sync"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// logID names the log that the messages stand in, as an owner of md.events would have chosen it.
const logID = "bench000"

// eventMaker makes of trades what the public edge sends for them, byte for byte but for the time of sending, so that the
// floor writes as much.
type eventMaker struct {
	insts []topic

	mu     sync.Mutex
	offset int64    // of the newest record
	texts  [][]byte // events that are not in a chunk yet, by topic
	trade  market.Trade
}

func newEvents(m *maker) *eventMaker {
	return &eventMaker{insts: m.topics, texts: make([][]byte, len(m.topics)), offset: int64(len(m.topics))} // the instruments' statuses come first
}

// add adds a trade's event to the topic's next chunk.
func (m *eventMaker) add(topic int, payload []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := wire.DecodeTrade(payload, &m.trade); err != nil {
		panic("target: a trade of our own does not decode: " + err.Error())
	}
	m.offset++
	t := append(AppendEventID(append(m.texts[topic], "id: "...), uint64(m.offset)), "\nevent: trade\ndata: "...)
	m.texts[topic] = append(wire.AppendTradeJSON(t, &m.insts[topic].inst, &m.trade, m.trade.In), "\n\n"...)
}

// chunk makes a chunk of what was added (RFC 9112, 7.1); nil if nothing was.
func (m *eventMaker) chunk(topic int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := m.texts[topic]
	if len(text) == 0 {
		return nil
	}
	m.texts[topic] = text[:0]
	b := strconv.AppendInt(make([]byte, 0, len(text)+12), int64(len(text)), 16)
	return append(append(append(b, "\r\n"...), text...), "\r\n"...)
}

// AppendEventID appends the id of an event at a place in the log.
func AppendEventID(b []byte, offset uint64) []byte {
	var room [2 + binary.MaxVarintLen64]byte
	place := binary.AppendUvarint(append(room[:0], 1, 1), offset) // a bitmap of a byte, with partition 0
	return base64.RawURLEncoding.AppendEncode(append(append(b, logID...), '.'), place)
}
