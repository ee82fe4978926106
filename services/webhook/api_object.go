package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/services/internal/rest"
)

// object is a JSON object of a request, read strictly and member by member. The first member that is not as it must be is
// remembered as the problem; what has been read after that does not matter. Whatever nobody has read by end is unknown, and
// refused.
type object struct {
	path    string // of the object in the body, with a dot behind it
	members map[string]json.RawMessage
	wrong   **rest.Problem // of the whole body
}

const maxNesting = 32 // of what a request holds

// parseObject reads a body that must be one JSON object; an empty one is {}.
func parseObject(body []byte) (*object, *rest.Problem) {
	o := &object{wrong: new(*rest.Problem)}
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return o, nil
	}
	if why := unreadable(body); why != "" {
		return nil, &rest.Problem{Status: fasthttp.StatusBadRequest, Code: "bad_request", Detail: "the body is not JSON: " + why}
	}
	o.read(body, "the body")
	return o, *o.wrong
}

// unreadable says why a text is no JSON; empty when it is.
func unreadable(body []byte) string {
	if !utf8.Valid(body) {
		return "it is not UTF-8"
	}
	depth := 0
	for d := json.NewDecoder(bytes.NewReader(body)); ; {
		t, err := d.Token()
		switch {
		case err == io.EOF && depth == 0 && json.Valid(body):
			return ""
		case err == io.EOF:
			return "it ends too early, or goes on behind its end"
		case err != nil:
			return printable(err.Error())
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > maxNesting {
			return fmt.Sprintf("it is nested more than %d deep", maxNesting)
		}
	}
}

// printable makes a text that a peer has had a hand in fit for an answer or a log.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// read fills the object from valid JSON.
func (o *object) read(text []byte, what string) {
	if len(text) == 0 || text[0] != '{' {
		o.bad(strings.TrimSuffix(o.path, "."), "%s must be a JSON object", what)
		return
	}
	o.members = make(map[string]json.RawMessage)
	d := json.NewDecoder(bytes.NewReader(text))
	_, _ = d.Token() // the brace
	for d.More() {
		key, _ := d.Token() // the text is valid
		name, _ := key.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			o.bad(o.path+name, "%s", printable(err.Error()))
			return
		}
		if _, twice := o.members[name]; twice {
			o.bad(o.name(name), "given twice")
		}
		o.members[name] = value
	}
}

// name is a member's in errors.
func (o *object) name(member string) string { return printable(o.path + rest.Clipped([]byte(member))) }

// bad remembers what is wrong, if it is the first thing.
func (o *object) bad(param, format string, args ...any) {
	if *o.wrong == nil {
		*o.wrong = &rest.Problem{Status: fasthttp.StatusUnprocessableEntity, Code: "invalid", Param: param, Detail: fmt.Sprintf(format, args...)}
	}
}

// refuse says that a member is not as it must be.
func (o *object) refuse(member, format string, args ...any) { o.bad(o.path+member, format, args...) }

// take returns a member and marks it as read.
func (o *object) take(name string) (value json.RawMessage, ok bool) {
	value, ok = o.members[name]
	delete(o.members, name)
	return value, ok
}

// has tells whether there is a member that has not been read.
func (o *object) has(name string) bool { _, ok := o.members[name]; return ok }

// null tells whether a member is there and null; then it is taken.
func (o *object) null(name string) bool {
	if string(o.members[name]) != "null" {
		return false
	}
	delete(o.members, name)
	return true
}

// end refuses what nobody has read, and returns the first thing that was wrong.
func (o *object) end() *rest.Problem {
	if left := slices.Sorted(maps.Keys(o.members)); len(left) > 0 {
		o.bad(o.name(left[0]), "there is no such member here")
	}
	return *o.wrong
}

// text reads a string of at most so many characters, on one line; what is left out is "".
func (o *object) text(name string, most int) string {
	value, ok := o.take(name)
	if !ok {
		return ""
	}
	s, ok := o.str(o.path+name, value, most)
	if ok && strings.ContainsFunc(s, unprintable) {
		o.refuse(name, "control characters are not allowed")
	}
	return s
}

func (o *object) str(path string, value json.RawMessage, most int) (s string, ok bool) {
	if value[0] != '"' {
		o.bad(path, "must be a string")
		return "", false
	}
	if err := json.Unmarshal(value, &s); err != nil {
		o.bad(path, "%s", printable(err.Error()))
		return "", false
	}
	if n := utf8.RuneCountInString(s); n > most {
		o.bad(path, "%d characters; %d are the most", n, most)
		return "", false
	}
	return s, true
}

