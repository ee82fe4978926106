package ws

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const permessageDeflate = "permessage-deflate"

// offersDeflate tells whether one of a client's offers is permessage-deflate with parameters that we keep. What we answer is
// always the same, without context takeover on either side. An offer that limits our window is declined: messages are
// compressed once for everybody. So is one that is malformed; others may follow it.
func offersDeflate(h http.Header) bool {
	for _, line := range h.Values("Sec-WebSocket-Extensions") {
		if slices.ContainsFunc(split(line, ','), acceptable) {
			return true
		}
	}
	return false
}

// acceptable tells whether we can keep to an offer (RFC 7692, section 7.1).
func acceptable(offer string) bool {
	parts := split(offer, ';')
	if parts[0] != permessageDeflate {
		return false
	}
	var seen []string
	for _, p := range parts[1:] {
		key, value, valued := strings.Cut(p, "=")
		if slices.Contains(seen, key) {
			return false
		}
		seen = append(seen, key)
		switch key {
		case "server_no_context_takeover", "client_no_context_takeover":
			if valued {
				return false
			}
		case "client_max_window_bits":
			if valued && !isWindow(value) {
				return false
			}
		default: // server_max_window_bits among them
			return false
		}
	}
	return true
}

// isWindow tells whether s is a window size: 8 to 15, as a token or quoted.
func isWindow(s string) bool {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	n, err := strconv.Atoi(s)
	return err == nil && n >= 8 && n <= 15 && strconv.Itoa(n) == s
}

// split cuts a header's value at a separator that is not in quotes, and trims the parts.
func split(s string, separator byte) (parts []string) {
	quoted, begin := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == separator && !quoted:
			parts = append(parts, strings.TrimSpace(s[begin:i]))
			begin = i + 1
		}
	}
	return append(parts, strings.TrimSpace(s[begin:]))
}
