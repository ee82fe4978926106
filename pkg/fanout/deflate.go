package fanout

import (
	"bytes"

	"github.com/klauspost/compress/flate"
)

const (
	// minDeflate is the payload below which compressing gains next to nothing.
	minDeflate = 128
	// deflateLevel is the cheapest one that finds the repetitions of a book message well: higher ones gain one percent.
	deflateLevel = 3
	// rsv1 marks a compressed message (RFC 7692).
	rsv1 = 0x40
)

// deflater compresses messages one by one. None refers to one before it (there is no context takeover), so that each is
// compressed once and sent to many. A shard has one, made when it is first needed.
type deflater struct {
	out bytes.Buffer
	w   *flate.Writer
}

// deflated returns the form of f for those that have negotiated permessage-deflate, and how many bytes it takes beside f
// if it has been made just now. It is f itself for control frames, short messages, and those that don't get shorter.
func (f *Frame) deflated(z *deflater) (d *Frame, made int) {
	if d = f.twin.Load(); d != nil {
		return d, 0
	}
	if len(f.data)-f.head < minDeflate || f.data[0]&0x0F >= byte(Close) {
		return f, 0
	}
	if b := z.compress(f.Payload()); len(b) < len(f.data)-f.head {
		made := makeFrame(Opcode(f.data[0]&0x0F|rsv1), b)
		d = &made
	} else {
		d = f
	}
	if !f.twin.CompareAndSwap(nil, d) {
		return f.twin.Load(), 0 // another shard was quicker
	}
	if d == f {
		return f, 0
	}
	return d, len(d.data)
}

// compress returns the compressed payload, valid until the next call. RFC 7692 leaves the end of the flush, the same four
// bytes each time, away.
func (z *deflater) compress(b []byte) []byte {
	z.out.Reset()
	if z.w == nil {
		z.w, _ = flate.NewWriter(&z.out, deflateLevel) // fails for unknown levels only
	} else {
		z.w.Reset(&z.out)
	}
	_, _ = z.w.Write(b) // a Buffer takes everything
	_ = z.w.Flush()
	return z.out.Bytes()[:z.out.Len()-4]
}
