package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"unicode/utf8"

	"github.com/tickwire/tickwire/pkg/market"
)

// maxDepth is how deeply values may be nested; venues' own records stay below 6.
const maxDepth = 64

// scanner walks over one JSON text, front to back. The first error sticks, and after it every method returns at once
// with a zero value, so that callers check err when they are through. A loop over an object's members reads
//
//	for more := s.open('{'); more; more = s.next('}') {
//		switch string(s.key()) {
//		case "price":
//			...exactly one value is read here...
//		default:
//			s.skip()
//		}
//	}
type scanner struct {
	b     []byte
	i     int
	depth int
	err   *Error
	plain []byte // scratch: text without escapes, numbers without exponent
}

func (s *scanner) reset(b []byte) {
	s.b, s.i, s.depth, s.err = b, 0, 0, nil
}

// fail sets the error unless there is one, and returns false.
func (s *scanner) fail(reason, field string, err error) bool {
	if s.err == nil {
		s.err = &Error{Reason: reason, Field: field, Err: err}
	}
	return false
}

// bad is a syntax error at the current place.
func (s *scanner) bad() bool {
	if s.i >= len(s.b) {
		return s.fail(ReasonSyntax, "", ErrEnd)
	}
	return s.fail(ReasonSyntax, "", ErrCharacter)
}

// peek skips white space and returns the next byte, 0 at the end and after an error.
func (s *scanner) peek() byte {
	if s.err != nil {
		return 0
	}
	for s.i < len(s.b) {
		c := s.b[s.i]
		if c > ' ' {
			return c
		}
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return 0
		}
		s.i++
	}
	return 0
}

// end checks that nothing follows the value that was read.
func (s *scanner) end() {
	if s.err == nil && (s.peek() != 0 || s.i < len(s.b)) {
		s.fail(ReasonSyntax, "", ErrTrailing)
	}
}

// open enters an object or array and tells whether it has elements. Anything else there is an error of type, provided
// it is JSON at all.
func (s *scanner) open(bracket byte) bool {
	if s.peek() != bracket {
		return s.wrongType("")
	}
	if s.depth++; s.depth > maxDepth {
		return s.fail(ReasonSyntax, "", ErrTooDeep)
	}
	s.i++
	if s.peek() == bracket+2 { // '{'+2 is '}', '['+2 is ']'
		s.i++
		s.depth--
		return false
	}
	return s.err == nil
}

// next goes to the next element, or leaves the object or array when there is none.
func (s *scanner) next(bracket byte) bool {
	switch s.peek() {
	case ',':
		s.i++
		return true
	case bracket:
		s.i++
		s.depth--
		return false
	}
	if s.err != nil {
		return false
	}
	return s.bad()
}

// key reads a member's name and the colon. It is valid until the next text is read.
func (s *scanner) key() []byte {
	if s.peek() != '"' {
		s.bad()
		return nil
	}
	k := s.str()
	if s.peek() != ':' {
		s.bad()
		return nil
	}
	s.i++
	return k
}

// wrongType reads over a value and then fails with ReasonType, or with the value's own syntax error.
func (s *scanner) wrongType(field string) bool {
	s.skip()
	return s.fail(ReasonType, field, nil)
}

// skip reads over one value, checking that it is JSON.
func (s *scanner) skip() {
	switch s.peek() {
	case '"':
		s.raw()
	case '{':
		for more := s.open('{'); more; more = s.next('}') {
			s.key()
			s.skip()
		}
	case '[':
		for more := s.open('['); more; more = s.next(']') {
			s.skip()
		}
	case 't':
		s.word("true")
	case 'f':
		s.word("false")
	case 'n':
		s.word("null")
	default:
		s.number()
	}
}

func (s *scanner) word(w string) {
	for i := range len(w) {
		if s.i >= len(s.b) || s.b[s.i] != w[i] {
			s.bad()
			return
		}
		s.i++
	}
}

// number reads a JSON number and returns its text. NaN, Inf, a plus sign and leading zeros are not JSON.
func (s *scanner) number() []byte {
	if s.err != nil {
		return nil
	}
	start := s.i
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return nil
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		if s.i++; !s.digits() {
			return nil
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			return nil
		}
	}
	return s.b[start:s.i]
}

// digits reads at least one digit.
func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > start || s.bad()
}

