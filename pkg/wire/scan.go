package wire

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tickwire/tickwire/pkg/market"
)

// ErrJSON is what decoders answer to text that is not one JSON object.
var ErrJSON = errors.New("wire: not a JSON object")

// FieldError says which field of a JSON message is wrong.
type FieldError struct {
	Field string // such as topics[2].depth
	Msg   string // such as "missing"
}

func (e *FieldError) Error() string { return "wire: " + e.Field + ": " + e.Msg }

// maxNesting bounds how deep values that nobody asked for may nest.
const maxNesting = 16

// scanner reads JSON strictly (RFC 8259) from a byte slice. The first error stays. Strings that it returns alias the input,
// or its own scratch memory when they had escapes.
type scanner struct {
	b       []byte
	i       int
	scratch []byte
	failed  bool
}

func (s *scanner) reset(b []byte) { s.b, s.i, s.scratch, s.failed = b, 0, s.scratch[:0], false }

// peek skips white space and returns the next byte, or 0 at the end.
func (s *scanner) peek() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// expect consumes c.
func (s *scanner) expect(c byte) bool {
	if s.failed || s.peek() != c {
		s.failed = true
		return false
	}
	s.i++
	return true
}

// next moves to the next member of an array or object that was opened; first is true before the first member. It returns
// false behind the closing bracket.
func (s *scanner) next(closing byte, first bool) bool {
	switch c := s.peek(); {
	case s.failed:
		return false
	case c == closing:
		s.i++
		return false
	case first:
		return true
	}
	return s.expect(',')
}

// key reads a member's name and the colon.
func (s *scanner) key() []byte {
	k := s.text()
	s.expect(':')
	return k
}

// text reads a string.
func (s *scanner) text() []byte {
	if !s.expect('"') {
		return nil
	}
	start := s.i
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start : s.i-1]
		case c == '\\' || c >= utf8.RuneSelf:
			return s.textSlow(start)
		case c < ' ':
			s.failed = true
			return nil
		}
	}
	s.failed = true
	return nil
}

// textSlow reads a string with escapes or characters beyond ASCII into scratch memory.
func (s *scanner) textSlow(start int) []byte {
	from := len(s.scratch)
	s.scratch = append(s.scratch, s.b[start:s.i]...)
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.scratch[from:]
		case c == '\\':
			s.escape()
			if s.failed {
				return nil
			}
		case c < ' ':
			s.failed = true
			return nil
		default:
			r, n := utf8.DecodeRune(s.b[s.i:])
			if r == utf8.RuneError && n == 1 {
				s.failed = true
				return nil
			}
			s.scratch = append(s.scratch, s.b[s.i:s.i+n]...)
			s.i += n
		}
	}
	s.failed = true
	return nil
}

// escape reads one escape sequence into scratch memory. A lone surrogate becomes U+FFFD.
func (s *scanner) escape() {
	if s.i+1 >= len(s.b) {
		s.failed = true
		return
	}
	c := s.b[s.i+1]
	s.i += 2
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		s.unicode()
		return
	default:
		s.failed = true
		return
	}
	s.scratch = append(s.scratch, c)
}

func (s *scanner) unicode() {
	r := s.hex4()
	if utf16.IsSurrogate(r) && s.i+1 < len(s.b) && s.b[s.i] == '\\' && s.b[s.i+1] == 'u' {
		mark := s.i
		s.i += 2
		pair := utf16.DecodeRune(r, s.hex4())
		if pair == utf8.RuneError {
			s.i = mark
		}
		r = pair
	}
	s.scratch = utf8.AppendRune(s.scratch, r)
}

func (s *scanner) hex4() (r rune) {
	if s.i+4 > len(s.b) {
		s.failed = true
		return 0
	}
	for _, c := range s.b[s.i : s.i+4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c-'a' <= 5:
			c -= 'a' - 10
		case c-'A' <= 5:
			c -= 'A' - 10
		default:
			s.failed = true
			return 0
		}
		r = r<<4 | rune(c)
	}
	s.i += 4
	return r
}

// number reads a number in the grammar of JSON and returns its text.
func (s *scanner) number() []byte {
	start := s.i
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	if whole := s.i; s.digits() > 1 && s.b[whole] == '0' {
		s.failed = true
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		s.digits()
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		s.digits()
	}
	return s.b[start:s.i]
}

// digits reads at least one digit.
func (s *scanner) digits() int {
	start := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	if s.i == start {
		s.failed = true
	}
	return s.i - start
}

func (s *scanner) word(w string) {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		s.failed = true
		return
	}
	s.i += len(w)
}

// token is a value as it stands: the kind is its first character ('0' for numbers), text the content of a string or the
// number, raw the value as written.
type token struct {
	kind      byte
	text, raw []byte
}

// value reads any value. An array or object is checked and returned raw.
func (s *scanner) value() (t token) {
	t.kind = s.peek()
	start := s.i
	switch t.kind {
	case '"':
		t.text = s.text()
	case '{', '[':
		s.skip()
	case 't':
		s.word("true")
	case 'f':
		s.word("false")
	case 'n':
		s.word("null")
	default:
		t.kind = '0'
		t.text = s.number()
	}
	t.raw = s.b[start:s.i]
	return t
}

// skip checks an array or object and moves behind it. It keeps what is open in an array of its own, not on the stack of
// calls.
func (s *scanner) skip() {
	var open [maxNesting]byte
	depth := 0
	var first bool
	for {
		switch c := s.peek(); c {
		case '{', '[':
			if depth == maxNesting {
				s.failed = true
				return
			}
			open[depth] = c + 2 // the closing bracket, in ASCII
			depth++
			s.i++
			first = true
		default:
			mark := len(s.scratch)
			s.value()
			s.scratch = s.scratch[:mark]
			first = false
		}
		for {
			if s.failed || depth == 0 {
				return
			}
			if s.next(open[depth-1], first) {
				break
			}
			depth--
			first = false
		}
		if open[depth-1] == '}' {
			mark := len(s.scratch)
			s.key()
			s.scratch = s.scratch[:mark]
			if s.failed {
				return
			}
		}
	}
}

