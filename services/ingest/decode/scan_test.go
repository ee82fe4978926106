package decode

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tickwire/tickwire/pkg/market"
)

// valid tells whether the scanner reads text to its end as one JSON value.
func valid(text []byte) bool {
	var s scanner
	s.reset(text)
	s.skip()
	s.end()
	return s.err == nil
}

var jsonSeeds = []string{
	`null`, ` true `, `false`, `0`, `-0.5e+3`, `""`, `"a\u00e9\ud83d\ude00\n"`, `[]`, `{}`, `[1,"2",{"a":[{}]}]`, `{"a":1,"a":2}`,
	`01`, `+1`, `.5`, `5.`, `1e`, `NaN`, `nan`, `Infinity`, `-inf`, `[1,]`, `{"a":1,}`, `{"a"}`, `{a:1}`, `"\x"`, `"\u12"`, "\"\x01\"",
	`"unfinished`, `[`, `{"a":`, `tru`, `nul`, `[1 2]`, `1 2`, "\x00", ``, "\xff", `"` + "\xff" + `"`, `"\ud800"`, `'a'`, "\ufeff{}", `-`, `--1`,
}

func TestScannerReadsJSON(t *testing.T) {
	for _, text := range jsonSeeds {
		if got, want := valid([]byte(text)), json.Valid([]byte(text)); got != want {
			t.Errorf("%q: accepted %v, encoding/json says %v", text, got, want)
		}
	}
}

func TestScannerBoundsDepth(t *testing.T) {
	f := func(depth int, want bool) {
		t.Helper()
		if got := valid([]byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))); got != want {
			t.Errorf("depth %d: accepted %v", depth, got)
		}
	}
	f(maxDepth, true)
	f(maxDepth+1, false)
	f(10_000_000, false)
}

// FuzzScanner compares the scanner with encoding/json: what is JSON, and what a string says.
func FuzzScanner(f *testing.F) {
	for _, text := range jsonSeeds {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, want := valid(text), json.Valid(text)
		if got != want && (got || !tooDeep(text)) {
			t.Fatalf("%q: accepted %v, encoding/json says %v", text, got, want)
		}
		var s scanner
		s.reset(text)
		var std string
		if s.peek() == '"' && want && utf8.Valid(text) && json.Unmarshal(text, &std) == nil {
			if ours := string(s.str()); ours != std {
				t.Fatalf("%q: read %q, encoding/json %q", text, ours, std)
			}
		}
	})
}

func tooDeep(text []byte) bool {
	return strings.Count(string(text), "[")+strings.Count(string(text), "{") > maxDepth
}

// number reads text as a JSON number at a scale, or as a string.
func readFixed(text string, scale uint8) (int64, *Error) {
	var s scanner
	s.reset([]byte(text))
	v := s.fixed(ReasonPrice, "price", scale)
	s.end()
	return v, s.err
}

func TestFixed(t *testing.T) {
	f := func(text string, scale uint8, want int64) {
		t.Helper()
		if v, err := readFixed(text, scale); err != nil || v != want {
			t.Errorf("%s at %d: %d, %v; want %d", text, scale, v, err, want)
		}
	}
	f(`"61737.63000000"`, 2, 6173763)
	f(`"61737.63"`, 8, 6173763000000)
	f(`61737.63`, 2, 6173763)
	f(`"0"`, 0, 0)
	f(`"0.00000000"`, 0, 0)
	f(`"9223372036854775807"`, 0, 9223372036854775807)
	f(`"9.223372036854775807"`, 18, 9223372036854775807)
	f(`"0.000000000000000001"`, 18, 1)
	f(`1e-8`, 8, 1)
	f(`1E-08`, 8, 1)
	f(`1.5e3`, 0, 1500)
	f(`1.25e+1`, 1, 125)
	f(`12.5e-1`, 2, 125)
	f(`120e-1`, 0, 12)
	f(`0.05e1`, 1, 5)

	bad := func(text string, scale uint8, reason string) {
		t.Helper()
		if v, err := readFixed(text, scale); err == nil || err.Reason != reason {
			t.Errorf("%s at %d: %d, %v; want %s", text, scale, v, err, reason)
		}
	}
	bad(`"61737.635"`, 2, ReasonScale)
	bad(`61737.635`, 2, ReasonScale)
	bad(`1e-3`, 2, ReasonScale)
	bad(`"1e3"`, 2, ReasonPrice) // a string is a plain decimal
	bad(`1e40`, 2, ReasonPrice)
	bad(`1e99999999999999999999`, 2, ReasonPrice)
	bad(`"NaN"`, 2, ReasonPrice)
	bad(`NaN`, 2, ReasonSyntax)
	bad(`Infinity`, 2, ReasonSyntax)
	bad(`-Infinity`, 2, ReasonSyntax)
	bad(`"+1"`, 2, ReasonPrice)
	bad(`" 1"`, 2, ReasonPrice)
	bad(`"1."`, 2, ReasonPrice)
	bad(`".5"`, 2, ReasonPrice)
	bad(`""`, 2, ReasonPrice)
	bad(`"1.2.3"`, 2, ReasonPrice)
	bad(`"1_000"`, 2, ReasonPrice)
	bad(`"9223372036854775808"`, 0, ReasonPrice)
	bad(`"92233720368547758.08"`, 3, ReasonPrice)
	bad(`null`, 2, ReasonType)
	bad(`true`, 2, ReasonType)
	bad(`[1]`, 2, ReasonType)
	bad(`{"a":1}`, 2, ReasonType)
	bad(`{"a"`, 2, ReasonSyntax)
}

