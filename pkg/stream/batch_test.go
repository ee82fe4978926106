package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/tickwire/tickwire/pkg/market"
)

const someTime = market.Time(1_700_000_000_123_000_000)

func someRecords(n int) []Record {
	recs := make([]Record, n)
	for i := range recs {
		recs[i] = Record{
			Offset: int64(i), Time: someTime + market.Time(i)*1e6, Key: fmt.Appendf(nil, "key %d", i),
			Value:   bytes.Repeat(fmt.Appendf(nil, "value %d ", i), i%40),
			Headers: []Header{{Key: "source", Value: []byte("binance")}, {Key: "none"}},
		}
		switch i % 5 {
		case 0:
			recs[i].Key, recs[i].Headers = nil, nil
		case 1:
			recs[i].Value = nil
		case 2:
			recs[i].Key, recs[i].Value = []byte{}, []byte{}
		}
	}
	return recs
}

func encode(t testing.TB, recs []Record, c Compression) []byte {
	t.Helper()
	var b builder
	b.reset()
	for i := range recs {
		b.add(&recs[i])
	}
	var z codec
	defer z.close()
	raw, err := b.seal(identity{id: 77, epoch: 3, sequence: 1000}, c, &z)
	if err != nil {
		t.Fatal(err)
	}
	return raw[setSize:]
}

func decode(t testing.TB, raw []byte) []Record {
	t.Helper()
	r := batchReader{rest: raw}
	defer r.z.close()
	var got []Record
	for {
		b, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			return got
		}
		var rec Record
		for b.Next(&rec) {
			rec.Headers = append([]Header(nil), rec.Headers...)
			rec.Key, rec.Value = bytes.Clone(rec.Key), bytes.Clone(rec.Value)
			got = append(got, rec)
		}
		if b.Err() != nil {
			t.Fatal(b.Err())
		}
	}
}

func sameRecords(t *testing.T, got, want []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if a, b := fmt.Sprintf("%#v", got[i]), fmt.Sprintf("%#v", want[i]); a != b {
			t.Fatalf("record %d:\n got %s\nwant %s", i, a, b)
		}
	}
}

func TestBatchRoundTrip(t *testing.T) {
	for _, c := range []Compression{Uncompressed, LZ4, Zstd} {
		for _, n := range []int{1, 2, 500} {
			want := someRecords(n)
			sameRecords(t, decode(t, encode(t, want, c)), want)
		}
	}
}

// TestBatchReadByOthers has kafka-go's own decoder read what we write.
func TestBatchReadByOthers(t *testing.T) {
	for _, c := range []Compression{Uncompressed, LZ4, Zstd} {
		want := someRecords(300)
		raw := encode(t, want, c)
		prefixed := append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...)
		var set protocol.RecordSet
		if _, err := set.ReadFrom(bytes.NewReader(prefixed)); err != nil {
			t.Fatal(err)
		}
		var got []Record
		for {
			rec, err := set.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fromOthers(t, rec))
		}
		sameRecords(t, got, want)
	}
}

func fromOthers(t *testing.T, rec *protocol.Record) Record {
	t.Helper()
	key, err := protocol.ReadAll(rec.Key)
	if err != nil {
		t.Fatal(err)
	}
	value, err := protocol.ReadAll(rec.Value)
	if err != nil {
		t.Fatal(err)
	}
	r := Record{Offset: rec.Offset, Time: market.FromMillis(rec.Time.UnixMilli()), Key: key, Value: value}
	for _, h := range rec.Headers {
		r.Headers = append(r.Headers, Header{Key: h.Key, Value: h.Value})
	}
	return r
}

