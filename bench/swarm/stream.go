package swarm

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// stream reads the body of an event stream as it comes, in pieces of any length: chunks (RFC 9112, 7.1), in them lines, of
// these events (HTML, 9.2). Lines end with LF or CRLF; a CR alone, which is allowed, ends none here.
//
// A compressed stream must be as the edge makes it: a chunk with the header of gzip, then chunks that are each inflated by
// themselves. Who doubts that asks a real gzip reader, as the edge's own tests do; here it costs too much.
type stream struct {
	inflate  func(chunk []byte) ([]byte, error) // nil for a stream that is not compressed
	unzipped bool                               // the header of gzip has been read
	plain    bool                               // the body has no chunks, and ends with the connection

	in    []byte // what came and has not been looked at
	stage stage
	head  []byte // the line before a chunk, as far as it has come
	left  int    // bytes of the chunk that have not
	whole []byte // a compressed chunk, as far as it has

	text  []byte // what was in the chunk and has not been looked at
	line  []byte // as far as it has come
	begun bool   // an event

	// The event, until the next call of next; the id stays until there is another one.
	name []byte
	data []byte
	id   []byte
}

// stage is what comes next in the body.
type stage uint8

const (
	chunkLength stage = iota
	chunkText
	chunkEnd
	bodyEnd
)

const (
	maxHead = 64
	maxText = 2 << 20 // of a chunk or a line: more than an edge replays
)

var errEnded = errors.New("the stream has ended")

// reset begins anew with another body. The id stays.
func (r *stream) reset(inflate func([]byte) ([]byte, error)) {
	id := r.id
	*r = stream{inflate: inflate, id: id}
}

// feed hands over what came. All of it must be looked at, by next, before there is more.
func (r *stream) feed(b []byte) { r.in = b }

// more looks for text that has not been looked at, in the next chunk if need be. It reports false when there is none.
func (r *stream) more() (bool, error) {
	for len(r.text) == 0 {
		if len(r.in) == 0 {
			return false, nil
		}
		if r.plain {
			r.text, r.in = r.in, nil
			continue
		}
		if err := r.chunk(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// next finds the next event. It reports false when what came holds no more.
func (r *stream) next() (bool, error) {
	if !r.begun {
		r.name, r.data = r.name[:0], r.data[:0]
	}
	for {
		if more, err := r.more(); !more {
			return false, err
		}
		line, ok := r.cutLine()
		if len(r.line) > maxText || len(r.data) > maxText {
			return false, errors.New("a line or an event without end")
		}
		if ok && r.field(line) {
			return true, nil
		}
	}
}

// cutWhole takes all of the text if it is whole events, from the first line of one to the end of one, and else nothing.
func (r *stream) cutWhole() []byte {
	if r.begun || len(r.line) > 0 || !bytes.HasSuffix(r.text, []byte("\n\n")) {
		return nil
	}
	text := r.text
	r.text = nil
	return text
}

// cutLine takes a line from the text. It reports false when its end has not come yet.
func (r *stream) cutLine() (line []byte, ok bool) {
	i := bytes.IndexByte(r.text, '\n')
	if i < 0 {
		r.line = append(r.line, r.text...)
		r.text = nil
		return nil, false
	}
	line, r.text = r.text[:i], r.text[i+1:]
	if len(r.line) > 0 {
		line = append(r.line, line...)
		r.line = line[:0]
	}
	return bytes.TrimSuffix(line, []byte{'\r'}), true
}

// field takes a line. It reports true when that ends an event.
func (r *stream) field(line []byte) (ended bool) {
	if len(line) == 0 {
		ended = len(r.data) > 0
		if !ended {
			r.name = r.name[:0]
		}
		r.begun = false
		return ended
	}
	if line[0] == ':' {
		return false // a comment
	}
	r.begun = true
	name, value, _ := bytes.Cut(line, []byte{':'})
	value = bytes.TrimPrefix(value, []byte{' '})
	switch string(name) {
	case "data":
		if len(r.data) > 0 {
			r.data = append(r.data, '\n')
		}
		r.data = append(r.data, value...)
	case "event":
		r.name = append(r.name[:0], value...)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			r.id = append(r.id[:0], value...)
		}
	}
	return false
}

// chunk takes something of what came, of which there is some.
func (r *stream) chunk() error {
	switch r.stage {
	case chunkLength:
		return r.length()
	case chunkText:
		return r.body()
	case chunkEnd:
		if c := r.in[0]; c != '\r' && c != '\n' {
			return fmt.Errorf("a chunk that goes on with %q", c)
		} else if c == '\n' {
			r.stage = chunkLength
		}
		r.in = r.in[1:]
		return nil
	}
	return errEnded
}

func (r *stream) length() error {
	i := bytes.IndexByte(r.in, '\n')
	n := i
	if i < 0 {
		n = len(r.in)
	}
	if len(r.head)+n > maxHead {
		return errors.New("a chunk without a length")
	}
	r.head = append(r.head, r.in[:n]...)
	if i < 0 {
		r.in = nil
		return nil
	}
	r.in = r.in[i+1:]
	digits, _, _ := bytes.Cut(bytes.TrimSuffix(r.head, []byte{'\r'}), []byte{';'})
	length, err := strconv.ParseUint(string(digits), 16, 32)
	if err != nil || length > maxText {
		return fmt.Errorf("a chunk of length %.40q", digits)
	}
	r.head, r.left, r.stage = r.head[:0], int(length), chunkText
	if length == 0 {
		r.stage = bodyEnd
		return errEnded
	}
	return nil
}

func (r *stream) body() (err error) {
	b := r.in[:min(r.left, len(r.in))]
	r.in = r.in[len(b):]
	if r.left -= len(b); r.left == 0 {
		r.stage = chunkEnd
	}
	if r.inflate == nil {
		r.text = b
		return nil
	}
	if len(r.whole) > 0 || r.left > 0 {
		r.whole = append(r.whole, b...)
		b = r.whole
	}
	if r.left > 0 {
		return nil
	}
	r.whole = r.whole[:0]
	if !r.unzipped {
		if len(b) != 10 || b[0] != 0x1f || b[1] != 0x8b {
			return &hopeless{fmt.Errorf("%.20q is no header of gzip alone: a compressed stream must come as the edge makes it, without a proxy between", b)}
		}
		r.unzipped = true
		return nil
	}
	r.text, err = r.inflate(b)
	return err
}