// raw reads a string and returns what stands between the quotes; plain tells that this is its text, free of escapes.
func (s *scanner) raw() (text []byte, plain bool) {
	s.i++ // the opening quote
	start := s.i
	for i := start; i+8 <= len(s.b); i += 8 {
		if n := special(binary.LittleEndian.Uint64(s.b[i:])); n < 8 {
			if s.i = i + n; s.b[s.i] != '"' {
				break
			}
			s.i++
			return s.b[start : s.i-1], true
		}
		s.i = i + 8
	}
	return s.rawSlow(start)
}

// special finds the first of eight bytes that is a quote, a backslash or a control character, all eight at once; 8 is
// none. Subtracting 1 from a zero byte (or 0x20 from a smaller one) sets its top bit; the borrow can only disturb bytes
// above the first hit, which are not looked at.
func special(w uint64) int {
	const each, top = 0x0101010101010101, 0x8080808080808080
	quote, escape := w^each*'"', w^each*'\\'
	hit := (quote-each)&^quote | (escape-each)&^escape | (w-each*' ')&^w
	return bits.TrailingZeros64(hit&top) / 8
}

func (s *scanner) rawSlow(start int) (text []byte, plain bool) {
	plain = true
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start : s.i-1], plain
		case c < ' ':
			s.bad()
			return nil, false
		case c == '\\':
			plain = false
			if !s.escape() {
				return nil, false
			}
		default:
			s.i++
		}
	}
	s.bad()
	return nil, false
}

// escape reads over one escape sequence.
func (s *scanner) escape() bool {
	s.i++
	if s.i >= len(s.b) {
		return s.bad()
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return true
	case 'u':
		s.i++
		for range 4 {
			if s.i >= len(s.b) || unhex(s.b[s.i]) < 0 {
				return s.bad()
			}
			s.i++
		}
		return true
	}
	return s.bad()
}

func unhex(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return -1
}

// str reads a string, with its escapes resolved. Call it with the quote ahead.
func (s *scanner) str() []byte {
	text, plain := s.raw()
	if plain || s.err != nil {
		return text
	}
	s.plain = unescape(s.plain[:0], text)
	return s.plain
}