// TestBatchWrittenByOthers reads what kafka-go's own encoder writes, in every compression.
func TestBatchWrittenByOthers(t *testing.T) {
	for _, c := range []Compression{Uncompressed, Gzip, Snappy, LZ4, Zstd} {
		want := someRecords(300)
		var recs []protocol.Record
		for _, r := range want {
			rec := protocol.Record{Time: r.Time.Std(), Key: protocol.NewBytes(r.Key), Value: protocol.NewBytes(r.Value)}
			for _, h := range r.Headers {
				rec.Headers = append(rec.Headers, protocol.Header{Key: h.Key, Value: h.Value})
			}
			recs = append(recs, rec)
		}
		set := protocol.RecordSet{Version: 2, Attributes: protocol.Attributes(c), Records: protocol.NewRecordReader(recs...)}
		var buf bytes.Buffer
		if _, err := set.WriteTo(&buf); err != nil {
			t.Fatal(err)
		}
		sameRecords(t, decode(t, buf.Bytes()[setSize:]), want)
	}
}

// checksum makes an altered batch valid again.
func checksum(b []byte) []byte {
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
	return b
}

func TestLogAppendTime(t *testing.T) {
	b := encode(t, someRecords(3), Uncompressed)
	b[atAttributes+1] |= attrAppendTime
	binary.BigEndian.PutUint64(b[atMaxTime:], 1_800_000_000_456)
	for _, rec := range decode(t, checksum(b)) {
		if rec.Time != market.FromMillis(1_800_000_000_456) {
			t.Fatalf("record stamped %v, want the batch's append time", rec.Time)
		}
	}
}

func TestControlAndEmptyBatches(t *testing.T) {
	control := encode(t, someRecords(1), Uncompressed)
	control[atAttributes+1] |= attrControl
	checksum(control)
	emptied := encode(t, nil, Uncompressed) // as compaction leaves them
	binary.BigEndian.PutUint32(emptied[atLastOffsetDelta:], 9)
	checksum(emptied)
	r := batchReader{rest: append(control, emptied...)}
	for _, last := range []int64{0, 9} {
		b, err := r.next()
		if err != nil || b == nil {
			t.Fatal(b, err)
		}
		if b.Last != last || b.Next(new(Record)) || b.Err() != nil {
			t.Fatalf("batch to %d gives a record; want one to %d without", b.Last, last)
		}
	}
}

func TestTruncatedLastBatch(t *testing.T) {
	want := someRecords(5)
	whole := encode(t, want, Uncompressed)
	for cut := 1; cut < len(whole); cut += 7 {
		sameRecords(t, decode(t, append(bytes.Clone(whole), whole[:cut]...)), want)
	}
}

func TestCorruptBatch(t *testing.T) {
	whole := encode(t, someRecords(5), Uncompressed)
	for at := atMagic; at < len(whole); at++ {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		r := batchReader{rest: bad}
		if _, err := r.next(); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d flipped: %v", at, err)
		}
	}
}

func TestInflateIsBounded(t *testing.T) {
	var z codec
	defer z.close()
	bomb := make([]byte, maxInflated+1<<20)
	for _, c := range []Compression{LZ4, Zstd} {
		packed, err := z.compress(nil, bomb, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := z.inflate(nil, packed, c); err == nil {
			t.Fatalf("compression %d: %d bytes became more than %d", c, len(packed), maxInflated)
		}
	}
}

func TestPartitionOf(t *testing.T) {
	partitions := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	others := kafka.Murmur2Balancer{Consistent: true}
	for i := range 2000 {
		key := bytes.Repeat([]byte{byte(i), byte(i >> 3), 'x'}, i%9)[:i%9]
		if len(key) == 0 {
			continue // kafka-go sends these elsewhere
		}
		if got, want := PartitionOf(key, 12), others.Balance(kafka.Message{Key: key}, partitions...); got != want {
			t.Fatalf("key %x: partition %d, kafka-go says %d", key, got, want)
		}
	}
	// From Kafka's own test of its partitioner.
	for key, want := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	recs := someRecords(100)
	var b builder
	var z codec
	var raw []byte
	write := func() {
		b.reset()
		for i := range recs {
			b.add(&recs[i])
		}
		var err error
		if raw, err = b.seal(identity{}, Uncompressed, &z); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if n := testing.AllocsPerRun(100, write); n != 0 {
		t.Errorf("encoding 100 records allocates %v times", n)
	}
	var r batchReader
	var rec Record
	read := func() {
		r.rest = raw[setSize:]
		batch, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		for batch.Next(&rec) {
			if rec.Offset < 0 {
				t.Fatal(rec.Offset)
			}
		}
	}
	read()
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("decoding 100 records allocates %v times", n)
	}
}

// FuzzBatch feeds the decoder what a broker should never send. Besides the raw input it is tried with the checksum made
// right, so that the fuzzer gets behind it.
func FuzzBatch(f *testing.F) {
	for _, c := range []Compression{Uncompressed, LZ4, Zstd} {
		f.Add(encode(f, someRecords(7), c))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		walk(t, raw)
		if len(raw) >= batchHeader {
			fixed := bytes.Clone(raw)
			if size := int64(int32(binary.BigEndian.Uint32(fixed[atLength:]))) + atLeaderEpoch; size >= batchHeader && size <= int64(len(fixed)) {
				fixed[atMagic] = 2
				checksum(fixed[:size])
				walk(t, fixed)
			}
		}
	})
}

