package stream

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"

	"github.com/tickwire/tickwire/pkg/market"
)

// Compression is how the records of a batch are compressed. The numbers are Kafka's.
type Compression uint8

// The compressions. All can be read; Uncompressed, LZ4 and Zstd can be written.
const (
	Uncompressed Compression = 0
	Gzip         Compression = 1
	Snappy       Compression = 2
	LZ4          Compression = 3
	Zstd         Compression = 4
)

// Header is a record header.
type Header struct {
	Key   string
	Value []byte
}

// Record is one Kafka record. Offset is set on read only. Time has millisecond resolution.
type Record struct {
	Offset  int64
	Time    market.Time
	Key     []byte // nil and empty are different things to Kafka
	Value   []byte // nil is a tombstone
	Headers []Header
}

// The layout of a record batch, version 2 (Kafka's documentation, "Record Batch"). The CRC covers all that follows it.
const (
	atBaseOffset      = 0
	atLength          = 8 // of all that follows the length
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atFirstTime       = 27
	atMaxTime         = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atCount           = 57
	batchHeader       = 61

	attrCompression = 0x07
	attrAppendTime  = 0x08
	attrControl     = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// setSize is the length prefix that Kafka puts before the record batches of a partition.
const setSize = 4

// builder encodes one record batch, behind the length prefix that a produce request wants before it. The zero value is an
// empty batch with little memory; reset keeps the memory.
type builder struct {
	buf       []byte // setSize + batchHeader + records
	packed    []byte // the same with compressed records, when sealed with a compression
	count     int32
	firstTime int64
	maxTime   int64
}

func (b *builder) reset() {
	b.buf = append(b.buf[:0], make([]byte, setSize+batchHeader)...)
	b.count, b.firstTime, b.maxTime = 0, 0, 0
}

// len is the size of the batch so far, uncompressed.
func (b *builder) len() int { return len(b.buf) }

// add appends a record and returns where its value lies in b.buf.
func (b *builder) add(rec *Record) (valueAt int) {
	ms := int64(rec.Time) / 1e6
	if b.count == 0 {
		b.firstTime, b.maxTime = ms, ms
	}
	b.maxTime = max(b.maxTime, ms)
	timeDelta := ms - b.firstTime
	dst := appendVarint(b.buf, int64(recordSize(rec, timeDelta, b.count)))
	dst = append(dst, 0) // attributes
	dst = appendVarint(dst, timeDelta)
	dst = appendVarint(dst, int64(b.count))
	dst = appendBytes(dst, rec.Key)
	dst = appendBytes(dst, rec.Value)
	valueAt = len(dst) - len(rec.Value)
	dst = appendVarint(dst, int64(len(rec.Headers)))
	for i := range rec.Headers {
		dst = appendVarint(dst, int64(len(rec.Headers[i].Key)))
		dst = append(dst, rec.Headers[i].Key...)
		dst = appendBytes(dst, rec.Headers[i].Value)
	}
	b.buf = dst
	b.count++
	return valueAt
}

// identity is what makes a batch idempotent.
type identity struct {
	id       int64
	epoch    int16
	sequence int32
}

// minCompressed is the size below which a batch is left as it is: a few short records share little.
const minCompressed = 1 << 10

// seal writes the batch header and returns the bytes of a produce request's record set. They stay valid until the next
// seal, add or reset.
func (b *builder) seal(who identity, c Compression, z *codec) ([]byte, error) {
	out := b.buf
	if len(b.buf) < minCompressed {
		c = Uncompressed
	}
	if c != Uncompressed {
		packed, err := z.compress(append(b.packed[:0], b.buf[:setSize+batchHeader]...), b.buf[setSize+batchHeader:], c)
		if err != nil {
			return nil, err
		}
		b.packed, out = packed, packed
	}
	binary.BigEndian.PutUint32(out, uint32(len(out)-setSize))
	h := out[setSize:]
	binary.BigEndian.PutUint64(h[atBaseOffset:], 0)
	binary.BigEndian.PutUint32(h[atLength:], uint32(len(h)-atLeaderEpoch))
	binary.BigEndian.PutUint32(h[atLeaderEpoch:], ^uint32(0)) // unknown
	h[atMagic] = 2
	binary.BigEndian.PutUint16(h[atAttributes:], uint16(c))
	binary.BigEndian.PutUint32(h[atLastOffsetDelta:], uint32(b.count-1))
	binary.BigEndian.PutUint64(h[atFirstTime:], uint64(b.firstTime))
	binary.BigEndian.PutUint64(h[atMaxTime:], uint64(b.maxTime))
	binary.BigEndian.PutUint64(h[atProducerID:], uint64(who.id))
	binary.BigEndian.PutUint16(h[atProducerEpoch:], uint16(who.epoch))
	binary.BigEndian.PutUint32(h[atBaseSequence:], uint32(who.sequence))
	binary.BigEndian.PutUint32(h[atCount:], uint32(b.count))
	binary.BigEndian.PutUint32(h[atCRC:], crc32.Checksum(h[atAttributes:], castagnoli))
	return out, nil
}

// recordSize is the length of a record behind its own length field.
func recordSize(rec *Record, timeDelta int64, offsetDelta int32) int {
	n := 1 + sizeVarint(timeDelta) + sizeVarint(int64(offsetDelta)) + sizeBytes(rec.Key) + sizeBytes(rec.Value)
	n += sizeVarint(int64(len(rec.Headers)))
	for i := range rec.Headers {
		key := len(rec.Headers[i].Key)
		n += sizeVarint(int64(key)) + key + sizeBytes(rec.Headers[i].Value)
	}
	return n
}

// recordOverhead is more than the framing of any record without headers takes.
const recordOverhead = 40

func sizeBytes(b []byte) int {
	if b == nil {
		return 1
	}
	return sizeVarint(int64(len(b))) + len(b)
}

// appendBytes appends length and bytes; the length of nil is -1.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 1)
	}
	return append(appendVarint(dst, int64(len(b))), b...)
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func appendVarint(dst []byte, v int64) []byte { return binary.AppendUvarint(dst, zigzag(v)) }

func sizeVarint(v int64) int { return (bits.Len64(zigzag(v)|1) + 6) / 7 }