// unescape appends the text of a string whose escapes are known to be well-formed. Half a surrogate pair becomes U+FFFD,
// as in encoding/json.
func unescape(dst, text []byte) []byte {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			dst = append(dst, text[i])
			continue
		}
		i++
		switch c := text[i]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(text[i+1:])
			i += 4
			if 0xd800 <= r && r < 0xe000 {
				r, i = surrogate(r, text, i)
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// surrogate joins the high half r, whose escape ends at text[i], with the low half after it.
func surrogate(r rune, text []byte, i int) (rune, int) {
	if r < 0xdc00 && i+6 < len(text) && text[i+1] == '\\' && text[i+2] == 'u' {
		if low := hex4(text[i+3:]); 0xdc00 <= low && low < 0xe000 {
			return (r-0xd800)<<10 + (low - 0xdc00) + 0x10000, i + 6
		}
	}
	return utf8.RuneError, i
}

func hex4(b []byte) rune {
	return unhex(b[0])<<12 | unhex(b[1])<<8 | unhex(b[2])<<4 | unhex(b[3])
}

// text reads a value that must be a string. It is valid until the next text is read.
func (s *scanner) text(field string) []byte {
	if s.peek() != '"' {
		s.wrongType(field)
		return nil
	}
	return s.str()
}

// boolean reads a value that must be true or false.
func (s *scanner) boolean(field string) bool {
	switch s.peek() {
	case 't':
		s.word("true")
		return s.err == nil
	case 'f':
		s.word("false")
	default:
		s.wrongType(field)
	}
	return false
}

// unsigned reads a whole number from 0 to 2^63-1, written as a JSON number or, where quoted, as a string of digits.
func (s *scanner) unsigned(reason, field string, quoted bool) uint64 {
	var text []byte
	switch c := s.peek(); {
	case c == '"' && quoted:
		text = s.str()
	case c == '-' || c-'0' <= 9:
		text = s.number()
	default:
		s.wrongType(field)
	}
	if s.err != nil {
		return 0
	}
	v, err := market.ParseFixed(text, 0)
	switch {
	case err != nil:
		s.fail(reason, field, err)
	case v < 0 || text[0] == '-':
		s.fail(reason, field, ErrSign)
	case bytes.IndexByte(text, '.') >= 0:
		s.fail(reason, field, market.ErrNumber)
	default:
		return uint64(v)
	}
	return 0
}

// decimal reads a decimal number, string or JSON number, and returns its text without exponent, valid until the next
// text is read. Whoever parses it judges a string's text.
func (s *scanner) decimal(field string) []byte {
	switch c := s.peek(); {
	case c == '"':
		return s.str()
	case c == '-' || c-'0' <= 9:
		text := s.number()
		for i, c := range text {
			if c|0x20 == 'e' {
				return s.spellOut(text[:i], text[i+1:])
			}
		}
		return text
	}
	s.wrongType(field)
	return nil
}

// spellOut writes a number that has an exponent as a plain decimal: 1.5e-3 as 0.0015. Some JSON writers put very small
// sizes that way. An exponent that no price or size can have yields the empty text, which is not a number.
func (s *scanner) spellOut(digits, exponent []byte) []byte {
	if exponent[0] == '+' {
		exponent = exponent[1:]
	}
	exp, err := market.ParseFixed(exponent, 0)
	if err != nil || exp > 2*market.MaxScale || exp < -2*market.MaxScale {
		return nil
	}
	out := s.plain[:0]
	if digits[0] == '-' {
		out, digits = append(out, '-'), digits[1:]
	}
	whole, fraction, _ := bytes.Cut(digits, []byte{'.'})
	point := len(whole) + int(exp) // where the decimal point goes in whole and fraction together
	if point <= 0 {
		out = append(out, "0."...)
		out = appendZeros(out, -point)
	}
	start := len(out)
	out = append(append(out, whole...), fraction...)
	if n := len(out) - start; point >= n {
		out = appendZeros(out, point-n)
	} else if point > 0 {
		out = slices.Insert(out, start+point, '.')
	}
	s.plain = out
	return out
}

func appendZeros(dst []byte, n int) []byte {
	for range n {
		dst = append(dst, '0')
	}
	return dst
}

// price reads a price above 0.
func (s *scanner) price(field string, in *market.Instrument) market.Price {
	v := s.fixed(ReasonPrice, field, in.PriceScale)
	if v <= 0 && s.err == nil {
		s.fail(ReasonPrice, field, ErrSign)
	}
	return market.Price(v)
}

// size reads a size of at least least.
func (s *scanner) size(field string, in *market.Instrument, least market.Size) market.Size {
	v := market.Size(s.fixed(ReasonSize, field, in.SizeScale))
	if v < least && s.err == nil {
		s.fail(ReasonSize, field, ErrSign)
	}
	return v
}

func (s *scanner) fixed(reason, field string, scale uint8) int64 {
	if s.peek() == '"' {
		if v, end := quickFixed(s.b, s.i, scale); end < len(s.b) {
			s.i = end
			return v
		}
	}
	text := s.decimal(field)
	if s.err != nil {
		return 0
	}
	v, err := market.ParseFixed(text, scale)
	if errors.Is(err, market.ErrFiner) {
		reason = ReasonScale
	}
	if err != nil {
		s.fail(reason, field, err)
	}
	return v
}

// levels reads an array of [price, size, ...] and appends it to dst.
func (s *scanner) levels(dst []market.Level, field string, in *market.Instrument) []market.Level {
	if s.peek() != '[' {
		s.wrongType(field)
		return dst
	}
	for more := s.open('['); more; more = s.next(']') {
		l, ok := s.quickLevel(in)
		if !ok {
			s.enter(field)
			l = s.priceAndSize(field, in)
		}
		dst = append(dst, l)
	}
	return dst
}

// quickLevels is levels for an array of quick levels without white space between them. For anything else it returns false
// and has read nothing.
func (s *scanner) quickLevels(dst []market.Level, in *market.Instrument) ([]market.Level, bool) {
	start := s.i
	s.i++
	for s.i < len(s.b) {
		l, ok := s.quickLevel(in)
		if !ok || s.i >= len(s.b) {
			break
		}
		dst = append(dst, l)
		s.i++
		if c := s.b[s.i-1]; c == ']' {
			return dst, true
		} else if c != ',' {
			break
		}
	}
	s.i = start
	return dst[:0], false
}

// quickLevel reads a level in the form that nearly all have, ["61737.63","0.4"] without white space, in one go. For
// anything else it returns false and has read nothing.
func (s *scanner) quickLevel(in *market.Instrument) (l market.Level, ok bool) {
	b, i := s.b, s.i
	if i >= len(b) || b[i] != '[' {
		return l, false
	}
	price, i := quickFixed(b, i+1, in.PriceScale)
	if i >= len(b) || b[i] != ',' || price == 0 {
		return l, false
	}
	size, i := quickFixed(b, i+1, in.SizeScale)
	if i >= len(b) || b[i] != ']' {
		return l, false
	}
	s.i = i + 1
	return market.Level{Price: market.Price(price), Size: market.Size(size)}, true
}

// quickFixed does the work of market.ParseFixed for a quoted number that starts at b[i], and tells where it ends. It
// gives up, and then says len(b), on a sign, on anything that is not a plain decimal, on a digit beyond the scale and on
// more than 18 digits: those it leaves to the slow way, which knows what to say about them.
func quickFixed(b []byte, i int, scale uint8) (v int64, end int) {
	if i >= len(b) || b[i] != '"' {
		return 0, len(b)
	}
	i++
	first := i
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		v = v*10 + int64(b[i]-'0')
	}
	digits, missing := i-first, int(scale)
	if digits > 0 && i < len(b) && b[i] == '.' {
		i++
		point := i
		for ; i < len(b) && b[i]-'0' <= 9 && missing > 0; i++ {
			v = v*10 + int64(b[i]-'0')
			missing--
		}
		for ; i < len(b) && b[i] == '0'; i++ { // zeros beyond the scale
		}
		if i == point {
			return 0, len(b)
		}
	}
	if digits == 0 || digits+int(scale) > market.MaxScale || i >= len(b) || b[i] != '"' {
		return 0, len(b)
	}
	return v * market.Pow10(uint8(missing)), i + 1
}

