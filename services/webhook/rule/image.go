package rule

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// ErrImage is what Restore returns for bytes that are no image, or a damaged one.
var ErrImage = errors.New("not an image of a partition's state")

// The first byte of an image says what it is of, and in which form.
const (
	imagePartition  = 1
	imageInstrument = 2
)

// The flags of an instrument's image.
const (
	imageHasBook = 1 << iota
	imageBroken
	imageHasLast
	imageFlags = imageHasBook | imageBroken | imageHasLast
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Images calls do with images of the instruments that have changed since their last one, those first that have waited
// longest: at most max, and only what has changed before a time of the log clock. Then follows the partition's own, as
// instrument 0: it says from where on records must be replayed when all images are taken together. An image is valid while
// do runs. All of a call must be stored in one transaction with the offset of the newest record that was applied.
func (p *Partition) Images(limit int, olderThan market.Time, do func(inst uint32, image []byte)) {
	n := 0
	for n < len(p.dirty) && n < limit {
		in := p.dirty[n]
		if in.changed.clock >= olderThan {
			break
		}
		p.image = in.appendImage(p.image[:0], p.offset)
		do(in.id(), p.image)
		in.dirty = false
		n++
	}
	p.dirty = append(p.dirty[:0], p.dirty[n:]...)
	floor, clock := p.offset, p.clock
	if len(p.dirty) > 0 {
		floor, clock = p.dirty[0].changed.at-1, p.dirty[0].changed.clock
	}
	if floor == p.savedFloor {
		return
	}
	p.savedFloor = floor
	p.image = append(p.image[:0], imagePartition)
	p.image = binary.AppendVarint(p.image, floor)
	p.image = binary.AppendVarint(p.image, int64(clock))
	p.image = sealed(p.image)
	do(0, p.image)
}

func sealed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func (in *instrument) appendImage(dst []byte, offset int64) []byte {
	dst = append(dst, imageInstrument)
	dst = binary.AppendVarint(dst, offset)
	dst = appendBytes(dst, wire.AppendStatus(nil, &in.status))
	flags := byte(0)
	for i, set := range [...]bool{in.hasBook, in.broken, in.hasLast} {
		if set {
			flags |= 1 << i
		}
	}
	dst = append(dst, flags, byte(in.gaps))
	dst = appendSequence(dst, in.trades)
	for _, v := range [...]int64{int64(in.newest), int64(in.last), int64(in.bid), int64(in.ask), in.from, int64(in.bookTime)} {
		dst = binary.AppendVarint(dst, v)
	}
	if in.hasBook {
		dst = appendSequence(dst, in.book.Sequence())
		dst = appendSide(dst, &in.book, market.Bid)
		dst = appendSide(dst, &in.book, market.Ask)
	}
	dst = binary.AppendUvarint(dst, uint64(len(in.parts)))
	for _, part := range in.parts {
		dst = appendBytes(dst, part)
	}
	if n := len(in.history); n > MaxWindow+1 { // of a cold start, before the first record
		in.history.forget(in.history[n-1].minute)
	}
	dst = binary.AppendUvarint(dst, uint64(len(in.history)))
	var at, price int64
	for _, b := range in.history {
		dst = binary.AppendVarint(dst, b.minute-at)
		dst = binary.AppendVarint(dst, int64(b.close)-price)
		dst = binary.AppendUvarint(dst, uint64(b.high-b.close))
		dst = binary.AppendUvarint(dst, uint64(b.close-b.low))
		dst = binary.AppendUvarint(dst, uint64(b.volume))
		at, price = b.minute, int64(b.close)
	}
	return sealed(dst)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// appendSide appends the levels of a side, best first, each price as its distance from the one before.
func appendSide(dst []byte, b *book.Book, side market.Side) []byte {
	n := b.Len(side)
	dst = binary.AppendUvarint(dst, uint64(n))
	var price market.Price
	for i := range n {
		l := b.At(side, i)
		dst = binary.AppendVarint(dst, int64(l.Price-price))
		dst = binary.AppendUvarint(dst, uint64(l.Size))
		price = l.Price
	}
	return dst
}

// Restore takes in an image that a former owner stored, in any order, each once. checkpoint is the offset of the newest
// record that was applied when the newest of them was stored; no image can know more.
func (p *Partition) Restore(checkpoint int64, image []byte) error {
	if len(image) < 5 {
		return ErrImage
	}
	body, sum := image[:len(image)-4], binary.LittleEndian.Uint32(image[len(image)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return fmt.Errorf("%w: damaged", ErrImage)
	}
	r := reader{b: body}
	kind := r.byte()
	offset := r.varint()
	r.check(offset >= -1)
	if !r.bad && offset > checkpoint {
		return fmt.Errorf("%w: of record %d, behind the checkpoint at %d", ErrImage, offset, checkpoint)
	}
	switch kind {
	case imagePartition:
		clock := market.Time(r.varint())
		r.check(clock >= 0 && clock < maxClock && len(r.b) == 0)
		if !r.bad {
			p.offset, p.clock, p.savedFloor = offset, clock, offset
			if clock > 0 {
				p.setMinute()
			}
		}
	case imageInstrument:
		p.restore(&r, offset)
	default:
		r.check(false)
	}
	if r.bad {
		return ErrImage
	}
	return nil
}

func (p *Partition) restore(r *reader, offset int64) {
	in := &instrument{at: offset}
	if wire.DecodeStatus(r.bytes(r.uvarint(math.MaxInt64)), &in.status) != nil || in.id() == 0 {
		r.check(false)
	}
	flags := r.byte()
	in.gaps = group(r.byte())
	r.check(flags <= imageFlags && in.gaps <= tradeGroup|windowGroup|bookGroup)
	in.hasBook, in.broken, in.hasLast = flags&imageHasBook != 0, flags&imageBroken != 0, flags&imageHasLast != 0
	in.trades = r.sequence()
	in.newest, in.last = market.Time(r.varint()), market.Price(r.varint())
	in.bid, in.ask = market.Price(r.varint()), market.Price(r.varint())
	in.from, in.bookTime = r.varint(), market.Time(r.varint())
	r.check(in.last >= 0 && in.bid >= 0 && in.ask >= 0 && in.hasLast == (in.last > 0))
	if in.hasBook {
		seq := r.sequence()
		s := market.Snapshot{Head: market.Head{Epoch: seq.Epoch, Seq: seq.Seq}, Part: 1, Parts: 1, Bids: r.levels(), Asks: r.levels()}
		r.check(in.book.Load(&s) == nil)
	}
	for n := r.uvarint(math.MaxUint16); n > 0 && !r.bad; n-- {
		in.parts = append(in.parts, bytes.Clone(r.bytes(r.uvarint(math.MaxInt64))))
	}
	in.history = r.history()
	r.check(len(r.b) == 0 && p.insts[in.id()] == nil)
	if r.bad {
		return
	}
	p.enrol(in)
}

func (r *reader) levels() []market.Level {
	n := r.uvarint(math.MaxInt64)
	r.check(n <= uint64(len(r.b))/2)
	if r.bad {
		return nil
	}
	levels := make([]market.Level, n)
	var price int64
	for i := range levels {
		price += r.varint()
		levels[i] = market.Level{Price: market.Price(price), Size: market.Size(r.uvarint(math.MaxInt64))}
		r.check(price > 0)
	}
	return levels
}

func (r *reader) history() history {
	n := r.uvarint(math.MaxInt64)
	r.check(n <= MaxWindow+1 && n <= uint64(len(r.b))/5)
	if r.bad {
		return nil
	}
	h := make(history, n)
	var at, price int64
	for i := range h {
		d := r.varint()
		r.check(i == 0 || d > 0)
		at += d
		price += r.varint()
		up, down := r.uvarint(math.MaxInt64), r.uvarint(math.MaxInt64)
		r.check(price > 0 && up <= uint64(math.MaxInt64-price) && down < uint64(price) && at > -maxMinute && at < maxMinute)
		if r.bad {
			return nil
		}
		h[i] = bucket{
			minute: at, close: market.Price(price), high: market.Price(price + int64(up)), low: market.Price(price - int64(down)),
			volume: market.Size(r.uvarint(math.MaxInt64)),
		}
	}
	return h
}

// The bounds of minutes and of the clock lie well before the end of a Time.
const (
	maxMinute = 1 << 27
	maxClock  = 1 << 62
)

// Snapshot takes in a piece of md.snapshots, at a cold start. Events that it includes already are told by their sequence.
func (p *Partition) Snapshot(s *stream.Snapshot) error {
	switch s.Kind {
	case stream.KindBars + uint8(market.Minute):
		return p.seedBars(s)
	case stream.KindInstrument:
	default:
		return nil
	}
	var is stream.InstrumentSnapshot
	if err := is.Decode(s.Payload); err != nil {
		return err
	}
	if p.insts[is.Status.Instrument.ID] != nil {
		return nil
	}
	in := p.define(&is.Status)
	p.touchAt(in, p.offset+1)
	if is.Book != nil {
		if err := in.book.Load(is.Book); err != nil {
			return fmt.Errorf("book of %s: %w", is.Status.Instrument.Sym, err)
		}
		in.book.SetSequence(is.BookSeq)
		in.hasBook, in.bookTime = true, is.Book.Time
		if in.live() {
			bid, ask := in.book.Best()
			in.bid, in.ask = bid.Price, ask.Price
		}
	}
	in.trades = is.TradesSeq
	return p.seed(in, &is)
}