// end tells whether nothing but white space is left and nothing went wrong.
func (s *scanner) end() bool { return !s.failed && s.peek() == 0 && s.i == len(s.b) }

// keyset is the names of a family of messages, at most 64.
type keyset struct {
	names   []string
	byFirst [128][]uint8
}

func makeKeyset(names []string) *keyset {
	k := &keyset{names: names}
	for i, n := range names {
		k.byFirst[n[0]] = append(k.byFirst[n[0]], uint8(i))
	}
	return k
}

// find returns the number of a name, or -1.
func (k *keyset) find(name []byte) int {
	if len(name) == 0 || name[0] >= utf8.RuneSelf {
		return -1
	}
	for _, i := range k.byFirst[name[0]] {
		if k.names[i] == string(name) {
			return int(i)
		}
	}
	return -1
}

// fields is one object, taken apart. The first error about a value stays in err.
type fields struct {
	keys    *keyset
	seen    uint64
	tokens  []token
	unknown []byte // the first name that is not in the keyset
	twice   int    // the first name that came twice, or -1
	path    string // where the object stands, for errors
	err     error
}

func (f *fields) reset(keys *keyset, path string) {
	if len(f.tokens) != len(keys.names) {
		f.tokens = make([]token, len(keys.names))
	}
	f.keys, f.seen, f.unknown, f.twice, f.path, f.err = keys, 0, nil, -1, path, nil
}

// add notes the value of a key.
func (f *fields) add(name []byte, key int, t token) {
	switch {
	case key < 0:
		if f.unknown == nil {
			f.unknown = name
		}
	case f.seen>>key&1 == 1:
		if f.twice < 0 {
			f.twice = key
		}
	default:
		f.seen |= 1 << key
		f.tokens[key] = t
	}
}

// object reads an object into f.
func (s *scanner) object(f *fields) bool {
	s.expect('{')
	for first := true; !s.failed && s.next('}', first); first = false {
		name := s.key()
		if s.failed {
			break
		}
		f.add(name, f.keys.find(name), s.value())
	}
	return !s.failed
}

func (f *fields) has(key int) bool { return f.seen>>key&1 == 1 }

// fail notes what is wrong with a key.
func (f *fields) fail(key int, msg string) {
	if f.err == nil {
		f.err = &FieldError{Field: f.name(f.keys.names[key]), Msg: msg}
	}
}

// name returns a field's name with the place of its object before it.
func (f *fields) name(field string) string {
	if f.path == "" {
		return field
	}
	return f.path + "." + field
}

// need checks that the keys are there.
func (f *fields) need(keys ...int) {
	for _, k := range keys {
		if !f.has(k) {
			f.fail(k, "missing")
			return
		}
	}
}

// uint reads a whole number from 0 to limit; an absent one is 0.
func (f *fields) uint(key int, limit uint64) uint64 {
	if !f.has(key) {
		return 0
	}
	t := &f.tokens[key]
	v, ok := parseUint(t.text)
	if t.kind != '0' || !ok || v > limit {
		f.fail(key, "not a whole number from 0 to "+strconv.FormatUint(limit, 10))
		return 0
	}
	return v
}

func parseUint(b []byte) (v uint64, ok bool) {
	if len(b) == 0 || len(b) > 20 || len(b) > 1 && b[0] == '0' {
		return 0, false
	}
	for i, c := range b {
		c -= '0'
		if c > 9 || i == 19 && (v > (1<<64-1)/10 || v == (1<<64-1)/10 && c > 5) {
			return 0, false
		}
		v = v*10 + uint64(c)
	}
	return v, true
}

// time reads microseconds; an absent time is 0.
func (f *fields) time(key int) market.Time {
	if !f.has(key) {
		return 0
	}
	t := &f.tokens[key]
	digits, neg := t.text, false
	if t.kind == '0' && digits[0] == '-' {
		digits, neg = digits[1:], true
	}
	v, ok := parseUint(digits)
	if t.kind != '0' || !ok || v > maxMicros {
		f.fail(key, "not a time in microseconds")
		return 0
	}
	if neg {
		return market.FromMicros(-int64(v))
	}
	return market.FromMicros(int64(v))
}

// text reads a string of at most limit bytes; it aliases the scanner's memory. An absent one is nil.
func (f *fields) text(key, limit int) []byte {
	if !f.has(key) {
		return nil
	}
	t := &f.tokens[key]
	if t.kind != '"' || len(t.text) > limit {
		f.fail(key, "not a string of at most "+strconv.Itoa(limit)+" bytes")
		return nil
	}
	return t.text
}

// flag reads true or false; an absent one is false.
func (f *fields) flag(key int) bool {
	if !f.has(key) {
		return false
	}
	k := f.tokens[key].kind
	if k != 't' && k != 'f' {
		f.fail(key, "not true or false")
	}
	return k == 't'
}

// fixed reads a decimal string of at least least; an absent one is 0.
func (f *fields) fixed(key int, scale uint8, least int64) int64 {
	if !f.has(key) {
		return 0
	}
	t := &f.tokens[key]
	v, err := market.ParseFixed(t.text, scale)
	switch {
	case t.kind != '"':
		f.fail(key, "not a decimal string")
	case err != nil:
		f.fail(key, err.Error())
	case v < least:
		f.fail(key, "out of range")
	}
	return v
}
