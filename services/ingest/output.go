package ingest

import "github.com/tickwire/tickwire/pkg/wire"

// output is the events that one input caused, in order, encoded one behind the other. It keeps its memory.
type output struct {
	buf    []byte
	ends   []int
	counts [wire.TemplateBarGap + 1]uint32 // by template
}

func (o *output) reset() {
	if cap(o.buf) > 2*maxOutputBytes {
		o.buf = nil
	}
	*o = output{buf: o.buf[:0], ends: o.ends[:0]}
}

// end closes the event that was appended to buf.
func (o *output) end(t wire.Template) {
	o.ends = append(o.ends, len(o.buf))
	o.counts[t]++
}

// len is the number of events.
func (o *output) len() int { return len(o.ends) }

// event returns the event number i, which is valid until the next reset.
func (o *output) event(i int) []byte {
	start := 0
	if i > 0 {
		start = o.ends[i-1]
	}
	return o.buf[start:o.ends[i]:o.ends[i]]
}
