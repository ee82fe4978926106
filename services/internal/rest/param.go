package rest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// Param is a parameter that a query may have once, as /v1/streams tells it too.
type Param struct {
	Name     string   `json:"name"`
	Required bool     `json:"required,omitempty"`
	Values   []string `json:"values,omitempty"` // one of these
	Min      int64    `json:"min,omitempty"`    // or else, if there is a Max, a whole number
	Max      int64    `json:"max,omitempty"`
	Most     int      `json:"most,omitempty"` // of a list with commas: how many
	Default  string   `json:"default,omitempty"`

	// Is tells whether a value will do that is neither one of Values nor a number; What says what would.
	Is   func(value string) bool `json:"-"`
	What string                  `json:"-"`
}

// ParseParams reads a query strictly into values, one for each of params: what is not known, stands there twice or is out of
// range is refused by name. Parameters called besides are somebody else's to look at.
func ParseParams(args *fasthttp.Args, params []Param, besides string, values []string) (wrong *Problem) {
	bad := func(name, format string, a ...any) {
		if wrong == nil {
			wrong = &Problem{Status: fasthttp.StatusBadRequest, Code: "bad_request", Param: name, Detail: fmt.Sprintf(format, a...)}
		}
	}
	var seen uint64
	for key, value := range args.All() {
		i := slices.IndexFunc(params, func(p Param) bool { return p.Name == string(key) })
		switch {
		case i < 0 && besides != "" && string(key) == besides:
		case i < 0:
			bad(Clipped(key), "there is no such parameter here; %s", known(params))
		case seen&(1<<i) != 0:
			bad(params[i].Name, "given twice")
		default:
			seen |= 1 << i
			values[i] = string(value)
			if !params[i].accepts(values[i]) {
				bad(params[i].Name, "%s", params[i].want())
			}
		}
	}
	for i := range params {
		if seen&(1<<i) == 0 {
			values[i] = params[i].Default
		}
	}
	return wrong
}

func (p *Param) accepts(value string) bool {
	switch {
	case p.Values != nil:
		return slices.Contains(p.Values, value)
	case p.Is != nil:
		return p.Is(value)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return err == nil && n >= p.Min && n <= p.Max && strconv.FormatInt(n, 10) == value
}

func (p *Param) want() string {
	switch {
	case p.Values != nil:
		return "not one of " + strings.Join(p.Values, " ")
	case p.Is != nil:
		return "not " + p.What
	}
	return fmt.Sprintf("not a whole number from %d to %d", p.Min, p.Max)
}

func known(params []Param) string {
	if len(params) == 0 {
		return "there is none at all"
	}
	names := make([]string, len(params))
	for i := range params {
		names[i] = params[i].Name
	}
	return "there is " + strings.Join(names, ", ")
}

// Clipped is a name that a peer has made up, for an error.
func Clipped(name []byte) string {
	return strings.ToValidUTF8(string(name[:min(len(name), 40)]), "\uFFFD")
}
