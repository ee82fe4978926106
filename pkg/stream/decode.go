package stream

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tickwire/tickwire/pkg/market"
)

// Batch is one record batch as read. Call Next to walk its records. A Batch without records is what a Fetcher returns
// when nothing arrived in time, or in place of a control batch or an emptied one.
type Batch struct {
	First, Last int64 // offsets the batch covers, compacted records included; -1 when nothing was read
	MaxTime     market.Time
	count       int   // records left
	from        int64 // records below are not given: a fetch may begin inside a batch
	appendTime  bool
	baseTime    int64 // ms
	rest        []byte
	headers     []Header
	keys        map[string]string // interned header keys
	err         error
}

// maxHeaderKeys bounds the interned header keys, so that a peer with endless distinct ones can't fill memory.
const maxHeaderKeys = 64

// Empty tells that Next has nothing more to give.
func (b *Batch) Empty() bool { return b.count == 0 || b.err != nil }

// Err is why Next ended early, wrapping ErrCorrupt, or nil.
func (b *Batch) Err() error { return b.err }

// Next decodes the next record into rec and tells whether there was one. Key and Value alias memory that is valid until the
// Fetcher's next call, Headers until the next call of Next.
func (b *Batch) Next(rec *Record) bool {
	for b.count > 0 && b.err == nil {
		b.err = b.decode(rec)
		b.count--
		if b.err == nil && rec.Offset >= b.from {
			return true
		}
	}
	return false
}

func (b *Batch) decode(rec *Record) error {
	c := cursor{b: b.rest}
	body := c.sized(c.varint())
	if c.bad {
		return fmt.Errorf("%w: record beyond its batch", ErrCorrupt)
	}
	b.rest = c.b
	c = cursor{b: body}
	c.bytes(1) // attributes, unused
	timeDelta, offsetDelta := c.varint(), c.varint()
	rec.Offset = b.First + offsetDelta
	rec.Time = market.FromMillis(b.baseTime + timeDelta)
	if b.appendTime {
		rec.Time = b.MaxTime
	}
	rec.Key = c.nullable(c.varint())
	rec.Value = c.nullable(c.varint())
	b.decodeHeaders(&c)
	rec.Headers = b.headers
	if c.bad || rec.Offset < b.First || rec.Offset > b.Last {
		return fmt.Errorf("%w: malformed record", ErrCorrupt)
	}
	return nil
}

func (b *Batch) decodeHeaders(c *cursor) {
	b.headers = b.headers[:0]
	for n := c.varint(); n > 0 && !c.bad; n-- {
		key := c.sized(c.varint())
		b.headers = append(b.headers, Header{Key: b.intern(key), Value: c.nullable(c.varint())})
	}
}

// intern saves the allocation of a string per header: a topic uses a handful of keys over and over.
func (b *Batch) intern(key []byte) string {
	if s, ok := b.keys[string(key)]; ok {
		return s
	}
	s := string(key)
	if b.keys == nil {
		b.keys = make(map[string]string)
	}
	if len(b.keys) < maxHeaderKeys {
		b.keys[s] = s
	}
	return s
}

// cursor reads Kafka's varints and byte strings; bad is set by the first thing that does not fit and never cleared.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) varint() int64 {
	u, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return int64(u>>1) ^ -int64(u&1)
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

// sized reads n bytes.
func (c *cursor) sized(n int64) []byte {
	if n > int64(len(c.b)) {
		n = -1
	}
	return c.bytes(int(n))
}

// nullable reads n bytes; a length of -1 is nil.
func (c *cursor) nullable(n int64) []byte {
	if n == -1 {
		return nil
	}
	return c.sized(n)
}

// batchReader walks the record batches of one fetch response.
type batchReader struct {
	rest     []byte
	inflated []byte
	z        codec
	batch    Batch
}

// next parses the batch at the front. It is nil at the end; a last batch that the broker cut off counts as the end.
func (r *batchReader) next() (*Batch, error) {
	if len(r.rest) < batchHeader {
		return nil, nil
	}
	size := int64(int32(binary.BigEndian.Uint32(r.rest[atLength:]))) + atLeaderEpoch
	if size > int64(len(r.rest)) {
		return nil, nil
	}
	if size < batchHeader {
		return nil, fmt.Errorf("%w: batch of %d bytes", ErrCorrupt, size)
	}
	raw := r.rest[:size]
	if err := r.parse(raw); err != nil {
		return nil, err
	}
	r.rest = r.rest[size:]
	return &r.batch, nil
}

func (r *batchReader) parse(h []byte) error {
	if h[atMagic] != 2 {
		return fmt.Errorf("%w: message format %d", ErrCorrupt, h[atMagic])
	}
	if crc32.Checksum(h[atAttributes:], castagnoli) != binary.BigEndian.Uint32(h[atCRC:]) {
		return fmt.Errorf("%w: checksum mismatch", ErrCorrupt)
	}
	attributes := binary.BigEndian.Uint16(h[atAttributes:])
	lastDelta := int64(int32(binary.BigEndian.Uint32(h[atLastOffsetDelta:])))
	count := int(int32(binary.BigEndian.Uint32(h[atCount:])))
	first := int64(binary.BigEndian.Uint64(h[atBaseOffset:]))
	if lastDelta < 0 || count < 0 || first < 0 || int64(count) > lastDelta+1 {
		return fmt.Errorf("%w: %d records in %d offsets", ErrCorrupt, count, lastDelta+1)
	}
	b := &r.batch
	b.First, b.Last = first, first+lastDelta
	b.MaxTime = market.FromMillis(int64(binary.BigEndian.Uint64(h[atMaxTime:])))
	b.baseTime = int64(binary.BigEndian.Uint64(h[atFirstTime:]))
	b.appendTime = attributes&attrAppendTime != 0
	b.count, b.rest, b.from, b.err = count, h[batchHeader:], 0, nil
	if attributes&attrControl != 0 {
		b.count, b.rest = 0, nil
		return nil
	}
	if c := Compression(attributes & attrCompression); c != Uncompressed && count > 0 {
		inflated, err := r.z.inflate(r.inflated[:0], b.rest, c)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		r.inflated, b.rest = inflated, inflated
	}
	return nil
}
