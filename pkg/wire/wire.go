// Package wire holds the formats in which market events leave a process: SBE (FIX Simple Binary Encoding 1.0, the schema is
// tickwire.xml) and JSON. One Kafka record value of md.events is one SBE message, which is also one binary WebSocket message.
//
// Encoders append to the slice they are given, decoders write into a value they are given and reuse its memory, and neither
// allocates in steady state. Decoders read what a peer sent: they check every length and enumeration and never panic. A
// decoder of a frame of our own schema version wants exactly the bytes that the encoder writes; of a later version it
// takes the fields that it knows and skips the rest, since later versions only append.
//
// docs/PROTOCOL.md is the specification; its examples are the golden files of this package.
package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
)

// SchemaID and SchemaVersion identify tickwire.xml in the header of every SBE message.
const (
	SchemaID      = 1
	SchemaVersion = 0
)

// Template is the kind of an SBE message. The numbers are the schema's.
type Template uint16

// The templates. Those from BookSnapshot to BarGap are market events; the others are the records by which owners of a
// partition speak to readers.
const (
	TemplateBookSnapshot Template = 1
	TemplateBookUpdate   Template = 2
	TemplateTrade        Template = 3
	TemplateTradeGap     Template = 4
	TemplateBar          Template = 5
	TemplateStatus       Template = 6
	TemplateBbo          Template = 7
	TemplateTicker       Template = 8
	TemplateBarGap       Template = 9

	TemplateOwnerMarker    Template = 20
	TemplateOwnerHeartbeat Template = 21
	TemplateOwnerBatch     Template = 22
	TemplateSnapshotPart   Template = 23
	TemplateLogID          Template = 24
)

// IsEvent tells whether messages of the template are market events, which carry a market.Head.
func (t Template) IsEvent() bool { return t >= TemplateBookSnapshot && t <= TemplateBarGap }

// MaxGroup is how many levels one side of an SBE book message can carry; the schema counts them in 16 bits. It is the
// writer's duty to keep to it, an encoder panics beyond.
const MaxGroup = math.MaxUint16 - 1

// MaxFrameLevels is how many levels, both sides together, a BookUpdate may carry and still keep a frame below 256 KiB.
// A writer that has more to say resets the book by a snapshot in parts.
const MaxFrameLevels = 16_000

// What SBE decoders answer.
var (
	ErrShort    = errors.New("wire: frame is shorter than its fields")
	ErrTrailing = errors.New("wire: bytes after the last field")
	ErrSchema   = errors.New("wire: not a message of the tickwire schema")
	ErrTemplate = errors.New("wire: another template")
	ErrBlock    = errors.New("wire: block length differs from the schema's")
	ErrValue    = errors.New("wire: field value out of range")
)

var le = binary.LittleEndian

const (
	headerLen = 8  // message header
	headLen   = 40 // market.Head
	groupLen  = 4  // group header
	levelLen  = 16
	nullHash  = math.MaxUint64
	nullCount = math.MinInt64
)

// Peek returns the template of an SBE message. A template of a later schema version is not an error: a reader skips what
// it does not know.
func Peek(b []byte) (Template, error) {
	if len(b) < headerLen {
		return 0, ErrShort
	}
	if le.Uint16(b[4:]) != SchemaID {
		return 0, ErrSchema
	}
	return Template(le.Uint16(b[2:])), nil
}

// HeadOf returns what all market events carry, without decoding the rest of the message.
func HeadOf(b []byte) (h market.Head, err error) {
	t, err := Peek(b)
	switch {
	case err != nil:
		return h, err
	case !t.IsEvent():
		return h, ErrTemplate
	case len(b) < headerLen+headLen || le.Uint16(b) < headLen:
		return h, ErrShort
	}
	return h, readHead(b[headerLen:], &h)
}

// extend makes room for n bytes and returns the whole and the new part, which the caller fills completely.
func extend(dst []byte, n int) (all, tail []byte) {
	all = slices.Grow(dst, n)[:len(dst)+n]
	return all, all[len(dst):]
}

func putHeader(b []byte, t Template, block uint16) {
	_ = b[headerLen-1]
	le.PutUint16(b, block)
	le.PutUint16(b[2:], uint16(t))
	le.PutUint16(b[4:], SchemaID)
	le.PutUint16(b[6:], SchemaVersion)
}

// begin appends the message header and room for a block, and returns the block.
func begin(dst []byte, t Template, block uint16) (all, fields []byte) {
	all, tail := extend(dst, headerLen+int(block))
	putHeader(tail, t, block)
	return all, tail[headerLen:]
}

func putHead(b []byte, h *market.Head) {
	_ = b[headLen-1]
	le.PutUint32(b, h.Inst)
	le.PutUint32(b[4:], h.Epoch)
	le.PutUint64(b[8:], h.Prev)
	le.PutUint64(b[16:], h.Seq)
	le.PutUint64(b[24:], uint64(h.Time.Micros()))
	le.PutUint64(b[32:], uint64(h.In.Micros()))
}

// cursor walks over an SBE message. The first error stays; reads after it yield zeros.
type cursor struct {
	rest  []byte
	later bool // of a later schema version: longer blocks and trailing bytes are appended fields
	err   error
}