// unprintable tells whether a character could begin a new line, a new header or a command to a terminal, or turn around how
// the text behind it reads.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r >= '\u202A' && r <= '\u202E' || r >= '\u2066' && r <= '\u2069'
}

// one reads a string that is one of those listed; the first one is the default.
func one[T ~string](o *object, name string, values ...T) T {
	value, ok := o.take(name)
	if !ok {
		return values[0]
	}
	s, ok := o.str(o.path+name, value, 64)
	if ok && !slices.Contains(values, T(s)) {
		o.refuse(name, "not one of %s", joined(values))
	}
	return T(s)
}

func joined[T ~string](values []T) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(v))
	}
	return b.String()
}

// number reads a number within bounds.
func (o *object) number(name string, low, high, otherwise float64) float64 {
	value, ok := o.take(name)
	if !ok {
		return otherwise
	}
	var n float64
	if c := value[0]; c != '-' && (c < '0' || c > '9') || json.Unmarshal(value, &n) != nil || n < low || n > high {
		o.refuse(name, "must be a number from %v to %v", low, high)
		return otherwise
	}
	return n
}

// integer reads a whole number within bounds.
func (o *object) integer(name string, low, high, otherwise int) int {
	n := o.number(name, float64(low), float64(high), float64(otherwise))
	if n != math.Trunc(n) {
		o.refuse(name, "must be a whole number")
	}
	return int(n)
}

// span reads a duration such as 90s, 5m or 1h30m.
func (o *object) span(name string, low, high, otherwise time.Duration) time.Duration {
	value, ok := o.take(name)
	if !ok {
		return otherwise
	}
	s, ok := o.str(o.path+name, value, 32)
	if !ok {
		return otherwise
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < low || d > high {
		o.refuse(name, "must be a duration from %v to %v, such as 90s, 5m or 1h30m", low, high)
		return otherwise
	}
	return d
}

// when reads a time; what is left out, or null, is the zero time.
func (o *object) when(name string) (t time.Time) {
	if o.null(name) {
		return t
	}
	value, ok := o.take(name)
	if !ok {
		return t
	}
	s, ok := o.str(o.path+name, value, 64)
	if !ok {
		return t
	}
	t, err := parseTime(s)
	if err != nil {
		o.refuse(name, "%v", err)
	}
	return t
}

// texts reads a list of different strings.
func (o *object) texts(name string, most, longest int) (list []string) {
	for i, value := range o.list(name, most) {
		s, ok := o.str(o.item(name, i), value, longest)
		switch {
		case !ok:
		case s == "":
			o.bad(o.item(name, i), "must not be empty")
		case strings.ContainsFunc(s, unprintable):
			o.bad(o.item(name, i), "control characters are not allowed")
		case slices.Contains(list, s):
			o.bad(o.item(name, i), "stands there twice")
		}
		list = append(list, s)
	}
	return list
}

// item is the name of a list's item in errors.
func (o *object) item(name string, i int) string { return fmt.Sprintf("%s%s[%d]", o.path, name, i) }

// list reads a list of anything.
func (o *object) list(name string, most int) (items []json.RawMessage) {
	value, ok := o.take(name)
	if !ok {
		return nil
	}
	if value[0] != '[' || json.Unmarshal(value, &items) != nil {
		o.refuse(name, "must be a list")
		return nil
	}
	if len(items) > most {
		o.refuse(name, "%d items; %d are the most", len(items), most)
		return nil
	}
	for i := range items {
		items[i] = bytes.TrimSpace(items[i])
	}
	return items
}

// sub is the object in a list, or in a member, whose text is given.
func (o *object) sub(path string, text json.RawMessage) *object {
	s := &object{path: path + ".", wrong: o.wrong}
	s.read(text, "this")
	return s
}

// apart is sub with a problem of its own.
func (o *object) apart(path string, text json.RawMessage) *object {
	s := &object{path: path + ".", wrong: new(*rest.Problem)}
	s.read(text, "this")
	return s
}

// member reads an object within.
func (o *object) member(name string) (s *object, ok bool) {
	value, ok := o.take(name)
	if !ok {
		return nil, false
	}
	return o.sub(o.path+name, value), true
}

// need refuses the object unless a member is there.
func (o *object) need(names ...string) {
	for _, name := range names {
		if !o.has(name) {
			o.refuse(name, "is missing")
		}
	}
}

// parseTime reads RFC 3339.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 || t.Year() > 2255 {
		return time.Time{}, fmt.Errorf("must be a time of RFC 3339, from 1970 to 2255, such as 2026-01-31T12:00:00Z")
	}
	return t, nil
}
