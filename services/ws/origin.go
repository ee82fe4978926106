package ws

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// origins is an allow-list of the web pages that may connect from a browser. Empty allows all: nothing that a browser adds
// by itself, such as a cookie, means anything here, so a page can do no more than any other program.
type origins struct {
	exact map[string]bool
	below []originBelow
}

// originBelow allows every name below a domain, but not the domain itself.
type originBelow struct{ scheme, suffix string } // "https://", ".example.org:8443"

func parseOrigins(list []string) (o origins, err error) {
	for _, entry := range list {
		text := strings.ToLower(strings.TrimSpace(entry))
		if text == "null" { // what a browser sends for files and sandboxes
			o.add(text)
			continue
		}
		scheme, host, ok := strings.Cut(text, "://")
		name, wild := strings.CutPrefix(host, "*")
		u, err := url.Parse(scheme + "://x" + name)
		if !wild {
			u, err = url.Parse(text)
		}
		if !ok || err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || strings.Contains(name, "*") || wild && !strings.HasPrefix(name, ".") {
			return o, fmt.Errorf("%q is not like https://app.example.org or https://*.example.org", entry)
		}
		if wild {
			o.below = append(o.below, originBelow{scheme + "://", name})
		} else {
			o.add(text)
		}
	}
	return o, nil
}

func (o *origins) add(text string) {
	if o.exact == nil {
		o.exact = make(map[string]bool)
	}
	o.exact[text] = true
}

// allow tells whether a request may connect. One without an Origin does not come from a browser's page, and may.
func (o *origins) allow(h http.Header) bool {
	values := h.Values("Origin")
	if len(values) == 0 || len(o.exact) == 0 && len(o.below) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	origin := strings.ToLower(values[0])
	if o.exact[origin] {
		return true
	}
	for _, b := range o.below {
		rest, scheme := strings.CutPrefix(origin, b.scheme)
		name, suffix := strings.CutSuffix(rest, b.suffix)
		if scheme && suffix && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" {
			return true
		}
	}
	return false
}