// priceAndSize reads the rest of an array from the price on: price, size, and whatever the venue puts behind them.
func (s *scanner) priceAndSize(field string, in *market.Instrument) (l market.Level) {
	l.Price = s.price(field, in)
	s.comma(field)
	l.Size = s.size(field, in, 0)
	s.leave()
	return l
}

// enter goes into an array that holds a fixed list of values, comma from one to the next, and leave reads over those
// that are not asked for.
func (s *scanner) enter(field string) {
	if s.peek() != '[' || !s.open('[') {
		s.fail(ReasonType, field, nil)
	}
}

func (s *scanner) comma(field string) {
	if !s.next(']') {
		s.fail(ReasonType, field, nil)
	}
}

func (s *scanner) leave() {
	for s.next(']') {
		s.skip()
	}
}

// mark is where a value stands in the record, for reading it once all members are known; 0 is nowhere. Levels that were
// read on the way (see early) are marked below 0.
type mark int

// early lets object read levels as it comes by, instead of reading over them now and again later: it saves a third of the
// time that a book record takes. The first names of the object must then be bids, asks, bids, asks, …, as far as count.
// Levels that are not in their usual form are left for later, so that errors come out in one place.
type early struct {
	in    *market.Instrument
	m     *Message
	count int
	read  [2]bool // bids, asks: only the first array of a side is read early
}

// levels reads member n if it can.
func (e *early) levels(s *scanner, n int) bool {
	if e == nil || n >= e.count || e.in == nil || e.read[n%2] || s.peek() != '[' {
		return false
	}
	side := &e.m.Bids
	if n%2 == 1 {
		side = &e.m.Asks
	}
	*side, e.read[n%2] = s.quickLevels((*side)[:0], e.in)
	return e.read[n%2]
}

// object reads a whole object and marks the values of the named members; others are skipped. A named member that comes
// twice is an error, since JSON does not say which one counts. The members of the member called inline, which must be an
// object, count as if they stood here.
func (s *scanner) object(names []string, at []mark, inline string, e *early) {
	for more := s.open('{'); more; more = s.next('}') {
		key := s.key()
		if inline != "" && string(key) == inline && s.peek() == '{' {
			s.object(names, at, "", e)
			continue
		}
		n := indexOf(names, key)
		if n < 0 {
			s.skip()
			continue
		}
		s.peek()
		if at[n] != 0 {
			s.fail(ReasonField, names[n], ErrRepeated)
			at[n] = 0 // neither counts
			return
		}
		at[n] = mark(s.i)
		if e.levels(s, n) {
			at[n] = -at[n]
		} else {
			s.skip()
		}
	}
}

func indexOf(names []string, key []byte) int {
	for i, n := range names {
		if string(key) == n {
			return i
		}
	}
	return -1
}

// to goes back to a marked value; a member that is not there is an error.
func (s *scanner) to(at mark, field string) *scanner {
	if at == 0 {
		s.fail(ReasonField, field, ErrMissing)
	}
	s.i = int(max(at, -at))
	return s
}

// wordAt reads a marked string, whatever error there was: it is for telling what kind of record broke off.
func (s *scanner) wordAt(at mark) []byte {
	if at == 0 {
		return nil
	}
	before := s.err
	s.err = nil
	s.i = int(max(at, -at))
	var text []byte
	if s.peek() == '"' {
		text = s.str()
	}
	s.err = before
	return text
}