func walk(t *testing.T, raw []byte) {
	r := batchReader{rest: raw}
	defer r.z.close()
	for {
		b, err := r.next()
		if err != nil || b == nil {
			return
		}
		var rec Record
		for b.Next(&rec) {
			if rec.Offset < b.First || rec.Offset > b.Last {
				t.Fatalf("record %d in a batch from %d to %d", rec.Offset, b.First, b.Last)
			}
		}
	}
}

// FuzzFetchResponse feeds the response parser.
func FuzzFetchResponse(f *testing.F) {
	f.Add(make([]byte, 80))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := fetchRequest{topic: "t", parts: []fetchPart{{partition: 0}, {partition: 3}}}
		if r.parse(b) != nil || r.code != 0 {
			return
		}
		for i := range r.parts {
			n, _, err := wholeBatches(r.parts[i].records)
			if n > len(r.parts[i].records) || err != nil && n != 0 {
				t.Fatalf("%d bytes of whole batches in %d, %v", n, len(r.parts[i].records), err)
			}
		}
	})
}

func benchmarkValues(n int) []Record {
	recs := make([]Record, n)
	for i := range recs {
		recs[i] = Record{Time: someTime, Value: bytes.Repeat([]byte{byte(i)}, 200)}
	}
	return recs
}

// BenchmarkEncode is the cost per record of 200 bytes in batches of 100.
func BenchmarkEncode(b *testing.B) {
	recs := benchmarkValues(100)
	for _, c := range []Compression{Uncompressed, LZ4, Zstd} {
		b.Run(fmt.Sprint("compression=", c), func(b *testing.B) {
			b.ReportAllocs()
			var batch builder
			var z codec
			batch.reset()
			for i := range b.N {
				batch.add(&recs[i%100])
				if i%100 == 99 {
					if _, err := batch.seal(identity{}, c, &z); err != nil {
						b.Fatal(err)
					}
					batch.reset()
				}
			}
		})
	}
}

// BenchmarkDecode is the cost per record of 200 bytes in batches of 100.
func BenchmarkDecode(b *testing.B) {
	for _, c := range []Compression{Uncompressed, LZ4, Zstd} {
		b.Run(fmt.Sprint("compression=", c), func(b *testing.B) {
			raw := encode(b, benchmarkValues(100), c)
			b.ReportAllocs()
			var r batchReader
			var rec Record
			for n := 0; n < b.N; {
				r.rest = raw
				batch, err := r.next()
				if err != nil {
					b.Fatal(err)
				}
				for batch.Next(&rec) {
					n++
				}
			}
		})
	}
}

func TestRecordTimeIsStamped(t *testing.T) {
	p := &Producer{cfg: ProducerConfig{BatchBytes: 1 << 20, PendingBytes: 1 << 20, Manual: true}, wake: make(chan struct{}, 1)}
	p.space.L = &p.mu
	before := time.Now().UnixMilli()
	if err := p.Add(&Record{Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if p.open.firstTime < before || p.open.firstTime > time.Now().UnixMilli() {
		t.Fatalf("stamped %d, now is %d", p.open.firstTime, before)
	}
}
