package sse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/openapitest"
	"github.com/tickwire/tickwire/services/internal/rest"
)

func readDocument(t *testing.T) *openapitest.Document {
	t.Helper()
	return openapitest.Read(t, openapiYAML, "Standing", "Item")
}

// TestDocument compares the routes and their parameters with the document.
func TestDocument(t *testing.T) {
	d := readDocument(t)
	routes := map[string][]rest.Param{"/v1/ticket": nil}
	for i := range endpoints {
		e := &endpoints[i]
		params := slices.Clone(e.params)
		if _, ofOne := e.name(); ofOne {
			params = append(params, rest.Param{Name: "sym"})
		}
		if !e.open {
			params = append(params, rest.Param{Name: "ticket"})
		}
		routes[e.path] = params
	}
	for _, ch := range streamed {
		routes["/v1/sse/"+ch.String()] = sseOf(ch, false).Params
	}
	routes["/v1/sse/ticker/all"] = sseOf(market.Tickers, true).Params
	for path, params := range routes {
		method := "get"
		if path == "/v1/ticket" {
			method = "post"
		}
		op, _, ok := d.At("#/paths/" + strings.ReplaceAll(path, "/", "~1") + "/" + method)
		if !ok {
			t.Errorf("%s is not in the document", path)
			continue
		}
		for i := range params {
			hasParam(t, d, path, op, &params[i])
		}
		for _, p := range d.Params(op) {
			if p["in"] != "header" && !slices.ContainsFunc(params, func(q rest.Param) bool { return q.Name == p["name"] }) {
				t.Errorf("%s: the document has a parameter %s", path, p["name"])
			}
		}
	}
	for path := range d.Paths {
		if _, ok := routes[path]; !ok {
			t.Errorf("the document has %s", path)
		}
	}
	d.Follow(t, d.Root)
}

// hasParam holds a parameter of the document to the one that the server reads.
func hasParam(t *testing.T, d *openapitest.Document, path string, op any, want *rest.Param) {
	t.Helper()
	for _, p := range d.Params(op) {
		if p["name"] != want.Name {
			continue
		}
		schema, _ := p["schema"].(map[string]any)
		if ref, ok := schema["$ref"].(string); ok {
			to, _, _ := d.At(ref)
			schema = to.(map[string]any)
		}
		var names []string
		enum, _ := schema["enum"].([]any)
		for _, v := range enum {
			names = append(names, fmt.Sprint(v))
		}
		number := func(key string) int64 { n, _ := schema[key].(float64); return int64(n) }
		known := func(v string) bool { return slices.Contains(names, v) }
		switch {
		case want.Values == nil && names != nil, slices.ContainsFunc(want.Values, func(v string) bool { return !known(v) }):
			t.Errorf("%s, %s: %v; the server reads %v", path, want.Name, names, want.Values)
		case !strings.HasPrefix(path, "/v1/sse/") && len(names) != len(want.Values): // streams read some in several ways
			t.Errorf("%s, %s: %v; the server reads %v", path, want.Name, names, want.Values)
		case schema["type"] == "integer" && want.Values == nil && (number("minimum") != want.Min || number("maximum") != want.Max):
			t.Errorf("%s, %s: %v; the server reads %+v", path, want.Name, schema, want)
		case number("maxItems") != int64(want.Most):
			t.Errorf("%s, %s: %v; the server reads %+v", path, want.Name, schema, want)
		}
		return
	}
	t.Errorf("%s: the document has no parameter %s", path, want.Name)
}

// TestDocumentOfStreams holds the JSON of the streams' own paths, and tickets, to the document.
func TestDocumentOfStreams(t *testing.T) {
	doc := readDocument(t)
	l := newEvents(t)
	l.beat()
	l.trade(1)
	l.gap(1)
	l.trade(1)
	l.quote(1, 100)
	l.bar(1, market.Minute)
	s := l.prepare(nil).s
	f := func(status int, path, query string) *fasthttp.Response {
		t.Helper()
		r := get(t, s, path+query, "Accept: application/json")
		if r.StatusCode() != status {
			t.Errorf("%s%s: %d %s", path, query, r.StatusCode(), r.Body())
		}
		doc.Check(t, "get", path, r)
		return r
	}
	for _, path := range []string{"/v1/sse/ticker", "/v1/sse/bbo", "/v1/sse/trades", "/v1/sse/bars"} {
		const syms = "?symbols=BTC-USDT,ETH-USDT"
		first := f(200, path, syms)
		var a struct{ ID string }
		if err := json.Unmarshal(first.Body(), &a); err != nil {
			t.Fatal(err)
		}
		f(200, path, syms+"&wait=0&after="+a.ID)
		f(200, path, syms+"&wait=0&after=nonsense")
		f(200, path, syms+"&wait=0&after=aaaaaaaa.AQEA")
		f(400, path, "")
		f(400, path, syms+"&rate=7")
		f(404, path, "?symbols=NO-SUCH")
	}
	f(200, "/v1/sse/ticker/all", "")
	begin := f(200, "/v1/sse/trades", "?symbols=BTC-USDT")
	var a struct{ ID string }
	if err := json.Unmarshal(begin.Body(), &a); err != nil {
		t.Fatal(err)
	}
	l.trade(1)
	l.gap(1)
	if r := f(200, "/v1/sse/trades", "?symbols=BTC-USDT&wait=0&after="+a.ID); !bytes.Contains(r.Body(), []byte(`"ev":"gap"`)) {
		t.Errorf("%s", r.Body())
	}
	doc.Check(t, "post", "/v1/ticket", &s.answered(t, http.MethodPost, "/v1/ticket").Response)
	strict, _ := asking(t, "required", "", nil)
	doc.Check(t, "post", "/v1/ticket", &strict.answered(t, http.MethodPost, "/v1/ticket").Response)
	doc.Check(t, "get", "/v1/sse/ticker", get(t, strict, "/v1/sse/ticker?symbols=BTC-USDT"))
}
