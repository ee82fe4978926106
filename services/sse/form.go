package sse

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strconv"

	"github.com/klauspost/compress/flate"

	"github.com/tickwire/tickwire/pkg/fanout"
)

// form is how a stream's text goes over the wire.
type form uint8

const (
	chunked form = iota // HTTP/1.1
	gzipped             // the same, compressed; every chunk by itself, so that all clients can share it
	bare                // HTTP/1.0: the text as it is, and its end is the connection's
	numForms
)

// terminator ends a chunked body.
const terminator = "0\r\n\r\n"

// frame makes text a chunk, compressed by itself when the form says so.
func (f form) frame(text []byte) *fanout.Frame {
	switch f {
	case gzipped:
		fr := fanout.RawFrame(appendChunk(make([]byte, 0, len(text)/2+32), deflate(text)), 0)
		fr.Tag = summed(text)
		return fr
	case bare:
		return fanout.RawFrame(append(make([]byte, 0, len(text)), text...), 0)
	}
	return fanout.RawFrame(appendChunk(make([]byte, 0, len(text)+16), text), 0)
}

// again makes a frame of the same bytes, for another chain.
func again(f *fanout.Frame) *fanout.Frame {
	c := fanout.RawFrame(f.Bytes(), 0)
	c.Tag = f.Tag
	return c
}

// appendChunk appends b as a chunk (RFC 9112, 7.1).
func appendChunk(dst, b []byte) []byte {
	dst = strconv.AppendInt(dst, int64(len(b)), 16)
	dst = append(dst, '\r', '\n')
	dst = append(dst, b...)
	return append(dst, '\r', '\n')
}

// deflate compresses text into blocks that refer to nothing before them and end at a byte (RFC 1951).
func deflate(text []byte) []byte {
	out := bytes.NewBuffer(make([]byte, 0, len(text)/2+16))
	_ = flate.StatelessDeflate(out, text, false, nil) // a Buffer takes everything
	return out.Bytes()
}

// gzipHeader is that of RFC 1952 without a name or a time; gzipEnd is an empty last block.
const (
	gzipHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
	gzipEnd    = "\x03\x00"
)

// sum is the CRC of a text, with what it takes to append the text to another one.
type sum struct {
	crc, shift uint32
	length     uint32
}

func summed(text []byte) *sum {
	return &sum{crc32.ChecksumIEEE(text), shiftBy(len(text)), uint32(len(text))}
}

// tally follows what a client with a compressed stream has been sent, so that the stream can end as RFC 1952 wants it:
// with the CRC and the length of everything. It is a fanout.Observer.
type tally struct{ crc, length uint32 }

// Sent implements fanout.Observer.
func (t *tally) Sent(f *fanout.Frame) {
	if s, ok := f.Tag.(*sum); ok {
		t.crc = multiply(s.shift, t.crc) ^ s.crc
		t.length += s.length
	}
}

// Last implements fanout.Observer.
func (t *tally) Last() *fanout.Frame {
	b := append(make([]byte, 0, 32), gzipEnd...)
	b = binary.LittleEndian.AppendUint32(b, t.crc)
	b = binary.LittleEndian.AppendUint32(b, t.length)
	return fanout.RawFrame(append(appendChunk(nil, b), terminator...), 0)
}

// A CRC-32 is a polynomial over GF(2) modulo crc32.IEEE, with the highest power in the lowest bit. Appending n bytes to a
// text multiplies its CRC by x^8n, and adds the CRC of what was appended: see Mark Adler's crc32_combine in zlib.

// multiply returns a times b.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a&(1<<31) != 0 {
			product ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ crc32.IEEE
		} else {
			b >>= 1
		}
	}
	return product
}

// shiftBy returns x^8n.
func shiftBy(n int) uint32 {
	power, square := uint32(1<<31), uint32(1<<23) // x^0, x^8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = multiply(power, square)
		}
		square = multiply(square, square)
	}
	return power
}
