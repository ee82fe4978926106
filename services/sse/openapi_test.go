package sse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/valyala/fasthttp"
	"go.yaml.in/yaml/v3"

	"github.com/tickwire/tickwire/pkg/market"
)

// document is openapi.yaml, read strictly: an answer may have no member that the document does not tell of.
type document struct {
	paths   map[string]any
	schemas *jsonschema.Compiler
	root    map[string]any
}

const documentURL = "https://tickwire.invalid/openapi.json"

func readDocument(t *testing.T) *document {
	t.Helper()
	d := &document{schemas: jsonschema.NewCompiler()}
	if err := yaml.Unmarshal(openapiYAML, &d.root); err != nil {
		t.Fatal(err)
	}
	d.paths = d.root["paths"].(map[string]any)
	for name, schema := range d.root["components"].(map[string]any)["schemas"].(map[string]any) {
		tighten(schema, name == "Standing" || name == "Item")
	}
	d.schemas.DefaultDraft(jsonschema.Draft2020)
	if err := d.schemas.AddResource(documentURL, plain(d.root)); err != nil {
		t.Fatal(err)
	}
	return d
}

// tighten closes a schema to members that it does not name, unless it is a part of another one.
func tighten(node any, part bool) {
	switch node := node.(type) {
	case []any:
		for _, e := range node {
			tighten(e, part)
		}
	case map[string]any:
		_, named := node["properties"].(map[string]any)
		_, composed := node["allOf"]
		for key, e := range node {
			tighten(e, key == "allOf" || part && key == "oneOf")
		}
		if (named || composed) && !part {
			node["unevaluatedProperties"] = false
		}
	}
}

// plain turns what a YAML reader makes into what a JSON reader makes.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = plain(e)
		}
	case []any:
		for i, e := range v {
			v[i] = plain(e)
		}
	case int:
		return float64(v)
	}
	return v
}

// at follows a JSON pointer, and the references on the way. It returns where it has come to.
func (d *document) at(pointer string) (node any, where string, ok bool) {
	node = any(d.root)
	where = "#"
	for _, part := range strings.Split(strings.TrimPrefix(pointer, "#/"), "/") {
		m, isMap := node.(map[string]any)
		if !isMap {
			return nil, "", false
		}
		node, ok = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
		if !ok {
			return nil, "", false
		}
		where += "/" + part
		if m, isMap := node.(map[string]any); isMap {
			if ref, isRef := m["$ref"].(string); isRef && !strings.Contains(ref, "/schemas/") {
				if node, where, ok = d.at(ref); !ok {
					return nil, "", false
				}
			}
		}
	}
	return node, where, true
}

// check holds the answer to a GET to the document.
func (d *document) check(t *testing.T, path string, r *fasthttp.Response) {
	t.Helper()
	d.checkMethod(t, "get", path, r)
}

func (d *document) checkMethod(t *testing.T, method, path string, r *fasthttp.Response) {
	t.Helper()
	response := "#/paths/" + strings.ReplaceAll(path, "/", "~1") + "/" + method + "/responses/" + strconv.Itoa(r.StatusCode())
	node, _, ok := d.at(response)
	if !ok {
		t.Errorf("%s: status %d is not in the document", path, r.StatusCode())
		return
	}
	headers, _ := node.(map[string]any)["headers"].(map[string]any)
	for name := range headers {
		node, _, _ := d.at(response + "/headers/" + name)
		h, _ := node.(map[string]any)
		if required, _ := h["required"].(bool); required && len(r.Header.Peek(name)) == 0 {
			t.Errorf("%s, %d: no %s", path, r.StatusCode(), name)
		}
	}
	kind, _, err := mime.ParseMediaType(string(r.Header.ContentType()))
	if len(r.Body()) == 0 {
		return
	}
	_, where, ok := d.at(response + "/content/" + strings.ReplaceAll(kind, "/", "~1") + "/schema")
	if !ok {
		t.Errorf("%s, %d: %q (%v) is not in the document", path, r.StatusCode(), kind, err)
		return
	}
	schema, err := d.schemas.Compile(documentURL + where)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Body()))
	if err != nil {
		t.Fatalf("%s: %v", r.Body(), err)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("%s: %s\n%#v", path, r.Body(), err)
	}
}

// TestDocument compares the routes and their parameters with the document.
func TestDocument(t *testing.T) {
	d := readDocument(t)
	routes := map[string][]param{"/v1/ticket": nil}
	for i := range endpoints {
		e := &endpoints[i]
		params := slices.Clone(e.params)
		if _, ofOne := e.name(); ofOne {
			params = append(params, param{Name: "sym"})
		}
		if !e.open {
			params = append(params, param{Name: "ticket"})
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
		op, _, ok := d.at("#/paths/" + strings.ReplaceAll(path, "/", "~1") + "/" + method)
		if !ok {
			t.Errorf("%s is not in the document", path)
			continue
		}
		for i := range params {
			d.hasParam(t, path, op, &params[i])
		}
		for _, p := range d.params(op) {
			if p["in"] != "header" && !slices.ContainsFunc(params, func(q param) bool { return q.Name == p["name"] }) {
				t.Errorf("%s: the document has a parameter %s", path, p["name"])
			}
		}
	}
	for path := range d.paths {
		if _, ok := routes[path]; !ok {
			t.Errorf("the document has %s", path)
		}
	}
	d.follow(t, d.root)
}

// follow looks whether every reference leads somewhere.
func (d *document) follow(t *testing.T, node any) {
	t.Helper()
	switch node := node.(type) {
	case []any:
		for _, e := range node {
			d.follow(t, e)
		}
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok {
			if _, _, found := d.at(ref); !found {
				t.Errorf("%s leads nowhere", ref)
			}
		}
		for _, e := range node {
			d.follow(t, e)
		}
	}
}

// params are the parameters of an operation.
func (d *document) params(op any) (all []map[string]any) {
	list, _ := op.(map[string]any)["parameters"].([]any)
	for _, p := range list {
		p := p.(map[string]any)
		if ref, ok := p["$ref"].(string); ok {
			to, _, _ := d.at(ref)
			p = to.(map[string]any)
		}
		all = append(all, p)
	}
	return all
}

// hasParam holds a parameter of the document to the one that the server reads.
func (d *document) hasParam(t *testing.T, path string, op any, want *param) {
	t.Helper()
	for _, p := range d.params(op) {
		if p["name"] != want.Name {
			continue
		}
		schema, _ := p["schema"].(map[string]any)
		if ref, ok := schema["$ref"].(string); ok {
			to, _, _ := d.at(ref)
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
		doc.check(t, path, r)
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
	doc.checkMethod(t, "post", "/v1/ticket", &s.answered(t, http.MethodPost, "/v1/ticket").Response)
	strict, _ := asking(t, "required", "", nil)
	doc.checkMethod(t, "post", "/v1/ticket", &strict.answered(t, http.MethodPost, "/v1/ticket").Response)
	doc.check(t, "/v1/sse/ticker", get(t, strict, "/v1/sse/ticker?symbols=BTC-USDT"))
}
