package rule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// Series is a scalar of an instrument that changes with the stream. The package documentation defines each.
type Series uint8

// The series.
const (
	Last Series = iota
	Mid
	Bid
	Ask
	ChangePct
	FromHighPct
	FromLowPct
	SpreadBps
	Volume
	VolumeRatio
	MADiff
)

var seriesNames = [...]string{
	"last", "mid", "bid", "ask", "change_pct", "from_high_pct", "from_low_pct", "spread_bps", "volume", "volume_ratio", "ma_diff",
}

// String returns the series' name in JSON.
func (s Series) String() string { return nameOf(seriesNames[:], uint8(s)) }

// windows is how many windows the series has.
func (s Series) windows() int {
	switch s {
	case ChangePct, FromHighPct, FromLowPct, Volume:
		return 1
	case VolumeRatio, MADiff:
		return 2
	}
	return 0
}

// Op says what must become of a series for a rule to fire.
type Op uint8

// The operators.
const (
	CrossesAbove Op = iota // prev < limit <= value
	CrossesBelow           // prev > limit >= value
	AtOrAbove              // value >= limit
	AtOrBelow              // value <= limit
)

var opNames = [...]string{"crosses_above", "crosses_below", "at_or_above", "at_or_below"}

// String returns the operator's name in JSON.
func (o Op) String() string { return nameOf(opNames[:], uint8(o)) }

func (o Op) above() bool   { return o&1 == 0 }
func (o Op) crosses() bool { return o < AtOrAbove }

// OnGap says what the first value after a gap is compared with.
type OnGap uint8

// What a gap does.
const (
	GapFires  OnGap = iota // with the last one before the gap
	GapResets              // with nothing: it is a new beginning
)

var onGapNames = [...]string{"fire", "reset"}

// String returns the name in JSON.
func (g OnGap) String() string { return nameOf(onGapNames[:], uint8(g)) }

func nameOf(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return "unknown"
}

// MaxWindow is the longest window, in minutes.
const MaxWindow = 1440

// maxPause bounds cooldown and hold_for.
const maxPause = 30 * 24 * time.Hour

// Spec is a rule, compact and comparable. Limit and Hysteresis are in the series' own scale, see Scale.
type Spec struct {
	Series     Series
	Op         Op
	Once       bool
	OnGap      OnGap
	W1, W2     uint16 // windows in minutes; 0 where the series has none
	Limit      int64
	Hysteresis int64
	Cooldown   time.Duration // in whole milliseconds, as HoldFor
	HoldFor    time.Duration
	Expires    market.Time // 0: never
}

// Scales are an instrument's.
type Scales struct{ Price, Size uint8 }

// ScalesOf returns the scales of an instrument.
func ScalesOf(in *market.Instrument) Scales { return Scales{in.PriceScale, in.SizeScale} }

// Scale returns how many decimals the series' values have, given those of its instrument.
func (s Series) Scale(of Scales) uint8 {
	switch s {
	case Last, Bid, Ask:
		return of.Price
	case Mid:
		return of.Price + 1
	case MADiff:
		return of.Price + 2
	case Volume:
		return of.Size
	}
	return percentScale
}

// percentScale is the scale of percentages, basis points and ratios.
const percentScale = 4

// Scale returns the scale of the rule's values.
func (s Spec) Scale(of Scales) uint8 { return s.Series.Scale(of) }

// Format returns a value of a series as a decimal number.
func Format(value int64, scale uint8) string { return string(market.AppendFixed(nil, value, scale)) }

// FieldError says what is wrong with a field of a rule.
type FieldError struct{ Field, Msg string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Msg }

// maxJSON bounds the text of a rule.
const maxJSON = 4096

// The fields of a rule in JSON.
var fieldNames = [...]string{
	"series", "op", "limit", "window", "window2", "mode", "hysteresis", "cooldown", "hold_for", "expires_at", "on_gap",
}

// Parse reads a rule from its JSON. It is strict: unknown and repeated fields are refused, and so is what the series has no
// use for or can't have. All values are strings.
func Parse(text []byte, of Scales) (Spec, error) {
	fields, err := readFields(text)
	if err != nil {
		return Spec{}, err
	}
	return fields.spec(of)
}

