package alerts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// visible escapes what a terminal would not simply show: control characters, and those that turn around or hide what is
// beside them. In JSON the result means the same.
func visible(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !hidden(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// hidden tells whether a character is not plainly visible. What is not UTF-8 comes as U+FFFD.
func hidden(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// visibleJSON is a text that should be JSON, on one line.
func visibleJSON(text []byte) string {
	var b bytes.Buffer
	if !utf8.Valid(text) || json.Compact(&b, text) != nil {
		return strconv.QuoteToGraphic(string(text))
	}
	return visible(b.String())
}

// clipped is the beginning of a text.
func clipped(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}