// FuzzFixed compares numbers, in both ways they are read, with exact rational arithmetic.
func FuzzFixed(f *testing.F) {
	f.Add("61737.63", uint8(2))
	f.Add("1.5e-3", uint8(8))
	f.Add("000.1", uint8(1))
	f.Add("-0.0e-0", uint8(18))
	f.Fuzz(func(t *testing.T, text string, scale uint8) {
		scale %= market.MaxScale + 1
		quoted, quotedErr := readFixed(`"`+text+`"`, scale)
		std, stdErr := market.ParseFixed(text, scale)
		if quotedErr == nil && (stdErr != nil || quoted != std) {
			t.Fatalf("%q at %d: %d, ParseFixed %d, %v", text, scale, quoted, std, stdErr)
		}
		if quotedErr != nil && stdErr == nil {
			t.Fatalf("%q at %d: %v, ParseFixed %d", text, scale, quotedErr, std)
		}
		bare, bareErr := readFixed(text, scale)
		if bareErr != nil || !json.Valid([]byte(text)) {
			return
		}
		exact, ok := new(big.Rat).SetString(strings.Trim(text, " \n\t\r\""))
		if !ok || exact.Cmp(new(big.Rat).SetFrac64(bare, market.Pow10(scale))) != 0 {
			t.Fatalf("%q at %d: %d", text, scale, bare)
		}
	})
}

func TestTimestamp(t *testing.T) {
	f := func(text string, want market.Time) {
		t.Helper()
		got, ok := parseTimestamp([]byte(text))
		if !ok || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, ok, want)
		}
	}
	f("2021-04-17T16:43:30.244075Z", 1618677810244075000)
	f("2021-04-17T16:43:30Z", 1618677810000000000)
	f("2021-04-17T18:43:30.5+02:00", 1618677810500000000)
	f("2021-04-17T16:43:30.244075999Z", 1618677810244075000)
	f("2024-02-29T00:00:00Z", 1709164800000000000)
	for _, text := range []string{
		"", "2021-04-17", "2021-04-17 16:43:30Z", "2021-02-29T00:00:00Z", "2021-13-01T00:00:00Z", "2021-04-17T24:00:00Z",
		"2021-04-17T16:43:30", "2021-04-17T16:43:30.Z", "2021-04-17T16:43:30.1", "1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z",
		"2021-04-17T16:43:30+0200", "2021-04-17T16:43:3xZ",
	} {
		if got, ok := parseTimestamp([]byte(text)); ok {
			t.Errorf("%q: %d", text, got)
		}
	}
}

// FuzzTimestamp compares with the standard library, which takes a little more.
func FuzzTimestamp(f *testing.F) {
	f.Add("2021-04-17T16:43:30.244075Z")
	f.Add("2000-02-29T23:59:59.999999999-23:59")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseTimestamp([]byte(text))
		if !ok {
			return
		}
		std, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || market.FromTime(std) != got {
			t.Fatalf("%q: %d, the standard library %d, %v", text, got, market.FromTime(std), err)
		}
	})
}