type fields map[string]string

func readFields(text []byte) (fields, error) {
	if len(text) > maxJSON {
		return nil, &FieldError{"rule", "too long"}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, &FieldError{"rule", "not a JSON object"}
	}
	f := make(fields)
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, &FieldError{"rule", "malformed JSON"}
		}
		if !known(name) {
			return nil, &FieldError{shortened(name), "unknown field"}
		}
		if _, twice := f[name]; twice {
			return nil, &FieldError{name, "given twice"}
		}
		t, err = d.Token()
		if err != nil {
			return nil, &FieldError{name, "malformed JSON"}
		}
		value, ok := t.(string)
		if !ok {
			return nil, &FieldError{name, "must be a string"}
		}
		f[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, &FieldError{"rule", "malformed JSON"}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, &FieldError{"rule", "something follows the object"}
	}
	return f, nil
}

func known(name string) bool {
	for _, n := range fieldNames {
		if n == name {
			return true
		}
	}
	return false
}

// shortened makes a name of the user's fit for an error.
func shortened(name string) string {
	if len(name) > 40 {
		name = name[:40] + "..."
	}
	quoted := strconv.QuoteToASCII(name)
	if name == "" {
		return quoted
	}
	return quoted[1 : len(quoted)-1]
}

func (f fields) spec(of Scales) (s Spec, err error) {
	var mode uint8
	for _, e := range []struct {
		field string
		names []string
		into  *uint8
		need  bool
	}{
		{"series", seriesNames[:], (*uint8)(&s.Series), true},
		{"op", opNames[:], (*uint8)(&s.Op), true},
		{"mode", []string{"once", "recurring"}, &mode, false},
		{"on_gap", onGapNames[:], (*uint8)(&s.OnGap), false},
	} {
		if err := f.oneOf(e.field, e.names, e.into, e.need); err != nil {
			return Spec{}, err
		}
	}
	s.Once = mode == 0
	if err := f.windows(&s); err != nil {
		return Spec{}, err
	}
	if err := f.numbers(&s, s.Scale(of)); err != nil {
		return Spec{}, err
	}
	if s.Cooldown, err = f.pause("cooldown"); err != nil {
		return Spec{}, err
	}
	if s.HoldFor, err = f.pause("hold_for"); err != nil {
		return Spec{}, err
	}
	if s.Expires, err = f.instant("expires_at"); err != nil {
		return Spec{}, err
	}
	return s, nil
}

func (f fields) oneOf(field string, names []string, into *uint8, need bool) error {
	v, ok := f[field]
	if !ok {
		if need {
			return &FieldError{field, "missing"}
		}
		return nil
	}
	for i, n := range names {
		if n == v {
			*into = uint8(i)
			return nil
		}
	}
	return &FieldError{field, "not one of " + strings.Join(names, ", ")}
}

func (f fields) windows(s *Spec) error {
	for i, w := range []struct {
		field string
		into  *uint16
	}{{"window", &s.W1}, {"window2", &s.W2}} {
		v, ok := f[w.field]
		switch needed := i < s.Series.windows(); {
		case ok && !needed:
			return &FieldError{w.field, s.Series.String() + " has none"}
		case !ok && needed:
			return &FieldError{w.field, "missing"}
		case !ok:
			continue
		}
		d, err := time.ParseDuration(v)
		if err != nil || d < time.Minute || d > MaxWindow*time.Minute || d%time.Minute != 0 {
			return &FieldError{w.field, "not whole minutes from 1m to 24h"}
		}
		*w.into = uint16(d / time.Minute)
	}
	if s.W2 != 0 && s.W1 == s.W2 {
		return &FieldError{"window2", "the same as window"}
	}
	return nil
}

