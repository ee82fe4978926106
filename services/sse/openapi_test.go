package sse

import (
	"bytes"
	"mime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/valyala/fasthttp"
	"go.yaml.in/yaml/v3"
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
		schema := schema.(map[string]any)
		_, plain := schema["properties"]
		_, composed := schema["allOf"]
		if (plain || composed) && name != "Standing" { // which is part of others
			schema["unevaluatedProperties"] = false
		}
	}
	d.schemas.DefaultDraft(jsonschema.Draft2020)
	if err := d.schemas.AddResource(documentURL, plain(d.root)); err != nil {
		t.Fatal(err)
	}
	return d
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

// check holds an answer to the document.
func (d *document) check(t *testing.T, path string, r *fasthttp.Response) {
	t.Helper()
	response := "#/paths/" + strings.ReplaceAll(path, "/", "~1") + "/get/responses/" + strconv.Itoa(r.StatusCode())
	node, _, ok := d.at(response)
	if !ok {
		t.Errorf("%s: status %d is not in the document", path, r.StatusCode())
		return
	}
	headers, _ := node.(map[string]any)["headers"].(map[string]any)
	for name := range headers {
		h, _, _ := d.at(response + "/headers/" + name)
		if required, _ := h.(map[string]any)["required"].(bool); required && len(r.Header.Peek(name)) == 0 {
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
	var routes []string
	for i := range endpoints {
		e := &endpoints[i]
		routes = append(routes, e.path)
		op, _, ok := d.at("#/paths/" + strings.ReplaceAll(e.path, "/", "~1") + "/get")
		if !ok {
			t.Errorf("%s is not in the document", e.path)
			continue
		}
		if _, ofOne := e.name(); ofOne {
			d.hasParam(t, e.path, op, "sym", nil)
		}
		for i := range e.params {
			d.hasParam(t, e.path, op, e.params[i].Name, &e.params[i])
		}
		for _, p := range d.params(op) {
			if p["in"] == "query" && !slices.ContainsFunc(e.params, func(q param) bool { return q.Name == p["name"] }) {
				t.Errorf("%s: the document has a parameter %s", e.path, p["name"])
			}
		}
	}
	for path := range d.paths {
		if !slices.Contains(routes, path) {
			t.Errorf("the document has %s", path)
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
func (d *document) hasParam(t *testing.T, path string, op any, name string, want *param) {
	t.Helper()
	for _, p := range d.params(op) {
		if p["name"] != name {
			continue
		}
		if want == nil {
			return
		}
		schema, _ := p["schema"].(map[string]any)
		number := func(key string) int64 { n, _ := schema[key].(float64); return int64(n) }
		if enum, _ := schema["enum"].([]any); want.Values != nil && schema["$ref"] == nil && len(enum) != len(want.Values) || number("minimum") != want.Min || number("maximum") != want.Max {
			t.Errorf("%s, %s: %v; the server reads %+v", path, name, schema, want)
		}
		return
	}
	t.Errorf("%s: the document has no parameter %s", path, name)
}
