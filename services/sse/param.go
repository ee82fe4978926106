package sse

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// param is a parameter that a request may have once, as /v1/streams tells it too.
type param struct {
	Name     string   `json:"name"`
	Required bool     `json:"required,omitempty"`
	Values   []string `json:"values,omitempty"` // one of these
	Min      int64    `json:"min,omitempty"`    // or else, if there is a Max, a whole number
	Max      int64    `json:"max,omitempty"`
	Most     int      `json:"most,omitempty"` // of a list with commas: how many
	Default  string   `json:"default,omitempty"`
}

// arguments are the values of an endpoint's params, in their order.
type arguments [3]string

// parseParams reads a query strictly: what is not known, stands there twice or is out of range is refused by name. A ticket,
// where that is possible, has been looked at already.
func parseParams(args *fasthttp.Args, params []param, ticket bool) (values arguments, wrong *problem) {
	bad := func(name, format string, a ...any) {
		if wrong == nil {
			wrong = &problem{Status: fasthttp.StatusBadRequest, Code: "bad_request", Param: name, Detail: fmt.Sprintf(format, a...)}
		}
	}
	var seen [len(values)]bool
	for key, value := range args.All() {
		i := slices.IndexFunc(params, func(p param) bool { return p.Name == string(key) })
		switch {
		case i < 0 && ticket && string(key) == "ticket":
		case i < 0:
			bad(clipped(key), "there is no such parameter here; %s", known(params))
		case seen[i]:
			bad(params[i].Name, "given twice")
		default:
			seen[i], values[i] = true, string(value)
			if !params[i].accepts(values[i]) {
				bad(params[i].Name, "%s", params[i].want())
			}
		}
	}
	for i, p := range params {
		if !seen[i] {
			values[i] = p.Default
		}
	}
	return values, wrong
}

func (p *param) accepts(value string) bool {
	if p.Values != nil {
		return slices.Contains(p.Values, value)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return err == nil && n >= p.Min && n <= p.Max && strconv.FormatInt(n, 10) == value
}

func (p *param) want() string {
	if p.Values != nil {
		return "not one of " + strings.Join(p.Values, " ")
	}
	return fmt.Sprintf("not a whole number from %d to %d", p.Min, p.Max)
}

func known(params []param) string {
	if len(params) == 0 {
		return "there is none at all"
	}
	names := make([]string, len(params))
	for i, p := range params {
		names[i] = p.Name
	}
	return "there is " + strings.Join(names, ", ")
}

// clipped is a name that a peer has made up, for an error.
func clipped(name []byte) string {
	return strings.ToValidUTF8(string(name[:min(len(name), 40)]), "\uFFFD")
}