func (f fields) numbers(s *Spec, scale uint8) error {
	v, ok := f["limit"]
	if !ok {
		return &FieldError{"limit", "missing"}
	}
	var err error
	if s.Limit, err = decimal("limit", v, scale); err != nil {
		return err
	}
	if least, greatest := s.Series.bounds(); s.Limit < least || s.Limit > greatest {
		return &FieldError{"limit", fmt.Sprintf("%s never reaches it", s.Series)}
	}
	if v, ok := f["hysteresis"]; ok {
		if s.Hysteresis, err = decimal("hysteresis", v, scale); err != nil {
			return err
		}
		if s.Hysteresis < 0 {
			return &FieldError{"hysteresis", "negative"}
		}
	}
	return nil
}

// bounds says which limits make sense: a sign that is wrong would be a rule that always or never fires.
func (s Series) bounds() (least, greatest int64) {
	switch s {
	case Last, Mid, Bid, Ask:
		return 1, math.MaxInt64
	case FromLowPct, SpreadBps, Volume, VolumeRatio:
		return 0, math.MaxInt64
	case FromHighPct:
		return -1e6, 0
	case ChangePct:
		return -1e6, math.MaxInt64
	}
	return math.MinInt64, math.MaxInt64
}

func decimal(field, text string, scale uint8) (int64, error) {
	v, err := market.ParseFixed(text, scale)
	switch {
	case errors.Is(err, market.ErrFiner):
		return 0, &FieldError{field, fmt.Sprintf("more than %d decimals", scale)}
	case err != nil:
		return 0, &FieldError{field, err.Error()}
	}
	return v, nil
}

func (f fields) pause(field string) (time.Duration, error) {
	v, ok := f[field]
	if !ok {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d > maxPause || d%time.Millisecond != 0 {
		return 0, &FieldError{field, "not whole milliseconds from 0s to 720h"}
	}
	return d, nil
}

// maxTime is the latest instant that a rule may name, well within what a market.Time holds.
var maxTime = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

func (f fields) instant(field string) (market.Time, error) {
	v, ok := f[field]
	if !ok {
		return 0, nil
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil || t.Unix() <= 0 || t.After(maxTime) {
		return 0, &FieldError{field, "not a time as RFC 3339 has it, from 1970 to 2200"}
	}
	return market.FromTime(t), nil
}

// AppendJSON appends the rule's canonical JSON: every field that says something, in one order, defaults included. Parse
// reads it back with the same scales.
func (s Spec) AppendJSON(dst []byte, of Scales) []byte {
	scale := s.Scale(of)
	dst = append(dst, '{')
	dst = appendField(dst, "series", s.Series.String())
	if s.W1 != 0 {
		dst = appendField(dst, "window", windowText(s.W1))
	}
	if s.W2 != 0 {
		dst = appendField(dst, "window2", windowText(s.W2))
	}
	dst = appendField(dst, "op", s.Op.String())
	dst = appendField(dst, "limit", Format(s.Limit, scale))
	mode := "recurring"
	if s.Once {
		mode = "once"
	}
	dst = appendField(dst, "mode", mode)
	if s.Hysteresis != 0 {
		dst = appendField(dst, "hysteresis", Format(s.Hysteresis, scale))
	}
	if s.Cooldown != 0 {
		dst = appendField(dst, "cooldown", pauseText(s.Cooldown))
	}
	if s.HoldFor != 0 {
		dst = appendField(dst, "hold_for", pauseText(s.HoldFor))
	}
	if s.Expires != 0 {
		dst = appendField(dst, "expires_at", s.Expires.Std().Format(time.RFC3339Nano))
	}
	dst = appendField(dst, "on_gap", s.OnGap.String())
	return append(dst, '}')
}

// appendField appends a field whose value needs no escapes.
func appendField(dst []byte, name, value string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = strconv.AppendQuote(dst, name)
	dst = append(dst, ':')
	return strconv.AppendQuote(dst, value)
}

// windowText gives a window in the shortest form: 90m, 24h.
func windowText(minutes uint16) string {
	if minutes%60 == 0 {
		return strconv.Itoa(int(minutes/60)) + "h"
	}
	return strconv.Itoa(int(minutes)) + "m"
}

// pauseText gives a duration without the zeros at its end: 5m, not 5m0s.
func pauseText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