// open checks the message header and returns the block, at least as long as ours.
func open(b []byte, t Template, block int) ([]byte, cursor) {
	got, err := Peek(b)
	if err == nil && got != t {
		err = ErrTemplate
	}
	if err != nil {
		return nil, cursor{err: err}
	}
	c := cursor{rest: b[headerLen:], later: le.Uint16(b[6:]) > SchemaVersion}
	return c.take(int(le.Uint16(b)), block), c
}

// take returns the next block, whose length the frame says and the schema knows.
func (c *cursor) take(said, known int) []byte {
	switch {
	case c.err != nil:
		return nil
	case said != known && (!c.later || said < known):
		c.err = ErrBlock
		return nil
	case said > len(c.rest):
		c.err = ErrShort
		return nil
	}
	b := c.rest[:said]
	c.rest = c.rest[said:]
	return b
}

// close checks that nothing is left.
func (c *cursor) close() error {
	if c.err == nil && len(c.rest) > 0 && !c.later {
		return ErrTrailing
	}
	return c.err
}

// group reads a group's header: the block length, of which the schema knows so much, and how many entries follow.
func (c *cursor) group(known int) (block, n int) {
	if c.err == nil && len(c.rest) < groupLen {
		c.err = ErrShort
	}
	if c.err != nil {
		return 0, 0
	}
	block, n = int(le.Uint16(c.rest)), int(le.Uint16(c.rest[2:]))
	c.rest = c.rest[groupLen:]
	switch {
	case block != known && (!c.later || block < known):
		c.err = ErrBlock
	case n > MaxGroup:
		c.err = ErrValue
	case n*block > len(c.rest):
		c.err = ErrShort
	}
	return block, n
}

// text reads a string of at most limit bytes; it aliases the message.
func (c *cursor) text(limit int) []byte {
	if c.err == nil && len(c.rest) < 2 {
		c.err = ErrShort
	}
	if c.err != nil {
		return nil
	}
	n := int(le.Uint16(c.rest))
	switch {
	case n > limit:
		c.err = ErrValue
		return nil
	case n > len(c.rest)-2:
		c.err = ErrShort
		return nil
	}
	b := c.rest[2 : 2+n]
	c.rest = c.rest[2+n:]
	return b
}

// levels reads a side of a book into dst's memory. Prices are positive, sizes at least minSize.
func (c *cursor) levels(dst []market.Level, minSize int64) []market.Level {
	block, n := c.group(levelLen)
	if c.err != nil {
		return dst[:0]
	}
	dst = slices.Grow(dst[:0], n)[:n]
	b, bad := c.rest, int64(0)
	for i := range dst {
		price, size := int64(le.Uint64(b)), int64(le.Uint64(b[8:levelLen]))
		bad |= price | (price - 1) | size | (size - minSize) // negative as soon as one value is out of range
		dst[i] = market.Level{Price: market.Price(price), Size: market.Size(size)}
		b = b[block:]
	}
	if bad < 0 {
		c.err = ErrValue
	}
	c.rest = b
	return dst
}

func putLevels(b []byte, levels []market.Level) []byte {
	le.PutUint16(b, levelLen)
	le.PutUint16(b[2:], uint16(len(levels)))
	b = b[groupLen:]
	for i := range levels {
		le.PutUint64(b, uint64(levels[i].Price))
		le.PutUint64(b[8:levelLen], uint64(levels[i].Size))
		b = b[levelLen:]
	}
	return b
}

func sides(bids, asks []market.Level) int {
	if len(bids) > MaxGroup || len(asks) > MaxGroup {
		panic("wire: more levels than an SBE group holds")
	}
	return 2*groupLen + (len(bids)+len(asks))*levelLen
}

// appendText appends a string with its length; one that is too long for the schema is cut.
func appendText(dst []byte, s string) []byte {
	s = s[:min(len(s), math.MaxUint16-1)]
	dst = le.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// keep returns old when b spells it, so that decoding the same text again does not allocate.
func keep(old string, b []byte) string {
	if old == string(b) {
		return old
	}
	return string(b)
}

// maxMicros is the latest time that fits market.Time.
const maxMicros = math.MaxInt64 / 1000

func readTime(b []byte) (market.Time, error) {
	us := int64(le.Uint64(b))
	if us > maxMicros || us < -maxMicros {
		return 0, ErrValue
	}
	return market.FromMicros(us), nil
}

func (c *cursor) time(b []byte) market.Time {
	t, err := readTime(b)
	if err != nil && c.err == nil {
		c.err = err
	}
	return t
}

func readHead(b []byte, h *market.Head) (err error) {
	_ = b[headLen-1]
	h.Inst, h.Epoch = le.Uint32(b), le.Uint32(b[4:])
	h.Prev, h.Seq = le.Uint64(b[8:]), le.Uint64(b[16:])
	if h.Time, err = readTime(b[24:]); err != nil {
		return err
	}
	h.In, err = readTime(b[32:])
	return err
}

// event opens a market event and reads its head.
func event(b []byte, t Template, block int, h *market.Head) ([]byte, cursor) {
	fields, c := open(b, t, block)
	if c.err == nil {
		c.err = readHead(fields, h)
	}
	return fields, c
}
