package capture

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/valyala/fastjson"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
)

// Writer writes records in the raw format: one JSON object per line,
//
//	{"ts":1723161255342001,"key":"BTC-USDT","headers":{"source":"binance","session":"b-1"},"value":"{\"e\":…}"}
//	{"ts":1723161256000000,"partition":3,"headers":{"source":"tickwire","session":"b-1"},"value":"{\"type\":\"clock\",…}"}
//
// ts is At in microseconds. The value is a string, so that it comes back byte for byte; a value that is not UTF-8 goes
// into value64, in base64, instead. A record without a partition goes where its key leads, and one with neither is a
// clock (see [Record]); so a dump that shall be replayed into another number of partitions leaves partitions out.
type Writer struct {
	w    *bufio.Writer
	line []byte
}

// NewWriter returns a Writer to w. Call Flush at the end.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriter(w)} }

// ErrNotText is returned for a key or a header that is not UTF-8, which the format cannot hold.
var ErrNotText = errors.New("key or header is not UTF-8")

// Write writes one record.
func (w *Writer) Write(r *Record) error {
	b := fmt.Appendf(w.line[:0], `{"ts":%d`, r.At.Micros())
	ok := utf8.Valid(r.Key)
	if len(r.Key) > 0 {
		b = appendString(append(b, `,"key":`...), r.Key)
	}
	if r.Partition >= 0 {
		b = fmt.Appendf(b, `,"partition":%d`, r.Partition)
	}
	b = append(b, `,"headers":{`...)
	for i, h := range r.Headers {
		if i > 0 {
			b = append(b, ',')
		}
		ok = ok && utf8.ValidString(h.Key) && utf8.Valid(h.Value)
		b = appendString(b, []byte(h.Key))
		b = appendString(append(b, ':'), h.Value)
	}
	b = append(b, '}')
	if utf8.Valid(r.Value) {
		b = appendString(append(b, `,"value":`...), r.Value)
	} else {
		b = append(b, `,"value64":"`...)
		b = append(base64.StdEncoding.AppendEncode(b, r.Value), '"')
	}
	w.line = append(b, '}', '\n')
	if !ok {
		return ErrNotText
	}
	_, err := w.w.Write(w.line)
	return err
}

// Flush writes out what is buffered.
func (w *Writer) Flush() error { return w.w.Flush() }

func appendString(dst, text []byte) []byte {
	dst = append(dst, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = fmt.Appendf(dst, `\u%04x`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// rawLayout reads what Writer writes.
type rawLayout struct {
	parser fastjson.Parser
}

// errRaw says what is wrong with a line of a dump.
var errRaw = errors.New("not a raw record: want ts, headers, and value or value64")

func (l *rawLayout) survey([]byte) error { return nil }

func (l *rawLayout) at(line []byte) (market.Time, bool, error) {
	v, err := l.parse(line)
	if err != nil {
		return 0, false, err
	}
	us, err := v.Get("ts").Int64()
	return market.FromMicros(us), err == nil, err
}

func (l *rawLayout) parse(line []byte) (*fastjson.Value, error) {
	if !json.Valid(line) { // fastjson takes more than JSON
		return nil, errRaw
	}
	v, err := l.parser.ParseBytes(line)
	if err != nil || v.Get("ts") == nil || v.GetObject("headers") == nil || !v.Exists("value") && !v.Exists("value64") {
		return nil, errRaw
	}
	return v, nil
}

func (l *rawLayout) read(line []byte, q *queue) error {
	v, err := l.parse(line)
	if err != nil {
		return err
	}
	us, err := v.Get("ts").Int64()
	if err != nil {
		return fmt.Errorf("ts: %w", err)
	}
	r := q.add()
	r.At = market.FromMicros(us)
	r.Key = append(r.Key, v.GetStringBytes("key")...)
	if v.Exists("partition") {
		if r.Partition, err = v.Get("partition").Int(); err != nil || r.Partition < 0 {
			return fmt.Errorf("partition: %w", errRaw)
		}
	}
	v.GetObject("headers").Visit(func(key []byte, value *fastjson.Value) {
		text, headerErr := value.StringBytes()
		if headerErr != nil {
			err = fmt.Errorf("header %s: %w", key, headerErr)
		}
		r.Headers = append(r.Headers, stream.Header{Key: string(key), Value: append([]byte(nil), text...)})
	})
	if err != nil {
		return err
	}
	if v.Exists("value") {
		text, err := v.Get("value").StringBytes()
		r.Value = append(r.Value, text...)
		return err
	}
	r.Value, err = base64.StdEncoding.AppendDecode(r.Value, v.GetStringBytes("value64"))
	return err
}
