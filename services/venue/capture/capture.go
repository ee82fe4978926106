// Package capture reads recorded market sessions and yields the raw records that a connector would have written to
// md.raw, had it been there: the instruments first, the venue's payloads as they came, and a clock each second. What is
// replayed is then exactly what runs live.
//
// The formats are those of public recordings, and our own dump (see [Writer]):
//
//	binance-lines    <receive time, ns> <payload>, of spot streams; the REST depth snapshot stands among them
//	kraken-lines     <receive time, s>: <payload>, of WebSocket v1, as cryptofeed records it
//	coinbase-lines   <receive time, s>: <payload>, of Coinbase Exchange, as cryptofeed records it
//	raw              one JSON object per line, a record of md.raw as it stood there
//
// Files may be compressed with gzip. Several files in sequence are one session.
package capture

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
)

// Format is how a recording is laid out.
type Format string

// The formats.
const (
	BinanceLines  Format = "binance-lines"
	KrakenLines   Format = "kraken-lines"
	CoinbaseLines Format = "coinbase-lines"
	Raw           Format = "raw"
)

// Formats lists the formats, for help texts.
var Formats = []Format{BinanceLines, KrakenLines, CoinbaseLines, Raw}

// ByKey is the Partition of a record that has none of its own.
const ByKey = -1

// Record is one record for md.raw. With a Partition it goes there, with a Key where the key leads. With neither it is a
// clock, and goes to each partition that holds an instrument of its session.
type Record struct {
	At        market.Time // when it was recorded; paces a replay and is not written
	Partition int         // ByKey, or a partition
	Key       []byte      // the instrument's Sym
	Headers   []stream.Header
	Value     []byte
}

// The headers of a raw record.
const (
	SourceHeader  = "source"
	SessionHeader = "session"
)

// Header returns the value of the first header with the key, nil without one.
func (r *Record) Header(key string) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return r.Headers[i].Value
		}
	}
	return nil
}

// Config says what to read.
type Config struct {
	Format Format
	Files  []string // one after another
	// Session names the venue connection in the records and must be new for each replay into the same Kafka topic. When a
	// recording shows that the recorder connected again, the later ones are called session-2 and so on.
	Session string
	// AtSource puts the venue into every Sym (BTC-USDT@binance), for a replay beside another venue's.
	AtSource bool
}

// Validate checks the configuration.
func (c *Config) Validate() error {
	switch c.Format {
	case BinanceLines, KrakenLines, CoinbaseLines, Raw:
	default:
		return fmt.Errorf("format %q is not one of %v", c.Format, Formats)
	}
	if len(c.Files) == 0 {
		return errors.New("no file to read")
	}
	if c.Session == "" && c.Format != Raw {
		return errors.New("a session needs a name")
	}
	return nil
}

// Summary is what a first look over a whole recording finds.
type Summary struct {
	Instruments []market.Instrument // in order of appearance; none for Raw
	Payloads    int                 // lines that are records
	First, Last market.Time
}

// Reader yields the records of a recording.
type Reader struct {
	cfg     Config
	summary Summary
	lines   *lineReader
	layout  layout
	queue   queue
	err     error
}

// layout is what differs between the formats.
type layout interface {
	// survey looks at a line in the first pass, to learn the instruments.
	survey(line []byte) error
	// read turns a line into records, which it puts into the queue.
	read(line []byte, q *queue) error
	// at returns the line's time, and false for a line that is no record.
	at(line []byte) (market.Time, bool, error)
}

// Open reads the recording through once, for its Summary, and starts over for Next.
func Open(cfg Config) (*Reader, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Reader{cfg: cfg}
	var v *venueLayout
	if cfg.Format == Raw {
		r.layout = &rawLayout{}
	} else {
		v = newVenueLayout(&cfg)
		r.layout = v
	}
	if err := r.survey(); err != nil {
		return nil, err
	}
	if v != nil {
		var err error
		if r.summary.Instruments, err = v.begin(r.summary.First, &r.queue); err != nil {
			return nil, err
		}
	}
	r.lines = openLines(cfg.Files)
	return r, nil
}

func (r *Reader) survey() error {
	lines := openLines(r.cfg.Files)
	defer func() { _ = lines.close() }() // read only
	s := &r.summary
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		at, ok, err := r.layout.at(line)
		if err == nil && ok {
			s.Payloads++
			if s.Payloads == 1 {
				s.First = at
			}
			s.Last = max(s.Last, at)
			err = r.layout.survey(line)
		}
		if err != nil {
			return lines.wrap(err)
		}
	}
}

// Summary returns what the first pass found.
func (r *Reader) Summary() Summary { return r.summary }

// Next returns the next record, valid until the call after, and io.EOF at the end.
func (r *Reader) Next() (*Record, error) {
	for r.err == nil {
		if rec := r.queue.pop(); rec != nil {
			return rec, nil
		}
		var line []byte
		if line, r.err = r.lines.next(); r.err != nil {
			break
		}
		if err := r.layout.read(line, &r.queue); err != nil {
			r.err = r.lines.wrap(err)
		}
	}
	return nil, r.err
}

// Close closes the files.
func (r *Reader) Close() error { return r.lines.close() }

// queue holds the records that one line made; their memory is used again for the next line.
type queue struct {
	records []Record
	next    int
}

// add gives room for a record, with its old Key and Value as memory to append to.
func (q *queue) add() *Record {
	if q.next > 0 && q.next == len(q.records) {
		q.records, q.next = q.records[:0], 0
	}
	if len(q.records) < cap(q.records) {
		q.records = q.records[:len(q.records)+1]
	} else {
		q.records = append(q.records, Record{})
	}
	r := &q.records[len(q.records)-1]
	r.Partition, r.Key, r.Value, r.Headers = ByKey, r.Key[:0], r.Value[:0], r.Headers[:0]
	return r
}

func (q *queue) pop() *Record {
	if q.next == len(q.records) {
		return nil
	}
	q.next++
	return &q.records[q.next-1]
}

// maxLine bounds one line of a recording.
const maxLine = 64 << 20

// lineReader reads the lines of several files as if they were one.
type lineReader struct {
	files   []string
	n       int // the file after the current one
	number  int // of the line in its file
	file    *os.File
	scanner *bufio.Scanner
}

func openLines(files []string) *lineReader { return &lineReader{files: files} }

// next returns the next line that is not empty, valid until the call after.
func (l *lineReader) next() ([]byte, error) {
	for {
		if l.file == nil {
			if l.n == len(l.files) {
				return nil, io.EOF
			}
			if err := l.open(l.files[l.n]); err != nil {
				return nil, err
			}
			l.n++
		}
		for l.scanner.Scan() {
			l.number++
			if line := bytes.TrimSpace(l.scanner.Bytes()); len(line) > 0 {
				return line, nil
			}
		}
		if err := l.scanner.Err(); err != nil {
			return nil, l.wrap(err)
		}
		if err := l.close(); err != nil {
			return nil, err
		}
	}
}

func (l *lineReader) open(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(f, 1<<16)
	l.file, l.number = f, 0
	var from io.Reader = in
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		if from, err = gzip.NewReader(in); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	l.scanner = bufio.NewScanner(from)
	l.scanner.Buffer(make([]byte, 0, 1<<16), maxLine)
	return nil
}

// wrap says where an error happened.
func (l *lineReader) wrap(err error) error {
	return fmt.Errorf("%s, line %d: %w", l.files[max(l.n-1, 0)], l.number, err)
}

func (l *lineReader) close() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}
