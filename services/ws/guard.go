package ws

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/tickwire/tickwire/services/internal/door"
)

// bounds are those of what a client may send.
type bounds struct {
	message   uint32      // bytes of one message
	fragments int32       // frames of one message
	frames    door.Bucket // full ones, to begin with
	pings     door.Bucket
}

func newBounds(maxMessage int) bounds {
	return bounds{
		message: uint32(min(maxMessage, math.MaxInt32)), fragments: 64,
		frames: door.Bucket{Rate: 2000, Burst: 4000}, // acknowledgements of a fast client among them
		pings:  door.Bucket{Rate: 5, Burst: 30},
	}
}

// The opcodes of RFC 6455.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// rsv1 marks a compressed message (RFC 7692).
const rsv1 = 0x40

// Close codes of RFC 6455 for a client's faults; the rest are wire's.
const (
	closeProtocol = 1002
	closeText     = 1007
	closePolicy   = 1008
	closeTooBig   = 1009
)

// violation is why a client's bytes are not passed on.
type violation struct {
	code   int
	reason string
}

func (v *violation) Error() string { return fmt.Sprintf("%d %s", v.code, v.reason) }

// guard reads along with the frames of a client and lets nothing through that the WebSocket library behind it can't stand:
// lengths that don't fit an int, reserved bits, messages in endless pieces, floods.
type guard struct {
	bounds    *bounds
	left      uint32 // payload bytes of the frame to come
	message   uint32 // bytes so far of the message that is open
	fragments int32  // of it
	have      uint8  // bytes of head
	need      uint8  // length of the header, as far as known
	last      bool   // the frame ends its message
	control   bool
	open      bool // a message has begun and not ended
	deflate   bool // negotiated: the first frame of a data message may mark it as compressed
	head      [14]byte
	frames    door.Bucket
	patience  *patience // nil before it is needed
}

func newGuard(b *bounds) guard {
	return guard{bounds: b, need: 2, frames: b.frames}
}

// scan looks at the next bytes and returns how many of them may be passed on.
func (g *guard) scan(b []byte, now time.Time) (ok int, err *violation) {
	for ok < len(b) {
		if g.left > 0 {
			n := uint32(min(uint64(g.left), uint64(len(b)-ok)))
			g.left -= n
			ok += int(n)
			g.finish()
			continue
		}
		g.head[g.have] = b[ok]
		g.have++
		if err := g.header(now); err != nil {
			return ok, err
		}
		ok++
	}
	return ok, nil
}

// mid tells whether a frame or message has begun and not ended.
func (g *guard) mid() bool { return g.have > 0 || g.left > 0 || g.open }

// header checks the header as far as it has come. A header that is complete begins the payload.
func (g *guard) header(now time.Time) *violation {
	switch g.have {
	case 1:
		if err := g.first(g.head[0], now); err != nil {
			return err
		}
	case 2:
		if err := g.second(g.head[1]); err != nil {
			return err
		}
	case 3:
		if g.head[1]&0x7F == 127 && g.head[2]&0x80 != 0 {
			return &violation{closeProtocol, "the top bit of a length is set"}
		}
	}
	if g.have < g.need {
		return nil
	}
	return g.payload()
}

func (g *guard) first(b byte, now time.Time) *violation {
	op := b & 0x0F
	g.last, g.control = b&0x80 != 0, op >= opClose
	switch {
	case b&0x30 != 0, b&rsv1 != 0 && (!g.deflate || op != opText && op != opBinary):
		return &violation{closeProtocol, "a reserved bit is set"}
	case op > opBinary && op < opClose || op > opPong:
		return &violation{closeProtocol, "unknown opcode"}
	case g.control && !g.last:
		return &violation{closeProtocol, "a control frame in fragments"}
	case op == opContinuation && !g.open:
		return &violation{closeProtocol, "a continuation of nothing"}
	case (op == opText || op == opBinary) && g.open:
		return &violation{closeProtocol, "a message within a message"}
	case !g.frames.Take(now), op == opPing && !g.patient().pings.Take(now):
		return &violation{closePolicy, "too many frames"}
	}
	if g.control {
		return nil
	}
	if op != opContinuation {
		g.open, g.message, g.fragments = true, 0, 0
	}
	if g.fragments++; g.fragments > g.bounds.fragments {
		return &violation{closePolicy, "too many fragments"}
	}
	return nil
}

// patience is with what few clients do.
type patience struct {
	pings door.Bucket
	errs  door.Bucket // refused for rate, or bad tokens, before the connection is closed
}

func (g *guard) patient() *patience {
	if g.patience == nil {
		g.patience = &patience{pings: g.bounds.pings, errs: door.Bucket{Rate: 1, Burst: 100}}
	}
	return g.patience
}

func (g *guard) second(b byte) *violation {
	if b&0x80 == 0 {
		return &violation{closeProtocol, "a frame without a mask"}
	}
	g.need = 6
	switch n := b & 0x7F; {
	case g.control && n > 125:
		return &violation{closeProtocol, "a control frame that is too long"}
	case n == 126:
		g.need = 8
	case n == 127:
		g.need = 14
	}
	return nil
}

func (g *guard) payload() *violation {
	n := uint64(g.head[1] & 0x7F)
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(g.head[2:]))
	case 127:
		n = binary.BigEndian.Uint64(g.head[2:])
	}
	if !g.control {
		if limit := g.bounds.message; n > uint64(limit) || uint64(g.message)+n > uint64(limit) {
			return &violation{closeTooBig, fmt.Sprintf("a message may have at most %d bytes", limit)}
		}
		g.message += uint32(n) //nolint:gosec // within the limit
	}
	g.have, g.need, g.left = 0, 2, uint32(n) //nolint:gosec // within the limit, or that of a control frame
	g.finish()
	return nil
}

// finish ends the message with the payload of its last frame.
func (g *guard) finish() {
	if g.left == 0 && g.last && !g.control {
		g.open = false
	}
}
