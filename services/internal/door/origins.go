package door

import (
	"fmt"
	"net/url"
	"strings"
)

// Origins is an allow-list of web pages, as browsers name them in the header Origin.
type Origins struct {
	exact map[string]bool
	below []originBelow
}

// originBelow allows every name below a domain, but not the domain itself.
type originBelow struct{ scheme, suffix string } // "https://", ".example.org:8443"

// ParseOrigins reads origins such as https://app.example.org or https://*.example.org, and null.
func ParseOrigins(list []string) (o Origins, err error) {
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

func (o *Origins) add(text string) {
	if o.exact == nil {
		o.exact = make(map[string]bool)
	}
	o.exact[text] = true
}

// Empty tells whether the list names nobody.
func (o *Origins) Empty() bool { return len(o.exact) == 0 && len(o.below) == 0 }

// Allow tells whether a request with these lines of Origin may connect where nothing that a browser adds by itself, such as
// a cookie, means anything: there a page can do no more than any other program. An empty list allows all, and a request
// without an Origin does not come from a browser's page.
func (o *Origins) Allow(lines []string) bool {
	return len(lines) == 0 || o.Empty() || len(lines) == 1 && o.Has(lines[0])
}

// Has tells whether the list names an origin.
func (o *Origins) Has(origin string) bool {
	origin = strings.ToLower(origin)
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
