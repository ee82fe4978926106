package fanout

import (
	"encoding/binary"
	"sync/atomic"
)

// Opcode is the kind of a WebSocket frame.
type Opcode byte

// The opcodes of RFC 6455 that a server sends.
const (
	Text   Opcode = 1
	Binary Opcode = 2
	Close  Opcode = 8
	Ping   Opcode = 9
	Pong   Opcode = 10
)

// Frame is one encoded message as it goes over the wire, shared by all who get it and never changed. Several frames that
// must reach a subscriber without another message of their topic in between (the parts of a snapshot) form a chain.
type Frame struct {
	Tag  any    // the maker's, for an Observer; not changed once the frame is shared
	data []byte // header and payload
	head int    // length of the header
	next *Frame
	twin atomic.Pointer[Frame] // the compressed form, once somebody has wanted it; f itself when there is no better one
}

// NewFrame copies the payload into an unmasked WebSocket frame.
func NewFrame(op Opcode, payload []byte) *Frame {
	f := makeFrame(op, payload)
	return &f
}

func makeFrame(op Opcode, payload []byte) Frame {
	n := len(payload)
	head := 2
	switch {
	case n > 0xFFFF:
		head = 10
	case n > 125:
		head = 4
	}
	data := make([]byte, head+n)
	data[0] = 0x80 | byte(op)
	switch head {
	case 2:
		data[1] = byte(n)
	case 4:
		data[1] = 126
		binary.BigEndian.PutUint16(data[2:], uint16(n))
	default:
		data[1] = 127
		binary.BigEndian.PutUint64(data[2:], uint64(n))
	}
	copy(data[head:], payload)
	return Frame{data: data, head: head}
}

// RawFrame wraps bytes that are already framed, of which the first head bytes are the header. The frame keeps data.
func RawFrame(data []byte, head int) *Frame { return &Frame{data: data, head: head} }

// Chain links frames in order and returns the first, or nil. None of them may be part of a chain already.
func Chain(frames ...*Frame) *Frame {
	for i := 1; i < len(frames); i++ {
		frames[i-1].next = frames[i]
	}
	if len(frames) == 0 {
		return nil
	}
	return frames[0]
}

// Bytes returns the whole frame; it must not be changed.
func (f *Frame) Bytes() []byte { return f.data }

// Payload returns the message without its header; it must not be changed.
func (f *Frame) Payload() []byte { return f.data[f.head:] }

// Next returns the frame that follows in the chain, or nil.
func (f *Frame) Next() *Frame { return f.next }

// Size is the length of the whole chain in bytes.
func (f *Frame) Size() int {
	n := 0
	for ; f != nil; f = f.next {
		n += len(f.data)
	}
	return n
}
